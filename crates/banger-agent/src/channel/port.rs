//! Owns the virtio-serial port: finding it by name, and waiting on it without spinning. Knows bytes only.
//!
//! A port whose host side is closed reads as ended, and polls as hung up for as long as that lasts. tokio keeps a
//! hang-up for ever, so the port is watched through an epoll instance of its own, edge-triggered, and tokio watches that
//! instance: it becomes readable when something has changed on the port and never hangs up.
//!
//! The two directions share the edges. Each of them tries its system call first and waits only when that would block;
//! the one that takes an edge wakes the task again, in case that the other one waits for it too. Both must belong
//! to one task.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use banger_guest_proto::boot::Name;
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

use super::ChannelError;
use crate::sys;

const CLASS_DIR: &str = "/sys/class/virtio-ports";
/// The driver learns of its ports from the device a little after it was loaded.
const PATIENCE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(2);

/// Waits until the port is there; returns its device.
pub(super) async fn find(name: &Name) -> Result<PathBuf, ChannelError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ports = list(Path::new(CLASS_DIR));
        let device = ports.iter().find(|(_, port)| port == name.as_str());
        let device = device.map(|(device, _)| Path::new("/dev").join(device));
        if let Some(device) = device.filter(|device| device.exists()) {
            return Ok(device);
        }
        if Instant::now() > deadline {
            let present = ports.into_iter().map(|(_, port)| port).collect();
            return Err(ChannelError::NoPort {
                name: name.to_string(),
                present,
            });
        }
        sleep(INTERVAL).await;
    }
}

/// All ports: (device, name).
fn list(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let device = entry.file_name().into_string().ok()?;
            let name = fs::read_to_string(entry.path().join("name")).ok()?;
            Some((device, name.trim().to_owned()))
        })
        .collect()
}

/// An open port.
#[derive(Debug)]
pub(crate) struct Port {
    port: OwnedFd,
    edges: AsyncFd<OwnedFd>,
    /// Whether the host was there when last seen; its going away is reported once.
    connected: bool,
}

impl Port {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        Self::new(rustix::fs::open(path, flags, Mode::empty())?)
    }

    fn new(port: OwnedFd) -> io::Result<Self> {
        let edges = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&edges, &port, epoll::EventData::new_u64(0), events)?;
        Ok(Self {
            port,
            edges: sys::watch(edges)?,
            connected: false,
        })
    }

    /// Waits for something to change on the port.
    fn poll_edge(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.edges.poll_read_ready(cx))?;
            let mut events = [epoll::Event {
                flags: epoll::EventFlags::empty(),
                data: epoll::EventData::new_u64(0),
            }];
            let now = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let count = match epoll::wait(guard.get_inner(), &mut events, Some(&now)) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            if count > 0 {
                cx.waker().wake_by_ref();
                return Poll::Ready(Ok(()));
            }
            guard.clear_ready();
        }
    }
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match rustix::io::read(&this.port, buf.initialize_unfilled()) {
                Ok(0) if this.connected => {
                    this.connected = false;
                    return Poll::Ready(Ok(()));
                }
                Ok(0) | Err(Errno::AGAIN) => ready!(this.poll_edge(cx))?,
                Ok(count) => {
                    this.connected = true;
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            match rustix::io::write(&this.port, buf) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::AGAIN) => ready!(this.poll_edge(cx))?,
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use banger_guest_proto::wire::{Listener, Wire};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn ports_are_listed_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("vport1p1")).unwrap();
        fs::write(dir.path().join("vport1p1/name"), "banger.agent\n").unwrap();
        assert_eq!(
            list(dir.path()),
            [("vport1p1".into(), "banger.agent".into())]
        );
    }

    /// A socket stands in for the port: the same edges, the same way to be full and to end.
    #[test]
    fn both_directions_flow_through_one_set_of_edges() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_nonblocking(true).unwrap();
            let mut agent = Listener::new(Port::new(ours.into()).unwrap());
            let mut host = Wire::dial(tokio::net::UnixStream::from_std(theirs).unwrap()).unwrap();
            let data = vec![0x5a; 3 << 20];
            let echo = async {
                let (mut reader, mut writer) = tokio::io::split(agent.accept().await.unwrap());
                tokio::io::copy(&mut reader, &mut writer).await
            };
            let talk = async {
                let (mut reader, mut writer) = tokio::io::split(&mut host);
                let mut back = vec![0; data.len()];
                let send = async {
                    writer.write_all(&data).await.unwrap();
                    writer.flush().await.unwrap();
                };
                tokio::join!(send, async { reader.read_exact(&mut back).await.unwrap() });
                assert!(back == data);
            };
            tokio::select! {
                _ = echo => panic!("the echo must not end first"),
                () = talk => {}
            }
        });
    }

    #[test]
    fn the_hosts_going_away_is_told_once_and_costs_nothing_after() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut port = Port::new(ours.into()).unwrap();
            io::Write::write_all(&mut &theirs, b"x").unwrap();
            assert_eq!(port.read_u8().await.unwrap(), b'x');
            drop(theirs);
            assert_eq!(
                port.read_u8().await.unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof
            );
            let again = tokio::time::timeout(Duration::from_millis(50), port.read_u8()).await;
            assert!(again.is_err(), "a port without a host is waited for");
        });
    }
}
