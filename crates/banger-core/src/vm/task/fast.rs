//! A first start that may skip its boot: a machine of the same making that was saved right after its
//! own goes on instead. Where there is none, this boot is saved for the next.

use std::{sync::Arc, time::Duration};

use tracing::{debug, warn};

use super::Task;
use crate::{
    boots::BootKey,
    error::Error,
    host::{Guest, LaunchPlan, Machine, VmmChoice},
    record::{VmRecord, VmState},
    snapshot::{Frozen, Restoration, SnapshotRecord},
};

/// How a VM comes to run.
pub(super) enum Way {
    /// As it always has.
    Boot,
    /// Its boot is the first of its kind that can be saved.
    BootAndSave(BootKey),
    GoOn(BootKey, Restoration),
}

impl Task {
    /// Only a disk that is as it was made can be replaced.
    pub(super) async fn way(
        &mut self,
        record: &VmRecord,
        plan: &LaunchPlan,
        choice: &VmmChoice,
        cold: bool,
    ) -> Way {
        let boots = self.surroundings.boots.clone();
        let fresh = record.state == VmState::Created;
        if cold || !fresh || !boots.are_wanted(&record.spec.init) {
            return Way::Boot;
        }
        let (host, clock) = (self.surroundings.host.clone(), self.surroundings.clock);
        let Ok(binding) = host.binding(choice.vmm, choice.accelerator).await else {
            return Way::Boot;
        };
        let key = BootKey::of(plan, record.spec.disk, &binding);
        match boots.find(&key, &binding, clock()) {
            Some(restoration) => Way::GoOn(key, restoration),
            None => Way::BootAndSave(key),
        }
    }

    /// Saves a machine whose agent has just answered. What comes of it does not matter to its VM,
    /// which goes on in any case.
    pub(super) async fn save_boot(
        &mut self,
        key: &BootKey,
        machine: &Arc<dyn Machine>,
        guest: &Arc<dyn Guest>,
    ) -> Result<(), Error> {
        if guest.info().init != "agent" || machine.may_be_saved().is_err() {
            return Ok(());
        }
        let saved = self.write_boot(key, machine, guest).await;
        // Whatever was done, it must not stand still now.
        machine.resume().await?;
        if let Err(error) = guest.tell_time().await {
            warn!(vm = %self.record().name, %error, "cannot set a clock");
        }
        match saved {
            Ok(()) => debug!(vm = %self.record().name, "its boot is saved for the next"),
            Err(error) => {
                warn!(vm = %self.record().name, error = error.chain(), "cannot save a boot");
            }
        }
        Ok(())
    }

    async fn write_boot(
        &mut self,
        key: &BootKey,
        machine: &Arc<dyn Machine>,
        guest: &Arc<dyn Guest>,
    ) -> Result<(), Error> {
        let (host, boots) = (
            self.surroundings.host.clone(),
            self.surroundings.boots.clone(),
        );
        let process = machine.process();
        let binding = host.binding(process.vmm, process.accelerator).await?;
        let staging = boots.stage()?;
        machine.pause().await?;
        let sizes = self.write_down(machine.as_ref(), &staging.files).await?;
        let (record, agent) = (self.record(), guest.info());
        boots.keep(
            &staging,
            &SnapshotRecord {
                name: key.name(),
                directory: staging.name.clone(),
                origin: record.name,
                origin_id: record.id,
                machine: Frozen::of(&record.spec),
                image_digest: String::new(),
                binding,
                agent_generation: agent.generation,
                agent_version: agent.version,
                paused_for: Duration::ZERO,
                memory_bytes: sizes.memory,
                disk_bytes: sizes.disk,
                created_at: (self.surroundings.clock)(),
            },
        )
    }
}
