//! A VM that goes on from a saved machine: its own from before, or another's. Everything is checked
//! before anything of the VM is touched.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use banger_image::progress::SharedProgress;
use tracing::warn;

use super::{
    Task, answer,
    start::{Greeting, start_error},
};
use crate::{
    error::Error,
    host::{Identity, LaunchPlan, Machine, VmmChoice},
    policy::{Admission, Verb, admit},
    record::{VmRecord, VmState},
    recovery,
    snapshot::Restoration,
    vm::{Reply, Surroundings, Timeline, View, boot, disks},
};

impl Task {
    pub(super) async fn restore(
        &mut self,
        from: Restoration,
        progress: &SharedProgress,
        mut reply: Reply<View>,
    ) {
        if reply.is_closed() {
            return;
        }
        if let Err(error) = self.look_again().await {
            return answer(reply, Err(error.into()));
        }
        match admit(self.record().state, Verb::Restore) {
            Admission::Refuse | Admission::Interrupt => {
                return answer(reply, Err(self.refusal("go back to a snapshot")));
            }
            Admission::Proceed | Admission::Done | Admission::Wait => {}
        }
        let mut record = self.record();
        record.spec = from.machine.thaw(&record.spec);
        let (plan, choice) = match boot::prepare_restore(&self.surroundings, &record, &from).await {
            Ok(prepared) => prepared,
            Err(error) => return answer(reply, Err(error)),
        };
        if let Err(error) = self.copy_disk(&from, &plan).await {
            return answer(reply, Err(error));
        }
        if reply.is_closed() {
            // It is what it was, and nobody wants it to be anything else.
            return disks::remove_partial(&plan.places);
        }
        boot::report_restore(&plan, progress);
        self.is_wanted();
        let same = from.origin_id == record.id;
        let result = self
            .go_on_from(&record, &plan, &choice, same, &mut reply)
            .await;
        let result = result
            .map(|()| self.view())
            .map_err(|source| start_error(&record, source));
        if let Err(error) = &result {
            warn!(vm = %record.name, error = error.chain(), "cannot go on from a snapshot");
        }
        answer(reply, result);
    }

    pub(super) async fn go_on_from(
        &mut self,
        record: &VmRecord,
        plan: &LaunchPlan,
        choice: &VmmChoice,
        same: bool,
        reply: &mut Reply<View>,
    ) -> Result<(), Error> {
        let timeline = Timeline::begin(Instant::now(), SystemTime::now());
        self.views
            .send_modify(|view| view.timeline = Some(Box::new(timeline)));
        let machine = match self.put_back(record, plan, choice).await {
            Ok(machine) => machine,
            Err(error) => return Err(self.boot_failed(error).await),
        };
        let greeting = match record.holder {
            Some(_) => Greeting::Later,
            None => Greeting::As(Identity {
                id: record.id,
                name: record.name.clone(),
                same,
            }),
        };
        self.reach(machine, record, greeting, reply).await
    }

    /// The disk is copied beside the old one; then the old machine ends, the copy takes its disk's
    /// place, and the saved machine is started. A daemon that ends in between leaves a VM that does
    /// not run, with one disk or the other, or one that was never made.
    async fn put_back(
        &mut self,
        record: &VmRecord,
        plan: &LaunchPlan,
        choice: &VmmChoice,
    ) -> Result<Arc<dyn Machine>, Error> {
        if self.machine.is_some() {
            self.note_start(record, choice)?;
            self.show_state(VmState::Starting, None);
            self.end_machine().await?;
            disks::put_in_place(&plan.places)?;
        } else {
            let [_, disk] = disks::acts(&plan.places);
            let page = self.page();
            page.journal()
                .act(&disk, || disks::put_in_place(&plan.places))?;
            self.note_start(record, choice)?;
            self.show_state(VmState::Starting, None);
        }
        let Surroundings { store, clock, .. } = self.surroundings.as_ref();
        if self.views.borrow().record.spec != record.spec {
            store.set_vm_spec(record.id, &record.spec, clock())?;
        }
        recovery::write_missing(store, &plan.places);
        self.views
            .send_modify(|view| view.record.spec = record.spec.clone());
        self.launch_prepared(plan).await
    }

    /// Nothing of the VM is touched yet.
    pub(super) async fn copy_disk(
        &mut self,
        from: &Restoration,
        plan: &LaunchPlan,
    ) -> Result<(), Error> {
        let [directory, _] = disks::acts(&plan.places);
        let page = self.page();
        page.journal()
            .act(&directory, || disks::private_directory(&plan.places.state))?;
        let partial = disks::partial(&plan.places);
        let host = &self.surroundings.host;
        let copied = host.copy_sparse(&from.files.disk(), &partial).await;
        if copied.is_err() {
            disks::remove_partial(&plan.places);
        }
        copied?;
        Ok(())
    }
}
