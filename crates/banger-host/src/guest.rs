//! A connection to a guest's agent, as the port wants it. Translates between the protocol's
//! types and the domain's; believes nothing that the guest says without a bound.

use std::{future::pending, sync::Mutex, time::Duration};

use async_trait::async_trait;
use banger_core::{
    exec::{
        ExecControl, ExecFailure, ExecOutput, ExecRequest, ExecStatus, ExecStream, Stdin,
        WindowSize,
    },
    host::{AgentInfo, BootMarks, Guest, Health, Identity, Listener, Listeners, LogLine, Protocol},
    host_error::{GuestError, LogTail},
};
use banger_guest_proto::{
    Client, ClientError,
    hello::{AgentHello, HelloError, HostHello, Pid1},
    message::{
        self, Assumed, ClockRequest, ExecStart, ExitStatus, Failure, FailureKind, GrowRequest,
        IdentityRequest, InitState, MAX_LISTENERS, Route, ShutdownRequest,
    },
    session::exec::{self, Exec, ExecEvent},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{logs::printable, qemu::args::mac};

/// Chunks that wait in each direction of an exec, beside the windows of the session.
const CHUNKS: usize = 4;
/// An agent that is alive answers a plain question within this time.
const ANSWER: Duration = Duration::from_secs(10);
/// A file system that grows writes to all of its new groups.
const GROWTH: Duration = Duration::from_secs(60);
/// More than an honest agent keeps.
const MAX_LOG_LINES: usize = 1024;
/// What one hook of an image may take of a fork's first moments.
const HOOK: Duration = Duration::from_secs(30);
const MOST_HOOKS: usize = 64;

#[derive(Debug)]
pub(crate) struct LiveGuest {
    client: Client,
    info: AgentInfo,
    /// That it is somebody already, where that was said when it was greeted.
    assumed: Mutex<Option<Assumed>>,
    /// Its sender goes with the task that moves the session's bytes.
    closed: watch::Receiver<()>,
}

impl LiveGuest {
    pub(crate) fn new(client: Client, hello: AgentHello, closed: watch::Receiver<()>) -> Self {
        let info = AgentInfo {
            generation: hello.generation.unwrap_or_default(),
            version: printable(&hello.version),
            boot_id: printable(&hello.boot_id),
            init: pid1(hello.pid1).into(),
            marks: marks(&hello),
        };
        Self {
            client,
            info,
            assumed: Mutex::new(hello.assumed),
            closed,
        }
    }
}

impl LiveGuest {
    /// Runs a command without input; says how it failed if it did.
    async fn run_to_end(&self, argv: Vec<String>) -> Result<Option<String>, ClientError> {
        let start = ExecStart {
            argv,
            ..ExecStart::default()
        };
        let mut exec = self.client.exec(&start, exec::Stdin::Closed).await?;
        while let Some(event) = exec.output.next().await? {
            match event {
                ExecEvent::Started { .. } | ExecEvent::Stdout(_) | ExecEvent::Stderr(_) => {}
                ExecEvent::Ended(ExitStatus::Exited { code: 0 }) => return Ok(None),
                ExecEvent::Ended(ExitStatus::Exited { code }) => {
                    return Ok(Some(format!("exit code {code}")));
                }
                ExecEvent::Ended(ExitStatus::Signaled { signal }) => {
                    return Ok(Some(format!("signal {signal}")));
                }
                ExecEvent::Failed(Failure { message, .. }) => return Ok(Some(printable(&message))),
            }
        }
        Err(ClientError::Truncated)
    }
}

/// This moment, and random bytes.
fn now(operation: &'static str) -> Result<HostHello, GuestError> {
    HostHello::now().map_err(|source| GuestError::Broken {
        operation,
        source: Box::new(source),
    })
}

/// What an agent is told first; who it is to be, where it may be another's copy.
pub(crate) fn greeting(identity: Option<&Identity>) -> Result<HostHello, GuestError> {
    let identity = identity.map(identity_request).transpose()?;
    Ok(HostHello {
        identity,
        ..now("the greeting")?
    })
}

fn identity_request(identity: &Identity) -> Result<IdentityRequest, GuestError> {
    let hello = now("a new identity")?;
    let machine_id = identity.id.to_string().try_into();
    Ok(IdentityRequest {
        hostname: identity
            .name
            .as_str()
            .parse()
            .expect("a VM's name is a host name"),
        machine_id: machine_id.expect("a VM's id has 32 hexadecimal digits"),
        wall_clock_ns: hello.wall_clock_ns,
        entropy: hello.entropy,
        mac: Some(mac(identity.id)),
        same: identity.same,
    })
}

#[async_trait]
impl Guest for LiveGuest {
    fn info(&self) -> AgentInfo {
        self.info.clone()
    }

    async fn health(&self) -> Result<Health, GuestError> {
        let health = answered("a health check", ANSWER, self.client.health()).await?;
        Ok(Health {
            uptime: Duration::from_nanos(health.uptime_ns),
            load: health.load.map(believable),
            memory_total: health.memory_total,
            memory_available: health.memory_available,
            init_state: init_state(health.init_state).into(),
        })
    }

    async fn listeners(&self) -> Result<Listeners, GuestError> {
        let told = answered("a list of ports", ANSWER, self.client.ports()).await?;
        let more = told.more || told.listeners.len() > MAX_LISTENERS;
        let listeners = told.listeners.into_iter().take(MAX_LISTENERS);
        Ok(Listeners {
            listeners: listeners.map(listener).collect(),
            more,
        })
    }

    async fn log(&self) -> Result<Vec<LogLine>, GuestError> {
        let told = answered("its agent's log", ANSWER, self.client.log()).await?;
        let lines = told.lines.into_iter().take(MAX_LOG_LINES);
        let line = |line: message::LogLine| LogLine {
            uptime: Duration::from_millis(line.uptime_ms),
            text: printable(&line.text),
        };
        Ok(lines.map(line).collect())
    }

    async fn grow_disk(&self, bytes: u64) -> Result<(), GuestError> {
        let request = GrowRequest { bytes };
        answered("a larger disk", GROWTH, self.client.grow_disk(request)).await
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecStream, GuestError> {
        let start = exec_start(request);
        let exec = self.client.exec(&start, exec::Stdin::Open).await;
        let exec = exec.map_err(|error| guest_error("an exec", error))?;
        let (stdin, stdins) = mpsc::channel(CHUNKS);
        let (control, controls) = mpsc::channel(CHUNKS);
        let (outputs, output) = mpsc::channel(CHUNKS);
        let ends = Ends {
            stdin: stdins,
            control: controls,
            output: outputs,
        };
        tokio::spawn(run(exec, ends));
        Ok(ExecStream {
            stdin,
            control,
            output,
        })
    }

    async fn assume(&self, identity: &Identity) -> Result<(), GuestError> {
        if self.info.generation < message::IDENTITY_GENERATION {
            tracing::warn!(vm = %identity.name, "the agent of this copy is too old to rename it");
            return Ok(());
        }
        let greeted = self
            .assumed
            .lock()
            .expect("its holders do not panic")
            .take();
        let assumed = match greeted {
            Some(assumed) => assumed,
            None => {
                let request = identity_request(identity)?;
                let identified = self.client.identify(&request);
                answered("a new identity", ANSWER, identified).await?
            }
        };
        for problem in assumed.problems.iter().take(MOST_HOOKS) {
            let problem = printable(problem);
            tracing::warn!(vm = %identity.name, problem, "a copy keeps something of its origin");
        }
        for argv in assumed.to_run.into_iter().take(MOST_HOOKS) {
            let what = printable(argv.first().map_or("", String::as_str));
            match timeout(HOOK, self.run_to_end(argv)).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(how))) => {
                    tracing::warn!(vm = %identity.name, what, how, "a fork's hook failed");
                }
                Ok(Err(error)) => return Err(guest_error("a fork's hook", error)),
                Err(_) => tracing::warn!(vm = %identity.name, what, "a fork's hook does not end"),
            }
        }
        Ok(())
    }

    async fn tell_time(&self) -> Result<(), GuestError> {
        if self.info.generation < message::IDENTITY_GENERATION {
            return Ok(());
        }
        let wall_clock_ns = now("the time")?.wall_clock_ns;
        let told = self.client.set_clock(ClockRequest { wall_clock_ns });
        answered("the time", ANSWER, told).await
    }

    async fn shutdown(&self, patience: Duration) -> Result<(), GuestError> {
        let request = ShutdownRequest::graceful(patience);
        answered("a shutdown", ANSWER, self.client.shutdown(request)).await
    }

    async fn closed(&self) {
        // Nothing is ever sent: a change is the sender's end.
        let _ = self.closed.clone().changed().await;
    }
}

/// The domain's ends of an exec.
struct Ends {
    stdin: mpsc::Receiver<Stdin>,
    control: mpsc::Receiver<ExecControl>,
    output: mpsc::Sender<Result<ExecOutput, GuestError>>,
}

/// Moves an exec's input and output until it ends or nobody listens any more. Dropping the
/// exec then resets its stream, and the agent hangs the command up.
async fn run(exec: Exec, ends: Ends) {
    let Exec {
        input,
        output,
        control,
    } = exec;
    let feeding = async {
        tokio::join!(feed(input, ends.stdin), steer(&control, ends.control));
        pending::<()>().await;
    };
    tokio::select! {
        () = ends.output.closed() => {}
        () = deliver(output, &ends.output) => {}
        () = feeding => {}
    }
}

fn marks(hello: &AgentHello) -> BootMarks {
    let mark = |mark: Option<u64>| mark.map(Duration::from_nanos);
    BootMarks {
        init_entered: mark(hello.marks.init_entered),
        modules_loaded: mark(hello.marks.modules_loaded),
        root_mounted: mark(hello.marks.root_mounted),
        ready: mark(hello.marks.ready),
        greeted: Duration::from_nanos(hello.uptime_ns),
    }
}

async fn steer(exec: &exec::ExecControl, mut controls: mpsc::Receiver<ExecControl>) {
    while let Some(control) = controls.recv().await {
        let done = match control {
            ExecControl::Resize(size) => exec.resize(window(size)).await,
            ExecControl::Signal(number) => exec.signal(number.into()).await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the agent did not pass on a signal or size");
        }
    }
}

async fn feed(mut input: exec::ExecInput, mut stdins: mpsc::Receiver<Stdin>) {
    while let Some(part) = stdins.recv().await {
        match part {
            Stdin::Bytes(bytes) => {
                // A process that reads no more is no failure: its end comes as output.
                if input.send(bytes).await.is_err() {
                    return;
                }
            }
            Stdin::End => return input.finish(),
        }
    }
}

async fn deliver(
    mut output: exec::ExecOutput,
    outputs: &mpsc::Sender<Result<ExecOutput, GuestError>>,
) {
    loop {
        let event = match output.next().await {
            Ok(Some(event)) => Ok(exec_output(event)),
            Ok(None) => return,
            Err(error) => Err(guest_error("an exec", error)),
        };
        let last = event.is_err();
        if outputs.send(event).await.is_err() || last {
            return;
        }
    }
}

fn exec_start(request: ExecRequest) -> ExecStart {
    let ExecRequest {
        argv,
        env,
        cwd,
        user,
        tty,
    } = request;
    ExecStart {
        argv,
        env,
        cwd,
        user,
        tty: tty.map(window),
    }
}

fn window(WindowSize { cols, rows }: WindowSize) -> message::WindowSize {
    message::WindowSize { cols, rows }
}

fn exec_output(event: ExecEvent) -> ExecOutput {
    match event {
        ExecEvent::Started { pid } => ExecOutput::Started { pid },
        ExecEvent::Stdout(bytes) => ExecOutput::Stdout(bytes),
        ExecEvent::Stderr(bytes) => ExecOutput::Stderr(bytes),
        ExecEvent::Ended(status) => ExecOutput::Ended(exec_status(status)),
        ExecEvent::Failed(Failure { kind, message }) => ExecOutput::Failed {
            kind: exec_failure(kind),
            message: printable(&message),
        },
    }
}

/// A guest may call any number a load.
fn believable(load: f32) -> f32 {
    if load.is_finite() { load.max(0.0) } else { 0.0 }
}

fn listener(told: message::Listener) -> Listener {
    Listener {
        protocol: match told.protocol {
            message::Protocol::Tcp => Protocol::Tcp,
            message::Protocol::Udp => Protocol::Udp,
        },
        address: told.address,
        port: told.port,
        pid: told.pid,
        process: told.process.map(|name| printable(&name)),
    }
}

/// What Linux cannot say is taken for the failure that a shell reports last.
fn exec_status(status: ExitStatus) -> ExecStatus {
    const IMPOSSIBLE: ExecStatus = ExecStatus::Code(255);
    match status {
        ExitStatus::Exited { code } => u8::try_from(code).map_or(IMPOSSIBLE, ExecStatus::Code),
        ExitStatus::Signaled { signal } => match u8::try_from(signal) {
            Ok(number @ 1..=64) => ExecStatus::Signal(number),
            Ok(_) | Err(_) => IMPOSSIBLE,
        },
    }
}

fn exec_failure(kind: FailureKind) -> ExecFailure {
    match kind {
        FailureKind::NotFound => ExecFailure::NotFound,
        FailureKind::NotExecutable => ExecFailure::NotExecutable,
        FailureKind::NoSuchUser => ExecFailure::NoSuchUser,
        FailureKind::NoSuchDirectory => ExecFailure::NoSuchDirectory,
        FailureKind::NoShell => ExecFailure::NoShell,
        FailureKind::Other => ExecFailure::Other,
    }
}

fn pid1(pid1: Pid1) -> &'static str {
    match pid1 {
        Pid1::Agent => "agent",
        Pid1::Systemd => "systemd",
        Pid1::Other => "other",
    }
}

fn init_state(state: InitState) -> &'static str {
    match state {
        InitState::Starting => "starting",
        InitState::Running => "running",
        InitState::Stopping => "stopping",
        InitState::Unknown => "unknown",
    }
}

async fn answered<T>(
    operation: &'static str,
    patience: Duration,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, GuestError> {
    match timeout(patience, answer).await {
        Ok(answer) => answer.map_err(|error| guest_error(operation, error)),
        Err(_) => Err(GuestError::Silent {
            after: patience,
            tail: LogTail::default(),
        }),
    }
}

pub(crate) fn guest_error(operation: &'static str, error: ClientError) -> GuestError {
    match error {
        ClientError::Hello(HelloError::Generation { host, agent }) => GuestError::Generation {
            ours: host.to_string(),
            theirs: agent.to_string(),
        },
        // Routes that came after the first release: an agent that booted before does not know them.
        ClientError::Refused {
            route: Route::Ports | Route::Log | Route::GrowDisk,
            status,
            ..
        } if status.as_u16() == 404 => GuestError::TooOld { operation },
        ClientError::Refused { reason, .. } => GuestError::Refused {
            operation,
            message: printable(&reason),
        },
        other => GuestError::Broken {
            operation,
            source: Box::new(other),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_linux_can_say_is_believed() {
        let check = |status, wanted| assert_eq!(exec_status(status), wanted, "{status:?}");
        check(ExitStatus::Exited { code: 0 }, ExecStatus::Code(0));
        check(ExitStatus::Exited { code: 255 }, ExecStatus::Code(255));
        check(ExitStatus::Exited { code: 256 }, ExecStatus::Code(255));
        check(ExitStatus::Exited { code: -1 }, ExecStatus::Code(255));
        check(ExitStatus::Signaled { signal: 9 }, ExecStatus::Signal(9));
        check(ExitStatus::Signaled { signal: 0 }, ExecStatus::Code(255));
        check(
            ExitStatus::Signaled { signal: 1 << 20 },
            ExecStatus::Code(255),
        );
    }

    #[test]
    fn a_failures_words_cannot_act_upon_a_terminal() {
        let failure = Failure {
            kind: FailureKind::NotFound,
            message: "no\u{1b}]0;x\u{7}".into(),
        };
        let ExecOutput::Failed { message, .. } = exec_output(ExecEvent::Failed(failure)) else {
            panic!("a failure stays one");
        };
        assert_eq!(message, "no\\u{1b}]0;x\\u{7}");
    }
}
