//! The commands and flags that make the daemon a service.

use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Make the daemon a service of systemd
    Install(InstallArgs),
    /// Show whether it is one, and how it is
    #[command(after_help = "\
Example:
  banger system status --json")]
    Status(StatusArgs),
    /// Take the service away; machines, images and kernels stay
    Uninstall(UninstallArgs),
}

/// Whose service it is.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ScopeArgs {
    /// A service of this user [default, unless this is root]
    #[arg(long, conflicts_with = "system")]
    pub(crate) user: bool,
    /// A service of the system, which starts with the host [default for root]
    #[arg(long)]
    pub(crate) system: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger system install
  sudo banger system install --system --owner $USER
  banger system install --print        what would be written

A restart of the service leaves VMs alone; its log is in the journal. A user's service starts with the
first login; `loginctl enable-linger` starts it with the host.")]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Of a system's service: whose VMs it keeps [default: who calls sudo, else root]
    #[arg(long, value_name = "USER")]
    pub(crate) owner: Option<String>,
    /// Only write the unit; start nothing
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Only print the unit
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger system uninstall
  banger system uninstall --purge      with all VMs, images, kernels and the configuration of this user")]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Also delete all that banger has of this user
    #[arg(long)]
    pub(crate) purge: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}
