//! The only code that acts on Linux: VMMs, processes, sockets, probes. Implements the port
//! that `banger-core` declares; decides nothing about VMs and knows neither store nor API.

mod logs;
mod boot_failure;
mod lock;
mod probe;
mod process;
mod sys;
mod tsc;
