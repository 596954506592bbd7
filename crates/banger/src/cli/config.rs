//! The commands and flags that concern the configuration.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::JsonArgs;
use crate::complete;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show what holds, and where it comes from
    #[command(after_help = "\
Examples:
  banger config show
  banger config show --json | jq '.[] | select(.origin == \"file\")'")]
    Show(JsonArgs),
    /// Print what holds of one key
    Get(GetArgs),
    /// Write a key into the file
    Set(SetArgs),
    /// Take a key out of the file
    Unset(UnsetArgs),
    /// Change the file with an editor, and check it before it counts
    #[command(after_help = "\
Example:
  VISUAL=nano banger config edit")]
    Edit,
    /// Check the file, or another one
    Check(CheckArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger config get vm_defaults.memory")]
pub(crate) struct GetArgs {
    /// As in vm_defaults.memory
    #[arg(add = ArgValueCandidates::new(complete::config_keys))]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger config set vm_defaults.memory 4G
  banger config set kernel_catalogs /srv/kernels /opt/kernels
  banger config set registries.mirrors.docker.io mirror.example:5000

Comments and order of the file stay as they are. The daemon reads it when it starts.")]
pub(crate) struct SetArgs {
    /// As in vm_defaults.memory
    #[arg(add = ArgValueCandidates::new(complete::config_keys))]
    pub(crate) key: String,
    /// Its value; several for a list
    #[arg(required = true)]
    pub(crate) value: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger config unset vm_defaults.memory")]
pub(crate) struct UnsetArgs {
    /// As in vm_defaults.memory
    #[arg(add = ArgValueCandidates::new(complete::config_keys))]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger config check
  banger config check ./config.toml && cp ./config.toml ~/.config/banger/")]
pub(crate) struct CheckArgs {
    /// The file [default: the one that the daemon reads]
    pub(crate) file: Option<std::path::PathBuf>,
}
