//! Boots that are saved for whoever comes next: a machine of its own boots, settles, is written down and
//! goes. It works behind the back of those who wait for nothing.

use std::{sync::Arc, time::Duration};

use banger_image::progress::{SharedProgress, Silent};
use tokio::{sync::mpsc, time::timeout};
use tracing::{debug, warn};

use super::making::{DeleteUnfinished, Making};
use crate::{
    boots::{BootKey, Boots, Order, leaves_room},
    error::Error,
    exec::ExecRequest,
    holder::Holder,
    journal::Act,
    labels::Labels,
    name::{VmId, VmName},
    record::{VmRecord, VmState},
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
/// A shell that does nothing.
pub(super) const SHELL: &[&str] = &["sh", "-c", ":"];
/// What a program that does nothing gets for it.
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
    if !making.surroundings.boots.are_wanted(&order.spec.init) {
        return Ok(());
    }
    ensure(making, &order.key, &order.spec).await
}

/// Saves a boot, unless it is there or cannot be.
pub(super) async fn ensure(making: &Making, key: &BootKey, spec: &VmSpec) -> Result<(), Error> {
    let boots = &making.surroundings.boots;
    let here = kind_of(&making.surroundings, spec).await?;
    if here.key != *key || boots.is_hopeless(key) {
        return Ok(());
    }
    let _turn = boots.turn().await;
    let now = (making.surroundings.clock)();
    if boots.find(key, &here.binding, now).is_some() {
        return Ok(());
    }
    stand_back(making, spec)?;
    debug!(image = %spec.image, "a machine boots to be saved");
    let (saved, is_its_own) = boot_and_save(making, key, spec).await;
    match &saved {
        Ok(()) => debug!(image = %spec.image, "a boot is saved"),
        Err(error) if is_its_own => {
            warn!(image = %spec.image, error = error.chain(), "cannot save a boot");
        }
        Err(error) => debug!(
            error = error.chain(),
            "a boot that was to be saved was ended"
        ),
    }
    // One that was larger than the budget is gone again, and would be each time.
    let is_gone = saved.is_err() || boots.find(key, &here.binding, now).is_none();
    if is_gone && is_its_own {
        boots.give_up(key);
    }
    saved
}

/// What the host is short of is not for a machine that nobody asked for. The next start of its kind
/// orders it again.
fn stand_back(making: &Making, spec: &VmSpec) -> Result<(), Error> {
    let (host, boots) = (&making.surroundings.host, &making.surroundings.boots);
    let (wanted, spare) = (spec.memory.bytes(), host.spare_memory());
    if !leaves_room(spare, wanted) {
        return Err(Error::StandsBack {
            wanted_mib: wanted >> 20,
            spare_mib: spare >> 20,
        });
    }
    // As much as its memory is the most that it is saved in; most of that is holes.
    Ok(host.has_room(boots.directory(), wanted)?)
}

/// Boots a machine and saves it. Whether how that ended is its own doing, too.
async fn boot_and_save(making: &Making, key: &BootKey, spec: &VmSpec) -> (Result<(), Error>, bool) {
    let silent: SharedProgress = Arc::new(Silent);
    let name = a_name();
    let made = making.make(Some(&name), bare(spec), Some(Holder::Boots), &silent);
    let (vm, made) = match made.await {
        Ok(made) => made,
        Err(error) => return (Err(error), true),
    };
    // It goes in any case.
    let unfinished = DeleteUnfinished(Some(vm.clone()));
    let booting = making.surroundings.boots.boots_now(key, vm.clone());
    let saved = save_booted(making, key, &vm, &made).await;
    let is_its_own = booting.ends();
    if saved.is_ok() {
        unfinished.disarm();
    }
    (saved, is_its_own)
}

async fn save_booted(
    making: &Making,
    key: &BootKey,
    vm: &VmHandle,
    made: &Act,
) -> Result<(), Error> {
    vm.start_as(true, Arc::new(Silent)).await?;
    settle(vm).await?;
    warm_up(vm, SHELL).await;
    tokio::time::sleep(REST).await;
    save(&making.surroundings.boots, key, vm, making).await?;
    let id = vm.view().record.id;
    making.page(id).journal().confirm(made)?;
    vm.delete(true).await
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

/// Ends all machines that boot to be saved, or to wait.
pub(super) async fn end_all(making: &Making) {
    let boots = |vm: &&VmHandle| {
        let VmRecord { holder, state, .. } = vm.view().record;
        match holder {
            Some(Holder::Boots) => true,
            Some(Holder::Pool { .. }) => state != VmState::Paused,
            None => false,
        }
    };
    let booting: Vec<_> = making.vms().values().filter(boots).cloned().collect();
    for vm in booting {
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

/// Has the guest look for a program, read it and end it: a copy's first command finds in memory what is read for
/// that, and a machine that is emulated has what it takes translated. One without it is none the worse.
pub(super) async fn warm_up(vm: &VmHandle, program: &[&str]) {
    let request = ExecRequest {
        argv: program.iter().copied().map(str::to_owned).collect(),
        ..ExecRequest::default()
    };
    let ran = timeout(WARM_UP, async {
        let mut stream = vm.guest().await?.exec(request).await?;
        while stream.output.recv().await.is_some() {}
        Ok::<_, Error>(())
    });
    match ran.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(vm = %vm.name(), error = error.chain(), "cannot warm up"),
        Err(_) => debug!(vm = %vm.name(), ?program, "what is to do nothing does not end"),
    }
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
