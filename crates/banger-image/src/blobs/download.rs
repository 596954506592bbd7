//! Owns one download: tries, resumes, hashes, and gives the blob its name once it is whole.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::NamedTempFile;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Wanted;
use super::shared::{End, Reader, Shared};
use crate::digest::Hasher;
use crate::registry::{BlobBody, RegistryError};

/// A connection that gives at least so much before it breaks was worth it.
const WORTHWHILE: u64 = 64 << 10;

/// A download in progress, or its outcome. It is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Download {
    shared: Arc<Shared>,
    _given_up: DropGuard,
}

impl Download {
    pub(super) fn begin(
        wanted: Wanted,
        file: NamedTempFile,
        destination: PathBuf,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(file.reopen()?));
        let cancel = CancellationToken::new();
        let work = Work {
            wanted,
            shared: Arc::clone(&shared),
            file,
            destination,
            hasher: Hasher::default(),
            written: 0,
        };
        let given_up = cancel.clone();
        let inner = runtime.clone();
        runtime.spawn(async move {
            let gate = Arc::clone(&work.wanted.gate);
            let shared = Arc::clone(&work.shared);
            tokio::select! {
                // The gate is never closed.
                _turn = gate.acquire_owned() => {
                    // Writing and hashing block: not on a thread that serves others.
                    let run = move || inner.block_on(work.run(&given_up));
                    if tokio::task::spawn_blocking(run).await.is_err() {
                        shared.finish(End::GivenUp);
                    }
                }
                () = given_up.clone().cancelled_owned() => shared.finish(End::GivenUp),
            }
        });
        Ok(Self {
            shared,
            _given_up: cancel.drop_guard(),
        })
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    pub(super) fn written(&self) -> u64 {
        self.shared.written()
    }

    pub(super) fn has_failed(&self) -> bool {
        match self.shared.end() {
            None | Some(End::Whole) => false,
            Some(End::Failed(_) | End::GivenUp) => true,
        }
    }

    /// Whether it is over because the bytes were others than promised.
    pub(super) fn was_wrong(&self) -> bool {
        match self.shared.end() {
            Some(End::Failed(error)) => error.is_wrong(),
            None | Some(End::Whole | End::GivenUp) => false,
        }
    }

    /// Waits for the end; what went wrong, if anything did.
    pub(super) async fn failure(&self) -> Option<Arc<RegistryError>> {
        match self.shared.ended().await {
            End::Whole | End::GivenUp => None,
            End::Failed(error) => Some(error),
        }
    }
}

struct Work {
    wanted: Wanted,
    shared: Arc<Shared>,
    file: NamedTempFile,
    destination: PathBuf,
    hasher: Hasher,
    written: u64,
}

impl Work {
    async fn run(mut self, given_up: &CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let end = tokio::select! {
            () = given_up.cancelled() => End::GivenUp,
            fetched = self.fetch() => match fetched {
                Ok(()) => match self.publish() {
                    Ok(()) => End::Whole,
                    Err(error) => End::Failed(Arc::new(error)),
                },
                Err(error) => End::Failed(Arc::new(error)),
            },
        };
        shared.finish(end);
    }

    /// Goes on where it was broken off, as long as that leads anywhere.
    async fn fetch(&mut self) -> Result<(), RegistryError> {
        let mut pace = self.wanted.session.pace();
        while self.written < self.wanted.size || self.wanted.size == 0 {
            let before = self.written;
            match self.stretch().await {
                Ok(()) if self.written == self.wanted.size => break,
                Ok(()) => {
                    let ended = self.broken_off();
                    self.after(before, &mut pace);
                    pace.pause_after(ended).await?;
                }
                // It said that more would come; nothing more was wanted.
                Err(error) if self.written == self.wanted.size && !error.is_wrong() => break,
                Err(error) => {
                    self.after(before, &mut pace);
                    pace.pause_after(error).await?;
                }
            }
        }
        Ok(())
    }

    fn after(&self, before: u64, pace: &mut crate::registry::Pace) {
        if self.written - before >= WORTHWHILE {
            pace.progressed();
        }
    }

    /// One connection's worth.
    async fn stretch(&mut self) -> Result<(), RegistryError> {
        let Wanted {
            session, digest, ..
        } = &self.wanted;
        let mut body: BlobBody = session.blob(*digest, self.written).await?;
        loop {
            let begin = body.position();
            let Some(chunk) = body.chunk().await? else {
                return Ok(());
            };
            // A server without ranges begins anew: what is here already is passed over.
            let known = usize::try_from(self.written - begin).unwrap_or(usize::MAX);
            if let Some(fresh) = chunk.get(known..) {
                self.take(fresh)?;
            }
        }
    }

    fn take(&mut self, fresh: &[u8]) -> Result<(), RegistryError> {
        let written = self.written + fresh.len() as u64;
        if written > self.wanted.size {
            return Err(RegistryError::TooLarge {
                url: self.wanted.session.shown(self.wanted.digest),
                limit: self.wanted.size,
            });
        }
        let failed = |source| RegistryError::File {
            operation: "write",
            path: self.destination.clone(),
            source,
        };
        self.file.as_file_mut().write_all(fresh).map_err(failed)?;
        self.hasher.update(fresh);
        self.written = written;
        // The last byte is given away only together with the verdict.
        if written < self.wanted.size {
            self.shared.advance(written);
        }
        Ok(())
    }

    fn broken_off(&self) -> RegistryError {
        RegistryError::BrokenOff {
            url: self.wanted.session.shown(self.wanted.digest),
            done: self.written,
            source: None,
        }
    }

    /// Gives the blob its name if it is the right one.
    fn publish(self) -> Result<(), RegistryError> {
        let (expected, found) = (self.wanted.digest, self.hasher.finish());
        if found != expected {
            return Err(RegistryError::Corrupt {
                url: self.wanted.session.shown(expected),
                expected,
                found,
            });
        }
        // Not synced: a blob that a power cut wrecked is found out when it is read.
        self.file
            .persist(&self.destination)
            .map_err(|error| RegistryError::File {
                operation: "publish",
                path: self.destination.clone(),
                source: error.error,
            })?;
        self.shared.advance(self.wanted.size);
        Ok(())
    }
}
