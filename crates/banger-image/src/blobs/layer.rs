//! Owns a layer that lies in a registry: fetched when it is opened, and opened as often as needed.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::Handle;

use super::download::Download;
use super::{BlobStore, Verified, Wanted};
use crate::digest::Sha256;
use crate::layers::{LayerDescriptor, LayerSource};
use crate::pins::Pinned;
use crate::registry::RegistryError;

/// What was another than promised is fetched once more, and then believed.
const TRIES: u32 = 2;

/// A layer of one pull.
#[derive(Debug)]
pub struct BlobLayer {
    descriptor: LayerDescriptor,
    store: Arc<BlobStore>,
    wanted: Wanted,
    runtime: Handle,
    state: Mutex<State>,
}

/// A layer's part in a failure.
#[derive(Debug)]
pub enum Verdict {
    Innocent,
    /// It could not be fetched.
    Failed(Arc<RegistryError>),
    /// What lay on the disk was another; it is removed.
    Rotten,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// It was here before.
    was_here: bool,
    download: Option<Arc<Download>>,
    /// How often it was another than promised.
    wrong: u32,
    /// Keeps the blob while the pull goes on.
    pinned: Option<Pinned>,
}

impl BlobLayer {
    /// Must be called within a runtime, which then does the fetching.
    pub(crate) fn new(descriptor: LayerDescriptor, store: Arc<BlobStore>, wanted: Wanted) -> Self {
        let state = State {
            pinned: Some(store.pin(wanted.digest)),
            ..State::default()
        };
        Self {
            descriptor,
            store,
            wanted,
            runtime: Handle::current(),
            state: Mutex::new(state),
        }
    }

    /// Bytes that are here, of this layer alone.
    #[must_use]
    pub fn done(&self) -> u64 {
        let state = self.state();
        match &state.download {
            Some(download) => download.written(),
            None if state.was_here => self.wanted.size,
            None => 0,
        }
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.wanted.size
    }

    /// Whether anything had to be fetched.
    #[must_use]
    pub fn was_fetched(&self) -> bool {
        self.state().download.is_some()
    }

    /// Lets go of the download, which ends unless another pull wants it, too. Readers fail.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.download = None;
        state.pinned = None;
    }

    /// Waits until it is plain whether the layer is to blame for a failure, and how.
    pub async fn verdict(&self) -> Verdict {
        let download = self.state().download.clone();
        if let Some(download) = download {
            return match download.failure().await {
                Some(error) => Verdict::Failed(error),
                None => Verdict::Innocent,
            };
        }
        let Wanted { digest, size, .. } = self.wanted;
        let Some(file) = self.store.whole(digest, size) else {
            return Verdict::Innocent;
        };
        // What lay on the disk is looked at again: anything may have happened to it.
        let found = crate::blocking::run(move || Sha256::of_reader(file)).await;
        if found.is_ok_and(|found| found == digest) {
            return Verdict::Innocent;
        }
        match self.discard() {
            Ok(()) => Verdict::Rotten,
            Err(_) => Verdict::Innocent,
        }
    }

    /// Removes the blob, once its content is elsewhere.
    pub fn discard(&self) -> io::Result<()> {
        self.store.remove(self.wanted.digest)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no holder of a layer's lock panics")
    }
}

impl LayerSource for BlobLayer {
    fn descriptor(&self) -> &LayerDescriptor {
        &self.descriptor
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut state = self.state();
        if state.closed {
            return Err(io::Error::other("the pull was given up"));
        }
        if let Some(download) = state.download.clone() {
            state.wrong += u32::from(download.was_wrong());
            if !download.has_failed() || state.wrong >= TRIES {
                return Ok(Box::new(download.reader()));
            }
        }
        let Wanted { digest, size, .. } = self.wanted;
        if let Some(file) = self.store.whole(digest, size) {
            state.was_here = true;
            return Ok(Box::new(Verified::new(file, digest)));
        }
        let download = self.store.fetch(&self.wanted, &self.runtime);
        let download = download.map_err(io::Error::other)?;
        let reader = download.reader();
        state.download = Some(download);
        Ok(Box::new(reader))
    }
}
