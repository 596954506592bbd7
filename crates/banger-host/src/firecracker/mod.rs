//! Firecracker as a VMM: how it is found, confined, configured, started and spoken to.
//!
//! | module | owns |
//! |---|---|
//! | `version` | what a release can do |
//! | `settings` | what a user may choose about it |
//! | `api`, `client` | its API as types, and the way there |
//! | `setup` | what a plan becomes: the calls, in order |
//! | `jail`, `cgroups` | where it lives, and how much it may use |
//! | `uplink` | the user-mode network behind its tap |
//! | `launch` | the order of a start |
//! | `control`, `exit`, `pipes` | a VMM that runs, ends, and what it says |

pub(crate) mod api;
mod cgroups;
pub(crate) mod client;
mod control;
mod exit;
pub(crate) mod jail;
pub(crate) mod launch;
mod pipes;
mod settings;
mod setup;
pub(crate) mod uplink;
pub(crate) mod version;

#[cfg(test)]
mod contract;

pub use settings::{
    CacheMode, CpuTemplate, FirecrackerSettings, IoEngine, RateLimit, SettingsError,
};

/// The program, and where to get it.
pub(crate) const PROGRAM: &str = "firecracker";
pub(crate) const JAILER: &str = "jailer";
pub(crate) const PACKAGE: &str = "firecracker";
