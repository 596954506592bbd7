//! A machine that waited becomes somebody's: a name, wishes and an identity in place of the holder's.
//! Whoever asked deletes it where that fails.

use std::time::{Instant, SystemTime};

use super::{
    Task, answer,
    start::{Greeting, start_error},
};
use crate::{
    error::Error,
    host::Identity,
    policy::{Admission, Verb, admit},
    record::{VmRecord, VmState},
    vm::{Claim, Reply, Timeline, View},
};

impl Task {
    pub(super) async fn take(&mut self, claim: Claim, mut reply: Reply<View>) {
        if reply.is_closed() {
            return;
        }
        let record = self.record();
        if record.holder.is_none() || admit(record.state, Verb::Take) != Admission::Proceed {
            return answer(reply, Err(self.refusal("be taken")));
        }
        let taken = self.become_theirs(record, claim, &mut reply).await;
        answer(reply, taken.map(|()| self.view()));
    }

    /// From the row on it is theirs, running or not.
    async fn become_theirs(
        &mut self,
        mut record: VmRecord,
        claim: Claim,
        reply: &mut Reply<View>,
    ) -> Result<(), Error> {
        let machine = self.live_machine("be taken")?;
        let now = (self.surroundings.clock)();
        let timeline = Timeline::begin(Instant::now(), SystemTime::now());
        record.spec = claim.dress(&record.spec);
        record.name = claim.name;
        let store = &self.surroundings.store;
        store.take_vm(record.id, &record.name, &record.spec, now)?;
        record.holder = None;
        record.state = VmState::Starting;
        record.last_error = None;
        (record.created_at, record.updated_at) = (now, now);
        self.connecting = None;
        self.views.send_modify(|view| {
            view.record = record.clone();
            view.timeline = Some(Box::new(timeline));
        });
        self.expiry = self.deadline();
        self.is_wanted();
        let identity = Identity {
            id: record.id,
            name: record.name.clone(),
            same: false,
        };
        if let Err(error) = machine.resume().await {
            return Err(start_error(&record, self.boot_failed(error.into()).await));
        }
        self.reach(machine, &record, Greeting::As(identity), reply)
            .await
            .map_err(|source| start_error(&record, source))?;
        self.renew_card();
        Ok(())
    }
}
