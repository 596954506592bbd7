//! Owns the channel to the host and the sessions that come and go on it. Knows nothing of what is said.

mod port;
mod vsock;

use std::io;
use std::rc::Rc;

use banger_guest_proto::boot::Channel;
use banger_guest_proto::wire::Listener;

use crate::agent::Agent;
use crate::server::serve_session;
use crate::{console, journal};
use port::Port;
use vsock::VsockListener;

/// A channel that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("cannot find the port {name}; there are: {}", present.join(", "))]
    NoPort { name: String, present: Vec<String> },
    #[error("cannot open {channel}")]
    Open {
        channel: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot accept connections")]
    Accept(#[source] io::Error),
}

/// A channel that is open.
#[derive(Debug)]
pub(crate) enum OpenChannel {
    Port(Port),
    Vsock(VsockListener),
}

impl OpenChannel {
    /// Opens the channel, waiting for its device.
    pub(crate) async fn open(channel: &Channel) -> Result<Self, ChannelError> {
        let cannot = |source| ChannelError::Open {
            channel: channel.to_string(),
            source,
        };
        match channel {
            Channel::VirtioSerial(name) => {
                let path = port::find(name).await?;
                Port::open(&path).map(Self::Port).map_err(cannot)
            }
            Channel::Vsock(port) => VsockListener::bind(*port).map(Self::Vsock).map_err(cannot),
        }
    }

    /// Serves sessions one after the other. Returns only when the channel is beyond use.
    pub(crate) async fn serve(self, agent: &Rc<Agent>) -> ChannelError {
        match self {
            Self::Port(port) => serve_port(port, agent).await,
            Self::Vsock(listener) => serve_vsock(&listener, agent).await,
        }
    }
}

/// One port carries all sessions; a host that comes back resets it.
async fn serve_port(port: Port, agent: &Rc<Agent>) -> ChannelError {
    let mut listener = Listener::new(port);
    loop {
        match listener.accept().await {
            Ok(session) => report(serve_session(session, agent).await),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(source) => return ChannelError::Accept(source),
        }
    }
}

/// Each connection carries its own sessions. The newest connection wins: the host that made the older one is gone, or
/// will notice.
async fn serve_vsock(listener: &VsockListener, agent: &Rc<Agent>) -> ChannelError {
    let mut connection = listener.accept().await;
    loop {
        let stream = match connection {
            Ok(stream) => stream,
            Err(source) => return ChannelError::Accept(source),
        };
        let serve = async {
            let mut listener = Listener::new(stream);
            while let Ok(session) = listener.accept().await {
                report(serve_session(session, agent).await);
            }
        };
        tokio::pin!(serve);
        connection = tokio::select! {
            connection = listener.accept() => connection,
            () = &mut serve => listener.accept().await,
        };
    }
}

/// A session that breaks off is everyday life, and of interest to who asked for it only.
fn report(result: Result<(), crate::server::SessionError>) {
    if let Err(error) = result {
        console::trace(format_args!("session: {error}"));
        journal::note(format_args!("the host went: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::{Reaper, Scope};
    use banger_guest_proto::Client;
    use banger_guest_proto::hello::{BootMarks, HostHello, Pid1};
    use tokio::sync::mpsc;
    use tokio::task::{LocalSet, spawn_local};
    use vsock::VsockStream;

    const PORT: u32 = 0x6261_6e67;

    /// Says nothing where the kernel has no vsock or no loopback in it, as on most machines that run tests.
    #[test]
    fn the_newest_vsock_connection_wins() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (sender, _receiver) = mpsc::channel(1);
            let reaper = Reaper::start(Scope::Own).unwrap();
            let agent = Rc::new(Agent::new(
                reaper,
                Pid1::Other,
                BootMarks::default(),
                None,
                sender,
            ));
            let Ok(channel) = OpenChannel::open(&Channel::Vsock(PORT)).await else {
                return;
            };
            spawn_local(async move { channel.serve(&agent).await });
            let Some(older) = VsockStream::to_ourselves(PORT) else {
                return;
            };
            let (older, _, connection) = Client::connect(older, HostHello::now().unwrap())
                .await
                .unwrap();
            let connection = spawn_local(connection);
            older.health().await.unwrap();
            let newer = VsockStream::to_ourselves(PORT).unwrap();
            let (newer, _, newer_connection) = Client::connect(newer, HostHello::now().unwrap())
                .await
                .unwrap();
            spawn_local(async move { drop(newer_connection.await) });
            newer.health().await.unwrap();
            drop(connection.await);
            assert!(older.health().await.is_err());
            println!("a real vsock was used");
        });
    }
}
