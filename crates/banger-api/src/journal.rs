//! The journal of acts on the host, and what a creation would do, on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `GET /v1/host/journal` answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostJournal {
    /// In the order in which they were intended.
    pub entries: Vec<JournalEntry>,
    /// VMs whose machines went on without a daemon, before this one began.
    pub adopted: Vec<String>,
    /// What became of acts that an earlier daemon left half-done.
    pub settled: Vec<SettledAct>,
}

/// Something that was made on the host, or may have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalEntry {
    pub owner: JournalOwner,
    /// `directory`, `disk`, `vmm` and so on.
    pub act: String,
    /// What it was made at: a path, mostly.
    pub operand: String,
    /// `intended`, `confirmed` or `undoing`.
    pub stage: String,
    /// RFC 3339, UTC.
    pub at: String,
}

/// What an act was done for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalOwner {
    /// `vm`, `image` or `kernel`.
    pub kind: String,
    /// The id of a VM, the name of an image or a kernel.
    pub id: String,
    /// What it is called now; absent where it is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What became of an act that an earlier daemon left half-done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettledAct {
    pub owner: JournalOwner,
    pub act: String,
    pub operand: String,
    /// How far it was: `intended` or `undoing`.
    pub was: String,
    /// `finished`, `undone`, or `left` to the next daemon.
    pub outcome: String,
}

/// What a daemon found when it began, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// VMs whose machines went on without a daemon.
    pub adopted: u64,
    /// Acts of an earlier daemon that were done after all.
    pub finished: u64,
    pub undone: u64,
    /// Acts that could neither be finished nor undone.
    pub left: u64,
}

/// What `POST /v1/vms/plan` answers: what the creation of a VM would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatePlan {
    pub vmm: String,
    pub accelerator: String,
    /// Why this VMM and accelerator.
    pub vmm_reason: String,
    /// In their order.
    pub acts: Vec<PlannedAct>,
}

/// A thing that would be fetched, or made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedAct {
    /// `fetch kernel`, `fetch image`, or the act that the journal would have.
    pub act: String,
    pub operand: String,
}
