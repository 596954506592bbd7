//! Who has a VM that nobody has asked for by name: banger itself makes some, for whoever comes next.
//! Knows words, not machines.

use std::{fmt, str::FromStr};

use crate::name::{PoolName, SnapshotName};

/// Who has such a VM. People see it only where they ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// It waits in a pool. What it was made of is a kind, which a later machine may not be of.
    Pool { pool: PoolName, kind: SnapshotName },
    /// It is booted to be saved, and goes then.
    Boots,
}

impl Holder {
    /// The pool that it waits in.
    #[must_use]
    pub fn pool(&self) -> Option<&PoolName> {
        match self {
            Self::Pool { pool, .. } => Some(pool),
            Self::Boots => None,
        }
    }

    /// What it is for, in words for people.
    #[must_use]
    pub fn purpose(&self) -> String {
        match self {
            Self::Pool { pool, .. } => format!("waits in pool {pool}"),
            Self::Boots => "boots to be saved".to_owned(),
        }
    }
}

/// As a row has it.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool { pool, kind } => write!(f, "pool {pool} {kind}"),
            Self::Boots => f.write_str("boots"),
        }
    }
}

/// That a text is no holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHolder;

impl FromStr for Holder {
    type Err = NoHolder;

    fn from_str(text: &str) -> Result<Self, NoHolder> {
        let words: Vec<_> = text.split(' ').collect();
        match words.as_slice() {
            ["boots"] => Ok(Self::Boots),
            ["pool", pool, kind] => Ok(Self::Pool {
                pool: pool.parse().map_err(|_| NoHolder)?,
                kind: kind.parse().map_err(|_| NoHolder)?,
            }),
            [..] => Err(NoHolder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_survives_its_text() {
        for text in ["boots", "pool web boot.00112233"] {
            assert_eq!(text.parse::<Holder>().unwrap().to_string(), text);
        }
        for wrong in ["", "pool", "pool web", "pool ../x boot.1", "pool a b c"] {
            assert_eq!(wrong.parse::<Holder>(), Err(NoHolder), "{wrong}");
        }
    }
}
