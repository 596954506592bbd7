//! What banger knows about machines: names, specifications, states, policies, the store and
//! the tasks that own VMs. Acts on Linux only through the [`host::Host`] port.
#![forbid(unsafe_code)]

pub mod exec;
pub mod host;
pub mod host_error;
pub mod name;
pub mod policy;
pub mod record;
pub mod spec;
pub mod store;
