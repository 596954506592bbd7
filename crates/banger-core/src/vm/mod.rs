//! One VM's handle: how the rest of the daemon speaks to the task that owns the VM.
//!
//! A task owns a VM's record, machine and connection to the guest. Others read its [`View`]
//! and send it commands that carry their reply channel. No lock is held over I/O, so no VM
//! waits for another.

mod activity;
mod boot;
mod disks;
mod ending;
mod task;
mod timeline;
mod usage;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use banger_image::progress::SharedProgress;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    boots::Boots,
    error::{Error, Kind},
    host::{AgentInfo, Binding, Guest, Host, LaunchPlan, VmPlaces, VmmChoice, VmmProcess},
    journal::Ledger,
    labels::Labels,
    name::{SnapshotName, VmId, VmName},
    policy::{Admission, Verb, admit},
    record::{Seconds, VmRecord, VmState},
    snapshot::{Frozen, Restoration, SnapshotRecord},
    snapshots::Staging,
    spec::{SpecChange, VmSpec},
    store::Store,
    upkeep::Upkeep,
};

use activity::Activity;
pub use activity::InUse;
pub(crate) use boot::kind_of;
pub(crate) use disks::{
    PARTIAL as PARTIAL_DISK, acts as disk_acts, make_disk, remove as remove_disk,
};
pub(crate) use task::spawn;
pub use timeline::Timeline;
pub use usage::Usage;

/// Puts together what a VM boots from. May read and write files, so it is called where
/// blocking is allowed.
pub trait Assemble: Send + Sync {
    fn plan(&self, vm: &VmRecord, choice: &VmmChoice) -> Result<LaunchPlan, Error>;

    /// The directories of a VM, known by its id alone.
    fn places(&self, vm: VmId) -> VmPlaces;
}

/// How long a VM's acts may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the VMM's start to the agent's answer.
    pub boot: Duration,
    /// For the guest's services, once a stop is asked for.
    pub stop: Duration,
    /// For the first exec of a VM that lives only for it.
    pub owner: Duration,
    /// How long a VM that asks for nothing else may be unused before it is stopped.
    pub idle: Option<Duration>,
}

/// What every VM's task needs.
#[derive(Clone)]
pub struct Surroundings {
    pub store: Arc<Store>,
    pub ledger: Arc<Ledger>,
    pub host: Arc<dyn Host>,
    pub assembly: Arc<dyn Assemble>,
    pub patience: Patience,
    pub boots: Boots,
    /// Seconds since the epoch.
    pub clock: fn() -> u64,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// What is currently true of a VM. Small while it does not run, as there may be thousands.
#[derive(Clone)]
pub struct View {
    pub record: VmRecord,
    /// Whether the record was held against the host since this daemon began; what an earlier
    /// one wrote may be long past.
    pub looked_for: bool,
    pub places: VmPlaces,
    pub process: Option<Arc<VmmProcess>>,
    /// The live connection to the agent, where there is one.
    pub guest: Option<Arc<dyn Guest>>,
    /// What the agent said of itself at the last connection.
    pub agent: Option<Arc<AgentInfo>>,
    /// Of the last boot, where this daemon has seen it.
    pub timeline: Option<Box<Timeline>>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// What becomes of a machine that was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSave {
    GoOn,
    /// Its memory and processors are given back to the host.
    End,
}

/// A machine that was written down and is to end: it stands still until that is kept, so that nothing is
/// lost where it is not. Dropping this lets it go on.
#[derive(Debug)]
pub(crate) struct Standing {
    kept: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), Error>>,
}

impl Standing {
    /// Ends the machine: what it was is kept. Once asked for it is carried through.
    pub(crate) fn end(self) -> impl Future<Output = Result<(), Error>> {
        let Self { kept, ended } = self;
        // A task that is gone has no machine.
        let _ = kept.send(());
        async { ended.await.map_err(|_| Error::Ending)? }
    }
}

/// What was written down of a machine.
#[derive(Debug, Clone)]
pub struct Saved {
    pub origin: VmName,
    pub origin_id: VmId,
    pub machine: Frozen,
    pub binding: Binding,
    /// What the agent in it said of itself last.
    pub agent: Option<Arc<AgentInfo>>,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// How long it stood still for this.
    pub paused_for: Duration,
}

impl Saved {
    /// What is known of the snapshot that this becomes.
    pub(crate) fn into_record(
        self,
        name: SnapshotName,
        staging: &Staging,
        image_digest: String,
        now: Seconds,
    ) -> SnapshotRecord {
        let (agent_generation, agent_version) = self.agent.map_or((0, String::new()), |agent| {
            (agent.generation, agent.version.clone())
        });
        SnapshotRecord {
            name,
            directory: staging.name.clone(),
            origin: self.origin,
            origin_id: self.origin_id,
            machine: self.machine,
            image_digest,
            binding: self.binding,
            agent_generation,
            agent_version,
            paused_for: self.paused_for,
            memory_bytes: self.memory_bytes,
            disk_bytes: self.disk_bytes,
            devices_digest: String::new(),
            created_at: now,
        }
    }
}

/// What whoever takes a machine that waited makes of it.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) name: VmName,
    pub(crate) labels: Labels,
    pub(crate) auto_remove: bool,
    pub(crate) expires_at: Option<Seconds>,
    pub(crate) upkeep: Upkeep,
}

impl Claim {
    /// The same machine, with these wishes.
    fn dress(&self, spec: &VmSpec) -> VmSpec {
        VmSpec {
            labels: self.labels.clone(),
            auto_remove: self.auto_remove,
            expires_at: self.expires_at,
            upkeep: self.upkeep,
            ..spec.clone()
        }
    }
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

enum Command {
    Start {
        /// Boots, whatever has been saved.
        cold: bool,
        progress: SharedProgress,
        reply: Reply<View>,
    },
    Stop {
        patience: Option<Duration>,
        reply: Reply<View>,
    },
    Kill {
        reply: Reply<View>,
    },
    Rename {
        name: VmName,
        reply: Reply<View>,
    },
    Change {
        change: SpecChange,
        reply: Reply<View>,
    },
    Pause {
        reply: Reply<View>,
    },
    Resume {
        reply: Reply<View>,
    },
    Save {
        /// Goes when nobody writes there any more.
        into: Arc<Staging>,
        after: AfterSave,
        reply: Reply<(Saved, Option<Standing>)>,
    },
    Restore {
        from: Restoration,
        progress: SharedProgress,
        reply: Reply<View>,
    },
    Take {
        claim: Claim,
        reply: Reply<View>,
    },
    Delete {
        force: bool,
        reply: Reply<()>,
    },
    OwnerCame,
    OwnerWent,
    FirstExec(Instant),
    /// Somebody uses the VM, which is worth writing down.
    Touched,
}

/// Speaks to the task of one VM.
#[derive(Debug, Clone)]
pub struct VmHandle {
    commands: mpsc::Sender<Box<Command>>,
    view: watch::Receiver<View>,
    activity: Arc<Activity>,
}

impl activity::Write for mpsc::Sender<Box<Command>> {
    fn write(&self) {
        // A VM that has no time for this hears it the next time.
        let _ = self.try_send(Box::new(Command::Touched));
    }
}

impl VmHandle {
    #[must_use]
    pub fn name(&self) -> VmName {
        self.read(|view| view.record.name.clone())
    }

    /// Whether it is nobody's yet.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.read(|view| view.record.holder.is_some())
    }

    #[must_use]
    pub fn view(&self) -> View {
        self.read(View::clone)
    }

    /// What is to be read of the view, which stays locked for so long.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.view.borrow())
    }

    /// Waits until the record says what is, not what an earlier daemon wrote.
    pub async fn looked_for(&self) {
        let mut views = self.view.clone();
        // A task that ended has nothing more to find.
        let _ = views.wait_for(|view| view.looked_for).await;
    }

    /// Starts the VM and waits until its agent answers. Dropping the future ends the start.
    pub async fn start(&self, progress: SharedProgress) -> Result<View, Error> {
        self.start_as(false, progress).await
    }

    /// As [`Self::start`]; a cold start boots, whatever has been saved.
    pub async fn start_as(&self, cold: bool, progress: SharedProgress) -> Result<View, Error> {
        self.ask(|reply| Command::Start {
            cold,
            progress,
            reply,
        })
        .await
    }

    /// Stops the VM. Once accepted it is carried through, whoever goes away.
    pub async fn stop(&self, patience: Option<Duration>) -> Result<View, Error> {
        self.ask(|reply| Command::Stop { patience, reply }).await
    }

    /// Ends the VM at once. What the guest has not written to its disk is lost.
    pub async fn kill(&self) -> Result<View, Error> {
        self.ask(|reply| Command::Kill { reply }).await
    }

    /// Stops the VM and starts it again. The stop is carried through whoever goes away, the start
    /// is not.
    pub async fn restart(
        &self,
        patience: Option<Duration>,
        progress: SharedProgress,
    ) -> Result<View, Error> {
        self.stop(patience).await?;
        self.start(progress).await
    }

    /// Gives the VM another name. A guest that runs has it from its next start.
    pub async fn rename(&self, name: VmName) -> Result<View, Error> {
        self.ask(|reply| Command::Rename { name, reply }).await
    }

    /// Makes the VM of something else from its next start on.
    pub async fn change(&self, change: SpecChange) -> Result<View, Error> {
        self.ask(|reply| Command::Change { change, reply }).await
    }

    /// Waits until the VM is in one of these states; nothing if it is deleted before.
    pub async fn reaches(&self, wanted: impl Fn(&VmRecord) -> bool) -> Option<View> {
        let mut views = self.view.clone();
        let reached = views.wait_for(|view| view.looked_for && wanted(&view.record));
        reached.await.ok().map(|view| view.clone())
    }

    /// Makes the VM stand still.
    pub async fn pause(&self) -> Result<View, Error> {
        self.ask(|reply| Command::Pause { reply }).await
    }

    /// Lets a paused VM go on.
    pub async fn resume(&self) -> Result<View, Error> {
        self.ask(|reply| Command::Resume { reply }).await
    }

    /// Writes the machine down as it stands. One that is to end is given back standing still.
    pub(crate) async fn save(
        &self,
        into: Arc<Staging>,
        after: AfterSave,
    ) -> Result<(Saved, Option<Standing>), Error> {
        self.ask(|reply| Command::Save { into, after, reply }).await
    }

    /// Goes on from a saved machine. What the VM is at this moment is lost, its disk included.
    /// Dropping the future ends it like a start.
    pub async fn restore(
        &self,
        from: Restoration,
        progress: SharedProgress,
    ) -> Result<View, Error> {
        self.ask(|reply| Command::Restore {
            from,
            progress,
            reply,
        })
        .await
    }

    /// Makes a machine that waited somebody's. Dropping the future ends it like a start.
    pub(crate) async fn take(&self, claim: Claim) -> Result<View, Error> {
        self.ask(|reply| Command::Take { claim, reply }).await
    }

    /// Deletes the VM with everything that is only its own. Carried through like a stop.
    pub async fn delete(&self, force: bool) -> Result<(), Error> {
        match self.ask(|reply| Command::Delete { force, reply }).await {
            // Another deletion was faster.
            Err(Error::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    /// Deletes the VM without waiting: for those who are going away themselves.
    pub fn delete_behind(&self) {
        let (reply, _) = oneshot::channel();
        let commands = self.commands.clone();
        let command = Box::new(Command::Delete { force: true, reply });
        if let Err(mpsc::error::TrySendError::Full(command)) = commands.try_send(command) {
            tokio::spawn(async move { commands.send(command).await });
        }
    }

    /// The session that an auto-removed VM was made for has begun.
    pub async fn owner_came(&self) {
        // A VM that is gone needs no owner.
        let _ = self.commands.send(Box::new(Command::OwnerCame)).await;
    }

    /// The session that an auto-removed VM was made for is over.
    pub async fn owner_went(&self) {
        let _ = self.commands.send(Box::new(Command::OwnerWent)).await;
    }

    /// Somebody uses the VM for as long as the answer lives: it is not idle.
    #[must_use]
    pub fn in_use(&self) -> InUse {
        InUse::new(self.activity.clone(), Box::new(self.commands.clone()))
    }

    /// A command runs in the guest. The first one is the end of a boot, whose timeline is given
    /// back then.
    pub fn command_started(&self) -> Option<Timeline> {
        let now = Instant::now();
        let mut timeline = *self.read(|view| view.timeline.clone())?;
        if timeline.command_started.is_some() {
            return None;
        }
        timeline.command_started(now);
        // A VM that has no time for this loses a figure.
        let _ = self.commands.try_send(Box::new(Command::FirstExec(now)));
        Some(timeline)
    }

    /// The connection to the agent: at once where there is one, else as soon as a start or a
    /// reconnection in progress has brought it.
    pub async fn guest(&self) -> Result<Arc<dyn Guest>, Error> {
        self.guest_to("run a command").await
    }

    /// As [`Self::guest`]; a VM that does not run is told what it cannot do.
    pub async fn guest_to(&self, verb: &'static str) -> Result<Arc<dyn Guest>, Error> {
        let mut views = self.view.clone();
        loop {
            {
                let view = views.borrow_and_update();
                let record = &view.record;
                match admit(record.state, Verb::Exec) {
                    Admission::Proceed => {
                        if let Some(guest) = &view.guest {
                            return Ok(guest.clone());
                        }
                    }
                    Admission::Wait => {}
                    Admission::Done | Admission::Interrupt | Admission::Refuse => {
                        return Err(Error::State {
                            vm: record.name.clone(),
                            state: record.state,
                            verb,
                        });
                    }
                }
            }
            views.changed().await.map_err(|_| self.gone())?;
        }
    }

    /// Waits for the VM's next change, for those who follow its logs.
    pub async fn changed(&mut self) -> bool {
        self.view.changed().await.is_ok()
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Box::new(command(reply)))
            .await
            .map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())?
    }

    /// Why there is no answer: the VM is deleted, or the daemon lets go of it.
    fn gone(&self) -> Error {
        let record = &self.view.borrow().record;
        if record.state == VmState::Deleting {
            Error::NotFound {
                kind: Kind::Vm,
                target: record.name.to_string(),
            }
        } else {
            Error::Ending
        }
    }
}

#[cfg(test)]
mod tests;
