//! What is known of a snapshot, and whether it can go on here: pure. Knows no file.

use std::{sync::Arc, time::Duration};

use banger_image::kernel::KernelName;

use crate::{
    host::{Binding, SnapshotPlaces},
    name::{ImageName, SnapshotName, VmId, VmName},
    record::Seconds,
    spec::{DiskSize, Init, Memory, Network, Vcpus, VmSpec},
};

/// Why a snapshot is of no use for what is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "a saved machine goes on only with the same {what}: it was saved with {was}, and here is {is}"
    )]
    Unfit {
        what: &'static str,
        was: String,
        is: String,
    },
    #[error("snapshot {snapshot} is of VM {origin}, so VM {vm} cannot go back to it")]
    Foreign {
        snapshot: SnapshotName,
        origin: VmName,
        vm: VmName,
    },
    #[error(
        "a VM that goes on from a snapshot keeps what it was made of; its {what} cannot be chosen"
    )]
    Fixed { what: &'static str },
    #[error("a VM that is made of a snapshot goes on at once; it cannot be left for later")]
    NotStarted,
    #[error("the file {file} of snapshot {snapshot} is not what was saved")]
    Damaged {
        snapshot: SnapshotName,
        file: &'static str,
    },
    #[error("snapshot {0} is being read by a VM that goes on from it")]
    InUse(SnapshotName),
    #[error("1 to {most} forks can be made at once, not {asked}")]
    Forks { asked: u32, most: u32 },
}

/// What a machine was made of when it was saved, and keeps wherever it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    pub image: ImageName,
    pub kernel: KernelName,
    pub vcpus: Vcpus,
    pub memory: Memory,
    pub disk: DiskSize,
    pub init: Init,
    pub network: Network,
}

impl Frozen {
    #[must_use]
    pub fn of(spec: &VmSpec) -> Self {
        Self {
            image: spec.image.clone(),
            kernel: spec.kernel.clone(),
            vcpus: spec.vcpus,
            memory: spec.memory,
            disk: spec.disk,
            init: spec.init.clone(),
            network: spec.network,
        }
    }

    /// The same VM, made of what the saved machine was made of.
    #[must_use]
    pub fn thaw(&self, spec: &VmSpec) -> VmSpec {
        VmSpec {
            image: self.image.clone(),
            kernel: self.kernel.clone(),
            vcpus: self.vcpus,
            memory: self.memory,
            disk: self.disk,
            init: self.init.clone(),
            network: self.network,
            ..spec.clone()
        }
    }
}

/// The durable truth about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    pub name: SnapshotName,
    /// The directory below the snapshots' own that holds its files.
    pub directory: String,
    pub origin: VmName,
    pub origin_id: VmId,
    pub machine: Frozen,
    /// Of the image's content, which must not have changed meanwhile.
    pub image_digest: String,
    pub binding: Binding,
    /// What the agent in it speaks and is.
    pub agent_generation: u32,
    pub agent_version: String,
    /// How long the origin stood still.
    pub paused_for: Duration,
    /// What memory, devices and disk take on the host.
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// Of the file with the devices, which a VMM takes as it is; empty in rows of earlier releases.
    pub devices_digest: String,
    pub created_at: Seconds,
}

/// What a VM needs to know to go on from a saved machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    pub files: SnapshotPlaces,
    /// As long as it lives, nobody is to take the files away.
    pub(crate) hold: Arc<()>,
    /// Whose state it is.
    pub origin_id: VmId,
    pub machine: Frozen,
    pub binding: Binding,
}

/// Rates that differ by less are one clock, measured twice.
const CLOCK_TOLERANCE: u64 = 1000;

/// Refuses a state that would not go on properly here.
pub fn fit(saved: &Binding, here: &Binding) -> Result<(), SnapshotError> {
    let differ = |what, was: &str, is: &str| {
        if was == is {
            return Ok(());
        }
        Err(SnapshotError::Unfit {
            what,
            was: was.to_owned(),
            is: is.to_owned(),
        })
    };
    differ("VMM", saved.vmm.as_str(), here.vmm.as_str())?;
    let (was, is) = (saved.accelerator.as_str(), here.accelerator.as_str());
    differ("accelerator", was, is)?;
    differ("release of the VMM", &saved.version, &here.version)?;
    differ("processor", &saved.processor, &here.processor)?;
    if saved.clock_khz.abs_diff(here.clock_khz) > saved.clock_khz / CLOCK_TOLERANCE {
        let khz = |rate: u64| format!("{rate} kHz");
        let (was, is) = (khz(saved.clock_khz), khz(here.clock_khz));
        return differ("rate of the clock", &was, &is);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Accelerator, VmmKind};

    fn binding() -> Binding {
        Binding {
            vmm: VmmKind::Qemu,
            accelerator: Accelerator::Tcg,
            version: "7.2.1".into(),
            processor: "max".into(),
            clock_khz: 2_600_000,
        }
    }

    #[test]
    fn a_state_goes_on_where_everything_that_it_is_bound_to_is_the_same() {
        let check = |change: fn(&mut Binding), wanted: Option<&str>| {
            let mut here = binding();
            change(&mut here);
            let what = match fit(&binding(), &here) {
                Err(SnapshotError::Unfit { what, .. }) => Some(what),
                Err(other) => panic!("{other}"),
                Ok(()) => None,
            };
            assert_eq!(what, wanted, "{here:?}");
        };
        check(|_| {}, None);
        check(|here| here.vmm = VmmKind::Firecracker, Some("VMM"));
        check(
            |here| here.accelerator = Accelerator::Kvm,
            Some("accelerator"),
        );
        check(
            |here| here.version = "8.0.0".into(),
            Some("release of the VMM"),
        );
        check(|here| here.processor = "host".into(), Some("processor"));
        check(|here| here.clock_khz += 2_000, None);
        check(|here| here.clock_khz += 3_000, Some("rate of the clock"));
    }
}
