//! Machines whose VMM is a shell and whose agent is a task of the test.

use banger_core::{
    exec::{ExecControl, ExecOutput, ExecRequest, ExecStatus, Stdin},
    host::{Accelerator, Confinement, Identity, VmmKind},
    host_error::BootFailure,
    name::VmId,
};
use banger_guest_proto::{
    frame::{Kind, encode},
    hello::{self, BootMarks, Generations, Pid1},
    message::{Assumed, Route},
    session::{
        self,
        frames::{FrameReceiver, FrameSender},
    },
    wire::Listener,
};
use bytes::Bytes;
use http::{Request, Response};
use tokio::{net::UnixListener, sync::mpsc};

use super::*;
use crate::{
    process::{Detached, Log},
    qemu::control::QemuControl,
    sys::Surroundings,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A machine, its directory, and what its agent noticed.
struct Story {
    machine: VmmMachine,
    places: VmPlaces,
    _dir: tempfile::TempDir,
}

impl Story {
    fn begin(vmm: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let places = VmPlaces {
            id: VmId::random(),
            state: dir.path().to_owned(),
            runtime: dir.path().join("run"),
        };
        places::prepare(&places).unwrap();
        logs::start_console(&places.console()).unwrap();
        let note = Note {
            vmm: VmmKind::Qemu,
            accelerator: Accelerator::Tcg,
            confinement: Confinement::Seccomp,
            command_line: "quiet".into(),
            built: None,
            copy: false,
        };
        let process = Process::start(Detached {
            program: "/bin/sh".into(),
            args: ["-c".into(), vmm.into()].into(),
            output: None,
            log: Log::New(places.vmm_log()),
            lock: places::vmm_lock(&places),
            note: note.clone(),
            file_limit: 1 << 20,
            surroundings: Surroundings::default(),
            kept: Vec::new(),
        });
        let machine = VmmMachine::new(
            &places,
            process.unwrap(),
            note,
            Box::new(QemuControl::new(&places)),
            &LogKeeper::default(),
        );
        Self {
            machine,
            places,
            _dir: dir,
        }
    }

    /// Serves sessions one after the other; each exec that its host resets is told.
    fn start_agent(&self) -> mpsc::UnboundedReceiver<()> {
        let (hung_up, told) = mpsc::unbounded_channel();
        let listener = UnixListener::bind(places::agent_socket(&self.places)).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, hung_up.clone()));
            }
        });
        told
    }

    async fn guest(&self) -> Arc<dyn Guest> {
        self.machine.connect(PATIENCE, None).await.unwrap()
    }
}

async fn serve(stream: UnixStream, hung_up: mpsc::UnboundedSender<()>) {
    let mut listener = Listener::new(stream);
    let mut session = listener.accept().await.unwrap();
    let host = hello::receive_host(&mut session).await.unwrap();
    let answer = AgentHello {
        generations: Generations::OURS,
        generation: Generations::OURS.agree(host.generations),
        version: "9.9".into(),
        boot_id: "boot".into(),
        pid1: Pid1::Systemd,
        uptime_ns: 0,
        marks: BootMarks::default(),
        assumed: host.identity.as_ref().map(|_| Assumed::default()),
    };
    hello::answer(&mut session, &host, &answer).await.unwrap();
    let mut connection = session::serve(session).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let route = Route::find(request.method(), request.uri().path()).unwrap();
        assert!(
            route != Route::Identity || host.identity.is_none(),
            "said once"
        );
        tokio::spawn(answer_one(route, request, respond, hung_up.clone()));
    }
}

async fn answer_one(
    route: Route,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    hung_up: mpsc::UnboundedSender<()>,
) {
    let mut response = Response::new(());
    if route == Route::Ports {
        // As an agent of the first release answers.
        *response.status_mut() = http::StatusCode::NOT_FOUND;
    }
    let mut body = respond.send_response(response, false).unwrap();
    match route {
        Route::Exec(_) => {
            let input = FrameReceiver::new(request.into_body());
            if cat(input, FrameSender::new(body)).await.is_none() {
                let _ = hung_up.send(());
            }
        }
        Route::Health => {
            let health = r#"{"uptime_ns":7000000000,"load":[0,0,0],"memory_total":2,
                "memory_available":1,"pid1":"systemd","init_state":"running"}"#;
            body.send_data(health.into(), true).unwrap();
        }
        Route::Ports => {
            let refusal = r#"{"error":"no such path"}"#;
            body.send_data(refusal.into(), true).unwrap();
        }
        Route::Log => {
            let log = r#"{"lines":[{"uptime_ms":1500,"text":"it \u001b[2J is\u0007"}]}"#;
            body.send_data(log.into(), true).unwrap();
        }
        Route::Identity => {
            let assumed = r#"{"problems":["x\u001b[2J"],"to_run":[["/hook"],["/other"]]}"#;
            body.send_data(assumed.into(), true).unwrap();
        }
        Route::GrowDisk
        | Route::Signal(_)
        | Route::Resize(_)
        | Route::Sync
        | Route::Clock
        | Route::Shutdown => {
            body.send_data(Bytes::new(), true).unwrap();
        }
    }
}

async fn cat(mut input: FrameReceiver, mut output: FrameSender) -> Option<()> {
    input.next().await.ok()??;
    output.queue(encode(Kind::Started, br#"{"pid":7}"#)).ok()?;
    while let Some(piece) = input.next().await.ok()? {
        output.send(Kind::Stdout, piece.payload).await.ok()?;
    }
    output
        .send_whole(Kind::Exited, &0_i32.to_be_bytes(), true)
        .await
        .ok()
}

#[tokio::test]
async fn a_copy_is_somebody_before_its_hooks_have_run_and_not_after() {
    let story = Story::begin("exec sleep 1000");
    let (guest, mut told) = tokio::join!(story.guest(), async { story.start_agent() });
    guest.assume(&identity()).await.unwrap();
    // Both hooks ran, to their ends: nobody was hung up.
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_copy_that_was_told_with_the_greeting_is_not_told_again() {
    let story = Story::begin("exec sleep 1000");
    let _told = story.start_agent();
    let identity = identity();
    let guest = story.machine.connect(PATIENCE, Some(&identity)).await;
    guest.unwrap().assume(&identity).await.unwrap();
}

fn identity() -> Identity {
    Identity {
        id: VmId::random(),
        name: "copy".parse().unwrap(),
        same: false,
    }
}

#[tokio::test]
async fn an_agent_that_comes_late_is_waited_for() {
    let story = Story::begin("exec sleep 1000");
    let (guest, _told) = tokio::join!(story.guest(), async { story.start_agent() });
    let info = guest.info();
    assert_eq!(
        (info.version.as_str(), info.init.as_str()),
        ("9.9", "systemd")
    );
    let health = guest.health().await.unwrap();
    assert_eq!(
        (health.uptime, health.init_state.as_str()),
        (Duration::from_secs(7), "running")
    );
    story.machine.kill().await.unwrap();
}

#[tokio::test]
async fn an_agent_is_asked_what_it_knows_and_told_of_as_too_old_where_it_does_not() {
    let story = Story::begin("exec sleep 1000");
    let _told = story.start_agent();
    let guest = story.guest().await;
    let log = guest.log().await.unwrap();
    let told = (log[0].uptime, log[0].text.as_str());
    assert_eq!(told, (Duration::from_millis(1500), "it  is\\u{7}"));
    let refused = guest.listeners().await.unwrap_err();
    assert!(matches!(refused, GuestError::TooOld { .. }), "{refused:?}");
    story.machine.kill().await.unwrap();
}

#[tokio::test]
async fn a_second_connection_replaces_the_first() {
    let story = Story::begin("exec sleep 1000");
    let _told = story.start_agent();
    let first = story.guest().await;
    let second = story.guest().await;
    first.closed().await;
    assert!(first.health().await.is_err());
    assert!(second.health().await.is_ok());
    story.machine.kill().await.unwrap();
}

#[tokio::test]
async fn an_exec_gives_back_what_it_is_given() {
    let story = Story::begin("exec sleep 1000");
    let _told = story.start_agent();
    let guest = story.guest().await;
    let mut exec = guest.exec(ExecRequest::default()).await.unwrap();
    let bytes = Bytes::from(vec![7; 1 << 20]);
    let (stdin, control) = (exec.stdin.clone(), exec.control.clone());
    let sent = bytes.clone();
    let feeder = tokio::spawn(async move {
        stdin.send(Stdin::Bytes(sent)).await.unwrap();
        control.send(ExecControl::Signal(2)).await.unwrap();
        stdin.send(Stdin::End).await.unwrap();
    });
    let mut back = Vec::new();
    let end = loop {
        match exec.output.recv().await.unwrap().unwrap() {
            ExecOutput::Started { pid } => assert_eq!(pid, 7),
            ExecOutput::Stdout(chunk) => back.extend(chunk),
            other => break other,
        }
    };
    assert_eq!(end, ExecOutput::Ended(ExecStatus::Code(0)));
    assert!(back == bytes);
    assert!(exec.output.recv().await.is_none());
    feeder.await.unwrap();
    story.machine.kill().await.unwrap();
}

#[tokio::test]
async fn dropping_an_exec_hangs_it_up() {
    let story = Story::begin("exec sleep 1000");
    let mut told = story.start_agent();
    let guest = story.guest().await;
    let mut exec = guest.exec(ExecRequest::default()).await.unwrap();
    assert_eq!(
        exec.output.recv().await.unwrap().unwrap(),
        ExecOutput::Started { pid: 7 }
    );
    drop(exec);
    assert_eq!(told.recv().await, Some(()));
    story.machine.kill().await.unwrap();
}

#[tokio::test]
async fn a_vmm_that_ends_first_tells_why() {
    let panic = "Kernel panic - not syncing: VFS: Unable to mount root fs";
    let story = Story::begin("exec sleep 1000");
    std::fs::write(story.places.console(), format!("{panic}\n")).unwrap();
    let (connected, killed) =
        tokio::join!(story.machine.connect(PATIENCE, None), story.machine.kill());
    killed.unwrap();
    let Err(GuestError::Host(HostError::VmmExited {
        status,
        cause,
        tail,
    })) = connected
    else {
        panic!("the VMM is gone");
    };
    assert_eq!(
        (status.as_str(), cause),
        ("signal 9", BootFailure::RootNotFound)
    );
    assert_eq!(tail.console, [panic]);
}

#[tokio::test]
async fn a_guest_that_gave_up_did_not_end_cleanly() {
    async fn check(console: &str, wanted: &str, clean: bool) {
        let story = Story::begin("exit 0");
        std::fs::write(story.places.console(), console).unwrap();
        let exit = story.machine.exited().await;
        assert_eq!((exit.status.as_str(), exit.clean), (wanted, clean));
    }
    check("login:\n", "exit code 0", true).await;
    let panic = "Kernel panic - not syncing: x\n";
    check(panic, "exit code 0 after a kernel panic", false).await;
    let fatal = "banger-agent: fatal: boot failed: x\n";
    check(fatal, "exit code 0 after a failed boot", false).await;
}

#[tokio::test]
async fn an_agent_that_says_nothing_is_not_waited_for_for_ever() {
    let story = Story::begin("exec sleep 1000");
    let socket = UnixListener::bind(places::agent_socket(&story.places)).unwrap();
    let error = story
        .machine
        .connect(Duration::from_millis(20), None)
        .await
        .err();
    assert!(
        matches!(error, Some(GuestError::Silent { .. })),
        "{error:?}"
    );
    drop(socket);
    story.machine.kill().await.unwrap();
}

/// Reaches its agent as QEMU does, over a line that breaks when its machine is saved.
#[derive(Debug)]
struct Vsock(QemuControl);

#[async_trait]
impl Control for Vsock {
    async fn dial(&self) -> UnixStream {
        self.0.dial().await
    }

    async fn quit(&self) -> Result<(), HostError> {
        self.0.quit().await
    }

    async fn pause(&self) -> Result<(), HostError> {
        self.0.pause().await
    }

    async fn resume(&self) -> Result<(), HostError> {
        self.0.resume().await
    }

    fn may_save(&self) -> Result<(), HostError> {
        Ok(())
    }

    async fn save(&self, _: &SnapshotPlaces) -> Result<u64, HostError> {
        Ok(0)
    }

    fn hangs_up_to_save(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_connection_that_a_save_breaks_is_made_again_and_no_hang_up_is_the_last() {
    let mut story = Story::begin("exec sleep 1000");
    story.machine.control = Box::new(Vsock(QemuControl::new(&story.places)));
    let listener = UnixListener::bind(places::agent_socket(&story.places)).unwrap();
    let (hung_up, _told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            // As a guest that hears too late that its connections are gone.
            if number % 2 == 1 {
                tokio::spawn(serve(stream, hung_up.clone()));
            }
        }
    });
    let guest = story.guest().await;
    guest.health().await.unwrap();
    let into = SnapshotPlaces {
        directory: story.places.state.clone(),
    };
    story.machine.save(&into).await.unwrap();
    guest.closed().await;
    story.guest().await.health().await.unwrap();
    story.machine.kill().await.unwrap();
}
