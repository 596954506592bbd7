//! How a VM comes to be: a row, a disk, a task, and nothing of them where that is cut short. Knows
//! neither images nor kernels: what a VM is made of was decided before.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard},
};

use banger_image::progress::{SharedProgress, Step};
use tracing::warn;

use super::{Vms, lock};
use crate::{
    error::{Error, Kind},
    generated_name::generated_name,
    holder::Holder,
    journal::{Act, Owner, Page},
    name::{PoolName, VmId, VmName},
    record::{Seconds, VmRecord, VmState},
    recovery,
    spec::VmSpec,
    store::StoreError,
    upkeep::Life,
    vm::{self, Surroundings, VmHandle},
};

/// How often a name is drawn before numbers are added to it.
const NAME_DRAWS: usize = 8;

/// What makes VMs: what their tasks need, and where their handles are kept.
#[derive(Debug, Clone)]
pub(super) struct Making {
    pub(super) surroundings: Arc<Surroundings>,
    pub(super) vms: Arc<Vms>,
}

impl Making {
    /// Record, act, confirm: the row first, then the disk, then the task. The VM as a whole is
    /// the caller's to confirm.
    pub(super) async fn make(
        &self,
        name: Option<&VmName>,
        spec: VmSpec,
        holder: Option<Holder>,
        progress: &SharedProgress,
    ) -> Result<(VmHandle, Act), Error> {
        let (record, intended) = self.insert(name, spec, holder)?;
        progress.report(Step {
            stage: "create",
            detail: format!("VM {}", record.name),
            done: 0,
            total: None,
        });
        // The task owns the row from here on: if this future is dropped, it removes both.
        let handle = self.spawn(record.clone());
        let unfinished = DeleteUnfinished(Some(handle.clone()));
        let (places, page) = (handle.view().places, self.page(record.id));
        let store = self.surroundings.store.clone();
        // The guard goes along: a deletion before the disk is made would miss it.
        let making = tokio::task::spawn_blocking(move || {
            let made = vm::make_disk(&places, record.spec.disk, page.journal())
                .and_then(|()| recovery::write_vm(&store, &places));
            (made, unfinished)
        });
        let (made, unfinished) = making.await.map_err(|_| Error::Ending)?;
        if let Err(error) = made {
            if let Err(left) = handle.delete(true).await {
                warn!(vm = %handle.name(), error = left.chain(), "cannot undo a creation");
            }
            return Err(error);
        }
        unfinished.disarm();
        if handle.view().record.state == VmState::Deleting {
            return Err(self.deleted_while_made(&handle).await);
        }
        Ok((handle, intended))
    }

    /// A deletion that came while the disk was being made may have missed it: what it left goes,
    /// too.
    async fn deleted_while_made(&self, handle: &VmHandle) -> Error {
        if let Err(left) = handle.delete(true).await {
            return left;
        }
        let places = handle.view().places;
        let page = self.page(places.id);
        let removed =
            tokio::task::spawn_blocking(move || vm::remove_disk(&places, page.journal())).await;
        let owner = Owner::Vm(handle.view().record.id);
        match removed {
            Ok(Ok(())) => match self.surroundings.store.strike_all(&owner) {
                Ok(()) => Error::NotFound {
                    kind: Kind::Vm,
                    target: handle.name().to_string(),
                },
                Err(left) => left.into(),
            },
            Ok(Err(left)) => left,
            Err(_) => Error::Ending,
        }
    }

    /// Takes a name; the intention is in the journal before.
    pub(super) fn insert(
        &self,
        name: Option<&VmName>,
        spec: VmSpec,
        holder: Option<Holder>,
    ) -> Result<(VmRecord, Act), Error> {
        let now = self.now();
        let mut record = VmRecord {
            id: VmId::random(),
            name: name.cloned().unwrap_or_else(|| self.free_name()),
            spec,
            holder,
            state: VmState::Created,
            choice: None,
            last_error: None,
            life: Life::default(),
            created_at: now,
            updated_at: now,
        };
        let page = self.page(record.id);
        loop {
            let act = Act::Vm(record.name.clone());
            page.journal().intend(&act)?;
            let inserted = self.surroundings.store.insert_vm(&record);
            if inserted.is_err() {
                page.journal().strike(&act)?;
            }
            match inserted {
                Ok(()) => return Ok((record, act)),
                // Somebody took the drawn name in between: draw again.
                Err(StoreError::VmTaken(_)) if name.is_none() => record.name = self.free_name(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn free_name(&self) -> VmName {
        let draw = |crowded| generated_name(random_bits(), crowded);
        let mut draws = (0..NAME_DRAWS).map(|_| draw(false));
        let free = draws.find(|name| self.refuse_taken(name).is_ok());
        free.unwrap_or_else(|| draw(true))
    }

    pub(super) fn refuse_taken(&self, name: &VmName) -> Result<(), Error> {
        if self.vms().values().any(|handle| handle.name() == *name) {
            return Err(StoreError::VmTaken(name.clone()).into());
        }
        Ok(())
    }

    pub(super) fn spawn(&self, record: VmRecord) -> VmHandle {
        let id = record.id;
        // A task holds no handle, its own least of all: it ends when the engine is dropped.
        let known = Arc::downgrade(&self.vms);
        let forget = move || {
            if let Some(vms) = known.upgrade() {
                lock(&vms).remove(&id);
            }
        };
        // Locked until the handle is in: a task that ends at once finds it to forget.
        let mut vms = self.vms();
        let handle = vm::spawn(record, self.surroundings.clone(), forget);
        vms.insert(id, handle.clone());
        handle
    }

    pub(super) fn page(&self, vm: VmId) -> Page {
        self.surroundings.ledger.page(Owner::Vm(vm))
    }

    pub(super) fn vms(&self) -> MutexGuard<'_, BTreeMap<VmId, VmHandle>> {
        lock(&self.vms)
    }

    /// All machines of a pool.
    pub(super) fn held_by(&self, pool: &PoolName) -> Vec<VmHandle> {
        let is_held = |vm: &&VmHandle| {
            let holder = vm.view().record.holder;
            holder.is_some_and(|holder| holder.pool() == Some(pool))
        };
        self.vms().values().filter(is_held).cloned().collect()
    }

    fn now(&self) -> Seconds {
        (self.surroundings.clock)()
    }
}

/// Deletes a VM whose making was cut short.
pub(super) struct DeleteUnfinished(pub(super) Option<VmHandle>);

impl DeleteUnfinished {
    pub(super) fn handle(&self) -> &VmHandle {
        let handle = self.0.as_ref();
        handle.expect("only disarming takes it, which ends the guard")
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }

    /// Deletes it now.
    pub(super) async fn delete(&self) {
        let Some(handle) = &self.0 else { return };
        if let Err(left) = handle.delete(true).await {
            warn!(vm = %handle.name(), error = left.chain(), "cannot undo a creation");
        }
    }
}

impl Drop for DeleteUnfinished {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.delete_behind();
        }
    }
}

fn random_bits() -> u32 {
    getrandom::u32().expect("the kernel's random source does not fail after boot")
}
