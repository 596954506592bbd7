//! Waits for sockets that others are about to make: the kernel tells when something appears in
//! their directory. Knows paths, not what is spoken.

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::{io::unix::AsyncFd, net::UnixStream, time::timeout};

use crate::sys;

/// Between its name's appearance and its first listener a socket refuses connections.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// How long nothing is tried while nothing appears: the kernel may have too many watchers.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// Connects to a socket that its server is about to make.
pub(crate) async fn connect_when_there(socket: &Path) -> UnixStream {
    let arrivals = socket.parent().map(Arrivals::in_directory);
    let arrivals = match arrivals.transpose() {
        Ok(arrivals) => arrivals,
        Err(error) => {
            tracing::debug!(%error, "a directory cannot be watched");
            None
        }
    };
    let mut pause = FIRST_PAUSE;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return stream,
            Err(error) => tracing::trace!(%error, "a socket is not there yet"),
        }
        pause = match timeout(pause, next(arrivals.as_ref())).await {
            Ok(()) => FIRST_PAUSE,
            Err(_) => (pause * 2).min(LONGEST_PAUSE),
        };
    }
}

async fn next(arrivals: Option<&Arrivals>) {
    match arrivals {
        Some(arrivals) => arrivals.next().await,
        None => std::future::pending().await,
    }
}

/// What appears in one directory.
struct Arrivals(AsyncFd<Arc<OwnedFd>>);

impl Arrivals {
    fn in_directory(directory: &Path) -> io::Result<Self> {
        let watcher = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        add_watch(
            &watcher,
            directory,
            WatchFlags::CREATE | WatchFlags::MOVED_TO,
        )?;
        sys::readiness(Arc::new(watcher)).map(Self)
    }

    /// Returns once something has appeared since the last call.
    async fn next(&self) {
        let Ok(mut ready) = self.0.readable().await else {
            return std::future::pending().await;
        };
        // What it is does not matter: an attempt to connect finds out.
        let mut events = [0; 4096];
        while rustix::io::read(self.0.get_ref(), &mut events).is_ok_and(|length| length > 0) {}
        ready.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_appears_later_is_connected_to() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("late");
        let arrivals = Arrivals::in_directory(dir.path()).unwrap();
        let connecting = connect_when_there(&socket);
        let serving = async {
            tokio::task::yield_now().await;
            let listener = UnixListener::bind(&socket).unwrap();
            listener.accept().await.unwrap();
        };
        tokio::join!(connecting, serving);
        // The same arrival wakes whoever watches, once.
        arrivals.next().await;
        let again = timeout(Duration::ZERO, arrivals.next()).await;
        assert!(again.is_err());
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_watched_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("later");
        let socket = directory.join("socket");
        let serving = async {
            tokio::task::yield_now().await;
            std::fs::create_dir(&directory).unwrap();
            UnixListener::bind(&socket).unwrap().accept().await.unwrap();
        };
        tokio::join!(connect_when_there(&socket), serving);
    }
}
