//! The commands and flags that concern VMs.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use super::{
    DetachArgs, JsonArgs, QuietArgs,
    event::VmEventsArgs,
    image_reference::ImageReference,
    names::{PoolName, SnapshotName, StoreName, Target, VmName},
    snapshot::{ForkArgs, RestoreArgs, SnapshotCommand},
    values::{Filter, IdleStop, Label, RestartPolicy, Size, Ttl, Variable, directory, init},
};
use crate::complete;

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Make a VM and open a shell in it, or run a command
    Run(RunArgs),
    /// Make a VM, start it and print its name
    Create(CreateArgs),
    /// Start VMs and wait until they answer
    Start(StartArgs),
    /// Stop VMs gracefully
    Stop(StopArgs),
    /// Stop VMs and start them again
    Restart(RestartArgs),
    /// End VMs at once
    Kill(KillArgs),
    /// Make VMs stand still; their memory stays
    Pause(PauseArgs),
    /// Let paused VMs go on
    Resume(ResumeArgs),
    /// Delete VMs and their disks
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// Delete all VMs that do not run
    Prune(PruneArgs),
    /// Give a VM another name
    Rename(RenameArgs),
    /// Change what a VM is made of, its labels, or how long it lives
    Set(SetArgs),
    /// Wait until VMs have stopped, run or are gone
    Wait(WaitArgs),
    /// List VMs
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a VM
    Show(ShowArgs),
    /// Run a command in a running VM
    Exec(ExecArgs),
    /// Save running VMs, to go on from there
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Take a VM back to a snapshot of its own
    Restore(RestoreArgs),
    /// Copy a running VM: memory, processes and files
    Fork(ForkArgs),
    /// Print what a VM's console, its VMM or its agent said
    Logs(LogsArgs),
    /// Show what VMs use
    Stats(StatsArgs),
    /// List what listens in VMs
    Ports(PortsArgs),
    /// What happened to a VM
    Events(VmEventsArgs),
}

/// What a new VM is made of. What is not given, the daemon decides.
#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// The VM's name: 1 to 63 of a-z, 0-9 and - [default: one is made up]
    #[arg(long)]
    pub(crate) name: Option<VmName>,
    /// Go on from this snapshot instead of booting
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::snapshots),
        conflicts_with_all = ["image", "kernel", "vcpu", "memory", "disk_size", "init", "network", "vmm"])]
    pub(crate) snapshot: Option<SnapshotName>,
    /// Take a machine of this pool, which is ready
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::pools),
        conflicts_with_all = ["image", "kernel", "vcpu", "memory", "disk_size", "init", "network", "vmm",
            "snapshot"])]
    pub(crate) pool: Option<PoolName>,
    /// Boot it, although a saved machine of its kind could go on instead
    #[arg(long, conflicts_with_all = ["snapshot", "pool"])]
    pub(crate) cold: bool,
    /// Image to make it from: a name or a reference [default: debian-bookworm]
    #[arg(long, add = ArgValueCandidates::new(complete::images))]
    pub(crate) image: Option<ImageReference>,
    /// Kernel to boot [default: generic-6.12 where it is, else debian-6.1]
    #[arg(long, add = ArgValueCandidates::new(complete::kernels))]
    pub(crate) kernel: Option<StoreName>,
    /// Virtual processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) vcpu: Option<u32>,
    /// Memory, as in 512M or 2G
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
    /// Size of the VM's own disk; it costs only what is written
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
    /// Write a label on it, to find it by
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<Label>,
    /// Delete it after this time, whatever it does then, as in 90s, 2h or 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Ttl>,
    /// Start it again when it ends: no, on-failure[:N], always or unless-stopped [default: no]
    #[arg(long, value_name = "POLICY", add = ArgValueCandidates::new(complete::restart_policies))]
    pub(crate) restart: Option<RestartPolicy>,
    /// Start it with this host
    #[arg(long)]
    pub(crate) autostart: bool,
    /// Stop it when nobody used it for this time, as in 30m or 2h, or never
    #[arg(long, value_name = "TIME")]
    pub(crate) idle_stop: Option<IdleStop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    User,
    None,
}

impl Network {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::None => "none",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vmm {
    Qemu,
    Firecracker,
}

impl Vmm {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Firecracker => "firecracker",
        }
    }
}

/// How a command runs in a guest.
#[derive(Debug, Args)]
pub(crate) struct ProcessArgs {
    /// Set a variable, or pass on this environment's value
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<Variable>,
    /// Directory to run it in
    #[arg(short, long, value_name = "DIR", value_parser = directory)]
    pub(crate) workdir: Option<String>,
    /// User to run it as: NAME, UID, NAME:GROUP or UID:GID [default: root]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Give it a terminal even if standard input or output is none
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Give it no terminal
    #[arg(short = 'T', long, conflicts_with = "tty")]
    pub(crate) no_tty: bool,
    /// Accepted as docker has it: standard input is always passed on
    #[arg(short, long, hide = true)]
    pub(crate) interactive: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger run                               a shell in a fresh machine, which stays
  banger run --rm -- uname -a              one command; the machine goes away afterwards
  banger run --name web --memory 2G -d     start it and come back
  banger run --rm --snapshot s -- true     go on from a saved machine
  banger run --rm --pool p -- true         take one that is ready
  tar c . | banger run --rm -- tar tv      standard input reaches the command
  banger run --rm --json -- true 2>&1 | jq .vm.boot    where the time went

Exits with the command's own code; 128 and the signal's number if a signal ended it; 125 if
banger failed before or around it, 126 if it is not executable, 127 if it is not there.
Ctrl-C reaches the command; the third within three seconds stops waiting for it.")]
pub(crate) struct RunArgs {
    /// Delete the VM when the command or shell has ended
    #[arg(long, conflicts_with_all = ["restart", "autostart"])]
    pub(crate) rm: bool,
    /// Start the VM, print its name and leave it running
    #[arg(short, long, conflicts_with_all = ["rm", "command", "tty", "no_tty"])]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    /// Program to run instead of the image's own entrypoint and command
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    /// In the end, print VM, boot and exit code as JSON, on standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// Command to run [default: the image's own, else the login shell]
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm create --name web --memory 2G
  vm=$(banger vm create --no-start)
  banger vm create --image alpine:3 --plan
  banger operations wait $(banger vm create --name web --detach)")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// Do not start it
    #[arg(long, conflicts_with_all = ["snapshot", "pool"])]
    pub(crate) no_start: bool,
    /// Print what would be done on this host, and do nothing
    #[arg(long, conflicts_with = "detach")]
    pub(crate) plan: bool,
    /// Print the plan as JSON
    #[arg(long, requires = "plan")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}

/// One VM or several.
#[derive(Debug, Args)]
pub(crate) struct TargetsArgs {
    /// Name, id or unique prefix
    #[arg(required_unless_present = "all", value_name = "VM",
        add = ArgValueCandidates::new(complete::vms))]
    pub(crate) targets: Vec<Target>,
    /// All VMs that this makes sense for
    #[arg(short, long, conflicts_with = "targets")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm start web
  banger vm start $(banger vm list -q)")]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm stop web
  banger vm stop --timeout 5 web db
  banger vm stop --all

A stop that has begun is carried through, also when this command is interrupted.")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
    /// How long the guest's services get to end
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm restart web
  banger vm restart --timeout 5 --all

The stop is carried through, also when this command is interrupted; the start ends with it.")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
    /// How long the guest's services get to end
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm kill web
  banger vm kill --all

As if the power failed: what the guest has not written to its disk is lost.")]
pub(crate) struct KillArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm prune --dry-run        what would go
  banger vm prune --force          do not ask

VMs that run, start or are paused stay.")]
pub(crate) struct PruneArgs {
    /// Only say what would be deleted
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger vm rename calm-otter web

A guest that runs sees its new name after its next start.")]
pub(crate) struct RenameArgs {
    /// Name, id or unique prefix
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::vms))]
    pub(crate) target: Target,
    /// The new name: 1 to 63 of a-z, 0-9 and -
    #[arg(value_name = "NAME")]
    pub(crate) name: VmName,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm set web --memory 4G --vcpu 2
  banger vm set web --disk-size 20G
  banger vm set web --network none
  banger vm set web --ttl 2h --label owner=me
  banger vm set web --restart unless-stopped --idle-stop never

A VM that runs has its new processors, memory and network from its next start on, and says until then what
it has. The disk grows at once under QEMU, and its file system with it; the rest changes at once, too.")]
pub(crate) struct SetArgs {
    /// Name, id or unique prefix
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::vms))]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// What is to be different; one of them at least.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ChangeArgs {
    /// Virtual processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) vcpu: Option<u32>,
    /// Memory, as in 512M or 2G
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
    /// Size of the VM's own disk, as large as it is at least
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk_size: Option<Size>,
    /// Network: user (outbound) or none
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(crate) network: Option<Network>,
    /// Write a label on it
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<Label>,
    /// Take a label away
    #[arg(long, value_name = "KEY")]
    pub(crate) unlabel: Vec<String>,
    /// Delete it after this time from now, or never
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Ttl>,
    /// Start it again when it ends: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY", add = ArgValueCandidates::new(complete::restart_policies))]
    pub(crate) restart: Option<RestartPolicy>,
    /// Start it with this host
    #[arg(long, overrides_with = "no_autostart")]
    pub(crate) autostart: bool,
    /// Do not start it with this host
    #[arg(long, overrides_with = "autostart")]
    pub(crate) no_autostart: bool,
    /// Stop it when nobody used it for this time, or never, or as the configuration says: default
    #[arg(long, value_name = "TIME")]
    pub(crate) idle_stop: Option<IdleStop>,
}

impl ChangeArgs {
    /// Whether it is to start with the host, where that is to be different.
    pub(crate) fn autostart(&self) -> Option<bool> {
        match (self.autostart, self.no_autostart) {
            (false, false) => None,
            (autostart, _) => Some(autostart),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm wait job && banger vm logs job
  banger vm wait --for running web
  banger vm wait --for deleted --timeout 60 web

Exits with 1 if a VM comes to another end than what is waited for, or when the time is over.")]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
    /// What to wait for: stopped, running or deleted
    #[arg(
        long = "for",
        value_enum,
        value_name = "STATE",
        default_value = "stopped",
        hide_possible_values = true
    )]
    pub(crate) wanted: Awaited,
    /// How long to wait at most
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Awaited {
    Stopped,
    Running,
    Deleted,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger vm pause web

A paused VM uses its memory and no processor. Its clock stands still, too.")]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger vm resume web")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm delete web
  banger rm -f $(banger ps -q)")]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
    /// Also those that run; they are killed
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm list
  banger vm list --filter label=owner=me --filter state=stopped
  banger vm list --json | jq -r '.[] | select(.state == \"stopped\").name'")]
pub(crate) struct ListArgs {
    /// All VMs, not only those that run; `vm list` does so anyway
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only those that are so: state=STATE, image=NAME, name=PART, label=KEY[=VALUE]
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<Filter>,
    /// Print names only
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm show web
  banger vm show web --json | jq -r .console_path")]
pub(crate) struct ShowArgs {
    /// Name, id or unique prefix
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::vms))]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger exec web                          the login shell
  banger exec web -- systemctl status
  banger exec -u nobody -w /tmp web -- id
  banger exec web -- tar c /etc > etc.tar

Exits as `banger run` does.")]
pub(crate) struct ExecArgs {
    /// Name, id or unique prefix
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::running_vms))]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    /// Command to run [default: the login shell]
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm logs web
  banger vm logs -f --tail 20 web
  banger vm logs --vmm web
  banger vm logs --agent web       what the agent in the guest did, with the time since the boot

On a terminal, control characters of the guest are shown instead of obeyed.")]
pub(crate) struct LogsArgs {
    /// Name, id or unique prefix
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::vms))]
    pub(crate) target: Target,
    /// Go on until the VM ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The guest's serial console (default)
    #[arg(long, conflicts_with = "vmm")]
    pub(crate) console: bool,
    /// What the VMM itself printed
    #[arg(long)]
    pub(crate) vmm: bool,
    /// What the guest's agent did since the boot; the VM has to run
    #[arg(long, conflicts_with_all = ["vmm", "console", "follow"])]
    pub(crate) agent: bool,
    /// Begin with the last lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tail: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm stats                      the VMs that run
  banger vm stats --watch web db
  banger vm stats --json | jq '.[] | {name, cpu_percent}'

CPU is of one processor, so two busy ones are 200%. MEM is what the VMM takes of this host, GUEST
what the guest says that it uses; DISK is what is really taken.")]
pub(crate) struct StatsArgs {
    /// Names, ids or unique prefixes [default: the VMs that run]
    #[arg(value_name = "VM", add = ArgValueCandidates::new(complete::vms))]
    pub(crate) targets: Vec<Target>,
    /// Go on, every two seconds
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger vm ports web
  banger vm ports --all --json | jq '.[].listeners[].port'")]
pub(crate) struct PortsArgs {
    #[command(flatten)]
    pub(crate) vms: TargetsArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}
