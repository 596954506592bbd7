//! Work that takes a while: written down when it begins and ends, seen while it goes on, and ended by
//! whoever asked for it, by going away, or by anybody, by asking. Knows no work.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
};

use banger_image::progress::{Progress, SharedProgress, Step};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    error::{Error, Kind},
    record::Seconds,
    store::Store,
};

/// What people call an operation: they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(pub u64);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OperationId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = text.parse().map(Self);
        number.map_err(|_| no_operation(text.chars().take(80).collect()))
    }
}

fn no_operation(target: String) -> Error {
    let kind = Kind::Operation;
    Error::NotFound { kind, target }
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    CreateVm,
    StartVm,
    RestartVm,
    SnapshotVm,
    RestoreVm,
    ForkVm,
    CreatePool,
    PullImage,
    ImportImage,
    RegisterImage,
    PromoteImage,
    PublishImage,
    PullKernel,
    ImportKernel,
    PublishKernel,
}

impl OperationKind {
    const ALL: [Self; 15] = [
        Self::CreateVm,
        Self::StartVm,
        Self::RestartVm,
        Self::SnapshotVm,
        Self::RestoreVm,
        Self::ForkVm,
        Self::CreatePool,
        Self::PullImage,
        Self::ImportImage,
        Self::RegisterImage,
        Self::PromoteImage,
        Self::PublishImage,
        Self::PullKernel,
        Self::ImportKernel,
        Self::PublishKernel,
    ];

    /// The word in rows, documents and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateVm => "create-vm",
            Self::StartVm => "start-vm",
            Self::RestartVm => "restart-vm",
            Self::SnapshotVm => "snapshot-vm",
            Self::RestoreVm => "restore-vm",
            Self::ForkVm => "fork-vm",
            Self::CreatePool => "create-pool",
            Self::PullImage => "pull-image",
            Self::ImportImage => "import-image",
            Self::RegisterImage => "register-image",
            Self::PromoteImage => "promote-image",
            Self::PublishImage => "publish-image",
            Self::PullKernel => "pull-kernel",
            Self::ImportKernel => "import-kernel",
            Self::PublishKernel => "publish-kernel",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Done,
    Failed,
    /// Somebody cancelled it, or whoever asked for it went away.
    Cancelled,
    /// The daemon ended before it did.
    CutOff,
}

impl Verdict {
    /// The word in rows, documents and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::CutOff => "cut-off",
        }
    }

    /// The verdict of a word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Done, Self::Failed, Self::Cancelled, Self::CutOff];
        all.into_iter().find(|verdict| verdict.as_str() == text)
    }
}

/// What is known of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    pub id: OperationId,
    pub kind: OperationKind,
    pub target: String,
    pub stage: Option<String>,
    pub began_at: Seconds,
    pub ended_at: Option<Seconds>,
    /// Nothing as long as it goes on.
    pub verdict: Option<Verdict>,
    pub error: Option<String>,
    /// Its last step, while it goes on.
    pub progress: Option<Step>,
}

#[derive(Debug)]
struct Live {
    cancel: CancellationToken,
    step: Option<Step>,
    /// Whoever asked for it does not wait for it.
    detached: bool,
}

/// The operations of this daemon, and what is remembered of earlier ones.
#[derive(Debug)]
pub struct Operations {
    store: Arc<Store>,
    clock: fn() -> Seconds,
    live: Mutex<BTreeMap<OperationId, Live>>,
    /// Changes whenever one ends.
    ended: watch::Sender<()>,
}

impl Operations {
    /// What an earlier daemon had begun was cut off.
    pub fn open(store: Arc<Store>, clock: fn() -> Seconds) -> Result<Self, Error> {
        let cut = store.cut_off_operations(clock())?;
        if cut > 0 {
            info!(cut, "operations of an earlier daemon were cut off");
        }
        Ok(Self {
            store,
            clock,
            live: Mutex::default(),
            ended: watch::Sender::new(()),
        })
    }

    /// Writes down that an operation begins.
    pub fn begin(self: &Arc<Self>, kind: OperationKind, target: &str) -> Result<Begun, Error> {
        let id = self.store.begin_operation(kind, target, (self.clock)())?;
        let cancel = CancellationToken::new();
        let live = Live {
            cancel: cancel.clone(),
            step: None,
            detached: false,
        };
        self.live().insert(id, live);
        Ok(Begun {
            running: Running {
                operations: self.clone(),
                id,
                ending: None,
            },
            cancel,
        })
    }

    /// What an operation is for has got its name only now.
    pub fn is_for(&self, id: OperationId, target: &str) {
        if let Err(error) = self.store.set_operation_target(id, target) {
            warn!(%id, %error, "cannot write down what an operation is for");
        }
    }

    /// Whoever asked for an operation goes away, and wants it to go on.
    pub fn detach(&self, id: OperationId) {
        if let Some(live) = self.live().get_mut(&id) {
            live.detached = true;
        }
    }

    /// All that are remembered, by age.
    pub fn list(&self) -> Result<Vec<OperationRow>, Error> {
        let rows = self.store.operations()?;
        Ok(rows
            .into_iter()
            .map(|row| self.with_progress(row))
            .collect())
    }

    pub fn get(&self, id: OperationId) -> Result<OperationRow, Error> {
        let found = self.store.operation(id)?;
        let row = found.ok_or_else(|| no_operation(id.to_string()))?;
        Ok(self.with_progress(row))
    }

    /// Waits until an operation has ended.
    pub async fn wait(&self, id: OperationId) -> Result<OperationRow, Error> {
        let mut ended = self.ended.subscribe();
        loop {
            let row = self.get(id)?;
            if row.verdict.is_some() {
                return Ok(row);
            }
            ended.changed().await.map_err(|_| Error::Ending)?;
        }
    }

    /// Cancels an operation, and waits until it has ended. One that has ended already stays what it is.
    pub async fn cancel(&self, id: OperationId) -> Result<OperationRow, Error> {
        if let Some(live) = self.live().get(&id) {
            live.cancel.cancel();
        }
        self.wait(id).await
    }

    fn with_progress(&self, row: OperationRow) -> OperationRow {
        let live = self.live();
        let progress = live.get(&row.id).and_then(|live| live.step.clone());
        OperationRow { progress, ..row }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<OperationId, Live>> {
        self.live
            .lock()
            .expect("no holder of the operations' lock panics")
    }
}

/// An operation that has begun. Dropping it ends it.
#[derive(Debug)]
pub struct Begun {
    running: Running,
    cancel: CancellationToken,
}

impl Begun {
    #[must_use]
    pub fn id(&self) -> OperationId {
        self.running.id
    }

    /// Does its work. Dropping the future cancels it.
    pub async fn run<T, F>(
        self,
        progress: SharedProgress,
        work: impl FnOnce(SharedProgress) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let Self {
            mut running,
            cancel,
        } = self;
        let id = running.id;
        let told = Arc::new(Told {
            operations: running.operations.clone(),
            id,
            then: progress,
        });
        let result = tokio::select! {
            result = work(told) => result,
            // The work is dropped with this, and undoes itself as it would for a client that left.
            () = cancel.cancelled() => Err(Error::Cancelled { id }),
        };
        running.ending = Some(match &result {
            Ok(_) => (Verdict::Done, None),
            Err(error @ Error::Cancelled { .. }) => (Verdict::Cancelled, Some(error.chain())),
            Err(error) => (Verdict::Failed, Some(error.chain())),
        });
        result
    }
}

/// Writes down what became of an operation, whatever way it ends.
#[derive(Debug)]
struct Running {
    operations: Arc<Operations>,
    id: OperationId,
    ending: Option<(Verdict, Option<String>)>,
}

impl Running {
    /// What became of it; it is not live any more.
    fn ended(&mut self) -> (Verdict, Option<String>) {
        let live = self.operations.live().remove(&self.id);
        let dropped = || match live.is_some_and(|live| live.detached) {
            // Nobody but the daemon could drop it.
            true => (Verdict::CutOff, None),
            false => {
                let why = "whoever asked for it went away".to_owned();
                (Verdict::Cancelled, Some(why))
            }
        };
        self.ending.take().unwrap_or_else(dropped)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (verdict, error) = self.ended();
        let Operations {
            store,
            clock,
            ended,
            ..
        } = &*self.operations;
        if let Err(error) = store.end_operation(self.id, verdict, error.as_deref(), clock()) {
            warn!(id = %self.id, %error, "cannot write down the end of an operation");
        }
        ended.send_replace(());
    }
}

/// Keeps the last step, writes down each new stage, and tells whoever asked.
struct Told {
    operations: Arc<Operations>,
    id: OperationId,
    then: SharedProgress,
}

impl Progress for Told {
    fn report(&self, step: Step) {
        let is_new = {
            let mut live = self.operations.live();
            live.get_mut(&self.id).is_some_and(|live| {
                let earlier = live.step.replace(step.clone());
                earlier.is_none_or(|earlier| earlier.stage != step.stage)
            })
        };
        if is_new {
            let written = self
                .operations
                .store
                .set_operation_stage(self.id, step.stage);
            if let Err(error) = written {
                warn!(id = %self.id, %error, "cannot write down a stage");
            }
        }
        self.then.report(step);
    }
}

#[cfg(test)]
mod tests;
