//! Owns which digests running work needs, so that whoever tidies up leaves them alone. Knows no
//! file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::digest::Sha256;

/// Digests, each with how many need it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<BTreeMap<Sha256, usize>>>);

/// Digests that are needed for as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct Pinned {
    pins: Pins,
    digests: Vec<Sha256>,
}

impl Pins {
    pub(crate) fn pin(&self, digests: impl IntoIterator<Item = Sha256>) -> Pinned {
        let digests: Vec<_> = digests.into_iter().collect();
        let mut counts = self.counts();
        for digest in &digests {
            *counts.entry(*digest).or_default() += 1;
        }
        Pinned {
            pins: self.clone(),
            digests,
        }
    }

    pub(crate) fn holds(&self, digest: Sha256) -> bool {
        self.counts().contains_key(&digest)
    }

    /// Acts unless somebody needs the digest; nobody comes to need it meanwhile.
    pub(crate) fn unless_held<T>(&self, digest: Sha256, act: impl FnOnce() -> T) -> Option<T> {
        let counts = self.counts();
        let is_free = !counts.contains_key(&digest);
        is_free.then(act)
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Sha256, usize>> {
        self.0.lock().expect("no holder of the pins' lock panics")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut counts = self.pins.counts();
        for digest in &self.digests {
            if let Some(count) = counts.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(digest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_free_once_the_last_lets_go() {
        let pins = Pins::default();
        let [one, two] = [b"1", b"2"].map(|raw| Sha256::of(raw));
        let first = pins.pin([one, one]);
        let second = pins.clone().pin([one, two]);
        assert_eq!(pins.unless_held(two, || ()), None);
        drop(second);
        assert_eq!(pins.unless_held(two, || ()), Some(()));
        assert!(pins.holds(one));
        drop(first);
        assert!(!pins.holds(one) && pins.counts().is_empty());
    }
}
