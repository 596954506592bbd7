//! Firecracker as a VMM: how it is found, confined, configured, started and spoken to.
//!
//! | module | owns |
//! |---|---|
//! | `version` | what a release can do |
//! | `settings` | what a user may choose about it |
//! | `api`, `client` | its configuration and its API as types, and the way there |
//! | `setup` | what a plan becomes: the machine's configuration |
//! | `programs` | which Firecracker, which jailer, which confinement |
//! | `jail` | where it lives |
//! | `walls` | what it sees from there, and what it may do |
//! | `uplink` | the user-mode network behind its tap |
//! | `launch` | the order of a start |
//! | `saved` | a machine's state on its way out and in again |
//! | `control`, `exit`, `pipes` | a VMM that runs, ends, and what it says |

pub(crate) mod api;
pub(crate) mod client;
mod control;
mod exit;
pub(crate) mod jail;
pub(crate) mod launch;
mod pipes;
pub(crate) mod programs;
mod saved;
mod settings;
mod setup;
pub(crate) mod uplink;
pub(crate) mod version;
pub(crate) mod walls;

#[cfg(test)]
mod contract;

pub use settings::{
    CacheMode, CpuTemplate, FirecrackerSettings, IoEngine, RateLimit, SettingsError,
};

/// The program, and where to get it.
pub(crate) const PROGRAM: &str = "firecracker";
pub(crate) const JAILER: &str = "jailer";
pub(crate) const PACKAGE: &str = "firecracker";
