//! The command and flags that clean up.

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger prune --dry-run           what would go, and what that frees
  banger prune --force             do not ask
  banger prune --images --cache    no VMs and no kernels

Goes: VMs that do not run, with all that they wrote; images and kernels that no other VM needs; what
earlier pulls left for later ones. VMs that run, start or are paused stay, and so do snapshots.")]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) what: PruneWhat,
    /// Only say what would go
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// What is to go; everything where nothing is named.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PruneWhat {
    /// VMs that do not run
    #[arg(long)]
    pub(crate) vms: bool,
    /// Images that no VM needs
    #[arg(long)]
    pub(crate) images: bool,
    /// Kernels that no VM and no image needs
    #[arg(long)]
    pub(crate) kernels: bool,
    /// What earlier pulls left
    #[arg(long)]
    pub(crate) cache: bool,
}

impl PruneWhat {
    pub(crate) const IMAGES: Self = Self {
        vms: false,
        images: true,
        kernels: false,
        cache: false,
    };

    /// With everything said that is meant.
    pub(crate) fn or_all(self) -> Self {
        match self {
            Self {
                vms: false,
                images: false,
                kernels: false,
                cache: false,
            } => Self {
                vms: true,
                images: true,
                kernels: true,
                cache: true,
            },
            some => some,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger image prune --dry-run     what would go, and what that frees
  banger image prune --force       do not ask

Layers that were unpacked for them stay for later pulls; `banger image cache prune` removes those.")]
pub(crate) struct ImagePruneArgs {
    /// Only say what would go
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}
