//! The commands that concern operations.

use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum OperationsCommand {
    /// List what goes on
    #[command(visible_alias = "ls")]
    List(OperationsListArgs),
    /// Show one operation
    #[command(after_help = "Example:\n  banger operations show 17 --json | jq .step")]
    Show(OperationArgs),
    /// Cancel operations; they leave nothing
    #[command(after_help = "Example:\n  banger operations cancel 17")]
    Cancel(OperationIdsArgs),
    /// Wait until operations have ended
    #[command(after_help = "\
Example:
  banger operations wait 17 && banger vm list

Exits with 1 if one of them did not do what it was to do.")]
    Wait(OperationIdsArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger operations list
  banger operations list --all --json | jq '.[] | select(.outcome == \"failed\")'")]
pub(crate) struct OperationsListArgs {
    /// Those that have ended, too
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OperationArgs {
    /// Number of the operation
    #[arg(value_name = "OPERATION")]
    pub(crate) id: u64,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OperationIdsArgs {
    /// Numbers of the operations
    #[arg(required = true, value_name = "OPERATION")]
    pub(crate) ids: Vec<u64>,
}
