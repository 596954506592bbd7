//! Boots that are saved for whoever comes next: a machine of its own boots, settles, is written down and
//! goes. It works behind the back of those who wait for nothing.

use std::{sync::Arc, time::Duration};

use banger_image::progress::{SharedProgress, Silent};
use tokio::{sync::mpsc, time::timeout};
use tracing::{debug, warn};

use super::making::{DeleteUnfinished, Making};
use crate::{
    boots::{BootKey, Boots, Order},
    error::Error,
    exec::ExecRequest,
    holder::Holder,
    labels::Labels,
    name::{VmId, VmName},
    record::VmState,
    snapshot::Frozen,
    spec::VmSpec,
    upkeep::Upkeep,
    vm::{AfterSave, VmHandle, kind_of},
};

/// So long at most the first VM of a kind has the host for itself.
const FIRST: Duration = Duration::from_secs(3);
/// What an init gets to come to rest. Nobody waits for it.
const SETTLING: Duration = Duration::from_secs(180);
const GLANCE: Duration = Duration::from_millis(250);
/// What a kernel leaves for after its boot takes about so long: a link that is up is told of, an address is tested, the disk's
/// file system looks round. What it has done before it is saved, no copy does again.
const REST: Duration = Duration::from_secs(2);
/// What a shell that does nothing gets for it.
const WARM_UP: Duration = Duration::from_secs(10);

/// Saves what is ordered, one after the other, as long as the engine lives. What came while the first
/// of its kind was saved finds it there.
pub(super) async fn serve(making: Making, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        if let Err(error) = fulfil(&making, order).await {
            debug!(error = error.chain(), "a boot is not saved");
        }
    }
}

async fn fulfil(making: &Making, mut order: Order) -> Result<(), Error> {
    let over = order.first.wait_for(|view| match view.record.state {
        VmState::Running | VmState::Paused | VmState::Starting => false,
        VmState::Created
        | VmState::Stopping
        | VmState::Deleting
        | VmState::Stopped
        | VmState::Error => true,
    });
    // Whether it is over or runs on, the host is not new to it any more.
    let _ = timeout(FIRST, over).await;
    ensure(making, &order.key, &order.spec).await
}

/// Saves a boot, unless it is there or cannot be.
pub(super) async fn ensure(making: &Making, key: &BootKey, spec: &VmSpec) -> Result<(), Error> {
    let boots = &making.surroundings.boots;
    let here = kind_of(&making.surroundings, spec).await?;
    if here.key != *key || boots.is_hopeless(key) {
        return Ok(());
    }
    let now = (making.surroundings.clock)();
    if boots.find(key, &here.binding, now).is_some() {
        return Ok(());
    }
    let saved = boot_and_save(making, key, spec).await;
    if let Err(error) = &saved {
        warn!(image = %spec.image, error = error.chain(), "cannot save a boot");
    }
    // One that was larger than the budget is gone again, and would be each time.
    if saved.is_err() || boots.find(key, &here.binding, now).is_none() {
        boots.give_up(key);
    }
    saved
}

async fn boot_and_save(making: &Making, key: &BootKey, spec: &VmSpec) -> Result<(), Error> {
    let silent: SharedProgress = Arc::new(Silent);
    let (vm, made) = making
        .make(Some(&a_name()), bare(spec), Some(Holder::Boots), &silent)
        .await?;
    // It goes in any case.
    let unfinished = DeleteUnfinished(Some(vm.clone()));
    vm.start_as(true, silent).await?;
    let id = vm.view().record.id;
    settle(&vm).await?;
    if timeout(WARM_UP, warm_up(&vm)).await.is_err() {
        debug!(vm = %vm.name(), "a shell that is to do nothing does not end");
    }
    tokio::time::sleep(REST).await;
    save(&making.surroundings.boots, key, &vm, making).await?;
    making.page(id).journal().confirm(&made)?;
    vm.delete(true).await?;
    unfinished.disarm();
    Ok(())
}

/// The saved boots of such machines go, and those that are being made.
pub(super) async fn give_up(making: &Making, are: impl Fn(&Frozen) -> bool) -> Result<(), Error> {
    for vm in in_the_making(making) {
        if vm.read(|view| are(&Frozen::of(&view.record.spec))) {
            vm.delete(true).await?;
        }
    }
    making.surroundings.boots.forget_all(are)
}

/// Ends all machines that boot to be saved.
pub(super) async fn end_all(making: &Making) {
    for vm in in_the_making(making) {
        if let Err(error) = vm.delete(true).await {
            warn!(vm = %vm.name(), error = error.chain(), "cannot end a boot that is to be saved");
        }
    }
}

fn in_the_making(making: &Making) -> Vec<VmHandle> {
    let boots = |vm: &&VmHandle| vm.view().record.holder == Some(Holder::Boots);
    making.vms().values().filter(boots).cloned().collect()
}

/// Waits until the guest has come to rest: an init of its own is in the middle of its boot when the
/// agent answers.
pub(super) async fn settle(vm: &VmHandle) -> Result<(), Error> {
    let guest = vm.guest().await?;
    if guest.info().init == "agent" {
        return Ok(());
    }
    let settled = async {
        while guest.health().await?.init_state == "starting" {
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    };
    let unsettled = Error::Unsettled { after: SETTLING };
    timeout(SETTLING, settled).await.unwrap_or(Err(unsettled))
}

/// Has the guest look for a shell, read it and end it: a copy's first command finds in memory what is read for that. An image
/// without a shell is none the worse for it.
async fn warm_up(vm: &VmHandle) {
    let request = ExecRequest {
        argv: ["sh", "-c", ":"].map(str::to_owned).into(),
        ..ExecRequest::default()
    };
    let Ok(guest) = vm.guest().await else { return };
    let Ok(mut stream) = guest.exec(request).await else {
        return;
    };
    while stream.output.recv().await.is_some() {}
}

async fn save(boots: &Boots, key: &BootKey, vm: &VmHandle, making: &Making) -> Result<(), Error> {
    let staging = Arc::new(boots.stage()?);
    let (saved, standing) = vm.save(staging.clone(), AfterSave::End).await?;
    let now = (making.surroundings.clock)();
    let record = saved.into_record(key.name(), &staging, String::new(), now);
    boots.keep(&staging, record).await?;
    match standing {
        Some(standing) => standing.end().await,
        None => Ok(()),
    }
}

fn a_name() -> VmName {
    let name = format!("boot-{}", VmId::random().short());
    name.parse().expect("a word and digits are a name")
}

/// The same machine, which nobody wants anything of.
pub(super) fn bare(spec: &VmSpec) -> VmSpec {
    VmSpec {
        auto_remove: false,
        labels: Labels::default(),
        expires_at: None,
        upkeep: Upkeep::default(),
        ..spec.clone()
    }
}
