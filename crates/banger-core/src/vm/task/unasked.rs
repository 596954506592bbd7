//! What happens to a VM without a command: a daemon comes back, a VMM dies, a connection breaks,
//! an owner stays away.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tracing::{info, warn};

use super::{Connecting, RECONNECT_PAUSE, Task, start::Greeting};
use crate::{
    error::Error,
    host::{Guest, Identity, VmmExit},
    host_error::{GuestError, HostError},
    journal::{Act, Owner},
    record::{VmRecord, VmState},
    store::JournalRow,
    vm::disks,
};

/// How long one try to reconnect may take.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(30);

impl Task {
    /// Takes up what an earlier daemon left: a live VMM, or an act in progress.
    pub(super) async fn adopt(&mut self) -> ControlFlow<()> {
        let owner = Owner::Vm(self.record().id);
        let taken_up = self.find_what_was_left().await;
        if !self.unsure && taken_up.is_continue() {
            self.settle(&owner).await;
        }
        self.surroundings.ledger.settle(&owner);
        self.show_looked_for();
        taken_up
    }

    /// Finishes or undoes what the journal has of this VM that was left half-done.
    async fn settle(&mut self, owner: &Owner) {
        let mut halves = self.surroundings.ledger.halves_of(owner);
        if halves.is_empty() {
            return;
        }
        let Some(machine) = self.machine.clone() else {
            let places = self.views.borrow().places.clone();
            let page = self.page();
            let swept = self.surroundings.host.sweep(&places, page.journal());
            if let Err(error) = swept.await {
                warn!(vm = %self.record().name, %error, "cannot sweep after the VMM");
            }
            // A disk that was growing grows at the next start.
            halves.retain(|half| half.act.is_passing());
            return self.judge(&halves);
        };
        let is_growth = |half: &JournalRow| matches!(half.act, Act::Growth(_));
        if halves.iter().any(is_growth)
            && let Err(error) = self.go_on_growing(machine.as_ref()).await
        {
            let (vm, error) = (self.record().name, error.chain());
            warn!(%vm, error, "cannot go on growing a disk");
        }
        halves.retain(|half| !is_growth(half));
        self.judge(&halves);
    }

    fn judge(&self, halves: &[JournalRow]) {
        for half in halves {
            if let Err(error) = self.page().judge(&half.act) {
                warn!(%error, "cannot settle a half-done act");
            }
        }
    }

    async fn find_what_was_left(&mut self) -> ControlFlow<()> {
        let record = self.record();
        if record.state == VmState::Created {
            return ControlFlow::Continue(());
        }
        disks::remove_partial(&self.view().places);
        if !record.state.may_have_a_vmm() {
            self.await_owner();
            return ControlFlow::Continue(());
        }
        if let Err(error) = self.look_for_machine().await {
            self.leave_alone(&record, error);
            return ControlFlow::Continue(());
        }
        match (record.state, self.machine.is_some()) {
            (VmState::Deleting, _) => {
                self.show_looked_for();
                return self.delete_quietly().await;
            }
            (VmState::Stopping, true) => {
                self.show_looked_for();
                let patience = self.surroundings.patience.stop;
                if let Err(error) = self.stop_running(patience, None).await {
                    warn!(vm = %record.name, error = error.chain(), "cannot go on with a stop");
                }
            }
            (VmState::Error, false) => {}
            // It is reached when it goes on.
            (VmState::Paused, true) => self.note_state(VmState::Paused, None),
            (VmState::Starting, true) if self.is_a_copy() => {
                self.show_looked_for();
                self.name_copy(&record).await;
            }
            (_, true) => {
                self.let_go_on().await;
                self.resume();
            }
            (_, false) => {
                self.end_machine_or_warn().await;
                let gone = "its VMM was gone when the daemon came back".to_owned();
                self.note_state(VmState::Stopped, Some(gone));
            }
        }
        self.await_owner();
        ControlFlow::Continue(())
    }

    fn is_a_copy(&self) -> bool {
        let machine = self.machine.as_ref();
        machine.is_some_and(|machine| machine.process().copy)
    }

    /// The earlier daemon may not have told the guest that it is somebody now. No command runs in it
    /// before it knows.
    async fn name_copy(&mut self, record: &VmRecord) {
        let Some(machine) = self.machine.clone() else {
            return;
        };
        // It may not have been let go yet.
        if let Err(error) = machine.resume().await {
            warn!(vm = %record.name, %error, "cannot let a copy go on");
        }
        let greeting = Greeting::As(Identity {
            id: record.id,
            name: record.name.clone(),
            same: false,
        });
        // Nobody waits, so nobody goes away.
        let (mut reply, _waiting) = oneshot::channel();
        if let Err(error) = self.reach(machine, record, greeting, &mut reply).await {
            warn!(vm = %record.name, error = error.chain(), "cannot tell a copy who it is");
        }
    }

    pub(super) async fn look_for_machine(&mut self) -> Result<(), HostError> {
        let places = self.views.borrow().places.clone();
        self.unsure = true;
        let found = {
            let page = self.page();
            self.surroundings
                .host
                .adopt(&places, page.journal())
                .await?
        };
        self.unsure = false;
        if let Some(machine) = found {
            let (pid, name) = (machine.process().pid, self.record().name);
            info!(vm = %name, pid, "adopted a running VM");
            self.surroundings.ledger.adopted(name);
            self.views
                .send_modify(|view| view.process = Some(Arc::new(machine.process())));
            self.machine = Some(machine);
        }
        Ok(())
    }

    /// Looks once more where the host could not say whether a VMM runs.
    pub(super) async fn look_again(&mut self) -> Result<(), HostError> {
        if self.unsure {
            self.look_for_machine().await?;
            if self.machine.is_some() {
                self.resume();
            }
        }
        Ok(())
    }

    fn show_looked_for(&self) {
        self.views.send_modify(|view| view.looked_for = true);
    }

    /// Nobody knows whether the VMM runs, so nothing of it is touched.
    pub(super) fn leave_alone(&self, record: &VmRecord, error: HostError) {
        let error = Error::from(error).chain();
        warn!(vm = %record.name, error, "cannot look for a running VMM");
        let state = match record.state {
            VmState::Deleting => VmState::Deleting,
            VmState::Created
            | VmState::Starting
            | VmState::Running
            | VmState::Paused
            | VmState::Stopping
            | VmState::Stopped
            | VmState::Error => VmState::Error,
        };
        self.note_state(
            state,
            Some(format!("cannot tell whether its VMM still runs: {error}")),
        );
    }

    /// An earlier daemon may have ended while it saved this machine, which stands still then. One
    /// that runs goes on running.
    async fn let_go_on(&mut self) {
        if let (VmState::Running, Some(machine)) = (self.record().state, &self.machine)
            && let Err(error) = machine.resume().await
        {
            warn!(vm = %self.record().name, %error, "cannot let an adopted VM go on");
        }
    }

    pub(super) fn resume(&mut self) {
        self.note_state(VmState::Running, None);
        self.reconnect(Duration::ZERO);
    }

    /// A VM that lives only for a session goes away if none comes from now on.
    pub(super) fn await_owner(&mut self) {
        if self.record().spec.auto_remove {
            self.owner_deadline = Some(Instant::now() + self.surroundings.patience.owner);
        }
    }

    pub(super) fn reconnect(&mut self, pause: Duration) {
        self.views.send_modify(|view| view.guest = None);
        self.connecting = self.machine.clone().map(|machine| -> Connecting {
            Box::pin(async move {
                tokio::time::sleep(pause).await;
                machine.connect(RECONNECT_PATIENCE, None).await
            })
        });
    }

    /// Nobody in a guest that stands still could answer; it is reached when it goes on.
    pub(super) fn on_disconnected(&mut self) {
        match self.record().state {
            VmState::Paused => self.views.send_modify(|view| view.guest = None),
            VmState::Created
            | VmState::Starting
            | VmState::Running
            | VmState::Stopping
            | VmState::Deleting
            | VmState::Stopped
            | VmState::Error => self.reconnect(RECONNECT_PAUSE),
        }
    }

    pub(super) fn on_connected(&mut self, result: Result<Arc<dyn Guest>, GuestError>) {
        self.connecting = None;
        match result {
            Ok(guest) => {
                self.offer_room(&guest);
                self.set_guest(guest);
            }
            Err(error) => {
                warn!(vm = %self.record().name, %error, "cannot reach the agent; trying again");
                self.reconnect(RECONNECT_PAUSE);
            }
        }
    }

    /// The guest powered itself off, or its VMM died.
    pub(super) async fn on_exit(&mut self, exit: &VmmExit) {
        info!(vm = %self.record().name, status = exit.status, "the VMM ended by itself");
        self.machine = None;
        self.end_machine_or_warn().await;
        // Before its end is shown: who waits for it to run sees whether it comes back.
        self.ended_by_itself(exit.clean);
        if exit.clean {
            self.note_state(VmState::Stopped, None);
        } else {
            let why = format!("the VMM ended unexpectedly: {}", exit.status);
            self.note_state(VmState::Error, Some(why));
        }
        self.await_owner();
    }

    pub(super) fn set_guest(&self, guest: Arc<dyn Guest>) {
        self.views.send_modify(|view| {
            view.agent = Some(Arc::new(guest.info()));
            view.guest = Some(guest);
        });
    }
}
