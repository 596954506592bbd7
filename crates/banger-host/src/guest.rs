//! A connection to a guest's agent, as the port wants it. Translates between the protocol's
//! types and the domain's; believes nothing that the guest says without a bound.

use std::{future::pending, time::Duration};

use async_trait::async_trait;
use banger_core::{
    exec::{ExecFailure, ExecInput, ExecOutput, ExecRequest, ExecStatus, ExecStream, WindowSize},
    host::{AgentInfo, Guest, Health},
    host_error::{GuestError, LogTail},
};
use banger_guest_proto::{
    Client, ClientError,
    hello::{AgentHello, HelloError, Pid1},
    message::{self, ExecStart, ExitStatus, Failure, FailureKind, InitState, ShutdownRequest},
    session::exec::{self, Exec, ExecControl, ExecEvent, Stdin},
};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::logs::printable;

/// Chunks that wait in each direction of an exec, beside the windows of the session.
const CHUNKS: usize = 4;
/// An agent that is alive answers a plain question within this time.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct LiveGuest {
    client: Client,
    info: AgentInfo,
    /// Its sender goes with the task that moves the session's bytes.
    closed: watch::Receiver<()>,
}

impl LiveGuest {
    pub(crate) fn new(client: Client, hello: &AgentHello, closed: watch::Receiver<()>) -> Self {
        let info = AgentInfo {
            generation: hello.generation.unwrap_or_default(),
            version: printable(&hello.version),
            boot_id: printable(&hello.boot_id),
            init: pid1(hello.pid1).into(),
        };
        Self {
            client,
            info,
            closed,
        }
    }
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
            memory_total: health.memory_total,
            memory_available: health.memory_available,
            init_state: init_state(health.init_state).into(),
        })
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecStream, GuestError> {
        let start = exec_start(request);
        let exec = self.client.exec(&start, Stdin::Open).await;
        let exec = exec.map_err(|error| guest_error("an exec", error))?;
        let (input, inputs) = mpsc::channel(CHUNKS);
        let (outputs, output) = mpsc::channel(CHUNKS);
        tokio::spawn(run(exec, inputs, outputs));
        Ok(ExecStream { input, output })
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

/// Moves an exec's input and output until it ends or nobody listens any more. Dropping the
/// exec then resets its stream, and the agent hangs the command up.
async fn run(
    exec: Exec,
    inputs: mpsc::Receiver<ExecInput>,
    outputs: mpsc::Sender<Result<ExecOutput, GuestError>>,
) {
    let Exec {
        input,
        output,
        control,
    } = exec;
    let (stdin, stdins) = mpsc::channel(CHUNKS);
    let feeding = async {
        tokio::join!(sort_inputs(inputs, stdin, control), feed(input, stdins));
        pending::<()>().await;
    };
    tokio::select! {
        () = outputs.closed() => {}
        () = deliver(output, &outputs) => {}
        () = feeding => {}
    }
}

/// Input for the process; `None` is its end.
type StdinPart = Option<Bytes>;

/// Passes signals and sizes on at once, past input that the process does not read yet.
async fn sort_inputs(
    mut inputs: mpsc::Receiver<ExecInput>,
    stdin: mpsc::Sender<StdinPart>,
    control: ExecControl,
) {
    while let Some(input) = inputs.recv().await {
        let done = match input {
            ExecInput::Stdin(bytes) => {
                // A process that reads no more makes its feeder end, which is no failure.
                let _ = stdin.send(Some(bytes)).await;
                Ok(())
            }
            ExecInput::StdinEof => {
                let _ = stdin.send(None).await;
                Ok(())
            }
            ExecInput::Resize(size) => control.resize(window(size)).await,
            ExecInput::Signal(number) => control.signal(number.into()).await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the agent did not pass on a signal or size");
        }
    }
}

async fn feed(mut input: exec::ExecInput, mut stdins: mpsc::Receiver<StdinPart>) {
    while let Some(part) = stdins.recv().await {
        match part {
            Some(bytes) => {
                if input.send(bytes).await.is_err() {
                    return;
                }
            }
            None => return input.finish(),
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
