//! Owns the vsock listener and its connections. Knows bytes only.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sys;

/// Any of the guest's own addresses.
const ANY: u32 = u32::MAX;

/// Listens for the host.
#[derive(Debug)]
pub(crate) struct VsockListener(AsyncFd<Socket>);

impl VsockListener {
    pub(super) fn bind(port: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::vsock(ANY, port))?;
        socket.listen(8)?;
        Ok(Self(sys::watch(socket)?))
    }

    pub(super) async fn accept(&self) -> io::Result<VsockStream> {
        loop {
            let mut guard = self.0.readable().await?;
            match guard.try_io(|socket| socket.get_ref().accept()) {
                Ok(Ok((socket, _))) => return VsockStream::new(socket),
                // The one that was to be accepted has gone away again.
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct VsockStream(AsyncFd<Socket>);

impl VsockStream {
    fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self(sys::watch(socket)?))
    }
}

impl AsyncRead for VsockStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            if let Ok(result) = guard.try_io(|socket| socket.get_ref().read(unfilled)) {
                return Poll::Ready(result.map(|count| buf.advance(count)));
            }
        }
    }
}

impl AsyncWrite for VsockStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(result) = guard.try_io(|socket| socket.get_ref().write(buf)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
impl VsockStream {
    /// Connects to a listener on this machine; `None` where the kernel has no loopback.
    pub(super) fn to_ourselves(port: u32) -> Option<Self> {
        const LOOPBACK: u32 = 1;
        let socket = Socket::new(Domain::VSOCK, Type::STREAM, None).ok()?;
        let patience = std::time::Duration::from_millis(300);
        socket
            .connect_timeout(&SockAddr::vsock(LOOPBACK, port), patience)
            .ok()?;
        Self::new(socket).ok()
    }
}
