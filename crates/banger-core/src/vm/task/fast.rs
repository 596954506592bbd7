//! A first start that may skip its boot: a machine of the same making that was saved after its own goes
//! on instead. Where there is none, one is ordered for the next.

use super::Task;
use crate::{
    boots::{BootKey, Order, can_be_saved},
    holder::Holder,
    host::{LaunchPlan, VmmChoice},
    record::{VmRecord, VmState},
    snapshot::Restoration,
};

/// How a VM comes to run.
pub(super) enum Way {
    /// As it always has.
    Boot,
    /// Its boot is the first of its kind that can be saved.
    BootAndOrder(BootKey),
    GoOn(BootKey, Box<Restoration>),
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
        let boots = &self.surroundings.boots;
        let fresh = record.state == VmState::Created;
        let wanted = match record.holder {
            // Whoever waits in a pool has its own saved boot.
            Some(Holder::Pool { .. }) => can_be_saved(&record.spec.init),
            Some(Holder::Boots) => false,
            None => boots.are_wanted(&record.spec.init),
        };
        if cold || !fresh || !wanted {
            return Way::Boot;
        }
        let (host, clock) = (self.surroundings.host.clone(), self.surroundings.clock);
        let Ok(binding) = host.binding(choice.vmm, choice.accelerator).await else {
            return Way::Boot;
        };
        let key = BootKey::of(plan, record.spec.disk, &binding, &host.flavour(choice.vmm));
        match boots.find(&key, &binding, clock()) {
            Some(restoration) => Way::GoOn(key, Box::new(restoration)),
            None if record.holder.is_some() => Way::Boot,
            None => Way::BootAndOrder(key),
        }
    }

    /// The VM runs: its boot is worth saving for the next of its kind.
    pub(super) fn order_boot(&self, key: BootKey) {
        self.surroundings.boots.order(Order {
            key,
            spec: self.record().spec,
            first: self.views.subscribe(),
        });
    }
}
