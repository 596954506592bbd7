//! The task that owns a VM: takes commands in order, watches the VMM and the connection to
//! the guest, and writes every change down before it is shown.
//!
//! The acts themselves are in `start`, `end`, `pause`, `save`, `restore`, `take`, `change`, `unasked` and
//! `upkeep`.

mod change;
mod end;
mod fast;
mod pause;
mod restore;
mod save;
mod start;
mod take;
mod unasked;
mod upkeep;

use std::{
    collections::VecDeque, future::poll_fn, ops::ControlFlow, pin::Pin, sync::Arc, task::Poll,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{info, warn};

use super::{Command, Reply, Surroundings, Timeline, View, VmHandle, activity::Activity};
use crate::{
    error::Error,
    host::{Guest, Halt, Machine, VmmExit},
    host_error::GuestError,
    journal::{Owner, Page},
    record::{VmRecord, VmState},
};

/// Commands that may wait for a VM's task.
const QUEUE: usize = 16;
/// What a broken connection to a live VMM gets before the next try.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

type Connecting = Pin<Box<dyn Future<Output = Result<Arc<dyn Guest>, GuestError>> + Send>>;

/// Starts the task of a VM. A VM whose row says that it runs is looked for first.
pub(crate) fn spawn(
    record: VmRecord,
    surroundings: Arc<Surroundings>,
    on_deleted: impl FnOnce() + Send + 'static,
) -> VmHandle {
    let (commands, queue) = mpsc::channel(QUEUE);
    let places = surroundings.assembly.places(record.id);
    let first = View {
        looked_for: !record.state.may_have_a_vmm(),
        record,
        places,
        process: None,
        guest: None,
        agent: None,
        timeline: None,
    };
    let (views, view) = watch::channel(first);
    let activity = Activity::new();
    let task = Task {
        activity: activity.clone(),
        restart: None,
        running_since: None,
        surroundings,
        views,
        queue,
        postponed: VecDeque::new(),
        machine: None,
        unsure: false,
        connecting: None,
        owner_deadline: None,
        expiry: None,
        on_deleted: Some(Box::new(on_deleted)),
    };
    tokio::spawn(Box::new(task).run());
    VmHandle {
        commands,
        view,
        activity,
    }
}

struct Task {
    surroundings: Arc<Surroundings>,
    views: watch::Sender<View>,
    queue: mpsc::Receiver<Box<Command>>,
    /// Commands that came while a longer act could not serve them.
    postponed: VecDeque<Command>,
    machine: Option<Arc<dyn Machine>>,
    /// The host could not say whether a VMM of an earlier daemon still runs.
    unsure: bool,
    connecting: Option<Connecting>,
    /// When an auto-removed VM without an owner goes away.
    owner_deadline: Option<Instant>,
    /// When the VM's time is over.
    expiry: Option<Instant>,
    /// When the VM is started again after its end.
    restart: Option<Instant>,
    /// Since when it runs, as far as this daemon knows.
    running_since: Option<Instant>,
    activity: Arc<Activity>,
    /// Called before anybody hears that the VM is deleted.
    on_deleted: Option<Box<dyn FnOnce() + Send>>,
}

/// Why an act ended before its time.
enum Interruption {
    /// A stop or a forced deletion, which is still to be served.
    Command(Box<Command>),
    /// Whoever asked has gone away.
    Abandoned,
}

enum Event {
    Command(Box<Command>),
    Exited(VmmExit),
    Connected(Result<Arc<dyn Guest>, GuestError>),
    Disconnected,
    Due(Due),
    Halted(Halt),
    HandlesGone,
}

/// What time alone brings.
#[derive(Debug, Clone, Copy)]
enum Due {
    OwnerMissing,
    Expired,
    Restart,
    Idle,
}

impl Task {
    /// Breaks when the VM is deleted, continues when the daemon lets go of it.
    async fn run(mut self: Box<Self>) -> ControlFlow<()> {
        // What is done now and then is boxed: a task that waits holds no room for it.
        Box::pin(self.begin()).await?;
        loop {
            match self.next_event().await {
                Event::Command(command) => Box::pin(self.serve(*command)).await?,
                Event::Exited(exit) => Box::pin(self.on_exit(&exit)).await,
                Event::Connected(result) => self.on_connected(result),
                Event::Disconnected => self.on_disconnected(),
                Event::Due(due) => Box::pin(self.is_due(due)).await?,
                Event::Halted(halt) => self.is_halted(halt),
                Event::HandlesGone => return ControlFlow::Continue(()),
            }
        }
    }

    async fn begin(&mut self) -> ControlFlow<()> {
        let left = self.record();
        self.adopt().await?;
        self.take_up(&left);
        self.expiry = self.deadline();
        ControlFlow::Continue(())
    }

    async fn is_due(&mut self, due: Due) -> ControlFlow<()> {
        match due {
            Due::OwnerMissing => {
                info!(vm = %self.record().name, "no session came for this VM: removing it");
                self.delete_quietly().await?;
            }
            Due::Expired => {
                info!(vm = %self.record().name, "this VM's time is over: removing it");
                self.delete_quietly().await?;
                // What could not be deleted is tried again by a deletion or the next daemon.
                self.expiry = None;
            }
            Due::Restart => self.restart().await,
            Due::Idle => self.stop_if_idle().await,
        }
        ControlFlow::Continue(())
    }

    async fn next_event(&mut self) -> Event {
        if let Some(command) = self.postponed.pop_front() {
            return Event::Command(Box::new(command));
        }
        let machine = self.machine.clone();
        let guest = self.views.borrow().guest.clone();
        let due = self.next_due();
        tokio::select! {
            command = self.queue.recv() => command.map_or(Event::HandlesGone, Event::Command),
            exit = maybe(machine.as_ref().map(|machine| machine.exited())) => Event::Exited(exit),
            halt = maybe(machine.as_ref().map(|machine| machine.halted())) => Event::Halted(halt),
            result = maybe(self.connecting.as_mut()) => Event::Connected(result),
            () = maybe(guest.as_ref().map(|guest| guest.closed())) => Event::Disconnected,
            due = maybe(due.map(|(at, due)| Box::pin(at_last(at, due)))) => Event::Due(due),
        }
    }

    /// What time brings first, and when.
    fn next_due(&self) -> Option<(Instant, Due)> {
        let all = [
            (self.owner_deadline, Due::OwnerMissing),
            (self.expiry, Due::Expired),
            (self.restart, Due::Restart),
            (self.idle_deadline(), Due::Idle),
        ];
        let set = all.into_iter().filter_map(|(at, due)| Some((at?, due)));
        set.min_by_key(|(at, _)| *at)
    }

    async fn serve(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Start {
                cold,
                progress,
                reply,
            } => self.start(cold, &progress, reply).await,
            Command::Stop { patience, reply } => self.stop(patience, reply).await,
            Command::Kill { reply } => self.kill(reply).await,
            Command::Rename { name, reply } => self.rename(name, reply),
            Command::Change { change, reply } => self.change(&change, reply).await,
            Command::Pause { reply } => self.pause(reply).await,
            Command::Resume { reply } => self.go_on(reply).await,
            Command::Save { into, after, reply } => self.save(into, after, reply).await,
            Command::Restore {
                from,
                progress,
                reply,
            } => self.restore(from, &progress, reply).await,
            Command::Take { claim, reply } => self.take(claim, reply).await,
            Command::Delete { force, reply } => return self.delete(force, reply).await,
            Command::OwnerCame => self.owner_deadline = None,
            Command::Touched => self.write_touch(),
            Command::FirstExec(now) => self.mark(|timeline| timeline.command_started(now)),
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

    /// Where the acts for this VM are written down.
    fn page(&self) -> Page {
        let id = self.views.borrow().record.id;
        self.surroundings.ledger.page(Owner::Vm(id))
    }

    /// That the VM is in no state for this.
    fn refusal(&self, verb: &'static str) -> Error {
        let VmRecord {
            name: vm, state, ..
        } = self.record();
        Error::State { vm, state, verb }
    }

    fn mark(&self, stage: impl FnOnce(&mut Timeline)) {
        self.views
            .send_if_modified(|view| match view.timeline.as_mut() {
                Some(timeline) => {
                    stage(timeline);
                    true
                }
                None => false,
            });
    }

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

async fn at_last(at: Instant, due: Due) -> Due {
    tokio::time::sleep_until(at).await;
    due
}

/// A future that is not there is never ready.
fn maybe<T>(mut future: Option<impl Future<Output = T> + Unpin>) -> impl Future<Output = T> {
    // By hand, as an `async fn` would hold room for its argument twice.
    poll_fn(move |context| match &mut future {
        Some(future) => Pin::new(future).poll(context),
        None => Poll::Pending,
    })
}

fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    // Whoever asked may have gone away; the act is done all the same.
    let _ = reply.send(result);
}
