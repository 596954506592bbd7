//! What a VM is made of, with the limits that hold everywhere. Knows no host.

use std::collections::BTreeMap;

use banger_image::kernel::KernelName;

use crate::{
    host::VmmKind,
    labels::{LabelError, Labels},
    name::ImageName,
    record::Seconds,
    upkeep::{IdleStop, RestartPolicy, Upkeep, UpkeepError},
};

/// Why a specification is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("a VM has 1 to {max} vCPUs, not {0}", max = Vcpus::MAX)]
    Vcpus(u32),
    #[error("a VM has {min} MiB to {max} GiB of memory, not {mib} MiB", min = Memory::MIN_MIB, max = Memory::MAX_MIB / 1024, mib = .0 / MIB)]
    Memory(u64),
    #[error("a VM's disk has {min} MiB to {max} TiB, not {mib} MiB", min = DiskSize::MIN / MIB, max = DiskSize::MAX >> 40, mib = .0 / MIB)]
    Disk(u64),
    #[error("a VM's disk only grows: it has {has} MiB, so it cannot have {wanted} MiB", has = .has / MIB, wanted = .wanted / MIB)]
    Shrinks { has: u64, wanted: u64 },
    #[error(
        "a VM lives at most {} days, or as long as it is not deleted",
        MOST_DAYS
    )]
    Ttl,
    #[error(transparent)]
    Label(#[from] LabelError),
    #[error(transparent)]
    Upkeep(#[from] UpkeepError),
    #[error("an init is auto, agent, systemd or an absolute path, not \"{0}\"")]
    Init(String),
    #[error("a network is user or none, not \"{0}\"")]
    Network(String),
    #[error("a VMM is qemu or firecracker, not \"{0}\"")]
    Vmm(String),
}

const MIB: u64 = 1 << 20;

/// Longer than that is for ever.
const MOST_DAYS: u64 = 3650;

/// When a VM that may live so many seconds from now on is deleted; with none, never.
pub fn expiry(ttl: Seconds, now: Seconds) -> Result<Option<Seconds>, SpecError> {
    match ttl {
        0 => Ok(None),
        ttl if ttl <= MOST_DAYS * 24 * 3600 => Ok(Some(now.saturating_add(ttl))),
        _ => Err(SpecError::Ttl),
    }
}

/// How many virtual processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vcpus(u32);

impl Vcpus {
    /// Firecracker's limit; QEMU's is far above it.
    pub const MAX: u32 = 32;

    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vcpus {
    type Error = SpecError;

    fn try_from(count: u32) -> Result<Self, SpecError> {
        if (1..=Self::MAX).contains(&count) {
            Ok(Self(count))
        } else {
            Err(SpecError::Vcpus(count))
        }
    }
}

impl From<Vcpus> for u32 {
    fn from(value: Vcpus) -> Self {
        value.0
    }
}

/// Guest memory, a whole number of MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory(u64);

impl Memory {
    pub const MIN_MIB: u64 = 64;
    pub const MAX_MIB: u64 = 1 << 20;

    /// Rounds up to a whole MiB.
    pub fn from_bytes(bytes: u64) -> Result<Self, SpecError> {
        let mib = bytes.div_ceil(MIB);
        if (Self::MIN_MIB..=Self::MAX_MIB).contains(&mib) {
            Ok(Self(mib))
        } else {
            Err(SpecError::Memory(bytes))
        }
    }

    #[must_use]
    pub fn mib(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 * MIB
    }
}

impl TryFrom<u64> for Memory {
    type Error = SpecError;

    fn try_from(bytes: u64) -> Result<Self, SpecError> {
        Self::from_bytes(bytes)
    }
}

impl From<Memory> for u64 {
    fn from(value: Memory) -> Self {
        value.bytes()
    }
}

/// The size of a VM's own disk in bytes, a whole number of MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSize(u64);

impl DiskSize {
    pub const MIN: u64 = 64 * MIB;
    /// What the disk's format reaches.
    pub const MAX: u64 = banger_image::ext4::MAX_DISK_BYTES;

    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for DiskSize {
    type Error = SpecError;

    fn try_from(bytes: u64) -> Result<Self, SpecError> {
        let whole = bytes.div_ceil(MIB).saturating_mul(MIB);
        if (Self::MIN..=Self::MAX).contains(&whole) {
            Ok(Self(whole))
        } else {
            Err(SpecError::Disk(bytes))
        }
    }
}

impl From<DiskSize> for u64 {
    fn from(value: DiskSize) -> Self {
        value.0
    }
}

/// Who is the guest's first process once the root is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// systemd where the image has it, else the agent.
    Auto,
    Agent,
    Systemd,
    Path(String),
}

impl TryFrom<String> for Init {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "agent" => Ok(Self::Agent),
            "systemd" => Ok(Self::Systemd),
            path if path.starts_with('/') && path.len() < 256 && path.is_ascii() => {
                Ok(Self::Path(text))
            }
            _ => Err(SpecError::Init(text.chars().take(80).collect())),
        }
    }
}

impl From<Init> for String {
    fn from(value: Init) -> Self {
        match value {
            Init::Auto => "auto".into(),
            Init::Agent => "agent".into(),
            Init::Systemd => "systemd".into(),
            Init::Path(path) => path,
        }
    }
}

/// How a VM reaches the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The VMM's own user-mode network: outbound only, no privilege.
    User,
    None,
}

impl Network {
    /// The word in rows, documents and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::None => "none",
        }
    }
}

/// Everything that a VM was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    pub image: ImageName,
    pub kernel: KernelName,
    /// Why it is this kernel.
    pub kernel_reason: String,
    pub vcpus: Vcpus,
    pub memory: Memory,
    pub disk: DiskSize,
    pub init: Init,
    pub network: Network,
    /// The VMM that was asked for; the host probe decides where it is absent.
    pub vmm: Option<VmmKind>,
    /// The VM goes away with the session that it was made for.
    pub auto_remove: bool,
    pub labels: Labels,
    /// When the VM is deleted, whatever it does then.
    pub expires_at: Option<Seconds>,
    pub upkeep: Upkeep,
}

/// What is to be different of a VM; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecChange {
    pub vcpus: Option<Vcpus>,
    pub memory: Option<Memory>,
    pub disk: Option<DiskSize>,
    pub network: Option<Network>,
    pub set_labels: BTreeMap<String, String>,
    pub remove_labels: Vec<String>,
    /// When it is deleted; `Some(None)` for never.
    pub expires_at: Option<Option<Seconds>>,
    pub restart: Option<RestartPolicy>,
    pub autostart: Option<bool>,
    pub idle_stop: Option<IdleStop>,
}

impl SpecChange {
    /// Whether it is a change of what a VMM is told when it begins, and cannot follow later.
    #[must_use]
    pub fn is_of_its_build(&self) -> bool {
        self.vcpus.is_some() || self.memory.is_some() || self.network.is_some()
    }

    /// The changed specification. A disk that is full of a guest's files does not shrink.
    pub fn apply(&self, spec: &VmSpec) -> Result<VmSpec, SpecError> {
        let disk = self.disk.unwrap_or(spec.disk);
        if disk.bytes() < spec.disk.bytes() {
            return Err(SpecError::Shrinks {
                has: spec.disk.bytes(),
                wanted: disk.bytes(),
            });
        }
        let upkeep = Upkeep {
            restart: self.restart.unwrap_or(spec.upkeep.restart),
            autostart: self.autostart.unwrap_or(spec.upkeep.autostart),
            idle_stop: self.idle_stop.unwrap_or(spec.upkeep.idle_stop),
        };
        if spec.auto_remove && upkeep.restart != RestartPolicy::No {
            return Err(UpkeepError::AutoRemove.into());
        }
        Ok(VmSpec {
            upkeep,
            vcpus: self.vcpus.unwrap_or(spec.vcpus),
            memory: self.memory.unwrap_or(spec.memory),
            disk,
            network: self.network.unwrap_or(spec.network),
            labels: spec
                .labels
                .changed(self.set_labels.clone(), &self.remove_labels)?,
            expires_at: self.expires_at.unwrap_or(spec.expires_at),
            ..spec.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_at_both_ends() {
        let cases = [
            (Vcpus::try_from(0).is_ok(), false),
            (Vcpus::try_from(1).is_ok(), true),
            (Vcpus::try_from(33).is_ok(), false),
            (Memory::from_bytes(1).is_ok(), false),
            (Memory::from_bytes(64 * MIB).is_ok(), true),
            (DiskSize::try_from(0).is_ok(), false),
            (DiskSize::try_from(u64::MAX).is_ok(), false),
            (DiskSize::try_from(15 << 40).is_ok(), true),
            (DiskSize::try_from((15 << 40) + 1).is_ok(), false),
            (DiskSize::try_from(8 << 30).is_ok(), true),
        ];
        for (index, (got, wanted)) in cases.into_iter().enumerate() {
            assert_eq!(got, wanted, "case {index}");
        }
    }

    #[test]
    fn an_init_survives_its_text() {
        for text in ["auto", "agent", "systemd", "/sbin/openrc-init"] {
            let init = Init::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(init), text);
        }
        assert!(Init::try_from("runit".to_owned()).is_err());
    }
}
