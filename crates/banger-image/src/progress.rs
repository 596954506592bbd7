//! How long work tells its stages. Knows no terminal and no wire.

use std::sync::Arc;

/// One sign of life of long work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// A short name that stays the same while the stage lasts: `download`, `unpack`.
    pub stage: &'static str,
    /// What the stage works on, for people.
    pub detail: String,
    /// Units of work done, in bytes.
    pub done: u64,
    /// All units, where they are known.
    pub total: Option<u64>,
}

/// Where long work reports; called from any thread, must not block.
pub trait Progress: Send + Sync {
    fn report(&self, step: Step);
}

/// A shared reporter, as long work takes it.
pub type SharedProgress = Arc<dyn Progress>;

/// Reports to nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _step: Step) {}
}
