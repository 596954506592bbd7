//! The commands that concern the host.

use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Show what was made on this host, and how far it is
    #[command(after_help = "\
Examples:
  banger host journal
  banger host journal --json | jq '.entries[] | select(.stage != \"confirmed\")'

Each act is written down before it is done and confirmed afterwards, so that a daemon that was
cut short is understood by the next one, which finishes or undoes what it finds.")]
    Journal(JsonArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger recover --dry-run
  banger recover

A card lies beside each VM's disk and each image. A daemon whose store is damaged puts that aside and does
this by itself; it is of use after an old store was put back. Nothing is removed or replaced. Exits
with 1 if something is there that cannot be had again.")]
pub(crate) struct RecoverArgs {
    /// Print what would be had again, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}
