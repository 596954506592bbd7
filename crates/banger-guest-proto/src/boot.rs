//! Owns what the kernel's command line tells the agent, as words `banger.KEY=VALUE`. Knows no command line of its own.
//!
//! Host and agent use this one type for both directions, so what one renders the other understands. Values are
//! percent-escaped, because the kernel splits its command line at blanks and gives quotes a meaning. Words that do not
//! begin with `banger.` belong to others and are skipped; an unknown `banger.` word is an error, since host and agent come
//! from one build and a word that nobody reads is a mistake.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

mod value;
mod words;

pub use value::{Channel, DeviceRef, Hostname, Init, Name, Net, ValueError};

/// x86 Linux cuts its command line here.
pub const MAX_COMMAND_LINE: usize = 2048;

/// Everything that the agent needs before there is a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootConfig {
    pub hostname: Hostname,
    /// The root file system: the overlay's read-only lower layer, or the root itself when there is no disk.
    pub root: DeviceRef,
    pub root_fs: Name,
    /// The machine's own disk, an ext4 file system that becomes the overlay's upper layer.
    pub disk: Option<DeviceRef>,
    pub channel: Channel,
    pub net: Option<Net>,
    pub init: Init,
    /// The host's clock when the machine was started, in nanoseconds since 1970.
    pub time_ns: Option<u64>,
    /// The agent tells what it does on the console.
    pub debug: bool,
}

/// A command line that the agent cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootConfigError {
    #[error("the command line has {0} bytes, more than {MAX_COMMAND_LINE}")]
    TooLong(usize),
    #[error("banger.{0} is missing")]
    Missing(&'static str),
    #[error("banger.{0} occurs twice")]
    Twice(&'static str),
    #[error("banger.{key} is not understood")]
    Value {
        key: &'static str,
        #[source]
        source: ValueError,
    },
    #[error("no such word: banger.{0}")]
    Unknown(String),
}

impl BootConfig {
    /// The words for the kernel's command line, without those that are for the kernel itself.
    #[must_use]
    pub fn render(&self) -> String {
        words::render(self)
    }

    /// Reads a whole command line.
    ///
    /// # Errors
    /// Fails when a needed word is missing, or one is not understood.
    pub fn parse(command_line: &str) -> Result<Self, BootConfigError> {
        words::parse(command_line)
    }
}

/// The initramfs's module directory: the files to load, and `order`, with a line `PURPOSE FILE` for each. `bus` comes
/// first; `root` and `other` do not need each other; `vsock` is needed only for [`Channel::Vsock`].
pub const MODULES_DIR: &str = "/modules";
/// The agent's place in the initramfs.
pub const INIT_PATH: &str = "/init";

/// Phrases that the agent prints on the console when a boot cannot go on, so that the host can say what is wrong.
/// Each line is `banger-agent: fatal: PHRASE: CAUSE`.
pub mod fatal {
    /// What every fatal line begins with.
    pub const PREFIX: &str = "banger-agent: fatal: ";
    pub const COMMAND_LINE: &str = "command line is not understood";
    pub const MODULES: &str = "kernel modules cannot be loaded";
    pub const ROOT_NOT_FOUND: &str = "root device not found";
    pub const ROOT_NOT_MOUNTED: &str = "root file system cannot be mounted";
    pub const DISK_NOT_FOUND: &str = "disk device not found";
    pub const DISK_NOT_MOUNTED: &str = "disk file system cannot be mounted";
    pub const OVERLAY: &str = "overlay cannot be mounted";
    pub const SWITCH_ROOT: &str = "root cannot be switched";
    pub const CHANNEL: &str = "channel to the host cannot be opened";
    pub const INIT: &str = "init cannot be started";
    pub const BOOT: &str = "boot failed";
}

impl fmt::Display for BootConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

impl FromStr for BootConfig {
    type Err = BootConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Net {
    /// QEMU's user network as it is without options.
    #[must_use]
    pub fn qemu_user() -> Self {
        Self {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
            dns: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3))],
        }
    }
}
