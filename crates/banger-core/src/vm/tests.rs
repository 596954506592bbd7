//! Stories of single VMs, without an engine: a real store, a host that exists in memory.

mod alone;
mod end;
mod exec;
mod pause;
mod start;
mod taken_up;
mod upkeep;
