//! Keeps the logs of all running VMs short, with one watch of the kernel's for all of them.
//! Asleep while nothing is written; knows paths, not VMs.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::{logs, sys, task::Leashed};

/// How often logs are looked at that are being written to.
const PACE: Duration = Duration::from_secs(1);

/// One for a whole host: the kernel gives a user few of what it needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogKeeper(Arc<OnceLock<Option<Arc<Watches>>>>);

/// The kernel's handle and what is watched through it.
#[derive(Debug)]
struct Watches {
    events: Arc<OwnedFd>,
    logs: Mutex<HashMap<i32, PathBuf>>,
    task: OnceLock<Leashed>,
}

/// Logs are kept short for as long as this lives.
#[derive(Debug)]
pub(crate) struct Kept {
    watches: Option<Arc<Watches>>,
    ids: Vec<i32>,
}

impl LogKeeper {
    /// Begins to keep these logs short. When the kernel refuses, they stay bounded by the
    /// limit that their writer has.
    pub(crate) fn keep(&self, logs: &[PathBuf]) -> Kept {
        let watches = self.0.get_or_init(|| match Watches::start(PACE) {
            Ok(watches) => Some(watches),
            Err(error) => {
                tracing::warn!(%error, "cannot watch the logs of VMs");
                None
            }
        });
        let ids = watches
            .iter()
            .flat_map(|watches| logs.iter().filter_map(|log| watches.add(log)));
        Kept {
            ids: ids.collect(),
            watches: watches.clone(),
        }
    }
}

impl Watches {
    fn start(pace: Duration) -> io::Result<Arc<Self>> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = Arc::new(inotify::init(flags)?);
        let readiness = sys::readiness(Arc::clone(&events))?;
        let watches = Arc::new(Self {
            events,
            logs: Mutex::default(),
            task: OnceLock::new(),
        });
        let task = tokio::spawn(keep_short(readiness, Arc::downgrade(&watches), pace));
        watches.task.get_or_init(|| Leashed(task));
        Ok(watches)
    }

    fn add(&self, log: &Path) -> Option<i32> {
        cut(log);
        match inotify::add_watch(&self.events, log, inotify::WatchFlags::MODIFY) {
            Ok(id) => {
                self.logs().insert(id, log.to_owned());
                Some(id)
            }
            Err(error) => {
                tracing::warn!(log = %log.display(), %error, "cannot watch a log");
                None
            }
        }
    }

    fn logs(&self) -> MutexGuard<'_, HashMap<i32, PathBuf>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The logs that were written to since the last call.
    fn changed(&self) -> Vec<PathBuf> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.events, &mut buffer);
        let mut ids = BTreeSet::new();
        while let Ok(event) = events.next() {
            ids.insert(event.wd());
        }
        let logs = self.logs();
        ids.iter().filter_map(|id| logs.get(id).cloned()).collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for id in &self.ids {
            if let Some(watches) = &self.watches {
                // A log that is deleted takes its watch along.
                let _ = inotify::remove_watch(&watches.events, *id);
                watches.logs().remove(id);
            }
        }
    }
}

async fn keep_short(events: AsyncFd<Arc<OwnedFd>>, watches: Weak<Watches>, pace: Duration) {
    loop {
        let Ok(mut ready) = events.readable().await else {
            return;
        };
        // A chatty guest wakes this task once per pace, and not with every byte.
        tokio::time::sleep(pace).await;
        let Some(watches) = watches.upgrade() else {
            return;
        };
        watches.changed().iter().for_each(|log| cut(log));
        ready.clear_ready();
    }
}

fn cut(log: &Path) {
    if let Err(error) = logs::cut(log) {
        tracing::debug!(log = %log.display(), %error, "cannot cut a log");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    #[tokio::test]
    async fn a_log_is_cut_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut writer = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        let keeper = LogKeeper::default();
        keeper
            .0
            .set(Some(Watches::start(Duration::from_millis(1)).unwrap()))
            .unwrap();
        let kept = keeper.keep(std::slice::from_ref(&log));
        let length = || fs::metadata(&log).unwrap().len();
        let lines = "a line that says nothing\n".repeat(10_000);
        let mut written = 0;
        while written < 10 * length().max(lines.len() as u64) {
            writer.write_all(lines.as_bytes()).unwrap();
            written += lines.len() as u64;
            tokio::task::yield_now().await;
        }
        assert!(fs::read_to_string(&log).unwrap().ends_with("nothing\n"));
        let watches = kept.watches.clone().unwrap();
        drop(kept);
        assert!(watches.logs().is_empty());
    }
}
