//! A host that exists only in memory, and worlds to test the engine in. Every act of the host
//! is recorded, and goes the way that the test's script says; nothing in here sleeps.

mod files;
mod guest;
mod host;
mod machine;
mod power;
mod script;
mod sources;
mod tar;
mod vms;
mod world;

pub(crate) use files::{archive, directories, entries, tiny_tar, vmlinux};
pub(crate) use host::FakeHost;
pub(crate) use machine::FakeMachine;
pub(crate) use power::Power;
pub(crate) use script::{Act, Connect, Script, Shutdown, Step};
pub(crate) use tar::FakeTar;
pub(crate) use vms::VmWorld;
pub(crate) use world::{World, catalogs, create, kernel_sources, request, runtime};

use std::{sync::Arc, time::Duration};

use banger_image::progress::{SharedProgress, Silent};

use crate::{
    record::{Seconds, VmState},
    vm::{Patience, View, VmHandle},
};

/// Longer than any patience: what has not come by then never comes.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

pub(crate) const PATIENCE: Patience = Patience {
    boot: Duration::from_secs(90),
    stop: Duration::from_secs(30),
    owner: Duration::from_secs(60),
    idle: None,
};

pub(crate) fn clock() -> Seconds {
    7
}

pub(crate) fn silent() -> SharedProgress {
    Arc::new(Silent)
}

/// Waits for what must come. On a paused clock a wait that is never over panics at once.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(LONG, future).await;
    waited.unwrap_or_else(|_| panic!("{what}: waited in vain"))
}

/// Waits until the VM is in a state.
pub(crate) async fn reaches(vm: &VmHandle, state: VmState) -> View {
    let mut vm = vm.clone();
    let what = format!("VM {} becomes {}", vm.name(), state.as_str());
    let reached = async {
        while vm.view().record.state != state {
            assert!(vm.changed().await, "{what}: its task ended");
        }
        vm.view()
    };
    soon(&what, reached).await
}

/// Waits until the VM's task is over, as it is once the VM is deleted.
pub(crate) async fn is_over(vm: &VmHandle) {
    let mut vm = vm.clone();
    soon("the VM's task ends", async { while vm.changed().await {} }).await;
}

/// Lets a paused clock run, and with it everything that waits for it.
pub(crate) async fn time_passes(time: Duration) {
    tokio::time::sleep(time).await;
}
