//! Machines that were saved right after their boot, so that the next ones of the same making need
//! not boot. Knows what makes two boots the same, and what goes first; runs nothing.

use std::{os::unix::fs::MetadataExt, sync::Arc};

use banger_image::digest::Sha256;
use tracing::{debug, warn};

use crate::{
    error::Error,
    host::{Binding, LaunchPlan},
    name::{ImageName, SnapshotName},
    record::Seconds,
    snapshot::{Restoration, SnapshotRecord, fit},
    snapshots::{Snapshots, Staging},
    spec::{DiskSize, Init},
};

/// The saved boots, where the configuration wants them.
#[derive(Debug, Clone)]
pub struct Boots {
    snapshots: Arc<Snapshots>,
    /// What all of them may take; with none, no boot is saved.
    budget: Option<u64>,
}

/// All boots with one key would end in the same machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootKey(Sha256);

impl BootKey {
    /// Of all that a boot depends on. The host name and the time of a boot are none of it: whoever
    /// goes on is told its own.
    #[must_use]
    pub fn of(plan: &LaunchPlan, disk: DiskSize, binding: &Binding) -> Self {
        let file = std::fs::metadata(&plan.base);
        let base = file.map(|meta| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
        let parts = format!(
            "{} {} {:?} {:?}\n{}\n{}\n{:?}\n{}\n{base:?}\n{} {} {} {}\n{}",
            binding.vmm.as_str(),
            binding.accelerator.as_str(),
            binding.version,
            binding.processor,
            plan.kernel.display(),
            plan.initramfs.display(),
            plan.kernel_args,
            plan.base.display(),
            plan.vcpus.get(),
            plan.memory.bytes(),
            disk.bytes(),
            plan.network.as_str(),
            String::from(plan.init.clone()),
        );
        Self(Sha256::of(parts.as_bytes()))
    }

    /// What its snapshot is called, among those that nobody sees.
    #[must_use]
    pub fn name(&self) -> SnapshotName {
        let hex = self.0.to_hex();
        let name = format!("{}{}", SnapshotName::OF_BOOTS, &hex[..32]);
        name.parse().expect("hexadecimal digits are a name's")
    }
}

impl Boots {
    #[must_use]
    pub fn new(snapshots: Arc<Snapshots>, budget: Option<u64>) -> Self {
        Self { snapshots, budget }
    }

    /// Whether boots of this kind are saved at all: a guest whose first process is an init of its
    /// own is in the middle of its boot when its agent answers.
    #[must_use]
    pub fn are_wanted(&self, init: &Init) -> bool {
        let settled = match init {
            Init::Auto | Init::Agent => true,
            Init::Systemd | Init::Path(_) => false,
        };
        self.budget.is_some() && settled
    }

    /// The saved machine of a key, if it can go on here. One that cannot is removed.
    #[must_use]
    pub fn find(&self, key: &BootKey, here: &Binding, now: Seconds) -> Option<Restoration> {
        let name = key.name();
        let record = self.snapshots.get(&name).ok()?;
        let usable = fit(&record.binding, here)
            .map_err(Error::from)
            .and_then(|()| self.snapshots.restoration(&record));
        match usable {
            Ok(restoration) => {
                if let Err(error) = self.snapshots.was_used(&name, now) {
                    warn!(
                        error = error.chain(),
                        "cannot note that a saved boot was used"
                    );
                }
                Some(restoration)
            }
            Err(error) => {
                debug!(error = error.chain(), "a saved boot is of no use any more");
                self.forget(key);
                None
            }
        }
    }

    /// A directory for a machine that is about to be saved.
    pub(crate) fn stage(&self) -> Result<Staging, Error> {
        self.snapshots.stage()
    }

    /// Keeps a saved boot, and removes those that were not used for longest.
    pub(crate) fn keep(&self, staging: &Staging, record: &SnapshotRecord) -> Result<(), Error> {
        self.snapshots.publish(staging, record)?;
        let Some(budget) = self.budget else {
            return Ok(());
        };
        let mut left = budget;
        for boot in self.snapshots.boots()? {
            let takes = boot.memory_bytes + boot.disk_bytes;
            match left.checked_sub(takes) {
                Some(rest) => left = rest,
                None => self.snapshots.delete(&boot.name)?,
            }
        }
        Ok(())
    }

    /// Removes a saved boot that is of no use.
    pub fn forget(&self, key: &BootKey) {
        if let Err(error) = self.snapshots.delete(&key.name()) {
            debug!(error = error.chain(), "cannot remove a saved boot");
        }
    }

    /// Removes the saved boots of an image that is about to go.
    pub fn forget_image(&self, image: &ImageName) -> Result<(), Error> {
        for boot in self.snapshots.boots()? {
            if boot.machine.image == *image {
                self.snapshots.delete(&boot.name)?;
            }
        }
        Ok(())
    }
}
