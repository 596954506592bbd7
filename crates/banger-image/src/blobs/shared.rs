//! Owns what a download and its readers share: how far it is, how it ended, where the bytes are.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use tokio_util::sync::CancellationToken;

use crate::registry::RegistryError;

/// How a download ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    Whole,
    Failed(Arc<RegistryError>),
    /// Nobody wanted it any more.
    GivenUp,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    end: Option<End>,
}

#[derive(Debug)]
pub(super) struct Shared {
    file: File,
    state: Mutex<State>,
    moved: Condvar,
    ended: CancellationToken,
}

impl Shared {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            state: Mutex::default(),
            moved: Condvar::new(),
            ended: CancellationToken::new(),
        }
    }

    /// So many bytes can be read now.
    pub(super) fn advance(&self, written: u64) {
        self.state().written = written;
        self.moved.notify_all();
    }

    pub(super) fn finish(&self, end: End) {
        self.state().end = Some(end);
        self.moved.notify_all();
        self.ended.cancel();
    }

    pub(super) fn written(&self) -> u64 {
        self.state().written
    }

    pub(super) fn end(&self) -> Option<End> {
        self.state().end.clone()
    }

    pub(super) async fn ended(&self) -> End {
        self.ended.cancelled().await;
        self.end().expect("the end is recorded before it is told")
    }

    /// Waits for bytes behind `position`; how many there are. None only at the end.
    fn ready(&self, position: u64) -> io::Result<u64> {
        let mut state = self.state();
        loop {
            if state.written > position {
                return Ok(state.written - position);
            }
            match &state.end {
                Some(End::Whole) => return Ok(0),
                Some(End::Failed(error)) => {
                    return Err(io::Error::other(Arc::clone(error)));
                }
                Some(End::GivenUp) => {
                    return Err(io::Error::other("the download was given up"));
                }
                None => {}
            }
            state = self
                .moved
                .wait(state)
                .expect("no holder of a download's lock panics");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no holder of a download's lock panics")
    }
}

/// Reads a blob while it arrives.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    position: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            position: 0,
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let ready = self.shared.ready(self.position)?;
        let most = usize::try_from(ready).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self
            .shared
            .file
            .read_at(&mut buffer[..most], self.position)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    #[test]
    fn a_reader_follows_the_download_to_its_end() {
        let mut file = tempfile::tempfile().unwrap();
        let shared = Arc::new(Shared::new(file.try_clone().unwrap()));
        let mut reader = Reader::new(Arc::clone(&shared));
        let read = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        for part in [&b"one "[..], b"two"] {
            file.write_all(part).unwrap();
            shared.advance(shared.written() + part.len() as u64);
        }
        shared.finish(End::Whole);
        assert_eq!(read.join().unwrap().unwrap(), b"one two");
    }

    #[test]
    fn a_reader_fails_where_the_download_does_but_not_before() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one").unwrap();
        let shared = Arc::new(Shared::new(file));
        shared.advance(3);
        shared.finish(End::GivenUp);
        let mut reader = Reader::new(shared);
        let mut bytes = [0; 3];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"one");
        assert!(reader.read(&mut bytes).is_err());
    }
}
