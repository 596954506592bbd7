//! From a stopped VM to a running VMM: choose, assemble, admit, record, launch.
//! Knows the order; what each step does is the host's and the image store's business.

use std::sync::Arc;

use banger_image::progress::{SharedProgress, Step};

use super::Surroundings;
use crate::{error::Error, host::{Machine, VmmChoice}, record::VmRecord};

/// A VMM that was just started, and why it was this one.
pub(super) struct Launched {
    pub(super) machine: Arc<dyn Machine>,
    pub(super) choice: VmmChoice,
}

/// Starts the VMM. The intention is in the store before the process exists.
pub(super) async fn launch(
    surroundings: &Surroundings,
    vm: &VmRecord,
    progress: &SharedProgress,
) -> Result<Launched, Error> {
    let Surroundings { store, host, assembly, clock, .. } = surroundings;
    let choice = host.choose_vmm(vm.spec.vmm).await?;
    let plan = {
        let (assembly, vm, choice) = (assembly.clone(), vm.clone(), choice.clone());
        tokio::task::spawn_blocking(move || assembly.plan(&vm, &choice))
            .await
            .map_err(|_| Error::Ending)??
    };
    host.admit(&plan).await?;
    store.set_vm_starting(vm.id, &choice, clock())?;
    progress.report(Step {
        stage: "boot",
        detail: format!("{} on {} ({})", vm.name, plan.vmm.as_str(), plan.accelerator.as_str()),
        done: 0,
        total: None,
    });
    let machine = host.launch(&plan).await?;
    Ok(Launched { machine, choice })
}
