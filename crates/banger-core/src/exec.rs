//! A command inside a guest as the domain sees it: what to run, what goes in, what comes out.
//! Knows neither HTTP nor the agent's frames.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::host_error::GuestError;

/// What to run. An empty `argv` means the user's login shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub user: Option<String>,
    /// With a size the command gets a pseudo-terminal, and one output instead of two.
    pub tty: Option<WindowSize>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    pub cols: u16,
    pub rows: u16,
}

/// A piece of a command's standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdin {
    Bytes(Bytes),
    End,
}

/// What a client sends to a running command besides its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecControl {
    Resize(WindowSize),
    /// A signal by its Linux number, 1 to 64.
    Signal(u8),
}

/// What a command gives back, in order; `Ended` or `Failed` is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutput {
    Started { pid: u32 },
    Stdout(Bytes),
    Stderr(Bytes),
    Ended(ExecStatus),
    Failed { kind: ExecFailure, message: String },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecStatus {
    Code(u8),
    Signal(u8),
}

/// Why a command did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecFailure {
    NotFound,
    NotExecutable,
    NoSuchUser,
    NoSuchDirectory,
    NoShell,
    Other,
}

/// Both ends of a running command. Dropping it hangs the command up. All channels are
/// bounded, so that neither a fast guest nor a fast client fills memory; controls have one of
/// their own, so that input which the command does not read cannot hold up a signal.
#[derive(Debug)]
pub struct ExecStream {
    pub stdin: mpsc::Sender<Stdin>,
    pub control: mpsc::Sender<ExecControl>,
    pub output: mpsc::Receiver<Result<ExecOutput, GuestError>>,
}
