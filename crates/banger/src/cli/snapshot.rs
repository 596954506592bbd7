//! The commands and flags that concern snapshots and forks.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::{
    DetachArgs, JsonArgs, QuietArgs,
    names::{SnapshotName, Target, VmName},
};
use crate::complete;

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save a running VM: memory, devices and disk
    Create(SnapshotCreateArgs),
    /// List snapshots
    #[command(visible_alias = "ls")]
    List(SnapshotListArgs),
    /// Show a snapshot
    Show(SnapshotShowArgs),
    /// Delete snapshots; VMs that went on from them go on
    #[command(visible_alias = "rm")]
    Delete(SnapshotDeleteArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm snapshot create web before-upgrade --keep-running
  banger vm snapshot create web ready && banger run --rm --snapshot ready -- make test

Without --keep-running the VM ends once it is saved; `banger vm restore web ready` lets it go on.")]
pub(crate) struct SnapshotCreateArgs {
    /// Name, id or unique prefix
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::live_vms))]
    pub(crate) target: Target,
    /// What to call the snapshot: 1 to 63 of a-z, 0-9 and . _ -
    #[arg(value_name = "NAME")]
    pub(crate) name: SnapshotName,
    /// Let the VM go on afterwards
    #[arg(long)]
    pub(crate) keep_running: bool,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm snapshot list
  banger vm snapshot list --json | jq -r '.[].name'")]
pub(crate) struct SnapshotListArgs {
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger vm snapshot show ready --json | jq .paused_ms")]
pub(crate) struct SnapshotShowArgs {
    #[arg(add = ArgValueCandidates::new(complete::snapshots))]
    pub(crate) name: SnapshotName,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger vm snapshot delete ready before-upgrade")]
pub(crate) struct SnapshotDeleteArgs {
    #[arg(required = true, value_name = "NAME",
        add = ArgValueCandidates::new(complete::snapshots))]
    pub(crate) names: Vec<SnapshotName>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger vm restore web before-upgrade

What the VM is at this moment is lost, with all that it has written since. Only a snapshot of this
VM will do; `banger run --snapshot NAME` makes a new VM of any.")]
pub(crate) struct RestoreArgs {
    /// Name, id or unique prefix
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::vms))]
    pub(crate) target: Target,
    /// The snapshot to go back to
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::snapshots))]
    pub(crate) name: SnapshotName,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm fork web                       web-1
  banger vm fork web -n 10                 web-1 to web-10, or the next free numbers
  banger vm fork web --name-prefix try -n 3

Each fork has its origin's memory, processes and files, and a name, an id, random numbers and
SSH host keys of its own. The origin goes on. Prints the forks' names.")]
pub(crate) struct ForkArgs {
    /// Name, id or unique prefix
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::live_vms))]
    pub(crate) target: Target,
    /// How many, 100 at most
    #[arg(short = 'n', long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Call them by this and a number [default: the VM's name]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) name_prefix: Option<VmName>,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}
