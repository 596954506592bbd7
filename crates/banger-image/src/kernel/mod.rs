//! Owns kernels on disk: their names and manifests, where they come from, the store that holds
//! them. Knows no VM that boots them.

mod assemble;
pub mod boot_modules;
mod bundle;
pub mod bzimage;
pub mod catalog;
mod config;
pub mod elf;
mod error;
pub mod manifest;
mod pull;
mod staging;
pub mod store;

pub use bundle::{Shelf, ShelfError};
pub use catalog::{CatalogEntry, DebianPackage, KernelSource, UnknownKernel, embedded};
pub use error::KernelError;
pub use manifest::{
    Arch, BootModule, CommandLine, CommandLineError, KernelName, Manifest, NameError, Origin,
};
pub use pull::Upstream;
pub use store::{IfTaken, Kernel, KernelStore};
