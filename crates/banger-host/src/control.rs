//! Where the backends meet: what a running machine asks of its VMM, whichever that is. How a
//! VMM is started is each backend's own business.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use async_trait::async_trait;
use banger_core::{
    host::{Halt, SnapshotPlaces, VmmExit},
    host_error::HostError,
};
use tokio::{net::UnixStream, time::sleep};

use crate::process::Ended;

/// A running VMM, as its machine sees it.
#[async_trait]
pub(crate) trait Control: Debug + Send + Sync {
    /// A new byte stream to the agent; waits until somebody listens at its other end.
    async fn dial(&self) -> UnixStream;

    /// Asks the VMM to end by itself. It may end later, or not at all.
    async fn quit(&self) -> Result<(), HostError>;

    async fn pause(&self) -> Result<(), HostError>;

    async fn resume(&self) -> Result<(), HostError>;

    /// Gives the machine's own disk so many bytes.
    async fn grow_disk(&self, _: u64) -> Result<(), HostError> {
        Err(HostError::Unsupported {
            feature: "a larger disk while a guest runs".to_owned(),
            reason: "its VMM cannot".to_owned(),
        })
    }

    /// Waits until the VMM has stopped its guest by itself. One that tells its guest of every failure
    /// never does.
    async fn halted(&self) -> Halt {
        std::future::pending().await
    }

    /// Refuses where this VMM cannot save its machine.
    fn may_save(&self) -> Result<(), HostError>;

    /// Does what makes a save shorter, while the guest runs.
    async fn prepare_save(&self, _pid: u32, _: &SnapshotPlaces) -> Result<(), HostError> {
        Ok(())
    }

    /// Writes memory and devices of a machine that stands still. Gives back what that takes.
    async fn save(&self, into: &SnapshotPlaces) -> Result<u64, HostError>;

    /// Fetches what [`Self::save`] has left elsewhere, while the machine may go on. Gives back what all
    /// of it takes, of which `taken` is known.
    async fn fetch(&self, _: &SnapshotPlaces, taken: u64) -> Result<u64, HostError> {
        Ok(taken)
    }

    /// Whether the guest's connections end when its machine is saved.
    fn hangs_up_to_save(&self) -> bool {
        false
    }

    /// What the end of its process means.
    fn exit(&self, ended: Ended) -> VmmExit {
        ended.into()
    }

    /// Why it would not make its machine, where its end and its log say so.
    fn refusal(&self, _ended: Ended) -> Option<String> {
        None
    }

    /// What it writes beside its log and its guest's console.
    fn logs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Waits until all that the VMM has said is in its log.
    async fn drained(&self) {}
}

/// Waits that begin short and become longer.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Duration,
    longest: Duration,
}

impl Pace {
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self {
            next: Duration::from_millis(1),
            longest,
        }
    }

    pub(crate) async fn wait(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }
}
