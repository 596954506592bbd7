//! `vm start`, `stop`, `pause`, `resume`, `delete` and `logs`.

use std::io::{self, IsTerminal};

use banger_api::{
    client::{BodyStream, Client},
    vm::{DeleteVm, LogKind, LogQuery, StopVm},
};
use futures_util::StreamExt;

use crate::{
    cli::vm::{DeleteArgs, LogsArgs, PauseArgs, ResumeArgs, StartArgs, StopArgs},
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
    let picked = pick(client, &args.vms.targets).await;
    let several = picked.len() > 1;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        let mut progress = if several {
            display.named(&asked)
        } else {
            display.single()
        };
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
    let picked = pick(client, &args.vms.targets).await;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        client.stop_vm(&resolved?, &request).await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "the daemon goes on stopping")
        .await
}

pub(super) async fn pause(client: &Client, args: PauseArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let picked = pick(client, &args.vms.targets).await;
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
    let picked = pick(client, &args.vms.targets).await;
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
    let picked = pick(client, &args.vms.targets).await;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        client.delete_vm(&resolved?, query).await?;
        Ok(asked)
    });
    signals
        .interrupt(each(work), "the daemon goes on deleting")
        .await
}

pub(super) async fn logs(client: &Client, args: LogsArgs) -> Result<u8, Failure> {
    let kind = if args.vmm {
        LogKind::Vmm
    } else {
        LogKind::Console
    };
    let query = LogQuery {
        kind,
        follow: args.follow,
    };
    let log = client.vm_logs(args.target.as_str(), query).await?;
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
