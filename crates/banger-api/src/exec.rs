//! The exec stream: a WebSocket (RFC 6455) at `GET /v1/vms/{vm}/exec`.
//!
//! The client's first message is an [`ExecStart`] as text. After it, binary messages are
//! bytes behind one channel byte, text messages are [`ExecControl`] from the client and
//! [`ExecEvent`] from the daemon. An event that [`ExecEvent::is_last`] ends the stream.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{error::ApiError, vm::Boot};

/// The first byte of a binary message.
pub const STDIN: u8 = 0;
/// The first byte of a binary message.
pub const STDOUT: u8 = 1;
/// The first byte of a binary message.
pub const STDERR: u8 = 2;
/// Bytes of standard input that a client may have sent beyond those that
/// [`ExecEvent::StdinTaken`] has confirmed. Input that the command does not read then waits at
/// the client, and controls pass it.
pub const STDIN_WINDOW: usize = 1 << 20;
/// Longest binary message, channel byte included.
pub const MAX_MESSAGE: usize = 1 << 20;

/// What to run. An empty `argv` means the user's login shell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecStart {
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: Vec<(String, String)>,
    #[serde(default)]
    pub cwd: Option<String>,
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; root when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// With a size the command gets a pseudo-terminal, and one output instead of two.
    #[serde(default)]
    pub tty: Option<Window>,
    /// Without it the command's standard input is at its end from the start.
    #[serde(default)]
    pub stdin: bool,
    /// What is taken of the image's configuration.
    #[serde(default)]
    pub image: ImageUse,
    /// The VM was made for this stream: delete it afterwards if it is `auto_remove`.
    #[serde(default)]
    pub owner: bool,
}

/// How much of an image's configuration a command takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageUse {
    /// Environment, user and working directory.
    #[default]
    Surroundings,
    /// Also its entrypoint, and its command where `argv` is empty.
    Command {
        /// Takes the place of the image's entrypoint and command; an empty one takes both away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entrypoint: Option<String>,
    },
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Window {
    pub cols: u16,
    pub rows: u16,
}

/// What a client says besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecControl {
    StdinEof,
    Resize(Window),
    /// A Linux signal number, 1 to 64.
    Signal(u8),
}

/// What the daemon says besides the command's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecEvent {
    Started {
        pid: u32,
        /// Of the boot that this command is the first one after.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<Boot>,
    },
    /// The guest took this much of the standard input.
    StdinTaken {
        bytes: u32,
    },
    Exited {
        code: u8,
    },
    Signaled {
        signal: u8,
    },
    /// The command did not begin.
    NotStarted {
        reason: NotStarted,
        message: String,
    },
    /// The stream broke; the command's fate is not known.
    Failed(ApiError),
}

impl ExecEvent {
    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::Started { .. } | Self::StdinTaken { .. } => false,
            Self::Exited { .. }
            | Self::Signaled { .. }
            | Self::NotStarted { .. }
            | Self::Failed(_) => true,
        }
    }
}

/// Why a command did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotStarted {
    NotFound,
    NotExecutable,
    NoSuchUser,
    NoSuchDirectory,
    NoShell,
    Other,
}

impl NotStarted {
    /// The exit code of `banger` for it, as docker keeps them.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NotFound | Self::NoShell => 127,
            Self::NotExecutable => 126,
            Self::NoSuchUser | Self::NoSuchDirectory | Self::Other => 125,
        }
    }
}
