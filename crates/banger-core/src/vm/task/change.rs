//! What a VM is called and made of. Rows change here, and the disk of a machine that runs: of the rest,
//! the next start makes it so.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::{Task, answer};
use crate::{
    error::Error,
    host::{Guest, Machine},
    journal::{Act, Passing},
    name::VmName,
    policy::{Admission, Verb, admit},
    recovery,
    spec::SpecChange,
    upkeep,
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

    /// The row first: what a VMM that runs does not follow now, its next start does.
    async fn change_and_grow(&mut self, change: &SpecChange) -> Result<(), Error> {
        let process = self.views.borrow().process.clone();
        let Some(process) = process else {
            return self.write_spec(change);
        };
        if change.is_of_its_build() && process.built.is_none() {
            // Nobody could tell any more what the machine has.
            return Err(self.refusal("be changed"));
        }
        let Some(disk) = change.disk else {
            return self.write_spec(change);
        };
        let can = process.vmm.grows_disks();
        let machine = self.machine.clone().filter(|_| can);
        let machine = machine.ok_or_else(|| self.refusal("be changed"))?;
        let _growing = Passing::begin(self.page(), self.growth())?;
        self.write_spec(change)?;
        machine.grow_disk(disk.bytes()).await?;
        let guest = self.views.borrow().guest.clone();
        if let Some(guest) = guest {
            guest.grow_disk(disk.bytes()).await?;
        }
        Ok(())
    }

    fn growth(&self) -> Act {
        Act::Growth(self.views.borrow().places.disk())
    }

    /// Goes on with a growth that an earlier daemon was at. The guest takes the room when it is reached.
    pub(super) async fn go_on_growing(&mut self, machine: &dyn Machine) -> Result<(), Error> {
        machine.grow_disk(self.record().spec.disk.bytes()).await?;
        Ok(self.page().journal().confirm(&self.growth())?)
    }

    /// Has a guest take the room that its disk was given while nobody could reach it.
    pub(super) fn offer_room(&self, guest: &Arc<dyn Guest>) {
        let (page, growth, record) = (self.page(), self.growth(), self.record());
        let grown = page
            .rows()
            .map(|rows| rows.iter().any(|row| row.act == growth));
        if !grown.unwrap_or_default() {
            return;
        }
        let guest = guest.clone();
        tokio::spawn(async move {
            if let Err(error) = guest.grow_disk(record.spec.disk.bytes()).await {
                warn!(vm = %record.name, %error, "a guest does not take its disk's room");
            }
            // What it did not take now, it takes when it boots.
            if let Err(error) = page.journal().strike(&growth) {
                warn!(vm = %record.name, %error, "a growth stays in the journal");
            }
        });
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
            warn!(vm = %self.record().name, error = error.chain(), "cannot renew a card");
        }
    }

    /// When a VM with a time to go is to be deleted. The clock that counts from here on cannot be set;
    /// what it was set to meanwhile is looked at anew by each daemon.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let view = self.views.borrow();
        let record = &view.record;
        let now = (self.surroundings.clock)();
        let left = upkeep::time_left(record.spec.expires_at?, record.updated_at, now);
        Instant::now().checked_add(left)
    }

    fn may(&self, verb: Verb, refused: &'static str) -> Result<(), Error> {
        match admit(self.record().state, verb) {
            Admission::Refuse | Admission::Interrupt => Err(self.refusal(refused)),
            Admission::Proceed | Admission::Done | Admission::Wait => Ok(()),
        }
    }
}

/// A disk grows under a guest that runs; the rest of a machine changes with its next start.
pub(super) fn change_verb(change: &SpecChange) -> Verb {
    if change.disk.is_some() {
        Verb::Grow
    } else if change.is_of_its_build() {
        Verb::Change
    } else {
        Verb::Describe
    }
}
