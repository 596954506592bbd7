//! Owns an exec from its request to its last frame. How a process is found, started, fed and read are the submodules'.
//!
//! # When an exec is over
//!
//! When its process has ended and its output is complete. Output is complete when nobody has the other ends of its
//! pipes open any more. A process that leaves children behind in the background would delay that for as long as they
//! live, so once the process has ended, the others get [`LINGER`] to finish; then what is in the pipes by that instant is
//! delivered and the pipes are closed. Everything that the process itself wrote is in there, so none of it is lost.
//! A slow host does not use up that time.
//!
//! # When the host goes away
//!
//! The process gets a hangup, and a kill after [`HANG_UP_GRACE`]. Children that ignore hangups, as under nohup, stay.
//! A copy's host is not its origin's, so there this becomes of all execs of the origin, before another one begins.
//! Nobody is left to hear how such a process ended, so it is noted.

mod input;
mod output;
mod plan;
mod program;
pub(crate) mod registry;
mod spawn;
mod user;

use std::path::Path;
use std::time::Duration;

use banger_guest_proto::frame::{self, Kind, Started};
use banger_guest_proto::message::{ExecStart, ExitStatus, Failure};
use banger_guest_proto::session::frames::{Closed, FrameReceiver, FrameSender};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::reaper::{Process, Reaper};
use crate::{journal, sys};
use input::Sink;
use output::{Output, Pumped};
use registry::Control;
use spawn::{End, Io, Running};

/// How long background children may keep an exec's output open.
const LINGER: Duration = Duration::from_millis(200);
/// How long a process may take to end after a hangup.
const HANG_UP_GRACE: Duration = Duration::from_secs(2);

const SIGHUP: i32 = libc::SIGHUP;
const SIGKILL: i32 = libc::SIGKILL;
const SIGCONT: i32 = libc::SIGCONT;

/// Runs a request to its end. The host learns everything through the frames.
pub(crate) async fn run(
    start: ExecStart,
    receiver: FrameReceiver,
    mut sender: FrameSender,
    controls: mpsc::Receiver<Control>,
    reaper: &Reaper,
) {
    let running = plan::plan(start, Path::new("/etc"))
        .and_then(|plan| Ok((spawn::spawn(&plan, reaper)?, plan.program)));
    // From here on a host that has gone away is noticed where it matters and needs no handling here.
    match running {
        Ok((running, program)) => {
            let _ = supervise(running, &program, receiver, sender, controls).await;
        }
        Err(failure) => {
            let _ = report_failure(&mut sender, &failure).await;
        }
    }
}

async fn report_failure(sender: &mut FrameSender, failure: &Failure) -> Result<(), Closed> {
    let document = serde_json::to_vec(failure).expect("a failure is plain data");
    let document = if document.len() <= frame::MAX_CONTROL {
        document
    } else {
        let message = failure.message.chars().take(1000).collect();
        let short = Failure {
            kind: failure.kind,
            message,
        };
        serde_json::to_vec(&short).expect("a failure is plain data")
    };
    sender.send_whole(Kind::Failed, &document, true).await
}

async fn supervise(
    running: Running,
    program: &Path,
    receiver: FrameReceiver,
    mut sender: FrameSender,
    controls: mpsc::Receiver<Control>,
) -> Result<(), Closed> {
    let Running { mut process, io } = running;
    let pid = process.pid.as_raw_pid();
    let started = Started {
        pid: pid.unsigned_abs(),
    };
    let started = serde_json::to_vec(&started).expect("a number is plain data");
    // The process runs by now, so a host that is gone already must still lead to the hangup below.
    let _ = sender.queue(frame::encode(Kind::Started, &started));

    let (sink, terminal, sources) = split(io);
    let feeder = tokio::task::spawn_local(input::feed(receiver, sink));
    let mut output = Output::new(sender, sources);
    let status = watch(&mut process, &mut output, controls, terminal.as_ref()).await;
    let Some(status) = status else {
        hang_up(process, program, output).await;
        feeder.abort();
        return Err(Closed);
    };
    // Input that is left does not matter any more: HTTP/2 tells the host so once the response is complete.
    feeder.abort();
    let (kind, number) = match status {
        ExitStatus::Exited { code } => (Kind::Exited, code),
        ExitStatus::Signaled { signal } => (Kind::Signaled, signal),
    };
    let mut sender = output.into_sender();
    sender.send_whole(kind, &number.to_be_bytes(), true).await
}

type Parts = (Sink, Option<End>, Vec<(Kind, End)>);

fn split(io: Io) -> Parts {
    match io {
        Io::Pipes {
            stdin,
            stdout,
            stderr,
        } => (
            Sink::Pipe(stdin),
            None,
            vec![(Kind::Stdout, stdout), (Kind::Stderr, stderr)],
        ),
        Io::Terminal(end) => {
            let sources = vec![(Kind::Stdout, end.clone())];
            (Sink::Terminal(end.clone()), Some(end), sources)
        }
    }
}

/// Waits until the process has ended and its output is complete; `None` when the host has gone away.
async fn watch(
    process: &mut Process,
    output: &mut Output,
    mut controls: mpsc::Receiver<Control>,
    terminal: Option<&End>,
) -> Option<ExitStatus> {
    let mut status = None;
    let mut deadline = Instant::now();
    loop {
        if status.is_some() && output.is_drained() {
            return status;
        }
        tokio::select! {
            biased;
            ended = process.wait(), if status.is_none() => {
                status = Some(ended);
                deadline = Instant::now() + LINGER;
            }
            Some(control) = controls.recv() => apply(control, process, terminal),
            pumped = output.pump() => match pumped {
                Pumped::Drained => {}
                Pumped::Gone if status.is_some() => output.abandon(),
                Pumped::Gone => return None,
            },
            () = sleep_until(deadline), if status.is_some() => {
                if output.waits_for_host() {
                    deadline = Instant::now() + LINGER;
                } else {
                    output.stop_at_what_is_there();
                }
            }
        }
    }
}

/// A process that has just ended takes neither signals nor sizes, which is no failure.
fn apply(control: Control, process: &Process, terminal: Option<&End>) {
    match control {
        Control::Signal(signal) => {
            let foreground = terminal.and_then(|end| sys::terminal_foreground_group(end.get_ref()));
            let group = foreground.unwrap_or(process.pid.as_raw_pid());
            let _ = sys::kill(-group, signal);
        }
        Control::Resize(size) => {
            if let Some(end) = terminal {
                let _ = rustix::termios::tcsetwinsize(end.get_ref(), spawn::winsize(size));
            }
        }
    }
}

/// Ends a process whose host has gone away.
async fn hang_up(mut process: Process, program: &Path, mut output: Output) {
    let pid = process.pid.as_raw_pid();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    journal::note(format_args!("process {pid} is hung up: {name}"));
    let _ = sys::kill(-pid, SIGHUP);
    // A stopped process must run to notice.
    let _ = sys::kill(-pid, SIGCONT);
    let ended = async {
        // Its last words must not be the end of it before it has tidied up.
        tokio::select! {
            status = process.wait() => status,
            never = output.discard() => match never {},
        }
    };
    let status = match tokio::time::timeout(HANG_UP_GRACE, ended).await {
        Ok(status) => status,
        Err(_) => {
            let _ = sys::kill(-pid, SIGKILL);
            process.wait().await
        }
    };
    match status {
        ExitStatus::Exited { code } => {
            journal::note(format_args!("process {pid} has ended: exit code {code}"));
        }
        ExitStatus::Signaled { signal } => {
            journal::note(format_args!("process {pid} has ended: signal {signal}"));
        }
    }
}
