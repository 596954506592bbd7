//! Pools: machines that are ready before anybody asks for them. Knows which pools there are; what is
//! ready is each owner's business.

mod filling;
mod owner;
mod taking;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use banger_image::progress::{SharedProgress, Step};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::warn;

use super::{CreateRequest, Engine, boots::bare, making::Making};
use crate::{
    error::{Error, Kind},
    host::{Check, Verdict},
    name::{ImageName, PoolName},
    pool::{PoolError, PoolRecord, PoolSize, PoolStatus},
    recovery,
    store::StoreError,
    vm::{View, VmHandle},
};
use owner::{Command, Deleted, Owner};

/// Questions that may wait for a pool's owner.
const QUEUE: usize = 32;

/// What a pool is asked to be.
#[derive(Debug, Clone)]
pub struct PoolRequest {
    pub name: PoolName,
    pub size: PoolSize,
    /// Name, labels and whatever else concerns a single VM are nothing to a pool.
    pub machine: CreateRequest,
    /// Only when all machines are ready is it done.
    pub wait: bool,
}

/// A pool as it is now.
#[derive(Debug, Clone)]
pub struct PoolView {
    pub record: PoolRecord,
    pub status: PoolStatus,
    /// All that it has, ready or in the making.
    pub machines: Vec<View>,
}

/// A pool as its owner shows it.
#[derive(Debug, Clone)]
struct Shown {
    record: PoolRecord,
    status: PoolStatus,
}

/// How the rest speaks to a pool's owner.
#[derive(Debug)]
struct Pool {
    commands: mpsc::Sender<Command>,
    shown: watch::Receiver<Shown>,
    /// The owner ends with the engine.
    task: JoinSet<()>,
}

/// The pools that there are.
#[derive(Debug)]
pub(super) struct Pools {
    known: Mutex<BTreeMap<PoolName, Pool>>,
    /// Where their cards are.
    directory: PathBuf,
}

impl Pools {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            known: Mutex::default(),
            directory,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PoolName, Pool>> {
        let known = self.known.lock();
        known.expect("no holder of the pools' lock panics")
    }

    /// Gives a pool an owner, with the machines that it has already.
    pub(super) fn begin(self: &Arc<Self>, record: PoolRecord, making: Making, left: Vec<VmHandle>) {
        let name = record.name.clone();
        let (commands, queue) = mpsc::channel(QUEUE);
        let (shows, shown) = watch::channel(Shown {
            record: record.clone(),
            status: PoolStatus::default(),
        });
        let owner = Owner::new(record, self.directory.clone(), making, queue, shows);
        let mut task = JoinSet::new();
        // A pool that is over is forgotten, whether or not whoever deleted it still waits.
        let (pools, over) = (Arc::downgrade(self), name.clone());
        task.spawn(async move {
            let deleted = owner.run(left).await;
            if let Some(pools) = pools.upgrade() {
                pools.lock().remove(&over);
            }
            if let Some(Deleted { reply, result }) = deleted {
                let _ = reply.send(result);
            }
        });
        let pool = Pool {
            commands,
            shown,
            task,
        };
        self.lock().insert(name, pool);
    }

    /// No pool makes anything from now on. What waits goes on waiting.
    pub(super) async fn end(&self) {
        let ending = std::mem::take(&mut *self.lock());
        for (_, mut pool) in ending {
            pool.task.shutdown().await;
        }
    }

    pub(super) fn has(&self, name: &PoolName) -> bool {
        self.lock().contains_key(name)
    }

    fn shown(&self, name: &PoolName) -> Result<watch::Receiver<Shown>, Error> {
        let pools = self.lock();
        let pool = pools.get(name).ok_or_else(|| unknown(name))?;
        Ok(pool.shown.clone())
    }

    fn record(&self, name: &PoolName) -> Result<PoolRecord, Error> {
        Ok(self.shown(name)?.borrow().record.clone())
    }

    async fn ask<T>(
        &self,
        name: &PoolName,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Error> {
        let commands = {
            let pools = self.lock();
            let pool = pools.get(name).ok_or_else(|| unknown(name))?;
            pool.commands.clone()
        };
        let (reply, answer) = oneshot::channel();
        let gone = || PoolError::Gone(name.clone());
        commands.send(command(reply)).await.map_err(|_| gone())?;
        Ok(answer.await.map_err(|_| gone())?)
    }
}

fn unknown(name: &PoolName) -> Error {
    Error::NotFound {
        kind: Kind::Pool,
        target: name.to_string(),
    }
}

impl Engine {
    /// Makes a pool; its machines come behind the back of whoever does not wait for them.
    pub async fn create_pool(
        &self,
        request: PoolRequest,
        progress: SharedProgress,
    ) -> Result<PoolView, Error> {
        let PoolRequest {
            name,
            size,
            machine,
            wait,
        } = request;
        if self.pools.has(&name) {
            return Err(StoreError::PoolTaken(name).into());
        }
        self.surroundings.host.choose_vmm(machine.vmm).await?;
        let spec = bare(&self.spec(&machine, &progress).await?);
        let record = PoolRecord {
            name: name.clone(),
            size,
            spec,
            created_at: self.now(),
        };
        self.surroundings.store.insert_pool(&record)?;
        self.write_card_of(&name);
        self.pools.begin(record, self.making(), Vec::new());
        if wait {
            self.fill(&name, &progress).await?;
        }
        self.pool(&name)
    }

    /// The pool is in the store already: without a card it is only lost together with the store.
    pub(super) fn write_card_of(&self, name: &PoolName) {
        let store = &self.surroundings.store;
        if let Err(error) = recovery::write_pool(store, &self.pools.directory, name) {
            warn!(pool = %name, error = error.chain(), "cannot write a pool's card");
        }
    }

    /// Waits until a pool has all its machines, or cannot make one.
    async fn fill(&self, name: &PoolName, progress: &SharedProgress) -> Result<(), Error> {
        let mut shown = self.pools.shown(name)?;
        loop {
            let Shown { record, status } = shown.borrow_and_update().clone();
            if status.ready >= record.size.count() || status.last_error.is_some() {
                return Ok(());
            }
            progress.report(Step {
                stage: "pool",
                detail: format!("machines of pool {name}"),
                done: status.ready as u64,
                total: Some(record.size.get().into()),
            });
            let gone = |_| PoolError::Gone(name.clone());
            shown.changed().await.map_err(gone)?;
        }
    }

    /// All pools, by name.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolView> {
        let names: Vec<_> = self.pools.lock().keys().cloned().collect();
        let pools = names.iter().map(|name| self.pool(name));
        pools.filter_map(Result::ok).collect()
    }

    pub fn pool(&self, name: &PoolName) -> Result<PoolView, Error> {
        let Shown { record, status } = self.pools.shown(name)?.borrow().clone();
        let of_pool = |view: &View| {
            let holder = view.record.holder.as_ref();
            holder.and_then(|holder| holder.pool()) == Some(name)
        };
        let machines = self.views().into_iter().filter(of_pool).collect();
        Ok(PoolView {
            record,
            status,
            machines,
        })
    }

    /// Changes how many machines of a pool are to be ready. Those that are too many are gone when this
    /// returns; those that are missing come behind the back of whoever asked. Carried through.
    pub async fn resize_pool(&self, name: &PoolName, size: PoolSize) -> Result<PoolView, Error> {
        let resize = |reply| Command::Resize(size, reply);
        self.pools.ask(name, resize).await??;
        self.pool(name)
    }

    /// Deletes a pool with all machines that wait in it. Those that were taken, or are being taken, are
    /// not its own. Carried through.
    pub async fn delete_pool(&self, name: &PoolName) -> Result<(), Error> {
        self.pools.ask(name, Command::Delete).await?
    }

    /// The pools of an image let go of it: their machines come back with it.
    pub(super) async fn let_pools_go_of(&self, image: &ImageName) -> Result<(), Error> {
        let pools = self.pools().into_iter().map(|pool| pool.record);
        let of_image = pools.filter(|record| record.spec.image == *image);
        let names: Vec<_> = of_image.map(|record| record.name).collect();
        for name in names {
            self.pools.ask(&name, Command::LetGo).await??;
        }
        Ok(())
    }

    /// The row of `banger doctor` about pools, where there is one.
    pub(super) fn pool_checks(&self) -> Option<Check> {
        let pools = self.pools();
        let short = |pool: &&PoolView| pool.status.ready < pool.record.size.count();
        let failed = pools.iter().find(|pool| pool.status.last_error.is_some());
        let detail: Vec<_> = pools.iter().map(summary).collect();
        let verdict = match failed {
            Some(_) => Verdict::Warn,
            None => Verdict::Pass,
        };
        let hint = failed.filter(short).map(|pool| {
            let why = pool.status.last_error.clone().unwrap_or_default();
            format!("pool {} cannot make a machine: {why}", pool.record.name)
        });
        (!pools.is_empty()).then(|| Check {
            name: "pools",
            verdict,
            detail: detail.join(", "),
            hint,
        })
    }
}

fn summary(pool: &PoolView) -> String {
    let PoolRecord { name, size, .. } = &pool.record;
    format!("{name}: {} of {} ready", pool.status.ready, size.get())
}
