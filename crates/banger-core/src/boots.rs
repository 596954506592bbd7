//! Machines that were saved right after their boot, so that the next ones of the same making need
//! not boot. Knows what makes two boots the same, and what goes first; runs nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use banger_image::digest::Sha256;
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tracing::{debug, info, warn};

use crate::{
    error::Error,
    host::{Binding, LaunchPlan},
    name::{PoolName, SnapshotName, VmId},
    record::Seconds,
    snapshot::{Frozen, Restoration, SnapshotRecord, fit},
    snapshots::{Snapshots, Staging},
    spec::{DiskSize, Init, VmSpec},
    vm::{View, VmHandle},
};

/// The saved boots, where the configuration wants them.
#[derive(Debug, Clone)]
pub struct Boots {
    snapshots: Arc<Snapshots>,
    orders: mpsc::UnboundedSender<Order>,
    marks: Arc<Mutex<Marks>>,
    /// One boot is saved at a time: each takes the host's processors.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is known of single boots as long as this daemon lives.
#[derive(Debug, Default)]
struct Marks {
    /// What all of them may take; with none, no boot is saved for whoever comes next.
    budget: Option<u64>,
    /// The machine that boots to be saved, until it is, or somebody ends it.
    booting: Option<(SnapshotName, VmHandle)>,
    /// Those that pools need, which keep to no budget.
    of_pools: BTreeMap<PoolName, SnapshotName>,
    /// Those that could not be saved, which is not tried again.
    hopeless: BTreeSet<SnapshotName>,
}

impl Marks {
    fn is_of_a_pool(&self, boot: &SnapshotName) -> bool {
        self.of_pools.values().any(|held| held == boot)
    }
}

/// That a machine boots to be saved.
#[derive(Debug)]
pub(crate) struct Booting(Boots);

impl Booting {
    /// It boots no more. Whether that is its own doing: nobody has ended it.
    pub(crate) fn ends(self) -> bool {
        self.0.take_booting(|_, _| true).is_some()
    }
}

impl Drop for Booting {
    fn drop(&mut self) {
        self.0.take_booting(|_, _| true);
    }
}

/// That a boot is to be saved for whoever comes next.
#[derive(Debug)]
pub struct Order {
    pub(crate) key: BootKey,
    pub(crate) spec: VmSpec,
    /// The VM that has booted so, which is to have the host for itself at first.
    pub(crate) first: watch::Receiver<View>,
}

/// All boots with one key would end in the same machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootKey(Sha256);

impl BootKey {
    /// Of all that a boot depends on. The host name and the time of a boot are none of it: whoever
    /// goes on is told its own.
    #[must_use]
    pub fn of(plan: &LaunchPlan, disk: DiskSize, binding: &Binding, flavour: &str) -> Self {
        let file = std::fs::metadata(&plan.base);
        let base = file.map(|meta| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
        let parts = format!(
            "{} {} {:?} {:?}\n{}\n{}\n{:?}\n{}\n{base:?}\n{} {} {} {}\n{}\n{flavour}",
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
    /// What is ordered comes out of the other end.
    #[must_use]
    pub fn new(
        snapshots: Arc<Snapshots>,
        budget: Option<u64>,
    ) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (orders, ordered) = mpsc::unbounded_channel();
        let boots = Self {
            snapshots,
            orders,
            marks: Arc::new(Mutex::new(Marks {
                budget,
                ..Marks::default()
            })),
            turn: Arc::default(),
        };
        (boots, ordered)
    }

    /// Whether a VM of this kind may go on from a saved boot.
    #[must_use]
    pub fn are_wanted(&self, init: &Init) -> bool {
        self.marks().budget.is_some() && can_be_saved(init)
    }

    /// What all of them may take from now on; with none, no boot is saved for whoever comes next, and
    /// the one that is being saved goes. What pools need stays.
    pub(crate) fn set_budget(&self, budget: Option<u64>) -> Result<(), Error> {
        self.marks().budget = budget;
        if budget.is_none() {
            let is_unwanted = |marks: &Marks, boot: &SnapshotName| !marks.is_of_a_pool(boot);
            if let Some(vm) = self.take_booting(is_unwanted) {
                vm.delete_behind();
            }
        }
        self.keep_to_budget()
    }

    /// Whoever has this may boot a machine and save it.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    /// A machine is about to boot, to be saved.
    pub(crate) fn boots_now(&self, key: &BootKey, vm: VmHandle) -> Booting {
        self.marks().booting = Some((key.name(), vm));
        Booting(self.clone())
    }

    /// Whether this one boots to be saved while nobody waits for that, not a pool either.
    pub(crate) fn yields(&self, id: VmId) -> bool {
        let marks = self.marks();
        let booting = marks.booting.as_ref();
        booting.is_some_and(|(boot, vm)| {
            vm.read(|view| view.record.id) == id && !marks.is_of_a_pool(boot)
        })
    }

    /// Ends the machine that boots to be saved, for the sake of one that somebody waits for. Whether
    /// there was one.
    pub(crate) async fn give_way(&self) -> bool {
        let Some(vm) = self.take_booting(|_, _| true) else {
            return false;
        };
        info!(vm = %vm.name(), "a machine that was booted to be saved makes room");
        if let Err(error) = vm.delete(true).await {
            warn!(
                error = error.chain(),
                "cannot end a boot that is to be saved"
            );
        }
        true
    }

    fn take_booting(&self, is_it: impl Fn(&Marks, &SnapshotName) -> bool) -> Option<VmHandle> {
        let mut marks = self.marks();
        let (boot, _) = marks.booting.as_ref()?;
        if !is_it(&marks, boot) {
            return None;
        }
        marks.booting.take().map(|(_, vm)| vm)
    }

    /// Where saved boots are.
    pub(crate) fn directory(&self) -> &Path {
        self.snapshots.directory()
    }

    /// Asks for a boot to be saved. It is a gift for later: nobody waits.
    pub(crate) fn order(&self, order: Order) {
        if !self.marks().hopeless.contains(&order.key.name()) {
            // Nobody takes orders from a daemon that ends.
            let _ = self.orders.send(order);
        }
    }

    /// Does not try this one again.
    pub(crate) fn give_up(&self, key: &BootKey) {
        self.marks().hopeless.insert(key.name());
    }

    pub(crate) fn is_hopeless(&self, key: &BootKey) -> bool {
        self.marks().hopeless.contains(&key.name())
    }

    /// A pool needs this boot, and no other any more.
    pub(crate) fn hold_for(&self, pool: &PoolName, kind: SnapshotName) {
        self.marks().of_pools.insert(pool.clone(), kind);
    }

    /// A pool needs none any more. What nobody wants goes.
    pub(crate) fn let_go(&self, pool: &PoolName) -> Result<(), Error> {
        self.marks().of_pools.remove(pool);
        self.keep_to_budget()
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        let marks = self.marks.lock();
        marks.expect("no holder of the boots' lock panics")
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
    pub(crate) async fn keep(
        &self,
        staging: &Staging,
        record: SnapshotRecord,
    ) -> Result<(), Error> {
        self.snapshots.publish(staging, record).await?;
        self.keep_to_budget()
    }

    /// Removes what nobody wants, and what was not used for longest.
    pub(crate) fn keep_to_budget(&self) -> Result<(), Error> {
        let (held, budget): (BTreeSet<_>, _) = {
            let marks = self.marks();
            (marks.of_pools.values().cloned().collect(), marks.budget)
        };
        let mut left = budget.unwrap_or(0);
        for boot in self.snapshots.boots()? {
            let takes = boot.memory_bytes + boot.disk_bytes;
            match left.checked_sub(takes) {
                _ if held.contains(&boot.name) => {}
                Some(rest) if budget.is_some() => left = rest,
                Some(_) | None => self.snapshots.remove(&boot)?,
            }
        }
        Ok(())
    }

    /// Removes a saved boot that is of no use.
    pub fn forget(&self, key: &BootKey) {
        let removed = self.snapshots.get(&key.name());
        let removed = removed.and_then(|boot| self.snapshots.remove(&boot));
        if let Err(error) = removed {
            debug!(error = error.chain(), "cannot remove a saved boot");
        }
    }

    /// Removes the saved boots of such machines: what they are made of is about to go.
    pub(crate) fn forget_all(&self, are: impl Fn(&Frozen) -> bool) -> Result<(), Error> {
        for boot in self.snapshots.boots()? {
            if are(&boot.machine) {
                self.snapshots.remove(&boot)?;
            }
        }
        Ok(())
    }
}

/// Whether a machine may boot behind everybody's back: a quarter of what the host has to spare stays
/// for others, though it took all that it may.
#[must_use]
pub(crate) fn leaves_room(spare: u64, memory: u64) -> bool {
    memory <= spare / 4 * 3
}

/// Whether a machine that goes on from its boot is as good as one that has booted: proven by stories
/// for both VMMs, with every init of which the agent knows when its boot is over.
#[must_use]
pub(crate) fn can_be_saved(init: &Init) -> bool {
    match init {
        Init::Auto | Init::Agent | Init::Systemd => true,
        Init::Path(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_what_is_there_stays_for_others() {
        let check = |spare, memory, leaves| assert_eq!(leaves_room(spare, memory), leaves);
        check(u64::MAX, 2 << 30, true);
        check(4 << 30, 3 << 30, true);
        check(4 << 30, (3 << 30) + 1, false);
        check(0, 1, false);
    }
}
