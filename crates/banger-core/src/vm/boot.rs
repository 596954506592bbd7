//! From a stopped VM to what its VMM is started with: choose, assemble, admit.
//! Knows the order; what each step does is the host's and the image store's business.

use banger_image::progress::{SharedProgress, Step};

use super::{Surroundings, disks};
use crate::{
    boots::BootKey,
    error::Error,
    host::{Binding, LaunchPlan, VmmChoice},
    host_error::HostError,
    record::VmRecord,
    snapshot::{self, Restoration},
    spec::VmSpec,
};

/// Chooses a VMM and makes the plan that it is started with. Starts nothing.
pub(super) async fn prepare(
    surroundings: &Surroundings,
    vm: &VmRecord,
) -> Result<(LaunchPlan, VmmChoice), Error> {
    let Surroundings { host, assembly, .. } = surroundings;
    let choice = host.choose_vmm(vm.spec.vmm).await?;
    let plan = {
        let (assembly, vm, choice) = (assembly.clone(), vm.clone(), choice.clone());
        tokio::task::spawn_blocking(move || {
            disks::grow(&assembly.places(vm.id), vm.spec.disk)?;
            assembly.plan(&vm, &choice)
        })
        .await
        .map_err(|_| Error::Ending)??
    };
    admit(surroundings, vm, &plan).await?;
    Ok((plan, choice))
}

/// Refuses what the host has no room for. What boots behind everybody's back makes room for what somebody
/// waits for.
async fn admit(surroundings: &Surroundings, vm: &VmRecord, plan: &LaunchPlan) -> Result<(), Error> {
    let Surroundings { host, boots, .. } = surroundings;
    match host.admit(plan).await {
        Err(HostError::Memory { .. }) if vm.holder.is_none() && boots.give_way().await => {
            Ok(host.admit(plan).await?)
        }
        admitted => Ok(admitted?),
    }
}

/// What machines of one making have in common where they run here.
#[derive(Debug, Clone)]
pub(crate) struct KindOfBoot {
    pub(crate) key: BootKey,
    pub(crate) binding: Binding,
}

/// What a VM of this making would be here. Makes nothing but what boots need anyway.
pub(crate) async fn kind_of(
    surroundings: &Surroundings,
    spec: &VmSpec,
) -> Result<KindOfBoot, Error> {
    let Surroundings { host, assembly, .. } = surroundings;
    let choice = host.choose_vmm(spec.vmm).await?;
    let binding = host.binding(choice.vmm, choice.accelerator).await?;
    let (assembly, spec) = (assembly.clone(), spec.clone());
    let key = {
        let (binding, flavour) = (binding.clone(), host.flavour(choice.vmm));
        tokio::task::spawn_blocking(move || {
            let nobody = VmRecord::of_nobody(spec);
            let plan = assembly.plan(&nobody, &choice)?;
            Ok::<_, Error>(BootKey::of(&plan, nobody.spec.disk, &binding, &flavour))
        })
    };
    let key = key.await.map_err(|_| Error::Ending)??;
    Ok(KindOfBoot { key, binding })
}

/// Makes the plan of a machine that goes on, and refuses one that could not. Changes nothing.
pub(super) async fn prepare_restore(
    surroundings: &Surroundings,
    vm: &VmRecord,
    from: &Restoration,
) -> Result<(LaunchPlan, VmmChoice), Error> {
    let Surroundings { host, assembly, .. } = surroundings;
    let saved = &from.binding;
    let choice = host.choose_vmm(Some(saved.vmm)).await?;
    snapshot::fit(saved, &host.binding(choice.vmm, choice.accelerator).await?)?;
    let mut plan = {
        let (assembly, vm, choice) = (assembly.clone(), vm.clone(), choice.clone());
        tokio::task::spawn_blocking(move || assembly.plan(&vm, &choice))
            .await
            .map_err(|_| Error::Ending)??
    };
    plan.resume_from = Some(from.files.clone());
    admit(surroundings, vm, &plan).await?;
    Ok((plan, choice))
}

/// Tells that a saved machine is about to go on.
pub(super) fn report_restore(plan: &LaunchPlan, progress: &SharedProgress) {
    let (vmm, accelerator) = (plan.vmm.as_str(), plan.accelerator.as_str());
    progress.report(Step {
        stage: "restore",
        detail: format!("{} on {vmm} ({accelerator})", plan.name),
        done: 0,
        total: None,
    });
}

/// Tells that the VMM is about to be started.
pub(super) fn report(plan: &LaunchPlan, progress: &SharedProgress) {
    let (vmm, accelerator) = (plan.vmm.as_str(), plan.accelerator.as_str());
    let detail = format!("{} on {vmm} ({accelerator})", plan.name);
    progress.report(Step {
        stage: "boot",
        detail,
        done: 0,
        total: None,
    });
}
