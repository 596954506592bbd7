//! What a pool is: how many machines of which making are to be ready, and when the next try follows one
//! that failed. Pure; knows no machine.

use std::time::Duration;

use crate::{name::PoolName, record::Seconds, spec::VmSpec};

/// Why a pool is not made, or nothing is taken from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("a pool has 0 to {most} machines, not {0}", most = PoolSize::MAX)]
    Size(u32),
    #[error("a machine of a pool is what the pool says; its {what} cannot be chosen")]
    Fixed { what: &'static str },
    #[error("a machine of a pool runs; it cannot be left for later")]
    NotStarted,
    #[error("pool {0} was deleted meanwhile")]
    Gone(PoolName),
}

/// How many machines are to be ready. With none the pool rests, and is there for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize(u32);

impl PoolSize {
    pub const MAX: u32 = 100;

    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    #[must_use]
    pub fn count(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u32> for PoolSize {
    type Error = PoolError;

    fn try_from(count: u32) -> Result<Self, PoolError> {
        if count <= Self::MAX {
            Ok(Self(count))
        } else {
            Err(PoolError::Size(count))
        }
    }
}

/// The durable truth about a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRecord {
    pub name: PoolName,
    pub size: PoolSize,
    /// What its machines are made of. It names an image, which may go and come back.
    pub spec: VmSpec,
    pub created_at: Seconds,
}

/// How a pool is at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolStatus {
    pub ready: usize,
    /// Why the last try to make a machine failed, until one works.
    pub last_error: Option<String>,
}

/// Whoever has just taken a machine is to have the host for a moment.
pub const AFTER_TAKE: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long after so many failures in a row the next try is.
#[must_use]
pub fn pause_after(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_a_size_that_a_host_can_bear() {
        let fits = |count: u32| PoolSize::try_from(count).is_ok();
        assert_eq!([0, 1, 100, 101].map(fits), [true, true, true, false]);
    }

    #[test]
    fn tries_become_rarer_and_never_end() {
        let seconds = [1, 2, 3, 5, 6, u32::MAX].map(|failures| pause_after(failures).as_secs());
        assert_eq!(seconds, [1, 2, 4, 16, 30, 30]);
    }
}
