//! `vm create`, and what `vm run` shares with it: a specification becomes a request.

use std::collections::BTreeMap;

use banger_api::{
    client::{Client, Work},
    vm::{CreateVm, Vm},
};

use super::{host, operations};
use crate::{
    cli::{
        image_reference::ImageReference,
        values::{Label, Ttl},
        vm::{CreateArgs, Network, SpecArgs, Vmm},
    },
    exec::signals::Signals,
    output,
    progress::Display,
    report::{Failure, SUCCESS},
};

pub(super) async fn run(client: &Client, args: CreateArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let request = CreateVm {
        start: !args.no_start,
        ..request(args.spec)?
    };
    if args.plan {
        host::show_plan(&client.plan_vm(&request).await?, args.json)?;
        return Ok(SUCCESS);
    }
    if args.detach.detach {
        return operations::begin(client, Work::CreateVm(&request)).await;
    }
    let display = Display::new(args.quiet.quiet);
    let vm = create(client, &request, &display, &mut signals).await?;
    output::print(&format!("{}\n", vm.name))?;
    Ok(SUCCESS)
}

/// Makes a VM and shows how it comes about. A signal cancels it.
pub(super) async fn create(
    client: &Client,
    request: &CreateVm,
    display: &Display,
    signals: &mut Signals,
) -> Result<Vm, Failure> {
    let mut progress = display.single();
    let work = client.create_vm(request, |step| progress.step(&step));
    let outcome = "making the VM was cancelled, and it is removed";
    signals.interrupt(work, outcome).await
}

/// Only what was given: the daemon decides the rest.
pub(super) fn request(spec: SpecArgs) -> Result<CreateVm, Failure> {
    let image = spec.image.as_ref().map(ImageReference::resolve).transpose();
    let image = image.map_err(Failure::nowhere)?;
    Ok(CreateVm {
        name: spec.name.map(Into::into),
        image,
        kernel: spec.kernel.map(Into::into),
        vcpus: spec.vcpu,
        memory_bytes: spec.memory.map(|size| size.0),
        disk_bytes: spec.disk_size.map(|size| size.0),
        init: spec.init,
        network: spec.network.map(Network::as_str).map(str::to_owned),
        vmm: spec.vmm.map(Vmm::as_str).map(str::to_owned),
        labels: labels(spec.label),
        ttl_seconds: spec.ttl.map(Ttl::seconds),
        restart: spec.restart.map(Into::into),
        autostart: spec.autostart,
        idle_stop: spec.idle_stop.map(Into::into),
        cold: spec.cold,
        snapshot: spec.snapshot.map(Into::into),
        pool: spec.pool.map(Into::into),
        start: false,
        auto_remove: false,
    })
}

/// As the wire has them; the last of two with one key counts.
pub(super) fn labels(given: Vec<Label>) -> BTreeMap<String, String> {
    given
        .into_iter()
        .map(|Label(key, value)| (key, value))
        .collect()
}
