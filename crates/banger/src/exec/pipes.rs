//! Threads between blocking descriptors and the asynchronous stream, joined by bounded
//! channels: whoever is slow slows the other end down, and nothing grows.
//!
//! They are plain threads because a read of standard input may never return, and must not
//! keep the process from ending.

use std::{io, os::fd::AsFd, thread};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{fdio, report::Failure};

const CHUNK: usize = 128 << 10;
const _: () = assert!(CHUNK <= banger_api::client::MAX_STDIN);
/// Chunks under way in each direction.
const UNDER_WAY: usize = 4;

/// Reads a file to its end, as fast as the receiver takes it.
pub(crate) fn read(
    file: impl AsFd + Send + 'static,
) -> Result<mpsc::Receiver<io::Result<Bytes>>, Failure> {
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    spawn("reader", move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            let item = match fdio::read_some(&file, &mut buffer) {
                Ok(0) => return,
                Ok(read) => Ok(Bytes::copy_from_slice(&buffer[..read])),
                Err(error) => Err(error),
            };
            let failed = item.is_err();
            if sender.blocking_send(item).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Where a command's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Writes what a command says, in the order in which it came.
#[derive(Debug)]
pub(super) struct Writer {
    chunks: mpsc::Sender<(Stream, Bytes)>,
    done: oneshot::Receiver<io::Result<()>>,
}

/// The writer has ended early; [`Writer::finish`] says why.
#[derive(Debug)]
pub(super) struct Closed;

impl Writer {
    pub(super) fn start() -> Result<Self, Failure> {
        let (chunks, mut queue) = mpsc::channel::<(Stream, Bytes)>(UNDER_WAY);
        let (report, done) = oneshot::channel();
        spawn("writer", move || {
            let mut outcome = Ok(());
            while let Some((stream, bytes)) = queue.blocking_recv() {
                outcome = write(stream, &bytes);
                if outcome.is_err() {
                    break;
                }
            }
            // The queue closes before the report, so that no sender waits in vain.
            drop(queue);
            let _ = report.send(outcome);
        })?;
        Ok(Self { chunks, done })
    }

    /// Waits until there is room for the bytes.
    pub(super) async fn write(&self, stream: Stream, bytes: Bytes) -> Result<(), Closed> {
        self.chunks.send((stream, bytes)).await.map_err(|_| Closed)
    }

    /// Waits until everything is written.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        drop(self.chunks);
        match self.done.await {
            Ok(outcome) => outcome.map_err(Failure::output),
            Err(_) => Ok(()),
        }
    }
}

fn write(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stdout => fdio::write_all(io::stdout(), bytes),
        Stream::Stderr => {
            // Remarks that nobody wants to read are no reason to lose the output.
            let _ = fdio::write_all(io::stderr(), bytes);
            Ok(())
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|source| Failure::Host {
        operation: "start a thread",
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[tokio::test]
    async fn a_file_arrives_whole_and_ends() {
        let content: Vec<u8> = (0..3 * CHUNK).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        file.rewind().unwrap();
        let mut receiver = read(file).unwrap();
        let mut got = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            got.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(got, content);
    }

    #[tokio::test]
    async fn a_failed_read_is_told_once() {
        let directory = std::fs::File::open("/").unwrap();
        let mut receiver = read(directory).unwrap();
        assert!(receiver.recv().await.unwrap().is_err());
        assert!(receiver.recv().await.is_none());
    }
}
