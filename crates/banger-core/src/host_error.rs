//! What can go wrong on the host and in the guest, as values. Each knows its hint;
//! exit codes and HTTP statuses are decided elsewhere.

use std::{io, path::PathBuf, time::Duration};

use crate::journal::JournalError;

/// A failure of the host's side: VMM, files, programs.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot find {program} on this host")]
    ProgramMissing {
        program: String,
        package: &'static str,
    },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("cannot start {program}")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {operation} {path}", path = .path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{wanted_mib} MiB of guest memory are asked for, but the host has {available_mib} MiB available"
    )]
    Memory { wanted_mib: u64, available_mib: u64 },
    #[error(
        "the disk of {path} has {available} MiB free, and {wanted} MiB are needed beside the {reserve} MiB \
         that are kept free",
        path = .path.display(), available = .available >> 20, wanted = .wanted.div_ceil(1 << 20),
        reserve = .reserve >> 20
    )]
    Space {
        path: PathBuf,
        wanted: u64,
        available: u64,
        /// What is kept free in any case.
        reserve: u64,
    },
    #[error("the socket path {path} is longer than the {max} bytes that Linux allows", path = .path.display())]
    SocketPath { path: PathBuf, max: usize },
    #[error("this host cannot run {feature}: {reason}")]
    Unsupported { feature: String, reason: String },
    /// The VMM ended before or instead of answering.
    #[error("the VMM ended: {status}")]
    VmmExited {
        status: String,
        cause: BootFailure,
        tail: LogTail,
    },
    #[error("the VMM refused {command}: {message}")]
    VmmRefused { command: String, message: String },
    #[error("{program} failed: {status}")]
    ProgramFailed {
        program: String,
        status: String,
        tail: Vec<String>,
    },
}

/// What the console tells of a boot that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFailure {
    KernelPanic,
    RootNotFound,
    RootBroken,
    DiskBroken,
    InitFailed,
    OutOfMemory,
    Unknown,
}

/// The ends of a VM's logs, bounded and with control characters escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogTail {
    pub console: Vec<String>,
    pub vmm: Vec<String>,
}

/// A failure on the way to the guest or inside it.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error("the agent in the guest did not answer within {}", humantime::format_duration(*.after))]
    Silent { after: Duration, tail: LogTail },
    #[error("the agent speaks generations {theirs}, this banger speaks {ours}")]
    Generation { ours: String, theirs: String },
    #[error("the connection to the guest broke during {operation}")]
    Broken {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the guest refused {operation}: {message}")]
    Refused {
        operation: &'static str,
        message: String,
    },
    #[error("the agent in the guest is too old for {operation}")]
    TooOld { operation: &'static str },
    #[error(transparent)]
    Host(#[from] HostError),
}
