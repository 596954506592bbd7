//! A VM's start: from the request to a connected agent, and what may end it early. Knows the
//! order; each step is the host's or the store's.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use banger_image::progress::SharedProgress;
use tracing::warn;

use super::{Interruption, Task, answer, change::change_verb, fast::Way, maybe};
use crate::{
    boots::BootKey,
    error::Error,
    host::{BootMarks, Guest, Identity, LaunchPlan, Machine, VmmChoice},
    host_error::GuestError,
    policy::{Admission, Verb, admit},
    record::{VmRecord, VmState},
    vm::{Command, Reply, Surroundings, Timeline, View, boot},
};

/// What is said to an agent that answers.
pub(super) enum Greeting {
    Plain,
    /// Its guest is somebody's copy, and is to be somebody itself.
    As(Identity),
    /// Its guest is somebody's copy, and is told who it is when it is taken.
    Later,
}

impl Task {
    pub(super) async fn start(
        &mut self,
        cold: bool,
        progress: &SharedProgress,
        mut reply: Reply<View>,
    ) {
        if reply.is_closed() {
            // Whoever asked went away while this command waited.
            return;
        }
        if let Err(error) = self.look_again().await {
            return answer(reply, Err(start_error(&self.record(), error.into())));
        }
        let record = self.record();
        match admit(record.state, Verb::Start) {
            Admission::Done => return answer(reply, Ok(self.view())),
            Admission::Refuse => {
                return answer(reply, Err(self.refusal("start")));
            }
            Admission::Proceed | Admission::Wait | Admission::Interrupt => {}
        }
        self.is_wanted();
        let result = self.boot(&record, cold, progress, &mut reply).await;
        let result = result
            .map(|()| self.view())
            .map_err(|source| start_error(&record, source));
        if let Err(error) = &result {
            warn!(vm = %record.name, error = error.chain(), "start failed");
        }
        answer(reply, result);
    }

    pub(super) async fn boot(
        &mut self,
        record: &VmRecord,
        cold: bool,
        progress: &SharedProgress,
        reply: &mut Reply<View>,
    ) -> Result<(), Error> {
        let timeline = Timeline::begin(Instant::now(), SystemTime::now());
        self.views
            .send_modify(|view| view.timeline = Some(Box::new(timeline)));
        self.show_state(VmState::Starting, None);
        let (mut plan, choice) = match boot::prepare(&self.surroundings, record).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.boot_failed(error).await),
        };
        plan.yields = self.surroundings.boots.yields(record.id);
        let order = match self.way(record, &plan, &choice, cold).await {
            Way::Boot => None,
            Way::BootAndOrder(key) => Some(key),
            Way::GoOn(key, from) => {
                plan.resume_from = Some(from.files.clone());
                match self.copy_disk(&from, &plan).await {
                    Ok(()) => {
                        boot::report_restore(&plan, progress);
                        let went_on = self.go_on_from(record, &plan, &choice, false, reply).await;
                        match went_on {
                            Ok(()) => return Ok(()),
                            Err(error @ Error::Interrupted { .. }) => return Err(error),
                            Err(error) => self.boot_instead(&key, &error),
                        }
                    }
                    Err(error) => self.boot_instead(&key, &error),
                }
                plan.resume_from = None;
                None
            }
        };
        let machine = match self.launch(record, &plan, &choice, progress).await {
            Ok(machine) => machine,
            Err(error) => return Err(self.boot_failed(error).await),
        };
        self.reach(machine, record, Greeting::Plain, reply).await?;
        if let Some(key) = order {
            self.order_boot(key);
        }
        Ok(())
    }

    /// A saved boot that does not go on must not keep a VM from starting, this one or the next.
    fn boot_instead(&self, key: &BootKey, error: &Error) {
        let (vm, error) = (self.record().name, error.chain());
        warn!(%vm, error, "a saved boot does not go on; booting instead");
        self.surroundings.boots.forget(key);
        self.show_state(VmState::Starting, None);
    }

    /// Waits for the agent of a machine that was started, and tells it who it is where it may be
    /// somebody's copy. The VM runs only then.
    pub(super) async fn reach(
        &mut self,
        machine: Arc<dyn Machine>,
        record: &VmRecord,
        how: Greeting,
        reply: &mut Reply<View>,
    ) -> Result<(), Error> {
        let patience = self.surroundings.patience.boot;
        // One that stood still may have kept its connection.
        let known = self.views.borrow().guest.clone();
        let greeting = async {
            let identity = match &how {
                Greeting::As(identity) => Some(identity),
                Greeting::Plain | Greeting::Later => None,
            };
            if let (Some(guest), Some(identity)) = (known, identity)
                && guest.assume(identity).await.is_ok()
            {
                return Ok(guest);
            }
            let guest = machine.connect(patience, identity).await?;
            if let Some(identity) = identity {
                guest.assume(identity).await?;
            }
            Ok(guest)
        };
        let connected: Result<Arc<dyn Guest>, GuestError> = tokio::select! {
            connected = greeting => connected,
            interruption = self.interruption(Some(reply)) => {
                return Err(self.boot_interrupted(interruption, record).await);
            }
        };
        match connected {
            Ok(guest) => {
                // A copy's marks are those of its origin's boot.
                let marks = match how {
                    Greeting::As(_) | Greeting::Later => BootMarks::default(),
                    Greeting::Plain => guest.info().marks,
                };
                self.mark(|timeline| timeline.connected(Instant::now(), marks));
                self.set_guest(guest);
                if let Err(error) = self.write_state(VmState::Running, None) {
                    return Err(self.boot_failed(error).await);
                }
                self.runs();
                self.await_owner();
                Ok(())
            }
            Err(error) => Err(self.boot_failed(error.into()).await),
        }
    }

    /// Starts the VMM. The intention is in the store before the process exists.
    pub(super) async fn launch(
        &mut self,
        record: &VmRecord,
        plan: &LaunchPlan,
        choice: &VmmChoice,
        progress: &SharedProgress,
    ) -> Result<Arc<dyn Machine>, Error> {
        self.note_start(record, choice)?;
        boot::report(plan, progress);
        self.launch_prepared(plan).await
    }

    pub(super) fn note_start(&self, record: &VmRecord, choice: &VmmChoice) -> Result<(), Error> {
        let Surroundings { store, clock, .. } = self.surroundings.as_ref();
        store.set_vm_starting(record.id, choice, clock())?;
        self.views
            .send_modify(|view| view.record.choice = Some(choice.clone()));
        Ok(())
    }

    pub(super) async fn launch_prepared(
        &mut self,
        plan: &LaunchPlan,
    ) -> Result<Arc<dyn Machine>, Error> {
        let host = self.surroundings.host.clone();
        let machine = host.launch(plan, self.page().journal()).await?;
        self.mark(|timeline| timeline.vmm_started(Instant::now()));
        self.views
            .send_modify(|view| view.process = Some(Arc::new(machine.process())));
        self.machine = Some(machine.clone());
        Ok(machine)
    }

    pub(super) async fn boot_failed(&mut self, error: Error) -> Error {
        self.end_machine_or_warn().await;
        self.note_state(VmState::Error, Some(error.chain()));
        error
    }

    pub(super) async fn boot_interrupted(
        &mut self,
        interruption: Interruption,
        vm: &VmRecord,
    ) -> Error {
        self.end_machine_or_warn().await;
        let by = match interruption {
            Interruption::Abandoned => "its client, which went away",
            Interruption::Command(command) => {
                let by = "a stop, a kill or a deletion";
                self.give_up_starts(vm, by);
                self.postponed.push_front(*command);
                by
            }
        };
        self.note_state(VmState::Stopped, None);
        Error::Interrupted {
            vm: vm.name.clone(),
            by,
        }
    }

    /// A stop or a deletion also ends the starts that were asked for before it: served after
    /// it, they would undo it.
    pub(super) fn give_up_starts(&mut self, vm: &VmRecord, by: &'static str) {
        for command in std::mem::take(&mut self.postponed) {
            match command {
                Command::Start { reply, .. }
                | Command::Restore { reply, .. }
                | Command::Take { reply, .. } => {
                    let interrupted = Error::Interrupted {
                        vm: vm.name.clone(),
                        by,
                    };
                    answer(reply, Err(start_error(vm, interrupted)));
                }
                Command::Stop { .. }
                | Command::Save { .. }
                | Command::Kill { .. }
                | Command::Rename { .. }
                | Command::Change { .. }
                | Command::Pause { .. }
                | Command::Resume { .. }
                | Command::Delete { .. }
                | Command::OwnerCame
                | Command::OwnerWent
                | Command::Touched
                | Command::FirstExec(_) => self.postponed.push_back(command),
            }
        }
    }

    /// Waits for what may end the act in progress; keeps every other command for later.
    pub(super) async fn interruption(
        &mut self,
        mut reply: Option<&mut Reply<View>>,
    ) -> Interruption {
        loop {
            let command = tokio::select! {
                command = self.queue.recv() => command,
                () = maybe(reply.as_mut().map(|reply| Box::pin(reply.closed()))) => {
                    return Interruption::Abandoned;
                }
            };
            let Some(command) = command.map(|command| *command) else {
                std::future::pending().await
            };
            let verb = match &command {
                Command::Start { .. } => Some(Verb::Start),
                Command::Stop { .. } => Some(Verb::Stop),
                Command::Kill { .. } => Some(Verb::Kill),
                Command::Rename { .. } => Some(Verb::Describe),
                Command::Change { change, .. } => Some(change_verb(change)),
                Command::Pause { .. } => Some(Verb::Pause),
                Command::Resume { .. } => Some(Verb::Resume),
                Command::Save { .. } => Some(Verb::Save),
                Command::Restore { .. } => Some(Verb::Restore),
                Command::Take { .. } => Some(Verb::Take),
                Command::Delete { force, .. } => Some(Verb::Delete { force: *force }),
                Command::OwnerCame
                | Command::OwnerWent
                | Command::Touched
                | Command::FirstExec(_) => None,
            };
            let state = self.views.borrow().record.state;
            match verb.map(|verb| admit(state, verb)) {
                Some(Admission::Interrupt) => return Interruption::Command(Box::new(command)),
                Some(Admission::Refuse) => self.refuse(command),
                Some(Admission::Proceed | Admission::Done | Admission::Wait) | None => {
                    self.postponed.push_back(command);
                }
            }
        }
    }

    pub(super) fn refuse(&self, command: Command) {
        match command {
            Command::Start { reply, .. } => answer(reply, Err(self.refusal("start"))),
            Command::Stop { reply, .. } => answer(reply, Err(self.refusal("stop"))),
            Command::Kill { reply } => answer(reply, Err(self.refusal("be killed"))),
            Command::Rename { reply, .. } => answer(reply, Err(self.refusal("be renamed"))),
            Command::Change { reply, .. } => answer(reply, Err(self.refusal("be changed"))),
            Command::Pause { reply } => answer(reply, Err(self.refusal("be paused"))),
            Command::Resume { reply } => answer(reply, Err(self.refusal("be resumed"))),
            Command::Save { reply, .. } => answer(reply, Err(self.refusal("be saved"))),
            Command::Restore { reply, .. } => {
                answer(reply, Err(self.refusal("go back to a snapshot")));
            }
            Command::Take { reply, .. } => answer(reply, Err(self.refusal("be taken"))),
            Command::Delete { reply, .. } => answer(reply, Err(self.refusal("be deleted"))),
            Command::OwnerCame | Command::OwnerWent | Command::Touched | Command::FirstExec(_) => {}
        }
    }
}

pub(super) fn start_error(vm: &VmRecord, source: Error) -> Error {
    Error::Start {
        vm: vm.name.clone(),
        kept: true,
        source: Box::new(source),
    }
}
