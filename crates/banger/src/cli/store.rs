//! The commands and flags that concern images and kernels.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use super::{
    DetachArgs, JsonArgs, QuietArgs,
    catalog::PublishArgs,
    image_reference::ImageReference,
    names::{EntryName, StoreName},
    prune::ImagePruneArgs,
    values::{Room, Source},
};
use crate::complete;

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    #[command(visible_alias = "ls")]
    List(ImageListArgs),
    /// Show an image
    Show(ImageShowArgs),
    /// Delete images that no VM uses
    #[command(visible_alias = "rm")]
    Delete(ImageDeleteArgs),
    /// Delete all images that no VM uses
    Prune(ImagePruneArgs),
    /// Make an image of a tar of a root file system
    Import(ImageImportArgs),
    /// Get an image from a registry, a layout or a catalog
    Pull(ImagePullArgs),
    /// Make a file of this host an image, as it is
    Register(ImageRegisterArgs),
    /// Copy registered images into banger's own store
    Promote(ImagePromoteArgs),
    /// Put an image into a directory from which others can pull it
    Publish(ImagePublishArgs),
    /// What earlier pulls left for later ones
    #[command(subcommand)]
    Cache(CacheCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List layers and blobs, the one that was not used for longest first
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  banger image cache list --json | jq .bytes")]
    List(JsonArgs),
    /// Remove what was not used for longest
    Prune(CachePruneArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger image list
  banger image list --available
  banger image list --json")]
pub(crate) struct ImageListArgs {
    /// What the catalogs offer
    #[arg(long)]
    pub(crate) available: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger image publish web --to /srv/www/banger
  banger image publish web --to catalog --key acme.key --valid-days 90

The directory gets a bundle and a signed catalog; any web server can serve it as it is. What is
published once more takes the place of what was there. `banger catalog key generate` makes the key.")]
pub(crate) struct ImagePublishArgs {
    #[arg(add = ArgValueCandidates::new(complete::images))]
    pub(crate) name: StoreName,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger image cache prune
  banger image cache prune --keep 5G --dry-run

What a running pull needs stays. Images keep all that they have.")]
pub(crate) struct CachePruneArgs {
    /// How much may stay, as in 512M or 5G
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "0",
        hide_default_value = true
    )]
    pub(crate) keep: Room,
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger image show debian-bookworm
  banger image show debian-bookworm --json | jq -r .rootfs_path")]
pub(crate) struct ImageShowArgs {
    #[arg(add = ArgValueCandidates::new(complete::images))]
    pub(crate) name: StoreName,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger image delete alpine busybox")]
pub(crate) struct ImageDeleteArgs {
    #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(complete::images))]
    pub(crate) names: Vec<StoreName>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger image import alpine tar:alpine-minirootfs.tar.gz
  docker export web | banger image import web tar:-

The tar may be compressed with gzip, xz or zstd.")]
pub(crate) struct ImageImportArgs {
    /// Name of the new image
    pub(crate) name: StoreName,
    /// tar:FILE, or tar:- for standard input
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger image pull debian-bookworm
  banger image pull acme/web
  banger image pull docker.io/library/alpine:3
  banger image pull --name web 127.0.0.1:5000/web@sha256:0123...
  banger image pull oci:layout:v1
  banger image pull docker-archive:saved.tar

What is here already is not fetched again, and the network is not asked.")]
pub(crate) struct ImagePullArgs {
    /// Name in a catalog, CATALOG/NAME, or image reference
    #[arg(value_name = "REF", add = ArgValueCandidates::new(complete::available_images))]
    pub(crate) reference: ImageReference,
    /// Name of the new image [default: made from the reference]
    #[arg(long)]
    pub(crate) name: Option<StoreName>,
    /// Platform to get it for, as in linux/arm64 [default: this host's]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// The registry may be plain HTTP or have any certificate
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Print a line of JSON for each step, and for the image at the end
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger image register --name mine --rootfs rootfs.ext4
  banger image register --name mine --rootfs rootfs.ext4 --kernel-ref debian-6.1
  banger image register --name mine --rootfs rootfs.ext4 --kernel ~/linux/out

The file stays where it is and must not change while VMs use it.")]
pub(crate) struct ImageRegisterArgs {
    /// Name of the new image
    #[arg(long)]
    pub(crate) name: StoreName,
    /// File with an ext4 file system
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) rootfs: PathBuf,
    /// Kernel of the local store or the catalog that its VMs boot
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::kernels))]
    pub(crate) kernel_ref: Option<StoreName>,
    /// Directory with a kernel and its modules, imported under the image's name
    #[arg(long, value_name = "DIR", conflicts_with = "kernel_ref", value_hint = ValueHint::DirPath)]
    pub(crate) kernel: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger image promote mine")]
pub(crate) struct ImagePromoteArgs {
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::images))]
    pub(crate) name: StoreName,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// List kernels
    #[command(visible_alias = "ls")]
    List(KernelListArgs),
    /// Show a kernel
    Show(KernelShowArgs),
    /// Delete kernels that no VM uses
    #[command(visible_alias = "delete")]
    Rm(KernelRmArgs),
    /// Make a kernel of a directory's vmlinux and modules
    Import(KernelImportArgs),
    /// Get a kernel of a catalog
    Pull(KernelPullArgs),
    /// Put a kernel into a directory from which others can pull it
    Publish(KernelPublishArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger kernel publish generic-6.12 --to /srv/www/banger

The directory gets a bundle and a signed catalog; any web server can serve it as it is. Whoever
gives a Linux kernel to others owes them its source.")]
pub(crate) struct KernelPublishArgs {
    #[arg(add = ArgValueCandidates::new(complete::kernels))]
    pub(crate) name: StoreName,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger kernel list
  banger kernel list --available")]
pub(crate) struct KernelListArgs {
    /// What the catalogs offer
    #[arg(long)]
    pub(crate) available: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger kernel show debian-6.1")]
pub(crate) struct KernelShowArgs {
    #[arg(add = ArgValueCandidates::new(complete::kernels))]
    pub(crate) name: StoreName,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger kernel rm debian-6.1")]
pub(crate) struct KernelRmArgs {
    #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(complete::kernels))]
    pub(crate) names: Vec<StoreName>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger kernel import mine --from ~/linux/out
  banger kernel import mine --from ~/linux/out --cmdline 'lpj=10000000 noxsave'

The directory holds `vmlinux` or a bzImage and, where the kernel has modules, their tree.")]
pub(crate) struct KernelImportArgs {
    /// Name of the new kernel
    pub(crate) name: StoreName,
    /// Directory to take it from
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) from: PathBuf,
    /// Words that this kernel must be told; they win over banger's own
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) cmdline: String,
    /// Replace a kernel of this name
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger kernel pull debian-6.1
  banger kernel pull acme/generic-6.12")]
pub(crate) struct KernelPullArgs {
    /// NAME, or CATALOG/NAME
    #[arg(add = ArgValueCandidates::new(complete::available_kernels))]
    pub(crate) name: EntryName,
    /// Replace a kernel of this name
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
}
