//! Why a measurement has no figure.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why the benchmark ended early.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BenchError {
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot run {program}")]
    Spawn { program: String, source: io::Error },
    #[error("{command} ended with {status}:\n{stderr}")]
    Failed {
        command: String,
        status: std::process::ExitStatus,
        stderr: String,
    },
    #[error("{command} did not print what was expected: no {wanted}")]
    Output { command: String, wanted: String },
    #[error("the command line of QEMU has no {0}")]
    CommandLine(&'static str),
    #[error("the agent did not answer within {seconds} s")]
    Silent { seconds: u64 },
    #[error("cannot {operation} over the agent's channel")]
    Channel {
        operation: &'static str,
        source: io::Error,
    },
}

impl BenchError {
    /// For `map_err`: what was to be done with which file.
    pub(super) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }

    pub(super) fn channel(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Channel { operation, source }
    }
}
