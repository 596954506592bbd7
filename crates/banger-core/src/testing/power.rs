//! What a daemon lives on. When it is cut, nothing that is left of the daemon has any effect:
//! the store takes no write, the host does nothing, as if the process had been killed there.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::Act;
use crate::{
    host_error::HostError,
    journal::{Moment, Watch},
    store::Store,
};

#[derive(Debug, Default)]
pub(crate) struct Power {
    off: AtomicBool,
    /// Moments that have passed.
    passed: AtomicUsize,
    /// The moment at which it is cut.
    last: Mutex<Option<usize>>,
    /// What is written of the moment at which it was cut.
    end: Mutex<Option<String>>,
    store: Mutex<Weak<Store>>,
}

impl Power {
    pub(crate) fn is_on(&self) -> bool {
        !self.off.load(Ordering::SeqCst)
    }

    /// A new daemon begins, with a store of its own.
    pub(super) fn feed(&self, store: &Arc<Store>) {
        *self.store.lock().unwrap() = Arc::downgrade(store);
        *self.last.lock().unwrap() = None;
        self.off.store(false, Ordering::SeqCst);
    }

    /// Cuts the daemon off at the `n`th moment from now.
    pub(crate) fn cut_at(&self, n: usize) {
        self.passed.store(0, Ordering::SeqCst);
        *self.end.lock().unwrap() = None;
        *self.last.lock().unwrap() = Some(n);
    }

    /// It is not cut any more.
    pub(crate) fn spare(&self) {
        *self.last.lock().unwrap() = None;
    }

    /// The moment at which it was cut, if it was.
    pub(crate) fn end(&self) -> Option<String> {
        self.end.lock().unwrap().clone()
    }

    /// Refuses what a daemon that is no more cannot ask for; the moments before and after an act
    /// of the host are moments, too.
    pub(super) fn check(&self, act: Act) -> Result<(), HostError> {
        self.pass(|| format!("the host is asked to {act:?}"));
        match self.is_on() {
            true => Ok(()),
            false => Err(super::host::failure(act)),
        }
    }

    fn pass(&self, what: impl FnOnce() -> String) {
        let number = self.passed.fetch_add(1, Ordering::SeqCst);
        if *self.last.lock().unwrap() == Some(number) && self.is_on() {
            self.off.store(true, Ordering::SeqCst);
            *self.end.lock().unwrap() = Some(what());
            if let Some(store) = self.store.lock().unwrap().upgrade() {
                store.freeze();
            }
        }
    }
}

impl Watch for Power {
    fn at(&self, moment: Moment<'_>) {
        self.pass(|| moment.to_string());
    }
}
