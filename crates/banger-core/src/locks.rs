//! One lock per name: work on one thing waits for work on the same thing, and for nothing
//! else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// Locks by name; a lock that nobody holds or waits for costs nothing.
#[derive(Debug, Default)]
pub(crate) struct NameLocks(Mutex<BTreeMap<String, Weak<Lock>>>);

impl NameLocks {
    /// Waits for the name. `busy` is called when somebody else has it.
    pub(crate) async fn lock(&self, name: &str, busy: impl FnOnce()) -> OwnedMutexGuard<()> {
        let lock = self.get(name);
        if let Ok(guard) = lock.clone().try_lock_owned() {
            return guard;
        }
        busy();
        lock.lock_owned().await
    }

    fn get(&self, name: &str) -> Arc<Lock> {
        let mut locks = self
            .0
            .lock()
            .expect("no holder of the lock map's lock panics");
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::<Lock>::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn equal_names_wait_and_others_do_not() {
        let locks = NameLocks::default();
        let first = locks.lock("a", || unreachable!("nobody has it")).await;
        let other = locks.lock("b", || unreachable!("nobody has it")).await;
        let (mut busy, mut done) = (false, false);
        {
            let second = locks.lock("a", || busy = true);
            tokio::pin!(second);
            tokio::select! {
                biased;
                _ = &mut second => done = true,
                () = std::future::ready(()) => {}
            }
            assert!(!done, "the name is taken");
            drop(first);
            drop(second.await);
        }
        assert!(busy);
        drop(other);
        let third = locks.lock("c", || unreachable!("nobody has it")).await;
        assert_eq!(
            locks.0.lock().unwrap().len(),
            1,
            "unused locks are forgotten"
        );
        drop(third);
    }
}
