//! Every failure of the CLI, its one rendering and its one mapping to an exit code.
//! Classifies what others return; decides nothing before it is too late.

use std::{error::Error, fmt::Write, io, path::PathBuf};

use banger_api::{
    client::ClientError,
    error::{ApiError, ErrorCode},
    exec::NotStarted,
    places::PlacesError,
};

use crate::{config_file::ChangeError, daemon::DaemonError, text::escape};

/// Why a command of the CLI did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Places(#[from] PlacesError),
    #[error("cannot {operation} {path}", path = .path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot {operation}")]
    Host {
        operation: &'static str,
        source: io::Error,
    },
    #[error("{message}")]
    NotStarted { reason: NotStarted, message: String },
    /// The stream broke; the command's fate is not known.
    #[error("the daemon ended the stream without saying how the command ended")]
    NoEnding,
    #[error("interrupted: {outcome}")]
    Interrupted { signal: u8, outcome: String },
    /// Nobody is there to be asked.
    #[error("cannot ask whether to {what}: standard input is no terminal")]
    Unasked {
        what: &'static str,
        flag: &'static str,
    },
    /// What goes on without us cannot need us.
    #[error("cannot leave this: {what} comes through this command")]
    Needed { what: &'static str },
    #[error(transparent)]
    Config(#[from] ChangeError),
    #[error("there is no user {name} in /etc/passwd")]
    NoUser { name: String },
    #[error("systemd did not follow the order \"{order}\"")]
    Systemd { order: String, source: io::Error },
    #[error("VM {vm} is not what was waited for: {why}")]
    NotReached { vm: String, why: String },
    #[error("cannot write to standard output")]
    Output { source: io::Error },
    /// Who read our output has gone: nothing to say, and nobody to say it to.
    #[error("standard output is closed")]
    PipeClosed,
    /// What failed has been reported already.
    #[error("not everything succeeded")]
    Told,
}

/// What the process's exit code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// How a command of the guest ended.
    GuestCommand,
    /// Whether banger did what it was asked to.
    Ordinary,
}

/// Success of the whole.
pub(crate) const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
/// The arguments are wrong.
const USAGE: u8 = 2;
/// Banger itself failed before or around a command of the guest, as docker has it.
const AROUND_COMMAND: u8 = 125;
const SIGPIPE: u8 = 13;

/// The exit code of something that a signal ended, as shells have it.
pub(crate) fn signal_code(signal: u8) -> u8 {
    128_u8.saturating_add(signal)
}

impl Failure {
    /// A failed write to standard output.
    pub(crate) fn output(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Output { source },
        }
    }

    /// The failure as a program reads it.
    pub(crate) fn document(&self) -> ApiError {
        match self {
            Self::Client(ClientError::Api(error)) => error.clone(),
            other => ApiError::new(ErrorCode::Internal, other.to_string()).with_causes_of(other),
        }
    }

    /// Our own working directory is gone.
    pub(crate) fn nowhere(source: io::Error) -> Self {
        Self::Host {
            operation: "find the working directory",
            source,
        }
    }

    pub(crate) fn exit_code(&self, role: Role) -> u8 {
        match self {
            Self::NotStarted { reason, .. } => reason.exit_code(),
            Self::Interrupted { signal, .. } => signal_code(*signal),
            Self::PipeClosed => signal_code(SIGPIPE),
            Self::Unasked { .. } | Self::Needed { .. } | Self::Config(_) | Self::NoUser { .. } => {
                USAGE
            }
            Self::Client(ClientError::Api(error)) => api_code(error.code, role),
            Self::Client(
                ClientError::Unreachable { .. }
                | ClientError::Broken { .. }
                | ClientError::Truncated { .. },
            )
            | Self::Daemon(_)
            | Self::Places(_)
            | Self::File { .. }
            | Self::Host { .. }
            | Self::Systemd { .. }
            | Self::NoEnding
            | Self::NotReached { .. }
            | Self::Output { .. }
            | Self::Told => plain_code(role),
        }
    }

    /// What standard error gets, newline included; nothing where nothing is left to say.
    pub(crate) fn render(&self) -> String {
        match self {
            Self::PipeClosed | Self::Told => String::new(),
            Self::Client(ClientError::Api(error)) => render_api(error),
            Self::Client(_)
            | Self::Daemon(_)
            | Self::Places(_)
            | Self::File { .. }
            | Self::Host { .. }
            | Self::NotStarted { .. }
            | Self::NoEnding
            | Self::Interrupted { .. }
            | Self::Unasked { .. }
            | Self::Needed { .. }
            | Self::Config(_)
            | Self::NoUser { .. }
            | Self::Systemd { .. }
            | Self::NotReached { .. }
            | Self::Output { .. } => self.render_chain(),
        }
    }

    fn render_chain(&self) -> String {
        let mut error = ApiError::new(ErrorCode::Internal, self.to_string()).with_causes_of(self);
        error.hint = self.hint();
        if let Self::Daemon(failure) = self {
            error.log = failure.log();
        }
        render_api(&error)
    }

    fn hint(&self) -> Option<String> {
        match self {
            // Linux has room for 107 bytes of a socket's path (unix(7)).
            Self::Client(ClientError::Unreachable { source, .. })
                if source.kind() == io::ErrorKind::InvalidInput =>
            {
                Some("choose a shorter BANGER_HOME or XDG_RUNTIME_DIR")
            }
            Self::Client(ClientError::Unreachable { .. }) => Some("banger daemon start"),
            Self::Client(ClientError::Broken { .. } | ClientError::Truncated { .. })
            | Self::NoEnding => {
                Some("the daemon may have died: its log is in `banger daemon status`")
            }
            Self::Daemon(error) => error.hint(),
            Self::NotStarted {
                reason: NotStarted::NoShell,
                ..
            } => Some("the image has no shell: name a program behind --"),
            Self::Unasked { flag, .. } => return Some(format!("{flag} goes ahead without asking")),
            Self::Needed { .. } => Some("name a file, or leave --detach out"),
            Self::Config(ChangeError::Unknown(_)) => Some("see the keys with `banger config show`"),
            Self::Config(ChangeError::Invalid(_)) => {
                Some("`banger config check` says where, `banger config edit` mends it")
            }
            Self::Config(ChangeError::NotSet(_)) => {
                Some("what it sets has the origin `file` in `banger config show`")
            }
            Self::Config(ChangeError::Form(_) | ChangeError::NoTable(_)) => None,
            Self::NoUser { .. } => Some("name one with --owner"),
            Self::Systemd { .. } => Some(
                "`banger system install --no-start` only writes the unit; without systemd the commands of \
                 banger start the daemon by themselves",
            ),
            Self::NotReached { .. } => Some("see `banger vm show` and `banger vm logs`"),
            Self::Client(ClientError::Api(_))
            | Self::Places(_)
            | Self::File { .. }
            | Self::Host { .. }
            | Self::NotStarted { .. }
            | Self::Interrupted { .. }
            | Self::Output { .. }
            | Self::PipeClosed
            | Self::Told => None,
        }
        .map(str::to_owned)
    }
}

fn plain_code(role: Role) -> u8 {
    match role {
        Role::GuestCommand => AROUND_COMMAND,
        Role::Ordinary => FAILURE,
    }
}

fn api_code(code: ErrorCode, role: Role) -> u8 {
    match (code, role) {
        (ErrorCode::InvalidArgument, Role::Ordinary) => USAGE,
        (
            ErrorCode::InvalidArgument
            | ErrorCode::NotFound
            | ErrorCode::AlreadyExists
            | ErrorCode::Conflict
            | ErrorCode::Ambiguous
            | ErrorCode::HostUnfit
            | ErrorCode::HostFailed
            | ErrorCode::GuestFailed
            | ErrorCode::SourceFailed
            | ErrorCode::Cancelled
            | ErrorCode::Internal,
            role,
        ) => plain_code(role),
    }
}

fn render_api(error: &ApiError) -> String {
    let mut text = format!("banger: {}\n", escape(&error.message));
    for cause in &error.causes {
        line(&mut text, "  caused by: ", cause);
    }
    if let Some(left) = &error.left {
        line(&mut text, "  left behind: ", left);
    }
    block(
        &mut text,
        "last lines of the guest's console:",
        &error.console,
    );
    block(&mut text, "last lines of the log:", &error.log);
    if let Some(hint) = &error.hint {
        line(&mut text, "hint: ", hint);
    }
    text
}

fn block(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        line(text, "", title);
    }
    for said in lines {
        line(text, "  | ", said);
    }
}

fn line(text: &mut String, lead: &str, rest: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{lead}{}", escape(rest));
}

/// An error and its causes in one line, for places that have no more room.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    ApiError::new(ErrorCode::Internal, error.to_string())
        .with_causes_of(error)
        .to_string()
}

#[cfg(test)]
mod tests;
