//! A daemon of paper: the routes, canned answers, and a protocol of what it was asked.
//! Its exec plays small pieces by the name of the command.

use std::{
    path::Path,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        Path as UrlPath, Query, Request, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use banger_api::{
    build::BuildInfo,
    daemon::DaemonStatus,
    doctor::{Check, Verdict},
    error::{ApiError, ErrorCode},
    exec::{ExecControl, ExecEvent, ExecStart, NotStarted, STDERR, STDIN, STDOUT},
    progress::{Line, Step},
    snapshot::{CreateSnapshot, ForkVm, Forked, RestoreVm, Snapshot},
    vm::{CreateVm, DeleteVm, Vm, VmBrief, VmState},
};
use futures_util::{StreamExt, stream};
use tokio::{net::UnixListener, runtime::Runtime};

/// Nothing here takes this long; it only keeps a broken test from hanging.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const ID: &str = "0123456789abcdef0123456789abcdef";

/// A running daemon of paper and the home that leads to it.
pub(crate) struct Fake {
    home: tempfile::TempDir,
    protocol: Mutex<Receiver<String>>,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Paper {
    said: Sender<String>,
    status: Arc<DaemonStatus>,
}

impl Paper {
    fn say(&self, line: impl Into<String>) {
        // The test may have seen enough.
        let _ = self.said.send(line.into());
    }
}

impl Fake {
    /// One that is newer than any program.
    pub(crate) fn start() -> Self {
        Self::start_with(u64::MAX, std::process::id())
    }

    pub(crate) fn start_with(built_at: u64, pid: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("run/bangerd.sock");
        std::fs::create_dir(home.path().join("run")).unwrap();
        let (said, protocol) = channel();
        let build = BuildInfo {
            version: "9.9.9".into(),
            commit: "paper".into(),
            built_at,
        };
        let status = DaemonStatus {
            pid,
            build,
            uptime_seconds: 1,
            socket: socket.display().to_string(),
            log_path: "/log".into(),
            state_dir: "/state".into(),
            running_vms: 0,
            hidden_vms: Vec::new(),
            replaced: false,
            found: Default::default(),
            kept_store: None,
            service: None,
        };
        let paper = Paper {
            said,
            status: Arc::new(status),
        };
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(async { UnixListener::bind(&socket).unwrap() });
        let router = router(paper, &socket);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            home,
            protocol: Mutex::new(protocol),
            _runtime: runtime,
        }
    }

    pub(crate) fn home(&self) -> std::path::PathBuf {
        self.home.path().to_owned()
    }

    /// The real program, at this daemon.
    pub(crate) fn banger(&self, arguments: &[&str]) -> Command {
        banger(self.home.path(), arguments)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.banger(arguments).output().unwrap()
    }

    /// The next thing that the daemon was asked, without the questions about itself.
    pub(crate) fn asked(&self) -> String {
        loop {
            let line = self
                .protocol
                .lock()
                .unwrap()
                .recv_timeout(PATIENCE)
                .unwrap();
            if line != "GET /v1/daemon" {
                return line;
            }
        }
    }

    /// Everything that it was asked so far.
    pub(crate) fn asked_so_far(&self) -> Vec<String> {
        let lines = self.protocol.lock().unwrap();
        lines
            .try_iter()
            .filter(|line| line != "GET /v1/daemon")
            .collect()
    }
}

pub(crate) fn banger(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banger"));
    command.args(arguments).env("BANGER_HOME", home);
    command.env("TERM", "dumb").env_remove("NO_COLOR");
    command
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What a program gave back, in one comparison.
pub(crate) fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let got = (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    );
    assert_eq!(got, (Some(code), stdout, stderr));
}

fn router(paper: Paper, socket: &Path) -> Router {
    let socket = socket.to_owned();
    let shutdown = move |State(paper): State<Paper>| {
        std::fs::remove_file(&socket).unwrap();
        let pid = paper.status.pid.to_string();
        let killed = Command::new("kill").arg(pid).status().unwrap();
        assert!(killed.success());
        async { StatusCode::ACCEPTED }
    };
    Router::new()
        .route(
            "/v1/daemon",
            get(async |State(paper): State<Paper>| Json((*paper.status).clone())),
        )
        .route("/v1/daemon/shutdown", post(shutdown))
        .route("/v1/doctor", get(async || Json(checks())))
        .route("/v1/overview", get(async || Json(brief())))
        .route("/v1/vms", get(async || Json(vms())).post(create))
        .route(
            "/v1/vms/{vm}",
            get(async |UrlPath(name): UrlPath<String>| find(&name).map(Json)),
        )
        .route("/v1/vms/{vm}", delete(remove))
        .route("/v1/vms/{vm}/start", post(start))
        .route(
            "/v1/vms/{vm}/stop",
            post(async |UrlPath(name): UrlPath<String>| find(&name).map(Json)),
        )
        .route(
            "/v1/vms/{vm}/logs",
            get(async || b"a\x1b[2J\xff\n".to_vec()),
        )
        .route("/v1/vms/{vm}/exec", get(exec))
        .route("/v1/vms/{vm}/snapshots", post(save))
        .route("/v1/vms/{vm}/restore", post(go_back))
        .route("/v1/vms/{vm}/fork", post(fork))
        .route("/v1/images/{name}/tar", put(upload))
        .layer(from_fn_with_state(paper.clone(), protocol))
        .with_state(paper)
}

async fn protocol(State(paper): State<Paper>, request: Request, next: Next) -> Response {
    paper.say(format!("{} {}", request.method(), request.uri()));
    next.run(request).await
}

fn checks() -> Vec<Check> {
    let check = |verdict| Check {
        name: "paper".into(),
        verdict,
        detail: "folded".into(),
        hint: Some("unfold".into()),
    };
    vec![check(Verdict::Pass), check(Verdict::Fail)]
}

fn vm(name: &str, id: &str, state: VmState) -> Vm {
    Vm {
        id: id.into(),
        name: name.into(),
        state,
        image: "paper".into(),
        kernel: "paper".into(),
        kernel_reason: "it was asked for".into(),
        vcpus: 1,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        init: "auto".into(),
        network: "user".into(),
        vmm: None,
        accelerator: None,
        vmm_reason: None,
        confinement: None,
        kernel_command_line: None,
        now: None,
        pid: None,
        disk_path: String::new(),
        console_path: String::new(),
        vmm_log_path: String::new(),
        agent: None,
        boot: None,
        last_error: None,
        auto_remove: false,
        upkeep: Default::default(),
        labels: std::collections::BTreeMap::new(),
        expires_at: None,
        created_at: "2020-01-01T00:00:00Z".into(),
        updated_at: "2020-01-01T00:00:00Z".into(),
    }
}

fn brief() -> Vec<VmBrief> {
    vms().iter().map(VmBrief::from).collect()
}

fn vms() -> Vec<Vm> {
    let db = ID.replace('0', "f");
    vec![
        vm("web", ID, VmState::Running),
        vm("db", &db, VmState::Stopped),
    ]
}

struct Refusal(ApiError);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap();
        (status, Json(self.0)).into_response()
    }
}

fn find(target: &str) -> Result<Vm, Refusal> {
    let found = vms()
        .into_iter()
        .find(|vm| vm.name == target || vm.id.starts_with(target));
    let missing = || ApiError::new(ErrorCode::NotFound, format!("no VM is called {target}"));
    found.ok_or_else(missing).map_err(Refusal)
}

async fn remove(
    UrlPath(name): UrlPath<String>,
    Query(query): Query<DeleteVm>,
) -> Result<StatusCode, Refusal> {
    let vm = find(&name)?;
    if vm.state == VmState::Running && !query.force {
        let error = ApiError::new(ErrorCode::Conflict, format!("VM {} runs", vm.name));
        return Err(Refusal(error.with_hint("banger rm -f")));
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn start(UrlPath(name): UrlPath<String>) -> Result<Response, Refusal> {
    let vm = find(&name)?;
    Ok(lines(
        &[
            step("boot", "kernel"),
            step("boot", "kernel"),
            step("agent", ""),
        ],
        &Line::Done(vm),
    ))
}

/// `taken` is taken, `slow` is never done, everything else works.
async fn create(State(paper): State<Paper>, Json(request): Json<CreateVm>) -> Response {
    paper.say(serde_json::to_string(&request).unwrap());
    let steps = [step("image", "paper\x1b"), step("boot", "kernel")];
    match request.name.as_deref() {
        Some("taken") => {
            let error = ApiError::new(ErrorCode::AlreadyExists, "the name taken is taken");
            lines(&steps, &Line::<Vm>::Failed(error))
        }
        Some("slow") => never_done(paper, step("image", "slow")),
        Some(_) | None => lines(&steps, &Line::Done(vms().remove(0))),
    }
}

/// Work that goes on until its client goes.
fn never_done(paper: Paper, step: Step) -> Response {
    let gone = Gone(paper);
    let first = Bytes::from(json_line(&Line::<Vm>::Step(step)));
    let never = stream::pending().map(move |bytes: Bytes| {
        let _ = &gone;
        bytes
    });
    let all = stream::iter([first])
        .chain(never)
        .map(Ok::<_, std::io::Error>);
    Body::from_stream(all).into_response()
}

/// A snapshot called `slow` is never done.
async fn save(
    State(paper): State<Paper>,
    UrlPath(target): UrlPath<String>,
    Json(request): Json<CreateSnapshot>,
) -> Result<Response, Refusal> {
    let vm = find(&target)?;
    paper.say(serde_json::to_string(&request).unwrap());
    if request.name == "slow" {
        return Ok(never_done(paper, step("save", "slow")));
    }
    let steps = [step("save", "VM web")];
    Ok(lines(&steps, &Line::Done(snapshot(&request.name, vm))))
}

fn snapshot(name: &str, vm: Vm) -> Snapshot {
    Snapshot {
        name: name.into(),
        vm: vm.name,
        vm_id: vm.id,
        image: vm.image,
        image_digest: String::new(),
        kernel: vm.kernel,
        vcpus: vm.vcpus,
        guest_memory_bytes: vm.memory_bytes,
        guest_disk_bytes: vm.disk_bytes,
        init: vm.init,
        network: vm.network,
        vmm: "paper".into(),
        vmm_version: "1".into(),
        accelerator: "none".into(),
        processor: "none".into(),
        agent_generation: 1,
        agent_version: "1".into(),
        memory_bytes: 0,
        disk_bytes: 0,
        paused_ms: 7,
        path: String::new(),
        created_at: "2020-01-01T00:00:00Z".into(),
    }
}

/// Going back to `slow` is never done.
async fn go_back(
    State(paper): State<Paper>,
    UrlPath(target): UrlPath<String>,
    Json(request): Json<RestoreVm>,
) -> Result<Response, Refusal> {
    let vm = find(&target)?;
    if request.snapshot == "slow" {
        return Ok(never_done(paper, step("restore", "slow")));
    }
    Ok(lines(&[step("restore", "web on paper")], &Line::Done(vm)))
}

/// More than a hundred forks are never done.
async fn fork(
    State(paper): State<Paper>,
    UrlPath(target): UrlPath<String>,
    Json(request): Json<ForkVm>,
) -> Result<Response, Refusal> {
    let vm = find(&target)?;
    paper.say(serde_json::to_string(&request).unwrap());
    let count = request.count.unwrap_or(1);
    if count > 100 {
        return Ok(never_done(paper, step("save", "slow")));
    }
    let prefix = request.name_prefix.unwrap_or(vm.name);
    let fork = |number| self::vm(&format!("{prefix}-{number}"), ID, VmState::Running);
    let forked = Forked {
        vms: (1..=count).map(fork).collect(),
        paused_ms: 7,
    };
    Ok(lines(&[step("save", "VM web")], &Line::Done(forked)))
}

/// Says so when the client has gone.
struct Gone(Paper);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.say("gone");
    }
}

fn step(stage: &str, detail: &str) -> Step {
    Step {
        stage: stage.into(),
        detail: detail.into(),
        done: 0,
        total: None,
    }
}

fn json_line<T: serde::Serialize>(line: &Line<T>) -> String {
    serde_json::to_string(line).unwrap() + "\n"
}

fn lines<T: serde::Serialize>(steps: &[Step], last: &Line<T>) -> Response {
    let mut text: String = steps
        .iter()
        .map(|step| json_line(&Line::<T>::Step(step.clone())))
        .collect();
    text += &json_line(last);
    text.into_response()
}

async fn upload(
    State(paper): State<Paper>,
    UrlPath(name): UrlPath<String>,
    tar: Bytes,
) -> Response {
    paper.say(format!("{} bytes", tar.len()));
    let image = banger_api::image::Image {
        name,
        rootfs_path: String::new(),
        size_bytes: 0,
        content_bytes: 0,
        entries: 0,
        digest: String::new(),
        source: String::new(),
        os: None,
        has_systemd: false,
        has_shell: false,
        created_at: String::new(),
        vms: Vec::new(),
        managed: true,
        reference: None,
        platform: None,
        kernel: None,
        config: banger_api::image::ImageConfig::default(),
    };
    lines(&[], &Line::Done(image))
}

async fn exec(
    State(paper): State<Paper>,
    UrlPath(target): UrlPath<String>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    find(&target)?;
    Ok(upgrade.on_upgrade(move |socket| play(socket, paper)))
}

/// Plays the piece that the command names.
async fn play(mut socket: WebSocket, paper: Paper) {
    let _gone = Gone(paper.clone());
    let Some(Ok(Message::Text(text))) = socket.recv().await else {
        return;
    };
    let start: ExecStart = serde_json::from_str(&text).unwrap();
    paper.say(text.as_str());
    let words: Vec<&str> = start.argv.iter().map(String::as_str).collect();
    let last = match words.as_slice() {
        ["exit", code] => ExecEvent::Exited {
            code: code.parse().unwrap(),
        },
        ["die", signal] => ExecEvent::Signaled {
            signal: signal.parse().unwrap(),
        },
        ["both"] => both(&mut socket).await,
        ["cat"] => cat(&mut socket).await,
        ["yes"] => return yes(&mut socket).await,
        ["vanish"] => return,
        ["missing"] => ExecEvent::NotStarted {
            reason: NotStarted::NotFound,
            message: "missing is not there".into(),
        },
        _ => listen(&mut socket, &paper).await,
    };
    send_event(&mut socket, &last).await;
    // Until the client has read it all: the test counts on its order.
    while socket.recv().await.is_some_and(|message| message.is_ok()) {}
}

async fn both(socket: &mut WebSocket) -> ExecEvent {
    send(socket, STDOUT, b"out\n").await;
    send(socket, STDERR, b"err\n").await;
    send(socket, STDOUT, b"more\n").await;
    ExecEvent::Exited { code: 0 }
}

async fn cat(socket: &mut WebSocket) -> ExecEvent {
    send_event(socket, &ExecEvent::Started { pid: 1, boot: None }).await;
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Binary(bytes) if bytes.first() == Some(&STDIN) => {
                send(socket, STDOUT, &bytes[1..]).await;
                let bytes = u32::try_from(bytes.len() - 1).unwrap();
                send_event(socket, &ExecEvent::StdinTaken { bytes }).await;
            }
            Message::Text(text) if text.contains("stdin_eof") => break,
            _ => {}
        }
    }
    ExecEvent::Exited { code: 0 }
}

async fn yes(socket: &mut WebSocket) {
    let chunk = [&[STDOUT], [b'y'; 64 << 10].as_slice()].concat();
    while socket
        .send(Message::Binary(chunk.clone().into()))
        .await
        .is_ok()
    {}
}

/// Tells the protocol what comes, echoes bytes in capitals, ends at `q` and by SIGTERM.
async fn listen(socket: &mut WebSocket, paper: &Paper) -> ExecEvent {
    send_event(socket, &ExecEvent::Started { pid: 1, boot: None }).await;
    paper.say("listening");
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Binary(bytes) => {
                let capitals = bytes[1..].to_ascii_uppercase();
                send(socket, STDOUT, &capitals).await;
                if capitals.contains(&b'Q') {
                    return ExecEvent::Exited { code: 3 };
                }
            }
            Message::Text(text) => {
                let control: ExecControl = serde_json::from_str(&text).unwrap();
                paper.say(format!("{control:?}"));
                if control == ExecControl::Signal(15) {
                    return ExecEvent::Signaled { signal: 15 };
                }
            }
            _ => {}
        }
    }
    ExecEvent::Exited { code: 1 }
}

async fn send(socket: &mut WebSocket, channel: u8, bytes: &[u8]) {
    let message = [&[channel], bytes].concat();
    let _ = socket.send(Message::Binary(message.into())).await;
}

async fn send_event(socket: &mut WebSocket, event: &ExecEvent) {
    let text = serde_json::to_string(event).unwrap();
    let _ = socket.send(Message::Text(text.into())).await;
}

/// Ends a child that a failed test would leave behind.
pub(crate) struct Reaped(pub(crate) std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Reaped {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The exit code, within reason.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                std::time::Instant::now() < deadline,
                "the program does not end"
            );
            thread::yield_now();
        }
    }
}
