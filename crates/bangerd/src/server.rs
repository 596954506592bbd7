//! The socket: who may connect, and how serving ends.

use std::{io, sync::Arc, time::Duration};

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{routes, wiring::App};

/// What requests in flight get to end once the daemon does.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until `ending` is cancelled and the requests in flight are over.
pub(crate) async fn serve(
    listener: UnixListener,
    app: Arc<App>,
    ending: CancellationToken,
) -> io::Result<()> {
    let router = routes::router(app);
    let signal = ending.clone();
    let serving = axum::serve(OwnUser(listener), router)
        .with_graceful_shutdown(async move { signal.cancelled().await });
    tokio::select! {
        served = serving => served,
        () = async { ending.cancelled().await; tokio::time::sleep(LAST_WORDS).await } => Ok(()),
    }
}

/// Lets in this user and root, whatever the socket's permissions became.
struct OwnUser(UnixListener);

impl Listener for OwnUser {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            match stream.peer_cred() {
                Ok(peer) if is_allowed(peer.uid()) => return (stream, address),
                Ok(peer) => warn!(uid = peer.uid(), "refused a connection of another user"),
                Err(error) => warn!(%error, "refused a connection without credentials"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn is_allowed(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::getuid().as_raw()
}
