//! Owns the order of an early boot, from the initramfs to the machine's own root. Each step is a module's.

pub(crate) mod clock;
mod device;
pub(crate) mod hostname;
pub(crate) mod identity;
mod modules;
mod mounts;
pub(crate) use mounts::cgroups;
mod net;
pub(crate) use net::Card;
mod root;
pub(crate) use root::grow_written;
mod switch;

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;

use banger_guest_proto::boot::{BootConfig, BootConfigError, fatal};
use banger_guest_proto::hello::BootMarks;

use crate::console;

/// What the boot leaves behind for the server and init.
#[derive(Debug)]
pub(crate) struct Booted {
    pub(crate) config: BootConfig,
    pub(crate) marks: BootMarks,
    /// The file system that the machine writes to, for the end.
    pub(crate) disk: OwnedFd,
    /// Where the machine has a network.
    pub(crate) card: Option<Card>,
}

/// A boot that cannot go on: a phrase for the host, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("{phrase}")]
pub(crate) struct Fatal {
    pub(crate) phrase: &'static str,
    #[source]
    pub(crate) cause: Box<dyn Error>,
}

/// Names the phrase under which an error is fatal.
pub(crate) trait OrFatal<T> {
    fn or_fatal(self, phrase: &'static str) -> Result<T, Fatal>;
}

impl<T, E: Error + 'static> OrFatal<T> for Result<T, E> {
    fn or_fatal(self, phrase: &'static str) -> Result<T, Fatal> {
        self.map_err(|error| Fatal {
            phrase,
            cause: Box::new(error),
        })
    }
}

/// A step's failure that does not stop the boot.
pub(crate) fn tolerate<E: Error + 'static>(what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        console::warn(what, &error);
    }
}

/// Boots up to the point where the machine's own root is in place.
pub(crate) fn boot() -> Result<Booted, Fatal> {
    let mut marks = BootMarks {
        init_entered: Some(clock::uptime_ns()),
        ..BootMarks::default()
    };
    mounts::early().or_fatal(fatal::BOOT)?;
    let config = read_config().or_fatal(fatal::COMMAND_LINE)?;
    quieten(&config);

    let modules = modules::load(&config.channel).or_fatal(fatal::MODULES)?;
    marks.modules_loaded = Some(clock::uptime_ns());
    console::trace(format_args!("modules for the root are loaded"));

    let disk = root::assemble(&config)?;
    marks.root_mounted = Some(clock::uptime_ns());
    console::trace(format_args!("root is assembled"));
    mounts::leave_early();
    switch::into(root::NEW_ROOT).or_fatal(fatal::SWITCH_ROOT)?;
    mounts::in_root().or_fatal(fatal::SWITCH_ROOT)?;
    console::trace(format_args!("root is switched"));

    tolerate("clock", clock::set_if_far_off(config.time_ns));
    tolerate("host name", hostname::set(&config.hostname));
    tolerate("files in /etc", identity::write(&config));
    console::trace(format_args!("machine has its name"));
    modules.finish().or_fatal(fatal::MODULES)?;
    console::trace(format_args!("all modules are loaded"));
    let card = net::configure(config.net.as_ref()).unwrap_or_else(|error| {
        console::warn("network", &error);
        None
    });
    console::trace(format_args!("network is configured"));
    Ok(Booted {
        config,
        marks,
        disk,
        card,
    })
}

/// Why the command line gives no configuration.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error("cannot read /proc/cmdline")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Parse(#[from] BootConfigError),
}

fn read_config() -> Result<BootConfig, ConfigError> {
    let line = std::fs::read_to_string("/proc/cmdline").map_err(ConfigError::Read)?;
    Ok(BootConfig::parse(line.trim_end())?)
}

/// Keeps the kernel's chatter off the console, which is slow and where a failure must stand out.
fn quieten(config: &BootConfig) {
    if config.debug {
        console::enable_trace();
    } else {
        tolerate(
            "console level",
            std::fs::write("/proc/sys/kernel/printk", "4"),
        );
    }
}
