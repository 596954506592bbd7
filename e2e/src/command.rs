//! One call of a program: its arguments, its input, its environment, and how long it may take.
//! Starts it; what comes of it is the business of [`Running`] and [`Outcome`].

use std::{
    ffi::OsStr,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{outcome::Outcome, running::Running};

/// Longer than any boot takes, shorter than what the test runner allows.
const LIMIT: Duration = Duration::from_secs(120);

/// A call that has not been made yet.
#[derive(Debug)]
pub struct Call {
    command: Command,
    shown: String,
    input: Input,
    limit: Duration,
}

/// What the program finds on its standard input.
#[derive(Debug)]
enum Input {
    /// It is at its end from the start.
    Nothing,
    Bytes(Vec<u8>),
    /// Open, and silent until the story says something.
    Open,
}

impl Call {
    pub(crate) fn new(program: &Path, args: &[impl AsRef<OsStr>]) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        let words = args
            .iter()
            .map(|arg| arg.as_ref().to_string_lossy().into_owned());
        let name = program.file_name().unwrap_or(program.as_os_str());
        let shown = [name.to_string_lossy().into_owned()]
            .into_iter()
            .chain(words);
        let shown = shown.collect::<Vec<_>>().join(" ");
        Self {
            command,
            shown,
            input: Input::Nothing,
            limit: LIMIT,
        }
    }

    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Standard input stays open until the story closes it.
    #[must_use]
    pub fn open_stdin(mut self) -> Self {
        self.input = Input::Open;
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    #[must_use]
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// How long it may take before it is killed and the story fails.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    #[must_use]
    pub fn run(self) -> Outcome {
        self.spawn().finish()
    }

    /// Starts it and lets it run.
    #[track_caller]
    #[must_use]
    pub fn spawn(mut self) -> Running {
        let stdin = match self.input {
            Input::Nothing => Stdio::null(),
            Input::Bytes(_) | Input::Open => Stdio::piped(),
        };
        self.command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {}: {error}", self.shown),
        };
        let held = match (self.input, child.stdin.take()) {
            (Input::Bytes(bytes), Some(mut stdin)) => {
                // A program that ends without reading all of its input is no failure of ours.
                thread::spawn(move || drop(stdin.write_all(&bytes)));
                None
            }
            (Input::Nothing | Input::Open | Input::Bytes(_), stdin) => stdin,
        };
        Running::new(child, held, self.shown, self.limit)
    }
}
