//! Owns the resynchronising byte stream below everything. Knows bytes and fresh starts, not what is said.
//!
//! Over virtio-serial there is no connection: a host process that restarts finds itself in the middle of the byte
//! stream that its predecessor had with the agent. So the host starts every session with a reset and a random nonce,
//! and ignores what it reads until the agent has answered with the same. The agent takes a reset at any time; it ends the
//! session that was there. [`Wire`] is the host's end, [`Listener`] and its [`Session`]s are the agent's.
//!
//! How a reset is told from payload is the business of `stuffing`.

mod stuffing;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use stuffing::{Decoder, Encoder, Found, Nonce};

/// One read of a virtio-serial port returns at most a page; more makes no difference there and little elsewhere.
const INPUT: usize = 16 << 10;
/// Linux's virtio-console sends at most this much in one go.
const OUTPUT: usize = 32 << 10;
/// Room for the sequences that stuffing adds to a full buffer.
const OUTPUT_SLACK: usize = OUTPUT / stuffing::PREFIX.len() + 2 * stuffing::LONGEST_SEQUENCE;

/// Where this end stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host has sent this nonce and ignores everything before its echo.
    Echo(Nonce),
    /// The agent has no session.
    Idle,
    /// A session runs.
    Live,
    /// The session has ended; a `Wire` cannot be used again, a `Listener` goes back to `Idle`.
    Over,
}

/// What reading the channel brought.
enum Input {
    Payload,
    Reset(Nonce),
    Broken,
    End,
}

/// The host's end of one session.
#[derive(Debug)]
pub struct Wire<IO> {
    link: Link<IO>,
}

/// The agent's end of the channel, through all its sessions.
#[derive(Debug)]
pub struct Listener<IO> {
    link: Link<IO>,
    /// A reset that ended a session and still wants its answer.
    asked: Option<Nonce>,
}

/// The agent's end of one session. Reading ends with an error when the host starts the next one.
#[derive(Debug)]
pub struct Session<'a, IO> {
    listener: &'a mut Listener<IO>,
}

/// What both ends share: the channel, both directions' state, and the output that waits.
#[derive(Debug)]
struct Link<IO> {
    io: IO,
    phase: Phase,
    decoder: Decoder,
    encoder: Encoder,
    output: Vec<u8>,
    written: usize,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// Starts a session over `io`. Nothing needs to be awaited: the reset leaves with the first flush, and reading
    /// skips everything before the agent's answer.
    ///
    /// # Errors
    /// Fails when the system gives no random bytes.
    pub fn dial(io: IO) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let nonce = Nonce::from_random(random);
        let mut link = Link::new(io, Phase::Echo(nonce));
        link.start(nonce);
        Ok(Self { link })
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Listener<IO> {
    /// Listens for resets on `io`.
    pub fn new(io: IO) -> Self {
        Self {
            link: Link::new(io, Phase::Idle),
            asked: None,
        }
    }

    /// Waits for the host to start a session, and queues the answer.
    ///
    /// # Errors
    /// Fails when the channel fails or ends. A channel that comes back can be listened on again.
    pub async fn accept(&mut self) -> io::Result<Session<'_, IO>> {
        let nonce = std::future::poll_fn(|cx| self.poll_reset(cx)).await?;
        self.link.start(nonce);
        self.link.phase = Phase::Live;
        Ok(Session { listener: self })
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Nonce>> {
        if let Some(nonce) = self.asked.take() {
            return Poll::Ready(Ok(nonce));
        }
        self.link.phase = Phase::Idle;
        loop {
            match ready!(self.link.poll_input(cx))? {
                Input::Payload => self.link.decoder.discard(),
                Input::Broken => {}
                Input::Reset(nonce) => return Poll::Ready(Ok(nonce)),
                Input::End => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Link<IO> {
    fn new(io: IO, phase: Phase) -> Self {
        Self {
            io,
            phase,
            decoder: Decoder::new(INPUT),
            encoder: Encoder::default(),
            output: Vec::with_capacity(OUTPUT + OUTPUT_SLACK),
            written: 0,
        }
    }

    /// Forgets unsent output of an earlier session and queues a reset.
    fn start(&mut self, nonce: Nonce) {
        self.output.clear();
        self.written = 0;
        self.encoder.reset(nonce, &mut self.output);
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Input>> {
        loop {
            match self.decoder.next() {
                Found::Payload => return Poll::Ready(Ok(Input::Payload)),
                Found::Reset(nonce) => return Poll::Ready(Ok(Input::Reset(nonce))),
                Found::Broken => return Poll::Ready(Ok(Input::Broken)),
                Found::Nothing => {}
            }
            let mut space = ReadBuf::new(self.decoder.space());
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut space))?;
            let count = space.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(Input::End));
            }
            self.decoder.filled(count);
        }
    }

    /// Moves payload to the caller; the session must be live.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let payload = self.decoder.payload();
        let count = payload.len().min(buf.remaining());
        buf.put_slice(&payload[..count]);
        self.decoder.consume(count);
    }

    /// Ends the session and says why.
    fn end<T>(&mut self, kind: io::ErrorKind) -> Poll<io::Result<T>> {
        self.phase = Phase::Over;
        Poll::Ready(Err(kind.into()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.phase {
            Phase::Echo(_) | Phase::Live => {}
            Phase::Idle | Phase::Over => return self.end(io::ErrorKind::BrokenPipe),
        }
        if self.output.len() >= OUTPUT {
            ready!(self.poll_drain(cx))?;
        }
        let count = buf.len().min(OUTPUT.saturating_sub(self.output.len()));
        self.encoder.encode(&buf[..count], &mut self.output);
        Poll::Ready(Ok(count))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let rest = &self.output[self.written..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return self.end(io::ErrorKind::WriteZero),
                count => self.written += count,
            }
        }
        self.output.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.encoder.settle(&mut self.output);
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let link = &mut self.get_mut().link;
        loop {
            if link.phase == Phase::Over {
                return Poll::Ready(Ok(()));
            }
            match (ready!(link.poll_input(cx))?, link.phase) {
                (Input::Payload, Phase::Live) => {
                    link.deliver(buf);
                    return Poll::Ready(Ok(()));
                }
                (Input::Payload, _) => link.decoder.discard(),
                (Input::Reset(nonce), Phase::Echo(mine)) if nonce == mine => {
                    link.phase = Phase::Live;
                }
                (Input::Reset(_), Phase::Live) => return link.end(io::ErrorKind::ConnectionReset),
                (Input::Broken, Phase::Live) => return link.end(io::ErrorKind::InvalidData),
                (Input::Reset(_) | Input::Broken, _) => {}
                (Input::End, _) => link.phase = Phase::Over,
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().link.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().link.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = &mut self.get_mut().link;
        ready!(link.poll_flush(cx))?;
        Pin::new(&mut link.io).poll_shutdown(cx)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Session<'_, IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Listener { link, asked } = &mut *self.get_mut().listener;
        if link.phase != Phase::Live {
            return Poll::Ready(Ok(()));
        }
        match ready!(link.poll_input(cx))? {
            Input::Payload => {
                link.deliver(buf);
                Poll::Ready(Ok(()))
            }
            Input::Reset(nonce) => {
                *asked = Some(nonce);
                link.end(io::ErrorKind::ConnectionReset)
            }
            Input::Broken => link.end(io::ErrorKind::InvalidData),
            Input::End => {
                link.phase = Phase::Over;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Session<'_, IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().listener.link.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().listener.link.poll_flush(cx)
    }

    /// Flushes only: the channel outlives its sessions.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests;
