//! Taking up VMs and pools that lie on the disk and are in no row.

use super::{Engine, is_nobodys};
use crate::{
    error::Error,
    record::VmState,
    recovery::{self, Recovered},
};

impl Engine {
    /// Makes rows for them, and takes them up as a new daemon would. With `dry_run` it only tells
    /// what it would do.
    pub async fn recover(&self, dry_run: bool) -> Result<Recovered, Error> {
        let store = self.surroundings.store.clone();
        let remains = self.directories.remains();
        let recovered =
            tokio::task::spawn_blocking(move || recovery::recover(&store, &remains, dry_run));
        let recovered = recovered.await.map_err(|_| Error::Ending)??;
        if !dry_run {
            self.take_up_new()?;
        }
        Ok(recovered)
    }

    fn take_up_new(&self) -> Result<(), Error> {
        let pools = self.surroundings.store.pools()?;
        for mut record in self.surroundings.store.vms()? {
            let is_known = self.vms().contains_key(&record.id);
            if !is_known {
                if is_nobodys(&record, &pools) {
                    record.state = VmState::Deleting;
                }
                self.spawn(record);
            }
        }
        self.take_up_pools(pools)
    }
}
