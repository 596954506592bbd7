//! What a VM is called and made of. Only rows change here: the next start makes it so.

use super::{Task, answer};
use crate::{
    error::Error,
    name::VmName,
    policy::{Admission, Verb, admit},
    spec::SpecChange,
    vm::{Reply, View},
};

impl Task {
    /// The store is what refuses a name that is taken.
    pub(super) fn rename(&self, name: VmName, reply: Reply<View>) {
        let result = self.may(Verb::Rename, "be renamed").and_then(|()| {
            let store = &self.surroundings.store;
            Ok(store.rename_vm(self.record().id, &name)?)
        });
        if result.is_ok() {
            self.views.send_modify(|view| view.record.name = name);
        }
        answer(reply, result.map(|()| self.view()));
    }

    pub(super) fn change(&self, change: &SpecChange, reply: Reply<View>) {
        let result = self.may(Verb::Change, "be changed");
        let result = result.and_then(|()| self.write_spec(change));
        answer(reply, result.map(|()| self.view()));
    }

    fn write_spec(&self, change: &SpecChange) -> Result<(), Error> {
        let record = self.record();
        let spec = change.apply(&record.spec)?;
        let now = (self.surroundings.clock)();
        self.surroundings.store.set_vm_spec(record.id, &spec, now)?;
        self.views.send_modify(|view| {
            view.record.spec = spec;
            view.record.updated_at = now;
        });
        Ok(())
    }

    fn may(&self, verb: Verb, refused: &'static str) -> Result<(), Error> {
        match admit(self.record().state, verb) {
            Admission::Refuse | Admission::Interrupt => Err(self.refusal(refused)),
            Admission::Proceed | Admission::Done | Admission::Wait => Ok(()),
        }
    }
}
