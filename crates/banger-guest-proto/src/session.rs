//! Owns HTTP/2 over the wire: its limits, and how frames and documents move with backpressure. Runs nothing itself.
//!
//! The host is the client, the agent the server, both with prior knowledge. Windows are per stream: what one exec does
//! not read or write never holds up another, because the connection's window has room for all streams at once.
//! Received bytes are given back to the sender only when the consumer takes them.

pub mod client;
pub mod exec;
pub mod frames;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use tokio::io::{AsyncRead, AsyncWrite};

/// Streams that may be open at once; the host waits when there are more.
pub const MAX_STREAMS: u32 = 256;

/// What a host buffers for one stream whose consumer is slow.
const HOST_WINDOW: u32 = 256 << 10;
/// The same in the agent, which lives in little memory.
const AGENT_WINDOW: u32 = 128 << 10;
const MAX_HTTP_FRAME: u32 = 64 << 10;
const MAX_HEADERS: u32 = 8 << 10;
/// What the host's h2 queues of a stream's output before it asks the sender to wait.
const HOST_QUEUE: usize = 256 << 10;
const AGENT_QUEUE: usize = 64 << 10;

/// Starts HTTP/2 as the host.
async fn client_handshake<IO>(io: IO) -> Result<ClientParts<IO>, h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    h2::client::Builder::new()
        .initial_window_size(HOST_WINDOW)
        .initial_connection_window_size(HOST_WINDOW * MAX_STREAMS)
        .initial_max_send_streams(MAX_STREAMS as usize)
        .max_frame_size(MAX_HTTP_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buffer_size(HOST_QUEUE)
        .enable_push(false)
        .handshake(io)
        .await
}

type ClientParts<IO> = (
    h2::client::SendRequest<Bytes>,
    h2::client::Connection<IO, Bytes>,
);

/// Starts HTTP/2 as the agent.
///
/// # Errors
/// Fails when the channel fails or the peer speaks something else.
pub async fn serve<IO>(io: IO) -> Result<h2::server::Connection<IO, Bytes>, h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    h2::server::Builder::new()
        .initial_window_size(AGENT_WINDOW)
        .initial_connection_window_size(AGENT_WINDOW * MAX_STREAMS)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_HTTP_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buffer_size(AGENT_QUEUE)
        .handshake(io)
        .await
}

/// A document that could not be read from a body.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("the stream broke off")]
    Stream(#[source] h2::Error),
    #[error("the document is longer than {limit} bytes")]
    TooLong { limit: usize },
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// Fails when the stream breaks off or the body is longer.
pub async fn read_document(body: &mut RecvStream, limit: usize) -> Result<Bytes, DocumentError> {
    let mut document = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(DocumentError::Stream)?;
        if document.len() + chunk.len() > limit {
            return Err(DocumentError::TooLong { limit });
        }
        document.extend_from_slice(&chunk);
        body.flow_control()
            .release_capacity(chunk.len())
            .map_err(DocumentError::Stream)?;
    }
    Ok(document.freeze())
}

#[cfg(test)]
mod tests;
