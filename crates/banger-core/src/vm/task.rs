//! The task that owns a VM: takes commands in order, watches the VMM and the connection to
//! the guest, and writes every change down before it is shown.

use std::{collections::VecDeque, ops::ControlFlow, pin::Pin, sync::Arc, time::Duration};

use banger_image::progress::SharedProgress;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{info, warn};

use super::{Command, Reply, Surroundings, View, VmHandle, boot, disks, ending::end_gracefully};
use crate::{
    error::Error,
    host::{Guest, Machine, VmmExit},
    host_error::{GuestError, HostError},
    policy::{Admission, Verb, admit},
    record::{VmRecord, VmState},
};

/// Commands that may wait for a VM's task.
const QUEUE: usize = 16;
/// What a killed connection to a live VMM gets before the next try.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long one try to reconnect may take.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(30);

type Connecting = Pin<Box<dyn Future<Output = Result<Arc<dyn Guest>, GuestError>> + Send>>;

/// Starts the task of a VM. A VM whose row says that it runs is looked for first.
pub(crate) fn spawn(
    record: VmRecord,
    surroundings: Surroundings,
    on_deleted: impl FnOnce() + Send + 'static,
) -> VmHandle {
    let (commands, queue) = mpsc::channel(QUEUE);
    let places = surroundings.assembly.places(&record);
    let first = View {
        record,
        places,
        process: None,
        guest: None,
        agent: None,
    };
    let (views, view) = watch::channel(first);
    let task = Task {
        surroundings,
        views,
        queue,
        postponed: VecDeque::new(),
        machine: None,
        connecting: None,
        owner_deadline: None,
        on_deleted: Some(Box::new(on_deleted)),
    };
    tokio::spawn(task.run());
    VmHandle { commands, view }
}

struct Task {
    surroundings: Surroundings,
    views: watch::Sender<View>,
    queue: mpsc::Receiver<Command>,
    /// Commands that came while a longer act could not serve them.
    postponed: VecDeque<Command>,
    machine: Option<Arc<dyn Machine>>,
    connecting: Option<Connecting>,
    /// When an auto-removed VM without an owner goes away.
    owner_deadline: Option<Instant>,
    /// Called before anybody hears that the VM is deleted.
    on_deleted: Option<Box<dyn FnOnce() + Send>>,
}

/// Why an act ended before its time.
enum Interruption {
    /// A stop or a forced deletion, which is still to be served.
    Command(Command),
    /// Whoever asked has gone away.
    Abandoned,
}

enum Event {
    Command(Command),
    Exited(VmmExit),
    Connected(Result<Arc<dyn Guest>, GuestError>),
    Disconnected,
    OwnerMissing,
    HandlesGone,
}

impl Task {
    /// Breaks when the VM is deleted, continues when the daemon lets go of it.
    async fn run(mut self) -> ControlFlow<()> {
        self.adopt().await?;
        loop {
            match self.next_event().await {
                Event::Command(command) => self.serve(command).await?,
                Event::Exited(exit) => self.on_exit(&exit).await,
                Event::Connected(result) => self.on_connected(result),
                Event::Disconnected => self.reconnect(RECONNECT_PAUSE),
                Event::OwnerMissing => {
                    info!(vm = %self.record().name, "no session came for this VM: removing it");
                    self.delete_quietly().await?;
                }
                Event::HandlesGone => return ControlFlow::Continue(()),
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        if let Some(command) = self.postponed.pop_front() {
            return Event::Command(command);
        }
        let machine = self.machine.clone();
        let guest = self.views.borrow().guest.clone();
        let deadline = self.owner_deadline;
        tokio::select! {
            command = self.queue.recv() => command.map_or(Event::HandlesGone, Event::Command),
            exit = maybe(machine.as_ref().map(|machine| machine.exited())) => Event::Exited(exit),
            result = maybe(self.connecting.as_mut()) => Event::Connected(result),
            () = maybe(guest.as_ref().map(|guest| guest.closed())) => Event::Disconnected,
            () = maybe(deadline.map(tokio::time::sleep_until)) => Event::OwnerMissing,
        }
    }

    async fn serve(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Start { progress, reply } => self.start(&progress, reply).await,
            Command::Stop { patience, reply } => self.stop(patience, reply).await,
            Command::Delete { force, reply } => return self.delete(force, reply).await,
            Command::OwnerCame => self.owner_deadline = None,
            Command::OwnerWent => {
                if self.record().spec.auto_remove {
                    return self.delete_quietly().await;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn record(&self) -> VmRecord {
        self.views.borrow().record.clone()
    }

    // Start

    async fn start(&mut self, progress: &SharedProgress, mut reply: Reply<View>) {
        if reply.is_closed() {
            // Whoever asked went away while this command waited.
            return;
        }
        let record = self.record();
        match admit(record.state, Verb::Start) {
            Admission::Done => return answer(reply, Ok(self.view())),
            Admission::Refuse => {
                let VmRecord {
                    name: vm, state, ..
                } = record;
                return answer(
                    reply,
                    Err(Error::State {
                        vm,
                        state,
                        verb: "start",
                    }),
                );
            }
            Admission::Proceed | Admission::Wait | Admission::Interrupt => {}
        }
        let result = self.boot(&record, progress, &mut reply).await;
        let result = result
            .map(|()| self.view())
            .map_err(|source| start_error(&record, source));
        if let Err(error) = &result {
            warn!(vm = %record.name, error = error.chain(), "start failed");
        }
        answer(reply, result);
    }

    async fn boot(
        &mut self,
        record: &VmRecord,
        progress: &SharedProgress,
        reply: &mut Reply<View>,
    ) -> Result<(), Error> {
        self.show_state(VmState::Starting, None);
        let machine = match self.launch(record, progress).await {
            Ok(machine) => machine,
            Err(error) => return Err(self.boot_failed(error).await),
        };
        let patience = self.surroundings.patience.boot;
        let connected = tokio::select! {
            connected = machine.connect(patience) => connected,
            interruption = self.interruption(Some(reply)) => {
                return Err(self.boot_interrupted(interruption, record).await);
            }
        };
        match connected {
            Ok(guest) => {
                self.set_guest(guest);
                if let Err(error) = self.write_state(VmState::Running, None) {
                    return Err(self.boot_failed(error).await);
                }
                self.await_owner();
                Ok(())
            }
            Err(error) => Err(self.boot_failed(error.into()).await),
        }
    }

    /// Starts the VMM. The intention is in the store before the process exists.
    async fn launch(
        &mut self,
        record: &VmRecord,
        progress: &SharedProgress,
    ) -> Result<Arc<dyn Machine>, Error> {
        let Surroundings {
            store, host, clock, ..
        } = &self.surroundings;
        let (plan, choice) = boot::prepare(&self.surroundings, record).await?;
        store.set_vm_starting(record.id, &choice, clock())?;
        self.views
            .send_modify(|view| view.record.choice = Some(choice));
        boot::report(&plan, progress);
        let machine = host.launch(&plan).await?;
        self.views
            .send_modify(|view| view.process = Some(machine.process()));
        self.machine = Some(machine.clone());
        Ok(machine)
    }

    async fn boot_failed(&mut self, error: Error) -> Error {
        self.end_machine_or_warn().await;
        self.note_state(VmState::Error, Some(error.chain()));
        error
    }

    async fn boot_interrupted(&mut self, interruption: Interruption, vm: &VmRecord) -> Error {
        self.end_machine_or_warn().await;
        let by = match interruption {
            Interruption::Abandoned => "its client, which went away",
            Interruption::Command(command) => {
                let by = "a stop or a deletion";
                self.give_up_starts(vm, by);
                self.postponed.push_front(command);
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
    fn give_up_starts(&mut self, vm: &VmRecord, by: &'static str) {
        for command in std::mem::take(&mut self.postponed) {
            match command {
                Command::Start { reply, .. } => {
                    let interrupted = Error::Interrupted {
                        vm: vm.name.clone(),
                        by,
                    };
                    answer(reply, Err(start_error(vm, interrupted)));
                }
                Command::Stop { .. }
                | Command::Delete { .. }
                | Command::OwnerCame
                | Command::OwnerWent => self.postponed.push_back(command),
            }
        }
    }

    /// Waits for what may end the act in progress; keeps every other command for later.
    async fn interruption(&mut self, mut reply: Option<&mut Reply<View>>) -> Interruption {
        loop {
            let command = tokio::select! {
                command = self.queue.recv() => command,
                () = maybe(reply.as_mut().map(|reply| reply.closed())) => {
                    return Interruption::Abandoned;
                }
            };
            let Some(command) = command else {
                std::future::pending().await
            };
            let verb = match &command {
                Command::Start { .. } => Some(Verb::Start),
                Command::Stop { .. } => Some(Verb::Stop),
                Command::Delete { force, .. } => Some(Verb::Delete { force: *force }),
                Command::OwnerCame | Command::OwnerWent => None,
            };
            let state = self.views.borrow().record.state;
            match verb.map(|verb| admit(state, verb)) {
                Some(Admission::Interrupt) => return Interruption::Command(command),
                Some(Admission::Refuse) => self.refuse(command),
                Some(Admission::Proceed | Admission::Done | Admission::Wait) | None => {
                    self.postponed.push_back(command);
                }
            }
        }
    }

    fn refuse(&self, command: Command) {
        let VmRecord {
            name: vm, state, ..
        } = self.record();
        match command {
            Command::Start { reply, .. } => {
                answer(
                    reply,
                    Err(Error::State {
                        vm,
                        state,
                        verb: "start",
                    }),
                );
            }
            Command::Stop { reply, .. } => {
                answer(
                    reply,
                    Err(Error::State {
                        vm,
                        state,
                        verb: "stop",
                    }),
                );
            }
            Command::Delete { reply, .. } => {
                answer(
                    reply,
                    Err(Error::State {
                        vm,
                        state,
                        verb: "be deleted",
                    }),
                );
            }
            Command::OwnerCame | Command::OwnerWent => {}
        }
    }

    // Stop and delete

    async fn stop(&mut self, patience: Option<Duration>, reply: Reply<View>) {
        let result = match admit(self.record().state, Verb::Stop) {
            Admission::Done => Ok(self.view()),
            Admission::Refuse => {
                let VmRecord {
                    name: vm, state, ..
                } = self.record();
                Err(Error::State {
                    vm,
                    state,
                    verb: "stop",
                })
            }
            Admission::Proceed | Admission::Wait | Admission::Interrupt => {
                let patience = patience.unwrap_or(self.surroundings.patience.stop);
                self.stop_running(patience).await.map(|()| self.view())
            }
        };
        answer(reply, result);
    }

    async fn stop_running(&mut self, patience: Duration) -> Result<(), Error> {
        self.write_state(VmState::Stopping, None)?;
        let Some(machine) = self.machine.clone() else {
            return self.write_state(VmState::Stopped, None);
        };
        // An attempt to reconnect that nobody drives would keep others from connecting.
        self.connecting = None;
        let guest = self.views.borrow().guest.clone();
        let ended = tokio::select! {
            ended = end_gracefully(machine.as_ref(), guest, patience) => Some(ended),
            Interruption::Command(command) = self.interruption(None) => {
                self.postponed.push_front(command);
                None
            }
        };
        let lost = match ended {
            Some(Ok(exit)) if exit.clean => None,
            Some(Ok(exit)) => Some(format!(
                "the VMM ended unexpectedly during the stop, and what the guest had not written \
                 to its disk is lost: {}",
                exit.status
            )),
            Some(Err(error)) => Some(format!(
                "the guest did not end by itself and was cut off; what it had not written to its \
                 disk is lost: {}",
                Error::from(error).chain()
            )),
            None => Some("the stop was cut short by a deletion".to_owned()),
        };
        match self.end_machine().await.map_err(Error::from) {
            Ok(()) => self.confirm_state(VmState::Stopped, lost),
            Err(error) => {
                self.note_state(VmState::Error, Some(error.chain()));
                Err(error)
            }
        }
    }

    async fn delete(&mut self, force: bool, reply: Reply<()>) -> ControlFlow<()> {
        let VmRecord {
            name: vm, state, ..
        } = self.record();
        if admit(state, Verb::Delete { force }) == Admission::Refuse {
            answer(
                reply,
                Err(Error::State {
                    vm,
                    state,
                    verb: "be deleted",
                }),
            );
            return ControlFlow::Continue(());
        }
        match self.remove().await {
            Ok(()) => {
                answer(reply, Ok(()));
                ControlFlow::Break(())
            }
            Err(error) => {
                answer(reply, Err(error));
                ControlFlow::Continue(())
            }
        }
    }

    async fn delete_quietly(&mut self) -> ControlFlow<()> {
        self.owner_deadline = None;
        match self.remove().await {
            Ok(()) => ControlFlow::Break(()),
            Err(error) => {
                warn!(vm = %self.record().name, error = error.chain(), "cannot delete a VM");
                ControlFlow::Continue(())
            }
        }
    }

    async fn remove(&mut self) -> Result<(), Error> {
        self.write_state(VmState::Deleting, None)?;
        let removed = self.remove_all().await;
        match &removed {
            Ok(()) => {
                if let Some(on_deleted) = self.on_deleted.take() {
                    on_deleted();
                }
            }
            Err(error) => self.note_state(VmState::Deleting, Some(error.chain())),
        }
        removed
    }

    /// The process, then the files, then the row: what is left is always named by the row.
    async fn remove_all(&mut self) -> Result<(), Error> {
        self.end_machine().await?;
        let places = self.views.borrow().places.clone();
        tokio::task::spawn_blocking(move || disks::remove(&places))
            .await
            .map_err(|_| Error::Ending)??;
        self.surroundings.store.delete_vm(self.record().id)?;
        Ok(())
    }

    /// Ends the VMM, if there is one, and clears what only a live machine has.
    async fn end_machine(&mut self) -> Result<(), HostError> {
        self.connecting = None;
        self.views.send_modify(|view| view.guest = None);
        if let Some(machine) = &self.machine {
            machine.kill().await?;
        }
        self.machine = None;
        self.views.send_modify(|view| view.process = None);
        let places = self.views.borrow().places.clone();
        if let Err(error) = self.surroundings.host.sweep(&places).await {
            warn!(vm = %self.record().name, %error, "cannot sweep after the VMM");
        }
        Ok(())
    }

    /// As [`Self::end_machine`], where the act failed already. A VMM that stays is kept, so
    /// that its end is seen and a deletion tries again.
    async fn end_machine_or_warn(&mut self) {
        if let Err(error) = self.end_machine().await {
            warn!(vm = %self.record().name, %error, "cannot end the VMM");
        }
    }

    // What happens by itself

    /// Takes up what an earlier daemon left: a live VMM, or an act in progress.
    async fn adopt(&mut self) -> ControlFlow<()> {
        let record = self.record();
        match record.state {
            VmState::Created => return ControlFlow::Continue(()),
            VmState::Stopped | VmState::Error => {
                self.await_owner();
                return ControlFlow::Continue(());
            }
            VmState::Starting | VmState::Running | VmState::Stopping | VmState::Deleting => {}
        }
        if let Err(error) = self.look_for_machine().await {
            self.leave_alone(&record, error);
            return ControlFlow::Continue(());
        }
        match (record.state, self.machine.is_some()) {
            (VmState::Deleting, _) => return self.delete_quietly().await,
            (VmState::Stopping, true) => {
                let patience = self.surroundings.patience.stop;
                if let Err(error) = self.stop_running(patience).await {
                    warn!(vm = %record.name, error = error.chain(), "cannot go on with a stop");
                }
            }
            (_, true) => self.resume(),
            (_, false) => {
                self.end_machine_or_warn().await;
                let gone = "its VMM was gone when the daemon came back".to_owned();
                self.note_state(VmState::Stopped, Some(gone));
            }
        }
        self.await_owner();
        ControlFlow::Continue(())
    }

    async fn look_for_machine(&mut self) -> Result<(), HostError> {
        let places = self.views.borrow().places.clone();
        if let Some(machine) = self.surroundings.host.adopt(&places).await? {
            let pid = machine.process().pid;
            info!(vm = %self.record().name, pid, "adopted a running VM");
            self.views
                .send_modify(|view| view.process = Some(machine.process()));
            self.machine = Some(machine);
        }
        Ok(())
    }

    /// Nobody knows whether the VMM runs, so nothing of it is touched.
    fn leave_alone(&self, record: &VmRecord, error: HostError) {
        let error = Error::from(error).chain();
        warn!(vm = %record.name, error, "cannot look for a running VMM");
        let state = match record.state {
            VmState::Deleting => VmState::Deleting,
            VmState::Created
            | VmState::Starting
            | VmState::Running
            | VmState::Stopping
            | VmState::Stopped
            | VmState::Error => VmState::Error,
        };
        self.note_state(
            state,
            Some(format!("cannot tell whether its VMM still runs: {error}")),
        );
    }

    fn resume(&mut self) {
        self.note_state(VmState::Running, None);
        self.reconnect(Duration::ZERO);
    }

    /// A VM that lives only for a session goes away if none comes from now on.
    fn await_owner(&mut self) {
        if self.record().spec.auto_remove {
            self.owner_deadline = Some(Instant::now() + self.surroundings.patience.owner);
        }
    }

    fn reconnect(&mut self, pause: Duration) {
        self.views.send_modify(|view| view.guest = None);
        self.connecting = self.machine.clone().map(|machine| -> Connecting {
            Box::pin(async move {
                tokio::time::sleep(pause).await;
                machine.connect(RECONNECT_PATIENCE).await
            })
        });
    }

    fn on_connected(&mut self, result: Result<Arc<dyn Guest>, GuestError>) {
        self.connecting = None;
        match result {
            Ok(guest) => self.set_guest(guest),
            Err(error) => {
                warn!(vm = %self.record().name, %error, "cannot reach the agent; trying again");
                self.reconnect(RECONNECT_PAUSE);
            }
        }
    }

    /// The guest powered itself off, or its VMM died.
    async fn on_exit(&mut self, exit: &VmmExit) {
        info!(vm = %self.record().name, status = exit.status, "the VMM ended by itself");
        self.machine = None;
        self.end_machine_or_warn().await;
        if exit.clean {
            self.note_state(VmState::Stopped, None);
        } else {
            let why = format!("the VMM ended unexpectedly: {}", exit.status);
            self.note_state(VmState::Error, Some(why));
        }
        self.await_owner();
    }

    fn set_guest(&self, guest: Arc<dyn Guest>) {
        self.views.send_modify(|view| {
            view.agent = Some(guest.info());
            view.guest = Some(guest);
        });
    }

    // States

    fn view(&self) -> View {
        self.views.borrow().clone()
    }

    /// Writes a state down, then shows it.
    fn write_state(&self, state: VmState, last_error: Option<String>) -> Result<(), Error> {
        let now = (self.surroundings.clock)();
        let id = self.record().id;
        self.surroundings
            .store
            .set_vm_state(id, state, last_error.as_deref(), now)?;
        self.show_state(state, last_error);
        Ok(())
    }

    /// As [`Self::write_state`], for what has happened already: it is shown in any case.
    fn confirm_state(&self, state: VmState, last_error: Option<String>) -> Result<(), Error> {
        let written = self.write_state(state, last_error.clone());
        if written.is_err() {
            self.show_state(state, last_error);
        }
        written
    }

    /// As [`Self::confirm_state`], where nobody waits for the answer.
    fn note_state(&self, state: VmState, last_error: Option<String>) {
        if let Err(error) = self.confirm_state(state, last_error) {
            warn!(vm = %self.record().name, error = error.chain(), "cannot record a state");
        }
    }

    fn show_state(&self, state: VmState, last_error: Option<String>) {
        let now = (self.surroundings.clock)();
        self.views.send_modify(|view| {
            view.record.state = state;
            view.record.last_error = last_error;
            view.record.updated_at = now;
        });
    }
}

/// A future that is not there is never ready.
async fn maybe<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    // Whoever asked may have gone away; the act is done all the same.
    let _ = reply.send(result);
}

fn start_error(vm: &VmRecord, source: Error) -> Error {
    Error::Start {
        vm: vm.name.clone(),
        kept: true,
        source: Box::new(source),
    }
}
