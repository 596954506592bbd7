//! The command line as types: every command, flag and help text.
//! Parses and refuses; acts on nothing.

pub(crate) mod catalog;
pub(crate) mod config;
pub(crate) mod event;
pub(crate) mod host;
pub(crate) mod image_reference;
pub(crate) mod names;
pub(crate) mod operations;
pub(crate) mod pool;
pub(crate) mod prune;
pub(crate) mod registry;
pub(crate) mod snapshot;
pub(crate) mod store;
pub(crate) mod system;
pub(crate) mod values;
pub(crate) mod vm;

use std::sync::LazyLock;

use banger_api::build::BuildInfo;
use clap::{Args, Parser, Subcommand, ValueEnum};

use self::{
    catalog::CatalogCommand,
    event::EventsArgs,
    host::{HostCommand, RecoverArgs},
    operations::OperationsCommand,
    pool::PoolCommand,
    registry::RegistryCommand,
    store::{ImageCommand, KernelCommand},
    vm::{DeleteArgs, ExecArgs, ListArgs, RunArgs, VmCommand},
};

static VERSION: LazyLock<String> = LazyLock::new(|| BuildInfo::current().to_string());

/// A real Linux machine with one command.
#[derive(Debug, Parser)]
#[command(
    name = "banger",
    version = VERSION.as_str(),
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "\
Examples:
  banger run                          a shell in a fresh machine
  banger run --rm -- uname -a         one command in a machine that goes away afterwards
  banger ps                           the machines that run
  banger doctor                       is this host ready?

`run`, `exec`, `ps` and `rm` are short for the commands of `banger vm`."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a VM and open a shell in it, or run a command
    Run(RunArgs),
    /// Run a command in a running VM
    Exec(ExecArgs),
    /// List the VMs that run
    Ps(PsArgs),
    /// Delete VMs
    Rm(DeleteArgs),
    /// Virtual machines
    #[command(subcommand)]
    Vm(VmCommand),
    /// Machines that are ready before anybody asks
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Images: the root file systems that VMs are made from
    #[command(subcommand)]
    Image(ImageCommand),
    /// Registries that images come from
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Kernels that VMs boot
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Catalogs that images and kernels come from
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// What happened to VMs, images and kernels
    Events(EventsArgs),
    /// Show what takes room on this host's disk
    Df(DfArgs),
    /// Delete what no VM that runs needs
    Prune(prune::PruneArgs),
    /// The daemon that keeps the VMs
    #[command(subcommand)]
    Daemon(DaemonCommand),
    /// What was done on this host
    #[command(subcommand)]
    Host(HostCommand),
    /// Work that takes a while: what goes on, and what became of it
    #[command(subcommand)]
    Operations(OperationsCommand),
    /// Have VMs and images again that lie on the disk and are not known
    Recover(RecoverArgs),
    /// What the daemon is told by its file
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// The daemon as a service of systemd
    #[command(subcommand)]
    System(system::SystemCommand),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(ManArgs),
    /// Check whether this host can run VMs
    Doctor(DoctorArgs),
    /// Print version, commit and build time
    #[command(after_help = "Example:\n  banger version --json")]
    Version(JsonArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
}

/// `--json`, for commands that list or show.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `--quiet`, for commands that report progress.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct QuietArgs {
    /// Report no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// How a long command that can go on without us is waited for.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DetachArgs {
    /// Begin, print the operation's number, and leave it to go on
    #[arg(short, long)]
    pub(crate) detach: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger ps              the VMs that run
  banger ps -a           all VMs, like `banger vm list`")]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger df
  banger df --json | jq '.things | max_by(.unique_bytes)'

UNIQUE would come back if it went; SHARED is what others have, too. Holes in files take nothing.")]
pub(crate) struct DfArgs {
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// Show the daemon's process, build and places
    #[command(after_help = "Example:\n  banger daemon status --json | jq .pid")]
    Status(JsonArgs),
    /// Stop the daemon; VMs go on
    #[command(after_help = "Example:\n  banger daemon stop")]
    Stop,
    /// Start the daemon; commands that need it do so by themselves
    #[command(after_help = "Example:\n  banger daemon start")]
    Start,
    /// Print the OpenAPI document of the daemon's interface
    #[command(after_help = "Example:\n  banger daemon openapi > openapi.json")]
    Openapi,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger doctor
  banger doctor --json | jq '.[] | select(.verdict == \"fail\")'
  banger doctor --fix                  mend what can be mended

Exits with 1 if a check fails; a warning is no failure.")]
pub(crate) struct DoctorArgs {
    /// Remove what machines that are gone left behind, and close what others can enter
    #[arg(long)]
    pub(crate) fix: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    pub(crate) directory: std::path::PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger completion bash > ~/.local/share/bash-completion/completions/banger
  banger completion zsh > \"${fpath[1]}/_banger\"
  banger completion fish > ~/.config/fish/completions/banger.fish

Names of VMs, images and kernels are asked of the daemon; it is not started for that.")]
pub(crate) struct CompletionArgs {
    pub(crate) shell: Shell,
}

/// The shells that completion knows.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    fn check(line: &str, accepted: bool) {
        let parsed = Cli::try_parse_from(line.split(' '));
        match parsed {
            Ok(_) => assert!(accepted, "{line} must be refused"),
            Err(error) => {
                assert!(!accepted, "{line} must be accepted: {error}");
                assert_eq!(error.exit_code(), 2, "{line}");
            }
        }
    }

    #[test]
    fn commands_of_the_guest_come_behind_two_dashes() {
        check("banger run", true);
        check("banger run --rm -- uname -a", true);
        check("banger run --rm uname", false);
        check("banger run ./repo -- make", false);
        check("banger exec calm-otter -- ls --all", true);
        check("banger exec calm-otter ls", false);
        check("banger exec -- ls", false);
    }

    #[test]
    fn contradictions_are_refused_before_anything_happens() {
        check("banger run -d", true);
        check("banger run -d --rm", false);
        check("banger run -d -- true", false);
        check("banger run -t -T", false);
        check("banger run -d -t", false);
        check("banger vm logs a --console --vmm", false);
        check("banger run --snapshot ready --rm -- true", true);
        check("banger run --snapshot ready --image alpine", false);
        check("banger vm create --snapshot ready --no-start", false);
        check("banger run --pool web --rm -- true", true);
        check("banger run --pool web --memory 1G", false);
        check("banger run --pool web --snapshot ready", false);
        check("banger vm create --pool web --no-start", false);
    }

    #[test]
    fn values_that_are_wrong_are_refused() {
        check("banger run --name Calm", false);
        check("banger run --memory lots", false);
        check("banger run --vcpu 0", false);
        check("banger run --network bridge", false);
        check("banger run --vmm bochs", false);
        check("banger run --init bin/init", false);
        check("banger run -e =x", false);
        check("banger image import ../x tar:-", false);
        check("banger image import x x.tar", false);
        check("banger vm stop", false);
        check("banger vm fork a -n 0", false);
        check("banger vm fork a --name-prefix A", false);
        check("banger vm snapshot create a ../b", false);
        check("banger catalog add a.b https://x --key k", false);
        check("banger catalog add a https://x", false);
        check("banger kernel pull a/b", true);
        check("banger kernel pull a/b/c", false);
        check("banger image publish a", false);
        check("banger completion tcsh", false);
        check("banger pool create web --size 0", true);
        check("banger pool create web --size 101", false);
        check("banger pool create web --wait --detach", true);
        check("banger pool set web", false);
        check("banger pool set web -n 5", true);
        check("banger pool set web --size 101", false);
        check("banger pool create web -n 3 --image alpine:3", true);
    }

    #[test]
    fn short_forms_are_the_long_ones() {
        check("banger ps -a -q", true);
        check("banger vm list -a --json", true);
        check("banger vm ls", true);
        check("banger rm -f a b", true);
        check("banger vm rm a", true);
        check("banger image rm a", true);
        check("banger kernel delete a", true);
        check("banger catalog ls", true);
        check("banger catalog rm a b", true);
    }
}
