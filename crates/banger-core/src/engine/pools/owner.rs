//! The task that owns a pool: keeps as many machines ready as it is to have, hands them out, and replaces
//! what is not ready any more or not of the pool's making. Knows no request.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    engine::making::{DeleteUnfinished, Making},
    error::Error,
    holder::Holder,
    name::{SnapshotName, VmId},
    policy::{Admission, Verb, admit},
    pool::{self, PoolRecord, PoolSize},
    recovery,
    vm::{VmHandle, kind_of},
};

use super::{
    Shown,
    filling::{Made, make},
};

/// What a pool is asked for.
pub(super) enum Command {
    /// One that is ready, if there is one; it goes if nobody takes it.
    Take(oneshot::Sender<Option<DeleteUnfinished>>),
    /// Its image goes: its machines do, too, and come back with it.
    LetGo(oneshot::Sender<Result<(), Error>>),
    /// So many are to be ready from now on.
    Resize(PoolSize, oneshot::Sender<Result<(), Error>>),
    /// The pool is no more, once its machines are gone.
    Delete(oneshot::Sender<Result<(), Error>>),
}

/// A machine that waits.
struct Ready {
    vm: VmHandle,
    kind: SnapshotName,
}

pub(super) struct Owner {
    record: PoolRecord,
    /// Where the pool's card is.
    directory: PathBuf,
    making: Making,
    commands: mpsc::Receiver<Command>,
    shown: watch::Sender<Shown>,
    ready: Vec<Ready>,
    /// Those that are in the hands of who takes them: they become somebody's, or go, whatever becomes of
    /// the pool.
    handed: BTreeSet<VmId>,
    /// The next machine; one at a time, as each takes the host's processors.
    next: JoinSet<Result<Made, Error>>,
    /// Says which of those that were ready is not any more.
    lost: JoinSet<VmId>,
    failures: u32,
    /// Nothing is made before.
    not_before: Instant,
}

/// A pool that is no more, which is still to be told.
pub(super) struct Deleted {
    pub(super) reply: oneshot::Sender<Result<(), Error>>,
    pub(super) result: Result<(), Error>,
}

enum Event {
    Command(Command),
    Made(Result<Made, Error>),
    Lost(VmId),
    Due,
    /// Nobody can ask for anything any more.
    Ended,
}

impl Owner {
    pub(super) fn new(
        record: PoolRecord,
        directory: PathBuf,
        making: Making,
        commands: mpsc::Receiver<Command>,
        shown: watch::Sender<Shown>,
    ) -> Self {
        Self {
            record,
            directory,
            making,
            commands,
            shown,
            ready: Vec::new(),
            handed: BTreeSet::new(),
            next: JoinSet::new(),
            lost: JoinSet::new(),
            failures: 0,
            not_before: Instant::now(),
        }
    }

    /// Begins with what an earlier daemon left, and ends with the pool or the engine.
    pub(super) async fn run(mut self, left: Vec<VmHandle>) -> Option<Deleted> {
        for vm in left {
            self.take_up(vm).await;
        }
        // An earlier daemon may have ended while the pool became smaller.
        if let Err(error) = self.trim().await {
            warn!(pool = %self.record.name, error = error.chain(), "cannot make a pool smaller");
        }
        loop {
            self.shown
                .send_modify(|shown| shown.status.ready = self.ready.len());
            match self.next_event().await {
                Event::Command(Command::Take(reply)) => self.hand_out(reply).await,
                Event::Command(Command::LetGo(reply)) => {
                    self.pause(pool::pause_after(2));
                    let _ = reply.send(self.empty().await);
                }
                Event::Command(Command::Resize(size, reply)) => {
                    let _ = reply.send(self.resize(size).await);
                }
                Event::Command(Command::Delete(reply)) => {
                    if let Err(error) = self.forget() {
                        let _ = reply.send(Err(error));
                        continue;
                    }
                    let result = self.delete().await;
                    return Some(Deleted { reply, result });
                }
                Event::Made(made) => self.add(made),
                Event::Lost(id) => self.replace(id).await,
                Event::Due => self.begin(),
                Event::Ended => return None,
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let short = self.ready.len() < self.record.size.count() && self.next.is_empty();
        tokio::select! {
            command = self.commands.recv() => command.map_or(Event::Ended, Event::Command),
            Some(made) = self.next.join_next() => Event::Made(made.unwrap_or(Err(Error::Ending))),
            Some(Ok(id)) = self.lost.join_next() => Event::Lost(id),
            () = tokio::time::sleep_until(self.not_before), if short => Event::Due,
        }
    }

    /// A machine that stands still is as ready as it was; any other is replaced.
    async fn take_up(&mut self, vm: VmHandle) {
        vm.looked_for().await;
        let record = vm.view().record;
        match record.holder {
            Some(Holder::Pool { kind, .. }) if is_ready(&vm) => self.keep(Ready { vm, kind }),
            Some(_) | None => discard(&vm).await,
        }
    }

    /// The first that is of the pool's making; others are of an image that was, or another's agent.
    async fn hand_out(&mut self, reply: oneshot::Sender<Option<DeleteUnfinished>>) {
        let kind = match kind_of(&self.making.surroundings, &self.record.spec).await {
            Ok(kind) => kind.key.name(),
            Err(error) => {
                self.failed(&error);
                // What waits may be all right: the next one looks again.
                let _ = reply.send(None);
                return;
            }
        };
        while !self.ready.is_empty() {
            let Ready { vm, kind: of } = self.ready.remove(0);
            if of == kind && is_ready(&vm) {
                self.pause(pool::AFTER_TAKE);
                let handed = DeleteUnfinished(Some(vm.clone()));
                match reply.send(Some(handed)) {
                    Err(Some(back)) => {
                        // Whoever asked has gone away: it is ready still, and watched.
                        back.disarm();
                        self.ready.push(Ready { vm, kind });
                    }
                    Ok(()) | Err(None) => drop(self.handed.insert(vm.view().record.id)),
                }
                return;
            }
            discard(&vm).await;
        }
        let _ = reply.send(None);
    }

    fn begin(&mut self) {
        let (making, record) = (self.making.clone(), self.record.clone());
        self.next.spawn(async move { make(&making, &record).await });
    }

    fn add(&mut self, made: Result<Made, Error>) {
        match made {
            Ok((vm, kind)) => {
                self.failures = 0;
                self.shown
                    .send_modify(|shown| shown.status.last_error = None);
                self.keep(Ready { vm, kind });
            }
            Err(error) => self.failed(&error),
        }
    }

    fn keep(&mut self, ready: Ready) {
        let vm = ready.vm.clone();
        self.lost.spawn(async move {
            let id = vm.view().record.id;
            vm.reaches(|record| {
                record.holder.is_none() || admit(record.state, Verb::Take) != Admission::Proceed
            })
            .await;
            id
        });
        self.ready.push(ready);
    }

    /// One that was not taken is of no use any more.
    async fn replace(&mut self, id: VmId) {
        self.handed.remove(&id);
        let is_it = |ready: &Ready| ready.vm.view().record.id == id;
        if let Some(place) = self.ready.iter().position(is_it) {
            let Ready { vm, .. } = self.ready.remove(place);
            info!(pool = %self.record.name, vm = %vm.name(), "a machine of a pool is replaced");
            discard(&vm).await;
        }
    }

    fn failed(&mut self, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        let (name, chain) = (&self.record.name, error.chain());
        warn!(pool = %name, error = chain, "cannot make a machine of a pool");
        self.shown
            .send_modify(|shown| shown.status.last_error = Some(chain));
        self.pause(pool::pause_after(self.failures));
    }

    fn pause(&mut self, pause: Duration) {
        self.not_before = Instant::now() + pause;
    }

    /// The row first: the next daemon would make it so.
    async fn resize(&mut self, size: PoolSize) -> Result<(), Error> {
        let (store, name) = (&self.making.surroundings.store, &self.record.name);
        store.set_pool_size(name, size)?;
        if let Err(error) = recovery::write_pool(store, &self.directory, name) {
            warn!(pool = %name, error = error.chain(), "cannot renew a pool's card");
        }
        info!(pool = %name, from = self.record.size.get(), to = size.get(), "a pool changes its size");
        self.record.size = size;
        self.shown.send_modify(|shown| shown.record.size = size);
        // Whoever wants more may have made room for them.
        (self.failures, self.not_before) = (0, Instant::now());
        self.trim().await
    }

    /// A pool that has enough makes nothing, has nothing to complain of, and keeps no more.
    async fn trim(&mut self) -> Result<(), Error> {
        if self.ready.len() < self.record.size.count() {
            return Ok(());
        }
        self.shown
            .send_modify(|shown| shown.status.last_error = None);
        self.next.shutdown().await;
        self.ready.truncate(self.record.size.count());
        self.delete_the_rest().await
    }

    /// All that is the pool's goes, also what is being made.
    async fn empty(&mut self) -> Result<(), Error> {
        self.next.shutdown().await;
        self.ready.clear();
        self.delete_the_rest().await
    }

    /// Deletes what is the pool's and neither ready nor handed out.
    async fn delete_the_rest(&self) -> Result<(), Error> {
        let mut kept = self.handed.clone();
        kept.extend(self.ready.iter().map(|ready| ready.vm.view().record.id));
        let mut going = JoinSet::new();
        for vm in self.making.held_by(&self.record.name) {
            if !kept.contains(&vm.view().record.id) {
                going.spawn(async move { vm.delete(true).await });
            }
        }
        while let Some(gone) = going.join_next().await {
            gone.unwrap_or(Err(Error::Ending))?;
        }
        Ok(())
    }

    /// From here on the next daemon would finish the deletion. The card first: one without a row would
    /// bring the pool back.
    fn forget(&self) -> Result<(), Error> {
        recovery::forget_pool(&self.directory, &self.record.name)?;
        let store = &self.making.surroundings.store;
        store.delete_pool(&self.record.name)?;
        Ok(())
    }

    /// Its row is gone: what is left of it goes now, or with the next daemon.
    async fn delete(&mut self) -> Result<(), Error> {
        self.empty().await?;
        self.making.surroundings.boots.let_go(&self.record.name)
    }
}

fn is_ready(vm: &VmHandle) -> bool {
    let view = vm.view();
    view.process.is_some() && admit(view.record.state, Verb::Take) == Admission::Proceed
}

async fn discard(vm: &VmHandle) {
    if let Err(error) = vm.delete(true).await {
        warn!(vm = %vm.name(), error = error.chain(), "cannot delete a machine of a pool");
    }
}
