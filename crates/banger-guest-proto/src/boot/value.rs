//! Owns the types of the boot configuration's values and their unescaped text forms. Knows no words or escapes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Resolvers that a `resolv.conf` may list; libc's readers use no more.
const MAX_DNS: usize = 3;

/// A value that does not fit its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("it has no valid escapes")]
    Escape,
    #[error("it is no host name of 1 to 63 of a-z, 0-9 and '-'")]
    Hostname,
    #[error("it is no name of 1 to 64 letters, digits, '.', '_' and '-'")]
    Name,
    #[error("it is neither serial:NAME nor /dev/NAME")]
    Device,
    #[error("it is neither virtio-serial:NAME nor vsock:PORT")]
    Channel,
    #[error("it is neither auto, agent, systemd nor an absolute path")]
    Init,
    #[error("it is not ADDRESS/PREFIX[,gw=ADDRESS][,dns=ADDRESS]...")]
    Net,
    #[error("it is no number")]
    Number,
}

/// A guest's name: one label, as DNS wants it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

impl Hostname {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with('-')
            && !text.ends_with('-');
        fits.then(|| Self(text.into())).ok_or(ValueError::Hostname)
    }
}

impl TryFrom<String> for Hostname {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A short name of something in the kernel: a serial number, a port, a file system type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain) && text != "..";
        (fits && text != ".")
            .then(|| Self(text.into()))
            .ok_or(ValueError::Name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which block device is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceRef {
    /// The one with this serial number; virtio's have at most 20 characters.
    Serial(Name),
    /// The one with this name below `/dev`.
    Dev(Name),
}

impl FromStr for DeviceRef {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(serial) = text.strip_prefix("serial:") {
            return serial
                .parse()
                .map(Self::Serial)
                .map_err(|_| ValueError::Device);
        }
        let name = text.strip_prefix("/dev/").ok_or(ValueError::Device)?;
        name.parse().map(Self::Dev).map_err(|_| ValueError::Device)
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(name) => write!(f, "serial:{name}"),
            Self::Dev(name) => write!(f, "/dev/{name}"),
        }
    }
}

/// Where the agent meets the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// A virtio-serial port with this name.
    VirtioSerial(Name),
    /// The agent listens on this vsock port.
    Vsock(u32),
}

impl FromStr for Channel {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("virtio-serial", name)) => name
                .parse()
                .map(Self::VirtioSerial)
                .map_err(|_| ValueError::Channel),
            Some(("vsock", port)) => number(port)
                .map(Self::Vsock)
                .map_err(|_| ValueError::Channel),
            Some(_) | None => Err(ValueError::Channel),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VirtioSerial(name) => write!(f, "virtio-serial:{name}"),
            Self::Vsock(port) => write!(f, "vsock:{port}"),
        }
    }
}

/// Who becomes process 1 once the root is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Init {
    /// systemd where the image has it, else the agent.
    Auto,
    Agent,
    Systemd,
    /// This program of the image.
    Path(String),
}

impl FromStr for Init {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "agent" => Ok(Self::Agent),
            "systemd" => Ok(Self::Systemd),
            path if path.starts_with('/') && path.len() <= 255 && !path.contains('\0') => {
                Ok(Self::Path(path.into()))
            }
            _ => Err(ValueError::Init),
        }
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Agent => f.write_str("agent"),
            Self::Systemd => f.write_str("systemd"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// The first network interface's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Net {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    /// At most three.
    pub dns: Vec<IpAddr>,
}

impl FromStr for Net {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let (address, prefix) = parts
            .next()
            .and_then(|part| part.split_once('/'))
            .ok_or(ValueError::Net)?;
        let mut net = Self {
            address: address.parse().map_err(|_| ValueError::Net)?,
            prefix: number(prefix).map_err(|_| ValueError::Net)?,
            gateway: None,
            dns: Vec::new(),
        };
        for part in parts {
            match part.split_once('=') {
                Some(("gw", gateway)) if net.gateway.is_none() => {
                    net.gateway = Some(gateway.parse().map_err(|_| ValueError::Net)?);
                }
                Some(("dns", server)) if net.dns.len() < MAX_DNS => {
                    net.dns.push(server.parse().map_err(|_| ValueError::Net)?);
                }
                Some(_) | None => return Err(ValueError::Net),
            }
        }
        if net.prefix > 32 {
            Err(ValueError::Net)
        } else {
            Ok(net)
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)?;
        if let Some(gateway) = self.gateway {
            write!(f, ",gw={gateway}")?;
        }
        self.dns
            .iter()
            .take(MAX_DNS)
            .try_for_each(|server| write!(f, ",dns={server}"))
    }
}

/// Parses digits only: Rust's own parser also takes a sign.
pub(super) fn number<T: FromStr>(text: &str) -> Result<T, ValueError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::Number);
    }
    text.parse().map_err(|_| ValueError::Number)
}
