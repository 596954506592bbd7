//! The task that owns a pool: keeps as many machines ready as it is to have, hands them out, and replaces
//! what is not ready any more or not of the pool's making. Knows no request.

use std::{sync::Arc, time::Duration};

use banger_image::progress::{SharedProgress, Silent};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    boots::BootKey,
    engine::{
        boots,
        making::{DeleteUnfinished, Making},
    },
    error::Error,
    holder::Holder,
    name::{SnapshotName, VmId, VmName},
    policy::{Admission, Verb, admit},
    pool::{self, PoolRecord, PoolStatus},
    vm::{VmHandle, kind_of},
};

/// What a pool is asked for.
pub(super) enum Command {
    /// One that is ready, if there is one; it goes if nobody takes it.
    Take(oneshot::Sender<Option<DeleteUnfinished>>),
    /// Its image goes: its machines do, too, and come back with it.
    LetGo(oneshot::Sender<Result<(), Error>>),
    /// The pool is no more, once its machines are gone.
    Delete(oneshot::Sender<Result<(), Error>>),
}

/// A machine that waits.
struct Ready {
    vm: VmHandle,
    kind: SnapshotName,
}

/// A machine that is being made. Aborting the task deletes it.
type Made = (VmHandle, SnapshotName);

pub(super) struct Owner {
    pub(super) record: PoolRecord,
    making: Making,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<PoolStatus>,
    ready: Vec<Ready>,
    /// The next machine; one at a time, as each takes the host's processors.
    next: JoinSet<Result<Made, Error>>,
    /// Says which of those that were ready is not any more.
    lost: JoinSet<VmId>,
    failures: u32,
    /// Nothing is made before.
    not_before: Instant,
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
        making: Making,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<PoolStatus>,
    ) -> Self {
        Self {
            record,
            making,
            commands,
            status,
            ready: Vec::new(),
            next: JoinSet::new(),
            lost: JoinSet::new(),
            failures: 0,
            not_before: Instant::now(),
        }
    }

    /// Begins with what an earlier daemon left.
    pub(super) async fn run(mut self, left: Vec<VmHandle>) {
        for vm in left {
            self.take_up(vm).await;
        }
        loop {
            self.status
                .send_modify(|status| status.ready = self.ready.len());
            match self.next_event().await {
                Event::Command(Command::Take(reply)) => self.hand_out(reply).await,
                Event::Command(Command::LetGo(reply)) => {
                    self.pause(pool::pause_after(2));
                    let _ = reply.send(self.empty().await);
                }
                Event::Command(Command::Delete(reply)) => {
                    let _ = reply.send(self.delete().await);
                    return;
                }
                Event::Made(made) => self.add(made),
                Event::Lost(id) => self.replace(id).await,
                Event::Due => self.begin(),
                Event::Ended => return,
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
                if let Err(Some(back)) = reply.send(Some(handed)) {
                    // Whoever asked has gone away: it is ready still.
                    back.disarm();
                    self.keep(Ready { vm, kind });
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
                self.status.send_modify(|status| status.last_error = None);
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
        self.status
            .send_modify(|status| status.last_error = Some(chain));
        self.pause(pool::pause_after(self.failures));
    }

    fn pause(&mut self, pause: Duration) {
        self.not_before = Instant::now() + pause;
    }

    /// All that is the pool's goes, also what is being made.
    async fn empty(&mut self) -> Result<(), Error> {
        self.next.shutdown().await;
        self.ready.clear();
        for vm in self.making.held_by(&self.record.name) {
            vm.delete(true).await?;
        }
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

/// A machine that goes on from the pool's own saved boot, or boots where none can be saved, comes to
/// rest and stands still.
async fn make(making: &Making, record: &PoolRecord) -> Result<Made, Error> {
    let key = kind_of(&making.surroundings, &record.spec).await?.key;
    making.surroundings.boots.hold_for(&record.name, key.name());
    save_boot(making, record, &key).await;
    let kind = key.name();
    let holder = Holder::Pool {
        pool: record.name.clone(),
        kind: kind.clone(),
    };
    let silent: SharedProgress = Arc::new(Silent);
    let name = name_of(record);
    let (vm, made) = making
        .make(
            Some(&name),
            boots::bare(&record.spec),
            Some(holder),
            &silent,
        )
        .await?;
    let unfinished = DeleteUnfinished(Some(vm.clone()));
    let stands_still = async {
        vm.start_as(false, silent).await?;
        boots::settle(&vm).await?;
        vm.pause().await?;
        making.page(vm.view().record.id).journal().confirm(&made)?;
        Ok(())
    };
    if let Err(error) = stands_still.await {
        unfinished.delete().await;
        unfinished.disarm();
        return Err(error);
    }
    unfinished.disarm();
    Ok((vm, kind))
}

async fn save_boot(making: &Making, record: &PoolRecord, key: &BootKey) {
    // Without one its machines boot, each for itself.
    if let Err(error) = boots::ensure(making, key, &record.spec).await {
        info!(pool = %record.name, error = error.chain(), "the machines of a pool boot");
    }
}

fn name_of(record: &PoolRecord) -> VmName {
    let name = format!("pool-{}-{}", record.name, VmId::random().short());
    name.parse().expect("a pool's name leaves room for more")
}
