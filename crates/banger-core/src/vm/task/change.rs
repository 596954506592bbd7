//! What a VM is called and made of. Only rows change here: the next start makes it so.

use std::time::Duration;

use tokio::time::Instant;

use super::{Task, answer};
use crate::{
    error::Error,
    name::VmName,
    policy::{Admission, Verb, admit},
    record::VmState,
    recovery,
    spec::SpecChange,
    vm::{Reply, View},
};

impl Task {
    /// The store is what refuses a name that is taken.
    pub(super) fn rename(&self, name: VmName, reply: Reply<View>) {
        let result = self.may(Verb::Describe, "be renamed").and_then(|()| {
            let store = &self.surroundings.store;
            Ok(store.rename_vm(self.record().id, &name)?)
        });
        if result.is_ok() {
            self.views.send_modify(|view| view.record.name = name);
            self.renew_card();
        }
        answer(reply, result.map(|()| self.view()));
    }

    pub(super) async fn change(&mut self, change: &SpecChange, reply: Reply<View>) {
        let verb = change_verb(change);
        let result = match self.may(verb, "be changed") {
            Ok(()) => self.change_and_grow(change).await,
            Err(refused) => Err(refused),
        };
        answer(reply, result.map(|()| self.view()));
    }

    /// The row first: a disk that does not grow now does so at the next start.
    async fn change_and_grow(&mut self, change: &SpecChange) -> Result<(), Error> {
        let running = self.record().state == VmState::Running;
        let (Some(disk), true) = (change.disk, running) else {
            return self.write_spec(change);
        };
        let process = self.views.borrow().process.clone();
        let can = process.is_some_and(|process| process.vmm.grows_disks());
        let machine = self.machine.clone().filter(|_| can);
        let machine = machine.ok_or_else(|| self.refusal("be changed"))?;
        self.write_spec(change)?;
        machine.grow_disk(disk.bytes()).await?;
        let guest = self.views.borrow().guest.clone();
        if let Some(guest) = guest {
            guest.grow_disk(disk.bytes()).await?;
        }
        Ok(())
    }

    fn write_spec(&mut self, change: &SpecChange) -> Result<(), Error> {
        let record = self.record();
        let spec = change.apply(&record.spec)?;
        let now = (self.surroundings.clock)();
        self.surroundings.store.set_vm_spec(record.id, &spec, now)?;
        self.views.send_modify(|view| {
            view.record.spec = spec;
            view.record.updated_at = now;
        });
        self.expiry = self.deadline();
        self.renew_card();
        Ok(())
    }

    /// The store has it already: without a new card an old one is the worst that is left.
    pub(super) fn renew_card(&self) {
        let places = self.views.borrow().places.clone();
        if let Err(error) = recovery::write_vm(&self.surroundings.store, &places) {
            tracing::warn!(vm = %self.record().name, error = error.chain(), "cannot renew a card");
        }
    }

    /// When a VM with a time to go is to be deleted. A clock that was set meanwhile is looked at anew
    /// by each daemon.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let expires = self.views.borrow().record.spec.expires_at?;
        let left = expires.saturating_sub((self.surroundings.clock)());
        Instant::now().checked_add(Duration::from_secs(left))
    }

    fn may(&self, verb: Verb, refused: &'static str) -> Result<(), Error> {
        match admit(self.record().state, verb) {
            Admission::Refuse | Admission::Interrupt => Err(self.refusal(refused)),
            Admission::Proceed | Admission::Done | Admission::Wait => Ok(()),
        }
    }
}

/// Labels and a time to go may change while the machine runs.
pub(super) fn change_verb(change: &SpecChange) -> Verb {
    if change.is_growth() {
        Verb::Grow
    } else if change.is_of_the_machine() {
        Verb::Change
    } else {
        Verb::Describe
    }
}
