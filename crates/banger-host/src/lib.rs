//! The only code that acts on Linux: VMMs, processes, sockets, probes. Implements the port
//! that `banger-core` declares; decides nothing about VMs and knows neither store nor API.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("banger-host acts on Linux on x86-64 only");

mod acts;
mod admission;
mod arrivals;
mod boot_failure;
mod cgroups;
mod choice;
mod command_line;
mod control;
mod doctor;
mod firecracker;
#[doc(hidden)]
pub mod fuzzing;
mod guest;
mod headroom;
mod host;
mod lock;
mod log_keeper;
mod logs;
mod machine;
pub mod memory;
mod mmdebstrap;
mod places;
mod probe;
mod process;
mod qemu;
mod shared_blocks;
mod sparse;
mod subids;
mod sys;
mod task;
mod tsc;
mod usage;
mod userns;

pub use firecracker::{
    CacheMode, CpuTemplate, FirecrackerSettings, IoEngine, RateLimit, SettingsError,
};
pub use host::{HostConfig, LinuxHost};
pub use probe::KvmVerdict;
