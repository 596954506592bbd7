//! The commands and flags that concern pools.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::{
    DetachArgs, JsonArgs, QuietArgs,
    image_reference::ImageReference,
    names::{PoolName, StoreName},
    values::{Size, init},
    vm::{Network, Vmm},
};
use crate::complete;

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Keep machines ready, for `banger run --pool`
    Create(PoolCreateArgs),
    /// List pools
    #[command(visible_alias = "ls")]
    List(PoolListArgs),
    /// Show a pool and the machines that wait in it
    Show(PoolShowArgs),
    /// Change how many machines of a pool are ready
    Set(PoolSetArgs),
    /// Delete pools with the machines that wait in them; those that were taken stay
    #[command(visible_alias = "rm")]
    Delete(PoolDeleteArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger pool create web --image alpine:3 --size 3
  banger pool create ci --memory 2G --wait && banger run --rm --pool ci -- make test

A machine that waits uses its memory and its disk, and no processor. Whoever takes one has it at once,
and another takes its place. They are not in `banger vm list`; `banger pool show` has them.
With --wait it exits with 1 if one cannot be made; the pool goes on trying. With --size 0 it rests until
`banger pool set` wants machines.")]
pub(crate) struct PoolCreateArgs {
    /// What to call it: 1 to 40 of a-z, 0-9 and -
    #[arg(value_name = "NAME")]
    pub(crate) name: PoolName,
    /// How many machines are to be ready
    #[arg(short = 'n', long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) size: u32,
    /// Image to make them from: a name or a reference [default: debian-bookworm]
    #[arg(long, add = ArgValueCandidates::new(complete::images))]
    pub(crate) image: Option<ImageReference>,
    /// Kernel to boot [default: generic-6.12 where it is, else debian-6.1]
    #[arg(long, add = ArgValueCandidates::new(complete::kernels))]
    pub(crate) kernel: Option<StoreName>,
    /// Virtual processors of each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) vcpu: Option<u32>,
    /// Memory of each, as in 512M or 2G
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
    /// Size of each one's own disk; it costs only what is written
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk_size: Option<Size>,
    /// First process: auto, agent, systemd or an absolute path
    #[arg(long, value_parser = init)]
    pub(crate) init: Option<String>,
    /// Network: user (outbound) or none
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(crate) network: Option<Network>,
    /// VMM to use: qemu or firecracker [default: what this host can run]
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(crate) vmm: Option<Vmm>,
    /// Come back when all machines are ready
    #[arg(short, long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger pool list
  banger pool list --json | jq '.[] | {name, ready, size}'")]
pub(crate) struct PoolListArgs {
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger pool show web --json | jq -r '.machines[].name'")]
pub(crate) struct PoolShowArgs {
    #[arg(add = ArgValueCandidates::new(complete::pools))]
    pub(crate) name: PoolName,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger pool set web --size 5
  banger pool set ci --size 0      rests: nothing waits, `run --pool` starts machines

Machines that are too many are deleted at once; those that are missing are made one after the other.")]
pub(crate) struct PoolSetArgs {
    #[arg(add = ArgValueCandidates::new(complete::pools))]
    pub(crate) name: PoolName,
    /// How many machines are to be ready
    #[arg(short = 'n', long, value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) size: u32,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger pool delete web ci")]
pub(crate) struct PoolDeleteArgs {
    #[arg(required = true, value_name = "NAME",
        add = ArgValueCandidates::new(complete::pools))]
    pub(crate) names: Vec<PoolName>,
}
