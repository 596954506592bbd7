//! `vm prune`: deletes what does not run, after asking.

use std::io::{self, BufRead, IsTerminal};

use banger_api::{
    client::Client,
    vm::{DeleteVm, Vm},
};

use super::show::is_up;
use crate::{
    cli::vm::PruneArgs,
    exec::signals::Signals,
    output,
    report::{Failure, SUCCESS},
    targets::each,
};

pub(super) async fn run(client: &Client, args: &PruneArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let mut vms = client.vms().await?;
    vms.retain(|vm| !is_up(vm.state));
    if args.dry_run || vms.is_empty() {
        let names: String = vms.iter().map(|vm| format!("{}\n", vm.name)).collect();
        output::print(&names)?;
        return Ok(SUCCESS);
    }
    if !args.force && !agreed(&vms)? {
        output::remark("nothing was deleted");
        return Ok(SUCCESS);
    }
    // One that was started in the meantime stays: it is deleted without force.
    let work = vms.into_iter().map(async |vm| {
        client.delete_vm(&vm.id, DeleteVm::default()).await?;
        Ok(vm.name)
    });
    signals
        .interrupt(each(work), "the daemon goes on deleting")
        .await
}

fn agreed(vms: &[Vm]) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Unasked {
            what: "delete VMs",
            flag: "--force",
        });
    }
    let names: Vec<_> = vms.iter().map(|vm| vm.name.as_str()).collect();
    output::remark(format!(
        "this deletes {} with all that they wrote. Go on? [y/N]",
        names.join(", ")
    ));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| Failure::Host {
            operation: "read the answer",
            source,
        })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
