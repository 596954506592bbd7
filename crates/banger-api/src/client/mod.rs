//! The typed client: one method per route, one connection per request.
//! Knows where the socket is and what the wire says; starts no daemon and prints nothing.

mod begin;
mod exec;
mod host;
mod lines;
mod operations;
mod routes;
mod transport;

use std::{io, path::PathBuf};

pub use begin::Work;
pub use exec::{ExecReceiver, ExecSender, MAX_STDIN, Received, Room};
pub use lines::Documents;
pub use transport::BodyStream;

use crate::error::ApiError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon is not there.
    #[error("cannot reach the daemon at {socket}", socket = .socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    /// The daemon answered that it failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the connection to the daemon broke during {operation}")]
    Broken {
        operation: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the daemon ended its answer to {operation} too early; its log may say why")]
    Truncated { operation: String },
}

impl ClientError {
    pub(crate) fn broken(
        operation: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Broken {
            operation: operation.to_owned(),
            source: source.into(),
        }
    }
}

/// A daemon, by its socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }
}
