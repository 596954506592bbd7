//! A program that runs: what it has said so far, signals to it, and its end.
//! A story never waits for one without a limit.

use std::{
    process::{Child, ChildStdin},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    capture::Capture,
    outcome::{Outcome, shown},
    wait::has_ended_within,
};

/// How long the pipes of a program that has ended may stay open: nobody inherits them.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A program that a story has started. Dropping it kills the program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Capture,
    stderr: Capture,
    shown: String,
    started: Instant,
    limit: Duration,
}

impl Running {
    pub(crate) fn new(
        mut child: Child,
        stdin: Option<ChildStdin>,
        shown: String,
        limit: Duration,
    ) -> Self {
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        Self {
            child,
            stdin,
            stdout: Capture::of(stdout),
            stderr: Capture::of(stderr),
            shown,
            started: Instant::now(),
            limit,
        }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard output has this text.
    #[track_caller]
    pub fn expect_stdout(&self, text: &str) {
        self.expect(&self.stdout, "stdout", text);
    }

    /// Waits until standard error has this text.
    #[track_caller]
    pub fn expect_stderr(&self, text: &str) {
        self.expect(&self.stderr, "stderr", text);
    }

    /// How many lines standard output has so far.
    #[must_use]
    pub fn lines(&self) -> usize {
        let said = self.stdout.bytes();
        said.iter().filter(|byte| **byte == b'\n').count()
    }

    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end. Fails the story, and kills it, when the limit is reached.
    #[track_caller]
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        let left = (self.started + self.limit).saturating_duration_since(Instant::now());
        if !has_ended_within(self.child.id(), left) {
            let (stdout, stderr) = (self.stdout.bytes(), self.stderr.bytes());
            panic!(
                "$ {}\ngoes on after {:?}\nstdout: {}\nstderr: {}",
                self.shown,
                self.limit,
                shown(&stdout),
                shown(&stderr)
            );
        }
        let took = self.started.elapsed();
        let status = self.child.wait().expect("our own child can be waited for");
        let deadline = Instant::now() + LAST_WORDS;
        let rest = |stream: &Capture| stream.finish(deadline);
        let (Some(stdout), Some(stderr)) = (rest(&self.stdout), rest(&self.stderr)) else {
            panic!("$ {}\nhas ended, but somebody holds its pipes", self.shown);
        };
        Outcome {
            shown: self.shown.clone(),
            status,
            stdout,
            stderr,
            took,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // A program that has ended meanwhile needs no signal.
        let _ = kill_process(pid, signal);
    }

    #[track_caller]
    fn expect(&self, stream: &Capture, name: &str, text: &str) {
        if stream.find(text, 0, self.started + self.limit).is_none() {
            panic!(
                "$ {}\nexpected {text:?} on {name}\nstdout: {}\nstderr: {}",
                self.shown,
                shown(&self.stdout.bytes()),
                shown(&self.stderr.bytes())
            );
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
