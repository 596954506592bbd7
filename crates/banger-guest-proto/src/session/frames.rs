//! Owns the movement of frames through a stream's two bodies, with backpressure. Knows no process.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::frame::{self, Decoder, FrameError, HEADER_LEN, Kind, Piece};

/// The peer takes no more frames: it reset the stream, or the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer takes no more frames")]
pub struct Closed;

/// The sending half of a body of frames.
#[derive(Debug)]
pub struct FrameSender {
    stream: SendStream<Bytes>,
}

impl FrameSender {
    #[must_use]
    pub fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream }
    }

    /// Waits until a frame with some payload fits and returns how much of `wanted` may be sent at once.
    /// Memory stays bounded when callers produce data only after this.
    ///
    /// # Errors
    /// Fails when the peer takes no more.
    pub async fn room(&mut self, wanted: usize) -> Result<usize, Closed> {
        poll_fn(|cx| self.poll_room(cx, wanted)).await
    }

    /// See [`FrameSender::room`].
    ///
    /// # Errors
    /// Fails when the peer takes no more.
    pub fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, Closed>> {
        self.stream.reserve_capacity(HEADER_LEN + wanted);
        // Capacity is announced once, when it grows: what is there already must be looked at first.
        while self.stream.capacity() <= HEADER_LEN {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Closed)),
            }
        }
        Poll::Ready(Ok(wanted.min(self.stream.capacity() - HEADER_LEN)))
    }

    /// Queues a whole frame, its header included, without waiting. Meant for frames that [`FrameSender::room`] has
    /// granted, and for the few small ones that a stream has.
    ///
    /// # Errors
    /// Fails when the peer takes no more.
    pub fn queue(&mut self, frame: Bytes) -> Result<(), Closed> {
        self.stream.send_data(frame, false).map_err(|_| Closed)
    }

    /// Sends data of any length, waiting for room as often as needed.
    ///
    /// # Errors
    /// Fails when the peer takes no more.
    pub async fn send(&mut self, kind: Kind, mut payload: Bytes) -> Result<(), Closed> {
        debug_assert!(kind.is_data());
        while !payload.is_empty() {
            let count = self.room(payload.len().min(kind.limit())).await?;
            self.queue(frame::encode(kind, &payload.split_to(count)))?;
        }
        Ok(())
    }

    /// Sends a frame in one piece, waiting for room as often as needed.
    ///
    /// # Errors
    /// Fails when the peer takes no more.
    pub async fn send_whole(
        &mut self,
        kind: Kind,
        payload: &[u8],
        last: bool,
    ) -> Result<(), Closed> {
        let mut frame = frame::encode(kind, payload);
        while !frame.is_empty() {
            let count = self.room(frame.len()).await?;
            let part = frame.split_to(count);
            let end = last && frame.is_empty();
            self.stream.send_data(part, end).map_err(|_| Closed)?;
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// Fails when the peer takes no more.
    pub fn finish(&mut self) -> Result<(), Closed> {
        self.stream
            .send_data(Bytes::new(), true)
            .map_err(|_| Closed)
    }

    /// Waits until the peer resets the stream or the session ends.
    pub async fn closed(&mut self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// See [`FrameSender::closed`].
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }
}

/// A body of frames that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("the stream broke off")]
    Stream(#[source] h2::Error),
    #[error("the stream carries no proper frames")]
    Frame(#[source] FrameError),
}

/// The receiving half of a body of frames.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: RecvStream,
    decoder: Decoder,
}

impl FrameReceiver {
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
        }
    }

    /// Takes the next piece; `None` at the body's end. The sender is told of the room that earlier pieces have left,
    /// so a consumer that stops calling stops the sender.
    ///
    /// # Errors
    /// Fails when the stream breaks off or carries something else.
    pub async fn next(&mut self) -> Result<Option<Piece>, ReceiveError> {
        loop {
            if let Some(piece) = self.decoder.next_piece().map_err(ReceiveError::Frame)? {
                return Ok(Some(piece));
            }
            let Some(chunk) = self.stream.data().await else {
                self.decoder.finish().map_err(ReceiveError::Frame)?;
                return Ok(None);
            };
            let chunk = chunk.map_err(ReceiveError::Stream)?;
            self.stream
                .flow_control()
                .release_capacity(chunk.len())
                .map_err(ReceiveError::Stream)?;
            self.decoder.push(chunk);
        }
    }
}
