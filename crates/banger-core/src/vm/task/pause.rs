//! A VM that stands still and goes on. While the row says that it is paused, it may in truth run
//! still, or again: resuming it is right in each case.

use super::{Task, answer};
use crate::{
    error::Error,
    host::{Halt, Machine},
    policy::{Admission, Verb, admit},
    record::VmState,
    vm::{Reply, View},
};
use std::{sync::Arc, time::Duration};
use tracing::warn;

/// How long a guest that goes on may take to hear what time it is.
const TELLING: Duration = Duration::from_secs(1);

impl Task {
    pub(super) async fn pause(&mut self, reply: Reply<View>) {
        let result = match admit(self.record().state, Verb::Pause) {
            Admission::Done => Ok(()),
            Admission::Refuse | Admission::Interrupt => Err(self.refusal("be paused")),
            Admission::Proceed | Admission::Wait => self.pause_running().await,
        };
        answer(reply, result.map(|()| self.view()));
    }

    /// The intention is in the store before the guest stands still.
    async fn pause_running(&mut self) -> Result<(), Error> {
        let machine = self.live_machine("be paused")?;
        self.write_state(VmState::Paused, None)?;
        // Nobody in the guest could answer now.
        self.connecting = None;
        if let Err(error) = machine.pause().await {
            self.note_state(VmState::Running, None);
            self.reconnect_if_needed();
            return Err(error.into());
        }
        Ok(())
    }

    /// The VMM has stopped the guest: it stands still until somebody has made room.
    pub(super) fn is_halted(&mut self, halt: Halt) {
        let record = self.record();
        warn!(vm = %record.name, ?halt, "the VMM has stopped the guest");
        match record.state {
            VmState::Running | VmState::Paused => {
                self.connecting = None;
                self.note_state(VmState::Paused, Some(halt.why().to_owned()));
            }
            // Whoever acts on it now says what becomes of it.
            VmState::Created
            | VmState::Starting
            | VmState::Stopping
            | VmState::Deleting
            | VmState::Stopped
            | VmState::Error => {}
        }
    }

    pub(super) async fn go_on(&mut self, reply: Reply<View>) {
        let result = match admit(self.record().state, Verb::Resume) {
            Admission::Done => Ok(()),
            Admission::Refuse | Admission::Interrupt => Err(self.refusal("be resumed")),
            Admission::Proceed | Admission::Wait => self.go_on_paused().await,
        };
        answer(reply, result.map(|()| self.view()));
    }

    async fn go_on_paused(&mut self) -> Result<(), Error> {
        self.live_machine("be resumed")?.resume().await?;
        self.confirm_state(VmState::Running, None)?;
        self.reconnect_if_needed();
        self.tell_time().await;
        Ok(())
    }

    /// A guest's clock does not notice that it stood still. One that does not listen may have the
    /// wrong time, but holds nobody up.
    pub(super) async fn tell_time(&mut self) {
        let guest = self.views.borrow().guest.clone();
        let Some(guest) = guest else { return };
        match tokio::time::timeout(TELLING, guest.tell_time()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(vm = %self.record().name, %error, "cannot set a clock");
            }
            Err(_) => tracing::warn!(vm = %self.record().name, "a guest does not take the time"),
        }
    }

    /// A guest that stands still cannot be asked to end.
    pub(super) async fn resume_to_end(&mut self) {
        let machine = self.machine.clone();
        if let (VmState::Paused, Some(machine)) = (self.record().state, machine)
            && let Err(error) = machine.resume().await
        {
            warn!(vm = %self.record().name, %error, "cannot resume a VM for its stop");
        }
    }

    pub(super) fn reconnect_if_needed(&mut self) {
        let lost = self.views.borrow().guest.is_none();
        if lost {
            self.reconnect(Duration::ZERO);
        }
    }

    pub(super) fn live_machine(&self, verb: &'static str) -> Result<Arc<dyn Machine>, Error> {
        self.machine.clone().ok_or_else(|| self.refusal(verb))
    }
}
