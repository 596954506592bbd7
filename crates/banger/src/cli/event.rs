//! The commands and flags that concern events.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{JsonArgs, names::Target, values::Since};
use crate::complete;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger events                        all that is recorded
  banger events --since 10m
  banger events -f --json | jq -r 'select(.what == \"error\").detail'
  banger events -f --since 4711        go on after an event that was seen

The last 10000 events are kept, also when the daemon ends. With -f alone only what comes is
printed, as `docker events` does; without -f the command ends.")]
pub(crate) struct EventsArgs {
    /// Only those of one VM, by name, id or unique prefix; it may be deleted already
    #[arg(long, value_name = "VM", add = ArgValueCandidates::new(complete::vms))]
    pub(crate) vm: Option<Target>,
    #[command(flatten)]
    pub(crate) which: WhichEvents,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm events web
  banger vm events -f web              until it is deleted")]
pub(crate) struct VmEventsArgs {
    /// Name, id or unique prefix; it may be deleted already
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::vms))]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) which: WhichEvents,
}

#[derive(Debug, Args)]
pub(crate) struct WhichEvents {
    /// Since a while (10m, 2h), a time (2026-01-31T08:00:00Z) or an event's number
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Since>,
    /// Of those that are recorded, the latest so many at most
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print JSON, a line for each
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}
