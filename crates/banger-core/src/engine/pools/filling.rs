//! How a machine comes to wait in a pool. Knows one machine at a time; how many there are is the owner's
//! business.

use std::sync::Arc;

use banger_image::progress::{SharedProgress, Silent};
use tracing::info;

use crate::{
    boots::BootKey,
    engine::{
        boots::{self, SHELL, warm_up},
        making::{DeleteUnfinished, Making},
    },
    error::Error,
    holder::Holder,
    name::{SnapshotName, VmId, VmName},
    pool::PoolRecord,
    recovery,
    vm::{VmHandle, kind_of},
};

/// The agent itself, which does nothing then. No image needs to have it.
const NOTHING: &[&str] = &["/proc/self/exe", "--nothing"];

/// A machine that was made. Aborting the task deletes it.
pub(super) type Made = (VmHandle, SnapshotName);

/// A machine that goes on from the pool's own saved boot, or boots where none can be saved, comes to
/// rest and stands still.
pub(super) async fn make(making: &Making, record: &PoolRecord) -> Result<Made, Error> {
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
        // Whoever takes it does not wait for what an emulator translates for a first command.
        for program in [NOTHING, SHELL] {
            warm_up(&vm, program).await;
        }
        vm.pause().await?;
        making.page(vm.view().record.id).journal().confirm(&made)?;
        // Who recovers it finds that it waits.
        recovery::write_vm(&making.surroundings.store, &vm.view().places)
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
