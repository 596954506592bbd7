//! `vm start`, `stop`, `restart`, `kill`, `pause`, `resume`, `delete`, `rename`,
//! `set` and `logs`.

use std::io::{self, IsTerminal};

use banger_api::{
    client::{BodyStream, Client, Work},
    vm::{ChangeVm, DeleteVm, LogKind, LogQuery, RenameVm, StopVm, VmState},
};
use futures_util::StreamExt;

use super::{
    create::labels,
    operations,
    show::{built, is_up},
};
use crate::{
    cli::values::Ttl,
    cli::vm::{
        DeleteArgs, KillArgs, LogsArgs, Network, PauseArgs, RenameArgs, RestartArgs, ResumeArgs,
        SetArgs, StartArgs, StopArgs,
    },
    console::Readable,
    exec::signals::Signals,
    output,
    progress::Display,
    report::{Failure, SUCCESS},
    targets::{Picked, each, pick},
};

pub(super) async fn start(client: &Client, args: StartArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let picked = pick(client, &args.vms, |state| !is_up(state)).await?;
    if args.detach.detach {
        let work = picked
            .into_iter()
            .map(async |one| operations::number(client, Work::StartVm(&one.resolved?)).await);
        return each(work).await;
    }
    let several = picked.len() > 1;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        let mut progress = display.of(&asked, several);
        client
            .start_vm(&resolved?, |step| progress.step(&step))
            .await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "the start was cancelled")
        .await
}

pub(super) async fn stop(client: &Client, args: StopArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let request = StopVm {
        timeout_seconds: args.timeout,
    };
    let picked = pick(client, &args.vms, is_up).await?;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        client.stop_vm(&resolved?, &request).await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "the daemon goes on stopping")
        .await
}

pub(super) async fn restart(client: &Client, args: RestartArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let request = StopVm {
        timeout_seconds: args.timeout,
    };
    let picked = pick(client, &args.vms, is_up).await?;
    if args.detach.detach {
        let work = picked.into_iter().map(async |one| {
            operations::number(client, Work::RestartVm(&one.resolved?, &request)).await
        });
        return each(work).await;
    }
    let several = picked.len() > 1;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        let mut progress = display.of(&asked, several);
        client
            .restart_vm(&resolved?, &request, |step| progress.step(&step))
            .await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "a stop that has begun is carried through")
        .await
}

pub(super) async fn kill(client: &Client, args: KillArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let picked = pick(client, &args.vms, is_up).await?;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        client.kill_vm(&resolved?).await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "the daemon goes on killing")
        .await
}

pub(super) async fn rename(client: &Client, args: RenameArgs) -> Result<u8, Failure> {
    let request = RenameVm {
        name: args.name.into(),
    };
    let vm = client.rename_vm(args.target.as_ref(), &request).await?;
    output::print(&format!("{}\n", vm.name))?;
    Ok(SUCCESS)
}

pub(super) async fn set(client: &Client, args: SetArgs) -> Result<u8, Failure> {
    let change = args.change;
    let request = ChangeVm {
        autostart: change.autostart(),
        restart: change.restart.map(Into::into),
        idle_stop: change.idle_stop.map(Into::into),
        vcpus: change.vcpu,
        memory_bytes: change.memory.map(|size| size.0),
        disk_bytes: change.disk_size.map(|size| size.0),
        network: change.network.map(Network::as_str).map(str::to_owned),
        set_labels: labels(change.label),
        remove_labels: change.unlabel,
        ttl_seconds: change.ttl.map(Ttl::seconds),
    };
    let vm = client.change_vm(args.target.as_ref(), &request).await?;
    if let Some(now) = &vm.now {
        let (name, now) = (&vm.name, built(now));
        output::remark(format_args!(
            "{name} runs on with {now}; the rest holds from its next start: `banger vm restart {name}`"
        ));
    }
    output::print(&format!("{}\n", vm.name))?;
    Ok(SUCCESS)
}

pub(super) async fn pause(client: &Client, args: PauseArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let picked = pick(client, &args.vms, |state| state == VmState::Running).await?;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        client.pause_vm(&resolved?).await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "the daemon goes on pausing")
        .await
}

pub(super) async fn resume(client: &Client, args: ResumeArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let picked = pick(client, &args.vms, |state| state == VmState::Paused).await?;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        client.resume_vm(&resolved?).await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "the daemon goes on resuming")
        .await
}

pub(super) async fn delete(client: &Client, args: DeleteArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let query = DeleteVm { force: args.force };
    let picked = pick(client, &args.vms, |state| args.force || !is_up(state)).await?;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        client.delete_vm(&resolved?, query).await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "the daemon goes on deleting")
        .await
}

pub(super) async fn logs(client: &Client, args: LogsArgs) -> Result<u8, Failure> {
    let kind = match (args.vmm, args.agent) {
        (true, _) => LogKind::Vmm,
        (false, true) => LogKind::Agent,
        (false, false) => LogKind::Console,
    };
    let query = LogQuery {
        kind,
        follow: args.follow,
        tail: args.tail,
    };
    let log = client.vm_logs(args.target.as_ref(), query).await?;
    if io::stdout().is_terminal() {
        show(log).await?;
    } else {
        copy(log).await?;
    }
    Ok(SUCCESS)
}

/// For programs and files: the very bytes.
async fn copy(mut log: BodyStream) -> Result<(), Failure> {
    while let Some(chunk) = log.next().await {
        output::print_bytes(&chunk?)?;
    }
    Ok(())
}

/// For a terminal: nothing that it would obey.
async fn show(mut log: BodyStream) -> Result<(), Failure> {
    let mut readable = Readable::default();
    while let Some(chunk) = log.next().await {
        output::print(&readable.push(&chunk?))?;
    }
    output::print(&readable.finish())
}
