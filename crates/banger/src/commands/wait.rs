//! `vm wait`: until VMs have stopped, run or are gone.

use std::time::Duration;

use banger_api::{
    client::Client,
    vm::{Vm, VmState, WaitFor},
};

use crate::{
    cli::vm::{Awaited, WaitArgs},
    exec::signals::Signals,
    report::Failure,
    targets::{Picked, each, pick},
};

/// Longer than anybody waits, and short enough for the clock's arithmetic.
const FOREVER: u64 = 10 * 365 * 24 * 3600;

pub(super) async fn run(client: &Client, args: WaitArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let wanted = wanted(args.wanted);
    let patience = Duration::from_secs(args.timeout.unwrap_or(FOREVER).min(FOREVER));
    let picked = pick(client, &args.vms, |_| true).await?;
    let work = picked.into_iter().map(async |Picked { asked, resolved }| {
        let vm = resolved?;
        let waiting = client.wait_vm(&vm, wanted);
        let Ok(reached) = tokio::time::timeout(patience, waiting).await else {
            return Err(Failure::NotReached {
                vm: asked,
                why: format!("waited {} s", patience.as_secs()),
            });
        };
        judge(asked, wanted, reached?)
    });
    signals.interrupt(each(work), "the VMs go on").await
}

fn wanted(awaited: Awaited) -> WaitFor {
    match awaited {
        Awaited::Stopped => WaitFor::Stopped,
        Awaited::Running => WaitFor::Running,
        Awaited::Deleted => WaitFor::Deleted,
    }
}

/// The line that tells of success, or why this end is not the one that was waited for.
fn judge(asked: String, wanted: WaitFor, reached: Option<Vm>) -> Result<String, Failure> {
    let why = match (wanted, reached) {
        (WaitFor::Deleted, None) => return Ok(asked),
        (WaitFor::Stopped | WaitFor::Running, None) => "it was deleted".to_owned(),
        (_, Some(vm)) if vm.state != VmState::Error => return Ok(asked),
        (_, Some(vm)) => vm.last_error.unwrap_or_else(|| "it failed".to_owned()),
    };
    Err(Failure::NotReached { vm: asked, why })
}
