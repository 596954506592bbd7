//! What happened: to VMs, images, kernels, pools, snapshots and the daemon, in the order in which it was recorded.
//! Knows how events are asked for and followed; who writes them is the store's business.

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tokio::sync::watch;

use crate::{
    error::{Error, Kind},
    name::VmId,
    store::Store,
};

/// How many events are read at once.
const BATCH: u32 = 256;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Vm,
    Image,
    Kernel,
    Pool,
    Snapshot,
    Daemon,
}

impl Subject {
    /// The word in rows and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Image => "image",
            Self::Kernel => "kernel",
            Self::Pool => "pool",
            Self::Snapshot => "snapshot",
            Self::Daemon => "daemon",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Vm,
            Self::Image,
            Self::Kernel,
            Self::Pool,
            Self::Snapshot,
            Self::Daemon,
        ];
        all.into_iter().find(|subject| subject.as_str() == text)
    }
}

/// What happened. The states of a VM have the words that they have elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Created,
    Starting,
    Running,
    Paused,
    Stopping,
    Stopped,
    Error,
    Deleting,
    Deleted,
    Renamed,
    Changed,
    /// A VM that waited in a pool is somebody's.
    Taken,
    /// An image or a kernel was pulled, imported or registered.
    Added,
    /// The daemon began to serve.
    Started,
}

impl What {
    const ALL: [Self; 14] = [
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Stopped,
        Self::Error,
        Self::Deleting,
        Self::Deleted,
        Self::Renamed,
        Self::Changed,
        Self::Taken,
        Self::Added,
        Self::Started,
    ];

    /// The word in rows and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Error => "error",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::Changed => "changed",
            Self::Taken => "taken",
            Self::Added => "added",
            Self::Started => "started",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == text)
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Ever greater; never used twice.
    pub seq: u64,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    pub subject: Subject,
    /// Which VM, where it is one.
    pub vm: Option<VmId>,
    /// What the subject was called then.
    pub name: String,
    pub what: What,
    pub detail: Option<String>,
}

/// Which events are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only what has a greater number.
    pub after: u64,
    pub vm: Option<VmId>,
}

/// From when on: an event's number, or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    Event(u64),
    Time { ms: u64 },
}

/// Why a text is no beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("events are asked for since a number or a time as in 2026-01-31T08:00:00Z, not \"{0}\"")]
pub struct SinceError(String);

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::Event(seq));
        }
        let refused = || SinceError(text.chars().take(40).collect());
        let time = humantime::parse_rfc3339_weak(text).map_err(|_| refused())?;
        let ms = time.duration_since(UNIX_EPOCH).as_ref().map_or(0, millis);
        Ok(Self::Time { ms })
    }
}

fn millis(since: &Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What somebody wants to hear of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventRequest {
    pub since: Option<Since>,
    pub vm: Option<VmId>,
    /// Of what is recorded, the latest so many at most.
    pub tail: Option<u32>,
    /// Go on with what comes.
    pub follow: bool,
}

/// Reads events in order, and waits for those that come.
#[derive(Debug)]
pub struct Feed {
    store: Arc<Store>,
    written: watch::Receiver<()>,
    filter: EventFilter,
    follow: bool,
}

impl Feed {
    /// Begins where the request says; who follows and says nothing hears only of what comes.
    pub fn new(store: Arc<Store>, request: &EventRequest) -> Result<Self, Error> {
        let mut filter = EventFilter {
            vm: request.vm,
            ..EventFilter::default()
        };
        match request.since {
            Some(Since::Event(seq)) => filter.after = seq,
            // From the first event on that is not older: a clock that was set back hides none of what
            // came afterwards.
            Some(Since::Time { ms }) => filter.after = store.event_before(ms)?,
            None if request.follow && request.tail.is_none() => {
                filter.after = store.last_event()?;
            }
            None => {}
        }
        if let Some(most) = request.tail {
            filter.after = store.events_tail(&filter, most)?;
        }
        Ok(Self {
            written: store.event_written(),
            store,
            filter,
            follow: request.follow,
        })
    }

    /// The next events; nothing when there will be none.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>, Error> {
        loop {
            // Before reading: what is written afterwards wakes us.
            self.written.borrow_and_update();
            let events = self.store.events(&self.filter, BATCH)?;
            if let Some(last) = events.last() {
                self.filter.after = last.seq;
                if self.filter.vm.is_some() && last.what == What::Deleted {
                    // Nothing happens any more to a VM that is gone.
                    self.follow = false;
                }
                return Ok(Some(events));
            }
            if !self.follow || self.written.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

/// The VM whose events somebody asks for, where it is gone already.
pub(crate) fn past_vm(store: &Store, target: &str) -> Result<VmId, Error> {
    let found = store.vm_of_events(target)?;
    found.ok_or_else(|| Error::NotFound {
        kind: Kind::Vm,
        target: target.chars().take(80).collect(),
    })
}

#[cfg(test)]
mod tests;
