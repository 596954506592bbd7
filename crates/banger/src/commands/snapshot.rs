//! `vm snapshot`, `vm restore` and `vm fork`.

use std::time::SystemTime;

use banger_api::{
    client::{Client, Work},
    size::format_size,
    snapshot::{CreateSnapshot, ForkVm, RestoreVm, Snapshot},
};

use super::operations;
use crate::{
    cli::snapshot::{ForkArgs, RestoreArgs, SnapshotCommand, SnapshotCreateArgs},
    exec::signals::Signals,
    output,
    progress::Display,
    report::{Failure, SUCCESS},
    table::{fields, table},
    targets::{distinct, each},
    text::age,
};

pub(super) async fn run(client: &Client, command: SnapshotCommand) -> Result<u8, Failure> {
    match command {
        SnapshotCommand::Create(args) => create(client, args).await,
        SnapshotCommand::List(args) => {
            let snapshots = client.snapshots().await?;
            output::print_as(args.json.json, &snapshots, |snapshots| {
                overview(snapshots, SystemTime::now())
            })?;
            Ok(SUCCESS)
        }
        SnapshotCommand::Show(args) => {
            let snapshot = client.snapshot(args.name.as_ref()).await?;
            output::print_as(args.json.json, &snapshot, |snapshot| {
                details(snapshot, SystemTime::now())
            })?;
            Ok(SUCCESS)
        }
        SnapshotCommand::Delete(args) => {
            let names = distinct(args.names.iter().map(AsRef::as_ref));
            each(names.into_iter().map(async |name| {
                client.delete_snapshot(&name).await?;
                Ok(name)
            }))
            .await
        }
    }
}

async fn create(client: &Client, args: SnapshotCreateArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let request = CreateSnapshot {
        name: args.name.into(),
        keep_running: args.keep_running,
    };
    let target: &str = args.target.as_ref();
    if args.detach.detach {
        return operations::begin(client, Work::SnapshotVm(target, &request)).await;
    }
    let work = client.create_snapshot(target, &request, |step| progress.step(&step));
    let outcome = "there is no snapshot, and the VM goes on";
    let snapshot = signals.interrupt(work, outcome).await?;
    if args.json.json {
        output::print_json(&snapshot)?;
    } else {
        output::print(&format!("{}\n", snapshot.name))?;
    }
    Ok(SUCCESS)
}

pub(super) async fn restore(client: &Client, args: RestoreArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let request = RestoreVm {
        snapshot: args.name.into(),
    };
    let target: &str = args.target.as_ref();
    if args.detach.detach {
        return operations::begin(client, Work::RestoreVm(target, &request)).await;
    }
    let outcome = "the VM is as it was, or stopped if it had begun to go back";
    let work = client.restore_vm(target, &request, |step| progress.step(&step));
    let vm = signals.interrupt(work, outcome).await?;
    if args.json.json {
        output::print_json(&vm)?;
    } else {
        output::print(&format!("{}\n", vm.name))?;
    }
    Ok(SUCCESS)
}

pub(super) async fn fork(client: &Client, args: ForkArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let request = ForkVm {
        count: Some(args.count),
        name_prefix: args.name_prefix.map(Into::into),
    };
    let target: &str = args.target.as_ref();
    if args.detach.detach {
        return operations::begin(client, Work::ForkVm(target, &request)).await;
    }
    let work = client.fork_vm(target, &request, |step| progress.step(&step));
    let outcome = "there are no forks, and the VM goes on";
    let forked = signals.interrupt(work, outcome).await?;
    if args.json.json {
        output::print_json(&forked)?;
    } else {
        let names: String = forked
            .vms
            .iter()
            .map(|vm| format!("{}\n", vm.name))
            .collect();
        output::print(&names)?;
    }
    Ok(SUCCESS)
}

fn overview(snapshots: &[Snapshot], now: SystemTime) -> String {
    let rows: Vec<_> = snapshots
        .iter()
        .map(|snapshot| {
            [
                snapshot.name.clone(),
                snapshot.vm.clone(),
                snapshot.image.clone(),
                format_size(snapshot.guest_memory_bytes),
                format_size(snapshot.memory_bytes + snapshot.disk_bytes),
                age(&snapshot.created_at, now),
            ]
        })
        .collect();
    table(["NAME", "VM", "IMAGE", "MEMORY", "SIZE", "CREATED"], &rows)
}

fn details(snapshot: &Snapshot, now: SystemTime) -> String {
    let of = |value: &str| Some(value.to_owned());
    fields(&[
        ("name", of(&snapshot.name)),
        ("vm", Some(format!("{} ({})", snapshot.vm, snapshot.vm_id))),
        ("image", of(&snapshot.image)),
        ("kernel", of(&snapshot.kernel)),
        ("vcpus", Some(snapshot.vcpus.to_string())),
        ("memory", Some(format_size(snapshot.guest_memory_bytes))),
        ("disk", Some(format_size(snapshot.guest_disk_bytes))),
        ("network", of(&snapshot.network)),
        (
            "vmm",
            Some(format!(
                "{} {} ({})",
                snapshot.vmm, snapshot.vmm_version, snapshot.accelerator
            )),
        ),
        ("processor", of(&snapshot.processor)),
        ("agent", of(&snapshot.agent_version)),
        (
            "size",
            Some(format!(
                "{} of memory, {} of disk",
                format_size(snapshot.memory_bytes),
                format_size(snapshot.disk_bytes)
            )),
        ),
        ("stood still", Some(format!("{} ms", snapshot.paused_ms))),
        ("path", of(&snapshot.path)),
        ("created", Some(age(&snapshot.created_at, now))),
    ])
}
