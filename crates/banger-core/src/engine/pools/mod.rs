//! Pools: machines that are ready before anybody asks for them. Knows which pools there are, and how
//! one of their machines becomes somebody's; what is ready is each owner's business.

mod owner;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use banger_image::progress::{SharedProgress, Step};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::warn;

use super::{CreateRequest, Engine, boots::bare, making::DeleteUnfinished, making::Making};
use crate::{
    error::{Error, Kind},
    host::{Check, Verdict},
    journal::Act,
    name::{ImageName, PoolName},
    pool::{PoolError, PoolRecord, PoolSize, PoolStatus},
    store::StoreError,
    vm::{Claim, View, VmHandle},
};
use owner::{Command, Owner};

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

/// How the rest speaks to a pool's owner.
#[derive(Debug)]
struct Pool {
    record: PoolRecord,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<PoolStatus>,
    /// The owner ends with the engine.
    _task: JoinSet<()>,
}

/// The pools that there are.
#[derive(Debug, Default)]
pub(super) struct Pools(Mutex<BTreeMap<PoolName, Pool>>);

impl Pools {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PoolName, Pool>> {
        self.0.lock().expect("no holder of the pools' lock panics")
    }

    /// Gives a pool an owner, with the machines that it has already.
    pub(super) fn begin(&self, record: PoolRecord, making: Making, left: Vec<VmHandle>) {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (statuses, status) = watch::channel(PoolStatus::default());
        let owner = Owner::new(record.clone(), making, queue, statuses);
        let mut task = JoinSet::new();
        task.spawn(owner.run(left));
        let pool = Pool {
            record: record.clone(),
            commands,
            status,
            _task: task,
        };
        self.lock().insert(record.name, pool);
    }

    fn record(&self, name: &PoolName) -> Result<PoolRecord, Error> {
        let pools = self.lock();
        let pool = pools.get(name).ok_or_else(|| unknown(name))?;
        Ok(pool.record.clone())
    }

    fn status(&self, name: &PoolName) -> Result<watch::Receiver<PoolStatus>, Error> {
        let pools = self.lock();
        let pool = pools.get(name).ok_or_else(|| unknown(name))?;
        Ok(pool.status.clone())
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
        if self.pools.record(&name).is_ok() {
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
        self.pools.begin(record, self.making(), Vec::new());
        if wait {
            self.fill(&name, size, &progress).await?;
        }
        self.pool(&name)
    }

    /// Waits until a pool has all its machines, or cannot make one.
    async fn fill(
        &self,
        name: &PoolName,
        size: PoolSize,
        progress: &SharedProgress,
    ) -> Result<(), Error> {
        let mut status = self.pools.status(name)?;
        loop {
            let PoolStatus { ready, last_error } = status.borrow_and_update().clone();
            if ready >= size.count() || last_error.is_some() {
                return Ok(());
            }
            progress.report(Step {
                stage: "pool",
                detail: format!("machines of pool {name}"),
                done: ready as u64,
                total: Some(size.get().into()),
            });
            let gone = |_| PoolError::Gone(name.clone());
            status.changed().await.map_err(gone)?;
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
        let record = self.pools.record(name)?;
        let status = self.pools.status(name)?.borrow().clone();
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

    /// Deletes a pool with all machines that wait in it. Those that were taken are not its own.
    pub async fn delete_pool(&self, name: &PoolName) -> Result<(), Error> {
        self.pools.record(name)?;
        // From here on the next daemon would finish it.
        self.surroundings.store.delete_pool(name)?;
        let deleted = self.pools.ask(name, Command::Delete).await;
        self.pools.lock().remove(name);
        deleted?
    }

    /// The pools of an image let go of it: their machines come back with it.
    pub(super) async fn let_pools_go_of(&self, image: &ImageName) -> Result<(), Error> {
        let of_image = |pool: &&Pool| pool.record.spec.image == *image;
        let names: Vec<_> = {
            let pools = self.pools.lock();
            let pools = pools.values().filter(of_image);
            pools.map(|pool| pool.record.name.clone()).collect()
        };
        for name in names {
            self.pools.ask(&name, Command::LetGo).await??;
        }
        Ok(())
    }

    /// A machine of a pool becomes somebody's; where none is ready, one of the same making is started.
    pub(super) async fn create_of_pool(
        &self,
        pool: &PoolName,
        request: CreateRequest,
        progress: SharedProgress,
    ) -> Result<View, Error> {
        let another = self.machine_of_pool(pool, &request)?;
        while let Some(handed) = self.pools.ask(pool, Command::Take).await? {
            match self.take(handed, &request).await {
                Ok(view) => return Ok(view),
                // The next one may be better off; what is wrong with the request is so with each.
                Err(error @ Error::Start { .. }) => {
                    warn!(%pool, error = error.chain(), "a machine of a pool is of no use");
                }
                Err(error) => return Err(error),
            }
        }
        progress.report(Step {
            stage: "pool",
            detail: format!("no machine of pool {pool} is ready; starting another"),
            done: 0,
            total: None,
        });
        Box::pin(self.create(another, progress)).await
    }

    /// The request for a machine that is as those of a pool are, and of none.
    pub(super) fn machine_of_pool(
        &self,
        pool: &PoolName,
        request: &CreateRequest,
    ) -> Result<CreateRequest, Error> {
        refuse_fixed(request)?;
        let spec = self.pools.record(pool)?.spec;
        Ok(CreateRequest {
            pool: None,
            image: Some(spec.image.into()),
            kernel: Some(spec.kernel),
            vcpus: Some(spec.vcpus),
            memory: Some(spec.memory),
            disk: Some(spec.disk),
            init: Some(spec.init),
            network: Some(spec.network),
            vmm: spec.vmm,
            ..request.clone()
        })
    }

    /// One that cannot become somebody's goes.
    async fn take(
        &self,
        unfinished: DeleteUnfinished,
        request: &CreateRequest,
    ) -> Result<View, Error> {
        let vm = unfinished.handle().clone();
        let page = self.page(vm.view().record.id);
        let was = Act::Vm(vm.name());
        let name = request.name.clone().unwrap_or_else(|| self.free_name());
        let made = Act::Vm(name.clone());
        page.journal().intend(&made)?;
        let claim = Claim {
            name,
            labels: request.labels.clone(),
            auto_remove: request.auto_remove,
            expires_at: request.expires_at,
            upkeep: request.upkeep,
        };
        match vm.take(claim).await {
            Ok(view) => {
                page.journal().strike(&was)?;
                page.journal().confirm(&made)?;
                unfinished.disarm();
                Ok(view)
            }
            Err(error) => {
                unfinished.delete().await;
                unfinished.disarm();
                Err(error)
            }
        }
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

/// A machine that is ready is what it is.
fn refuse_fixed(request: &CreateRequest) -> Result<(), PoolError> {
    let ways = [
        ("snapshot", request.snapshot.is_some()),
        ("cold boot", request.cold),
    ];
    let ways = ways
        .into_iter()
        .filter_map(|(way, chosen)| chosen.then_some(way));
    if !request.start {
        return Err(PoolError::NotStarted);
    }
    match request.chosen_parts().chain(ways).next() {
        Some(what) => Err(PoolError::Fixed { what }),
        None => Ok(()),
    }
}
