//! Whether anybody uses a VM, and since when nobody does. Costs its users nothing: the VM's task looks
//! when it has a reason to.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// What was not written down for so long is worth writing down.
const WRITE_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Activity {
    users: AtomicUsize,
    times: Mutex<Times>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    touched: Instant,
    written: Option<Instant>,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            users: AtomicUsize::new(0),
            times: Mutex::new(Times {
                touched: Instant::now(),
                written: None,
            }),
        })
    }

    /// Notes that somebody uses the VM now; true if that is to be written down.
    pub(super) fn touch(&self) -> bool {
        let now = Instant::now();
        let mut times = self.times();
        times.touched = now;
        let write = times
            .written
            .is_none_or(|written| now.duration_since(written) >= WRITE_AFTER);
        if write {
            times.written = Some(now);
        }
        write
    }

    /// Takes over what an earlier daemon knew.
    pub(super) fn was_touched(&self, ago: Duration) {
        // A clock that does not reach back so far began with the host, as the VM did.
        if let Some(touched) = Instant::now().checked_sub(ago) {
            self.times().touched = touched;
        }
    }

    /// Since when nobody uses it: now, while somebody does.
    pub(super) fn idle_since(&self) -> Instant {
        if self.users.load(Ordering::SeqCst) > 0 {
            Instant::now()
        } else {
            self.times().touched
        }
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times
            .lock()
            .expect("no holder of the activity's lock panics")
    }
}

/// A VM is in use for as long as this lives.
#[derive(Debug)]
pub struct InUse {
    activity: Arc<Activity>,
    /// Told when that is to be written down.
    write: Box<dyn Write>,
}

/// Has a use written down.
pub(super) trait Write: std::fmt::Debug + Send + Sync {
    fn write(&self);
}

impl InUse {
    pub(super) fn new(activity: Arc<Activity>, write: Box<dyn Write>) -> Self {
        activity.users.fetch_add(1, Ordering::SeqCst);
        let used = Self { activity, write };
        used.touch();
        used
    }

    fn touch(&self) {
        if self.activity.touch() {
            self.write.write();
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.touch();
        self.activity.users.fetch_sub(1, Ordering::SeqCst);
    }
}
