//! How a machine that waits in a pool becomes somebody's, and what is done where none can. Knows requests;
//! which machine it is, the pool's owner says.

use banger_image::progress::{SharedProgress, Step};
use tracing::warn;

use super::owner::Command;
use crate::{
    engine::{CreateRequest, Engine, making::DeleteUnfinished},
    error::{Error, Kind},
    journal::Act,
    name::PoolName,
    pool::PoolError,
    store::StoreError,
    vm::{Claim, View},
};

impl Engine {
    /// A machine of a pool becomes somebody's; where none is ready, one of the same making is started.
    pub(in crate::engine) async fn create_of_pool(
        &self,
        pool: &PoolName,
        request: CreateRequest,
        progress: SharedProgress,
    ) -> Result<View, Error> {
        let another = self.machine_of_pool(pool, &request)?;
        let why = loop {
            let handed = match self.pools.ask(pool, Command::Take).await {
                Ok(Some(handed)) => handed,
                Ok(None) => break format!("no machine of pool {pool} is ready"),
                // It was there when this was asked for, and what it would have given can be started.
                Err(Error::Pool(PoolError::Gone(_)) | Error::NotFound { .. }) => {
                    break format!("pool {pool} was deleted meanwhile");
                }
                Err(error) => return Err(error),
            };
            match self.take(handed, &request).await {
                Ok(view) => return Ok(view),
                // The next one may be better off; what is wrong with the request is so with each.
                Err(error) if is_of_the_machine(&error, &request) => {
                    warn!(%pool, error = error.chain(), "a machine of a pool is of no use");
                }
                Err(error) => return Err(error),
            }
        };
        progress.report(Step {
            stage: "pool",
            detail: format!("{why}; starting another"),
            done: 0,
            total: None,
        });
        Box::pin(self.create(another, progress)).await
    }

    /// The request for a machine that is as those of a pool are, and of none.
    pub(in crate::engine) fn machine_of_pool(
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
}

/// Whether another machine could be taken in the place of the one that this is about.
fn is_of_the_machine(error: &Error, request: &CreateRequest) -> bool {
    match error {
        // Somebody has ended what was theirs already.
        Error::Start { source, .. } => !matches!(**source, Error::Interrupted { .. }),
        // It ended, or was deleted, when it was handed out.
        Error::State { .. } | Error::NotFound { kind: Kind::Vm, .. } => true,
        // Somebody else has drawn the same name.
        Error::Store(StoreError::VmTaken(_)) => request.name.is_none(),
        _ => false,
    }
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
