//! Everything that turns bytes from outside into verified files to boot from:
//! Debian's archive, kernels, initramfs archives, root file systems as ext4.
//! Knows files and digests; knows no VM, no VMM and no daemon.
#![forbid(unsafe_code)]

pub mod auth;
pub mod blobs;
mod blocking;
pub mod bundle;
pub mod cache;
pub mod catalog;
pub mod debian;
mod decompress;
pub mod digest;
pub mod ext4;
pub mod fetch;
mod inflate;
pub mod initramfs;
pub mod kernel;
pub mod layers;
pub mod layout;
pub mod manifest;
mod pins;
pub mod progress;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod rootfs;
mod unpublished;
