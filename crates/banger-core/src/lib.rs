//! What banger knows about machines: names, specifications, states, policies, the store and
//! the tasks that own VMs. Acts on Linux only through the [`host::Host`] port.
#![forbid(unsafe_code)]

pub mod assembly;
pub mod boots;
pub mod catalogs;
pub mod credentials;
pub mod debian_settings;
pub mod df;
pub mod engine;
pub mod error;
pub mod events;
pub mod exec;
mod generated_name;
pub mod holder;
pub mod host;
pub mod host_error;
pub mod image_catalog;
pub mod image_config;
pub mod image_target;
pub mod images;
pub mod journal;
pub mod kernels;
pub mod labels;
pub mod leftovers;
mod locks;
pub mod name;
pub mod operations;
pub mod policy;
pub mod pool;
pub mod record;
pub mod recovery;
pub mod snapshot;
pub mod snapshots;
pub mod spec;
pub mod store;
mod target;
#[cfg(test)]
mod testing;
pub mod upkeep;
pub mod vm;

pub use banger_image::{
    auth, blobs, bundle, cache, catalog, debian, digest, ext4, fetch, initramfs, kernel, layers,
    layout, manifest, progress, pull, reference, registry, rootfs,
};
