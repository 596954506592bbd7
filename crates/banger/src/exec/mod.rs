//! A command of a guest, connected to our own standard streams, signals and terminal.
//! Knows the exec stream; knows neither how VMs are made nor what becomes of them.

pub(crate) mod pipes;
pub(crate) mod signals;
pub(crate) mod terminal;

use std::{
    cell::OnceCell,
    io,
    pin::{Pin, pin},
    time::Instant,
};

use banger_api::{
    client::{Client, ClientError, ExecReceiver, ExecSender, Received, Room},
    exec::{ExecControl, ExecEvent, ExecStart},
    vm::Boot,
};
use bytes::Bytes;
use tokio::sync::mpsc;

use self::{
    pipes::{Stream, Writer},
    signals::{Policy, Reaction, Signals},
    terminal::RawMode,
};
use crate::{
    output,
    report::{Failure, signal_code},
};

/// Signals and window changes under way; more than that in a burst say nothing new.
const CONTROLS: usize = 32;

/// Runs a command to its end and gives back the exit code that stands for it. Fills in `boot`
/// when the command is the first one after it.
///
/// On every way out that is not the command's own end, the command is hung up.
pub(crate) async fn run(
    client: &Client,
    target: &str,
    start: &ExecStart,
    signals: &mut Signals,
    boot: &OnceCell<Boot>,
) -> Result<u8, Failure> {
    // Raw before the command begins: what is typed from now on is meant for it.
    let raw = match start.tty {
        Some(_) => RawMode::enter().map_err(|source| Failure::Host {
            operation: "switch the terminal to raw mode",
            source,
        })?,
        None => None,
    };
    let connected = client.exec(target, start);
    let (sender, receiver) = signals
        .interrupt(connected, "the command was not run")
        .await?;
    let input = start.stdin.then(|| pipes::read(io::stdin())).transpose()?;
    let writer = Writer::start()?;
    let (controls, pending) = mpsc::channel(CONTROLS);
    let mut feeding = pin!(feed(sender, input, pending));
    let mut delivering = pin!(deliver(receiver, writer, boot));
    let mut policy = Policy::new(start.tty.is_some());
    let begin = Instant::now();
    let mut fed = false;
    loop {
        let caught = tokio::select! {
            ended = &mut delivering => return ended,
            // A stream that broke here is broken for the other direction, too, unless the
            // command has ended: that direction knows.
            _ = &mut feeding, if !fed => {
                fed = true;
                continue;
            }
            caught = signals.next() => caught,
        };
        let control = match policy.react(caught, begin.elapsed()) {
            Reaction::Nothing => continue,
            Reaction::Forward(signal) => ExecControl::Signal(signal),
            Reaction::Refresh => {
                if let Some(raw) = &raw {
                    raw.renew();
                }
                ExecControl::Resize(terminal::window())
            }
            Reaction::Abandon(signal) => {
                let outcome = "the command was hung up".to_owned();
                return Err(Failure::Interrupted { signal, outcome });
            }
        };
        let _ = controls.try_send(control);
    }
}

/// Sends input and controls until the command takes no more.
async fn feed(
    mut sender: ExecSender,
    mut input: Option<mpsc::Receiver<io::Result<Bytes>>>,
    mut controls: mpsc::Receiver<ExecControl>,
) -> Result<(), ClientError> {
    // Input that the command does not read yet must not hold up a signal.
    let mut waiting: Option<Waiting> = None;
    loop {
        tokio::select! {
            biased;
            control = controls.recv() => match control {
                Some(control) => sender.control(control).await?,
                None => return Ok(()),
            },
            (bytes, room) = has_room(&mut waiting) => {
                waiting = None;
                sender.stdin(&bytes, room).await?;
            }
            chunk = next_chunk(&mut input), if input.is_some() && waiting.is_none() => match chunk {
                Some(Ok(bytes)) => {
                    let room = Box::pin(sender.room(bytes.len()));
                    waiting = Some(Waiting { bytes, room });
                }
                end => {
                    if let Some(Err(error)) = end {
                        output::remark(format_args!("banger: cannot read standard input: {error}"));
                    }
                    input = None;
                    sender.control(ExecControl::StdinEof).await?;
                }
            },
        }
    }
}

/// A piece of input, and the room for it that is to come.
struct Waiting {
    bytes: Bytes,
    room: Pin<Box<dyn Future<Output = Room>>>,
}

async fn has_room(waiting: &mut Option<Waiting>) -> (Bytes, Room) {
    match waiting {
        Some(Waiting { bytes, room }) => {
            let room = room.await;
            (std::mem::take(bytes), room)
        }
        None => std::future::pending().await,
    }
}

async fn next_chunk(
    input: &mut Option<mpsc::Receiver<io::Result<Bytes>>>,
) -> Option<io::Result<Bytes>> {
    match input {
        Some(input) => input.recv().await,
        None => None,
    }
}

/// Writes what the command says, until it has ended and everything is written.
async fn deliver(
    mut receiver: ExecReceiver,
    writer: Writer,
    first_after: &OnceCell<Boot>,
) -> Result<u8, Failure> {
    let ending = loop {
        let (stream, bytes) = match receiver.next().await {
            Ok(Some(Received::Stdout(bytes))) => (Stream::Stdout, bytes),
            Ok(Some(Received::Stderr(bytes))) => (Stream::Stderr, bytes),
            Ok(Some(Received::Event(ExecEvent::Started { boot, .. }))) => {
                if let Some(boot) = boot {
                    first_after.get_or_init(|| boot);
                }
                continue;
            }
            Ok(Some(Received::Event(event))) => match ending_of(event) {
                Some(ending) => break ending,
                None => continue,
            },
            Ok(None) => break Err(Failure::NoEnding),
            Err(error) => break Err(error.into()),
        };
        if writer.write(stream, bytes).await.is_err() {
            break Err(Failure::PipeClosed);
        }
    };
    writer.finish().await?;
    ending
}

fn ending_of(event: ExecEvent) -> Option<Result<u8, Failure>> {
    match event {
        ExecEvent::Started { .. } | ExecEvent::StdinTaken { .. } => None,
        ExecEvent::Exited { code } => Some(Ok(code)),
        ExecEvent::Signaled { signal } => Some(Ok(signal_code(signal))),
        ExecEvent::NotStarted { reason, message } => {
            Some(Err(Failure::NotStarted { reason, message }))
        }
        ExecEvent::Failed(error) => Some(Err(ClientError::Api(error).into())),
    }
}

#[cfg(test)]
mod tests {
    use banger_api::{
        error::{ApiError, ErrorCode},
        exec::NotStarted,
    };

    use super::*;
    use crate::report::Role;

    #[test]
    fn a_command_and_its_failure_to_begin_have_docker_s_codes() {
        let failed = ApiError::new(ErrorCode::GuestFailed, "gone");
        let not_started = |reason| ExecEvent::NotStarted {
            reason,
            message: String::new(),
        };
        let cases = [
            (ExecEvent::Exited { code: 42 }, 42),
            (ExecEvent::Signaled { signal: 9 }, 137),
            (not_started(NotStarted::NotFound), 127),
            (not_started(NotStarted::NotExecutable), 126),
            (not_started(NotStarted::NoSuchUser), 125),
            (ExecEvent::Failed(failed), 125),
        ];
        for (event, code) in cases {
            let ending = ending_of(event.clone()).expect("these end a stream");
            let got = ending.unwrap_or_else(|failure| failure.exit_code(Role::GuestCommand));
            assert_eq!(got, code, "{event:?}");
        }
        assert!(ending_of(ExecEvent::StdinTaken { bytes: 1 }).is_none());
    }
}
