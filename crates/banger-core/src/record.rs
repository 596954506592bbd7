//! What is known of a VM: the durable record, and its states. Knows no task and no table.

use crate::{
    holder::Holder,
    host::VmmChoice,
    name::{VmId, VmName},
    spec::VmSpec,
    upkeep::Life,
};

/// Where a VM is in its life. States with a verb in progress are written down before the
/// act begins, so that a restart knows what was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmState {
    Created,
    Starting,
    Running,
    /// It stands still, and its memory stays.
    Paused,
    Stopping,
    Deleting,
    Stopped,
    Error,
}

impl VmState {
    /// The word in rows and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Deleting => "deleting",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }

    /// Whether a VM with such a row may have a VMM that an earlier daemon left: an error may be
    /// that it could not be ended.
    #[must_use]
    pub fn may_have_a_vmm(self) -> bool {
        match self {
            Self::Starting
            | Self::Running
            | Self::Paused
            | Self::Stopping
            | Self::Deleting
            | Self::Error => true,
            Self::Created | Self::Stopped => false,
        }
    }

    /// The state of a word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Created,
            Self::Starting,
            Self::Running,
            Self::Paused,
            Self::Stopping,
            Self::Deleting,
            Self::Stopped,
            Self::Error,
        ];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// Seconds since the epoch.
pub type Seconds = u64;

/// The durable truth about a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRecord {
    pub id: VmId,
    pub name: VmName,
    pub spec: VmSpec,
    /// Who has it, where it is nobody's yet.
    pub holder: Option<Holder>,
    pub state: VmState,
    /// The VMM of the last start, and why it was chosen.
    pub choice: Option<VmmChoice>,
    pub last_error: Option<String>,
    pub life: Life,
    pub created_at: Seconds,
    pub updated_at: Seconds,
}

impl VmRecord {
    /// Of a VM that is in no row: for those who ask what would be.
    #[must_use]
    pub fn of_nobody(spec: VmSpec) -> Self {
        Self {
            id: VmId::random(),
            name: "nobody".parse().expect("a short word is a name"),
            spec,
            holder: None,
            state: VmState::Created,
            choice: None,
            last_error: None,
            life: Life::default(),
            created_at: 0,
            updated_at: 0,
        }
    }
}
