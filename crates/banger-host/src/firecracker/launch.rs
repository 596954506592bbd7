//! The order of a start under Firecracker: the place, the process, what stands beside it. The
//! machine's configuration lies ready when the process begins, so the guest's start waits for
//! nobody; what a failed start leaves is undone here.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use banger_core::{
    host::{Built, LaunchPlan, VmPlaces},
    host_error::{BootFailure, HostError},
    journal::{Act, Journal},
    spec::Network,
};
use tokio::time::timeout;

use super::{
    client::Client,
    control::{self, FirecrackerControl, History},
    exit,
    jail::{self, Item, Jail, outside},
    pipes::Pump,
    programs::Programs,
    saved::{self, Shelf},
    settings::FirecrackerSettings,
    setup,
    uplink::{self, Uplink},
    walls::Walls,
};
use crate::{
    acts, admission,
    cgroups::{self, Limits},
    control::Control,
    lock::Note,
    logs, places,
    process::{Detached, Log, Process},
    sys::Surroundings,
    task::blocking,
};

/// How long after a failure the VMM's end may follow and explain it.
const AFTERMATH: Duration = Duration::from_millis(100);

/// Everything that a start needs to know.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) plan: &'a LaunchPlan,
    pub(crate) command_line: String,
    pub(crate) settings: &'a FirecrackerSettings,
    pub(crate) programs: &'a Programs,
    pub(crate) journal: &'a dyn Journal,
}

/// A VMM in which the guest is about to begin.
pub(crate) type Started = (Process, Note, Box<dyn Control>);

impl Start<'_> {
    /// Refuses what cannot work, before anything is made.
    pub(crate) fn admit(&self) -> Result<(), HostError> {
        if self.plan.resume_from.is_some() && !self.programs.walls.keep_names() {
            return Err(no_snapshots());
        }
        match (self.plan.network, self.programs.walls) {
            (Network::None, _) => Ok(()),
            (Network::User, Walls::Landlock) => Err(HostError::Unsupported {
                feature: "a user network under Firecracker".into(),
                reason: "this user may not make namespaces; ask for --network none, or for \
                         --vmm qemu"
                    .into(),
            }),
            (Network::User, Walls::Jailer | Walls::Namespaces) => can_make_taps(),
        }
    }

    /// Starts the VMM and the guest in it; leaves nothing where that fails.
    pub(crate) async fn run(self) -> Result<Started, HostError> {
        let places = &self.plan.places;
        let started = match self.prepare() {
            Ok(jail) => self.run_in(&jail).await,
            Err(error) => Err(error),
        };
        if started.is_err()
            && let Err(error) = sweep(places, self.journal).await
        {
            tracing::warn!(%error, "cannot undo a start");
        }
        started
    }

    /// Makes the place, with all in it that the VMM will ask for.
    pub(super) fn prepare(&self) -> Result<Jail, HostError> {
        let places = &self.plan.places;
        let jail = Jail::new(places, self.programs.walls);
        self.journal
            .act(&acts::sockets(places), || places::prepare(places))?;
        logs::start_console(&places.console())?;
        match self.programs.walls {
            Walls::Landlock => self.furnish(&jail)?,
            Walls::Jailer | Walls::Namespaces => {
                let act = acts::jail(places);
                self.journal.act(&act, || self.furnish(&jail))?;
            }
        }
        match self.plan.network {
            Network::None => {}
            Network::User => uplink::intend(places)?,
        }
        Ok(jail)
    }

    fn furnish(&self, jail: &Jail) -> Result<(), HostError> {
        jail.prepare(self.plan, self.settings.metrics)?;
        if self.plan.resume_from.is_some() {
            // What the machine is made of is in its state.
            return Ok(());
        }
        let machine = setup::configuration(self.plan, &self.command_line, self.settings, jail);
        let machine = serde_json::to_vec(&machine).expect("a configuration is plain data");
        jail.leave(Item::Configuration, &machine)?;
        match setup::metadata(self.plan, self.settings) {
            Some(metadata) => jail.leave(Item::Metadata, metadata.to_string().as_bytes()),
            None => Ok(()),
        }
    }

    /// Returns once the VMM is on its way: its first question to us is its agent's answer. To
    /// ask its API earlier could hide why it ends, for it gives up in the middle of an answer.
    pub(super) async fn run_in(&self, jail: &Jail) -> Result<Started, HostError> {
        let places = &self.plan.places;
        let note = self.note();
        let pumps = control::pump(places);
        for act in self.inside() {
            self.journal.intend(&act)?;
        }
        let process = Process::start(self.detached(jail, note.clone())?)?;
        let (went_on, stood_by) =
            tokio::join!(self.go_on(jail, &process, &pumps), self.stand_by(&process));
        if let Err(error) = went_on {
            return Err(process.give_up(error).await);
        }
        let uplink = match stood_by {
            Ok(uplink) => uplink,
            // Nothing can join a VMM that refuses its machine, and it is the one that says why.
            Err(_) if ends_now(&process).await => None,
            Err(error) => return Err(process.give_up(error).await),
        };
        let guest = match self.plan.resume_from {
            Some(_) => History::MayBeSaved,
            None => History::Boots,
        };
        let control = FirecrackerControl::new(places, process.pid(), guest, pumps, uplink);
        Ok((process, note, Box::new(control)))
    }

    /// Gives the VMM its saved machine, where there is one, or says how it ended over it.
    async fn go_on(&self, jail: &Jail, process: &Process, pumps: &[Pump]) -> Result<(), HostError> {
        if self.plan.resume_from.is_none() {
            return Ok(());
        }
        let metadata = setup::metadata(self.plan, self.settings);
        tokio::select! {
            biased;
            went_on = saved::go_on(jail, self.plan, metadata) => went_on,
            ended = process.ended() => {
                for pump in pumps {
                    pump.finish().await;
                }
                let (cause, tail) = (BootFailure::Unknown, logs::tails(&self.plan.places));
                let status = exit::exit(ended).status;
                Err(HostError::VmmExited { status, cause, tail })
            }
        }
    }

    /// While the VMM makes its machine: its limits, and then its network, for which a guest has
    /// no use in its first moments, while the uplink's own start takes the VMM's processors.
    async fn stand_by(&self, process: &Process) -> Result<Option<Process>, HostError> {
        let (places, journal) = (&self.plan.places, self.journal);
        for act in self.inside() {
            journal.confirm(&act)?;
        }
        let limits = Limits::of(self.plan);
        let groups = cgroups::hold(places, limits, process.pid(), journal)?.await?;
        let uplink = start_uplink(self.plan.network, places, process, journal)?;
        if let Some(pid) = uplink.as_ref().map(Process::pid) {
            blocking(move || groups.take_in(&[pid])).await;
        }
        Ok(uplink)
    }

    fn inside(&self) -> Vec<Act> {
        let walls = self.programs.walls;
        acts::inside(&self.plan.places, walls, self.plan.network)
    }

    pub(super) fn note(&self) -> Note {
        Note {
            vmm: self.plan.vmm,
            accelerator: self.plan.accelerator,
            confinement: self.programs.walls.confinement(),
            command_line: self.command_line.clone(),
            built: Some(Built::of(self.plan)),
            copy: self.plan.resume_from.is_some(),
        }
    }

    pub(super) fn detached(&self, jail: &Jail, note: Note) -> Result<Detached, HostError> {
        let places = &self.plan.places;
        let firecracker = &self.programs.firecracker;
        let (program, args) = match (self.programs.walls, &self.programs.jailer) {
            (Walls::Jailer, Some(jailer)) => (jailer.clone(), self.jailer_words(jail)),
            (Walls::Namespaces, _) => ("/firecracker".into(), self.words_with_id(jail)),
            (Walls::Jailer | Walls::Landlock, _) => (firecracker.clone(), self.words_with_id(jail)),
        };
        Ok(Detached {
            program,
            args,
            output: Some(places.console()),
            log: Log::New(places.vmm_log()),
            lock: places::vmm_lock(places),
            note,
            file_limit: admission::file_limit(self.plan)?,
            surroundings: Surroundings {
                yields: self.plan.yields,
                ..jail.surroundings(self.plan, firecracker)?
            },
            kept: Vec::new(),
        })
    }

    /// What Firecracker is told, but its id, which the jailer gives it by itself.
    fn words(&self, jail: &Jail) -> Vec<OsString> {
        let inside = |item| jail.inside(item, self.plan);
        let mut words: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: PathBuf| words.extend([name.into(), value.into()]);
        option("--api-sock", inside(Item::ApiSocket));
        option("--log-path", inside(Item::Log));
        let boots = self.plan.resume_from.is_none();
        if boots {
            option("--config-file", inside(Item::Configuration));
        }
        if boots && setup::metadata(self.plan, self.settings).is_some() {
            option("--metadata", inside(Item::Metadata));
        }
        if !boots && self.settings.metrics {
            option("--metrics-path", inside(Item::Metrics));
        }
        words.extend(["--level", "Warning"].map(Into::into));
        words
    }

    fn words_with_id(&self, jail: &Jail) -> Vec<OsString> {
        let mut words = vec!["--id".into(), jail.id().into()];
        words.extend(self.words(jail));
        words
    }

    fn jailer_words(&self, jail: &Jail) -> Vec<OsString> {
        let user = jail.user().unwrap_or_default().to_string();
        let mut words: Vec<OsString> = vec![
            "--id".into(),
            jail.id().into(),
            "--exec-file".into(),
            self.programs.firecracker.clone().into(),
            "--uid".into(),
            user.clone().into(),
            "--gid".into(),
            user.into(),
            "--chroot-base-dir".into(),
            jail.base().into(),
            "--resource-limit".into(),
            "no-file=256".into(),
            "--".into(),
        ];
        words.extend(self.words(jail));
        words
    }
}

/// Whether a VMM ends, of which something else has failed.
async fn ends_now(process: &Process) -> bool {
    timeout(AFTERMATH, process.ended()).await.is_ok()
}

fn start_uplink(
    network: Network,
    places: &VmPlaces,
    vmm: &Process,
    journal: &dyn Journal,
) -> Result<Option<Process>, HostError> {
    let ensure = || Uplink::find()?.ensure(places, vmm.pid());
    match network {
        Network::None => Ok(None),
        Network::User => journal.act(&acts::uplink(places), ensure).map(Some),
    }
}

/// A tap needs a device that this user may open, and an uplink behind it.
pub(crate) fn can_make_taps() -> Result<(), HostError> {
    const TUN: &str = "/dev/net/tun";
    let refused = |reason: String| HostError::Unsupported {
        feature: "a user network under Firecracker".into(),
        reason,
    };
    let mut options = std::fs::OpenOptions::new();
    if let Err(error) = options.read(true).write(true).open(TUN) {
        let reason = format!("this user cannot open {TUN}: {error}; ask for --network none");
        return Err(refused(reason));
    }
    match Uplink::find() {
        Ok(_) => Ok(()),
        Err(_) => Err(refused(
            "there is no slirp4netns on this host; install it, or ask for --network none".into(),
        )),
    }
}

/// The state of a machine names its files.
pub(super) fn no_snapshots() -> HostError {
    HostError::Unsupported {
        feature: "snapshots of a machine under Firecracker".into(),
        reason: "this user may not make namespaces, in which each machine has its own files under \
                 the same names; use --vmm qemu"
            .into(),
    }
}

/// Takes over a VMM that an earlier daemon started. One whose guest never began is of no use
/// to anybody, and is ended.
pub(crate) async fn adopt(
    places: &VmPlaces,
    process: Process,
    journal: &dyn Journal,
) -> Result<Option<(Process, Box<dyn Control>)>, HostError> {
    let shelves = [Shelf::on_disk(places), Shelf::in_memory(process.pid())];
    let is_saved = shelves.iter().any(Shelf::is_used);
    let begun = async {
        let api = Client::connect(&outside(places, Item::ApiSocket)).await?;
        // It answers when it has written all of its machine.
        let mut api = if is_saved { api.patient() } else { api };
        control::has_begun(&mut api).await
    };
    let begun = tokio::select! {
        begun = begun => begun,
        _ = process.ended() => return Ok(None),
    };
    if !matches!(begun, Ok(true)) {
        let end =
            |source| places::file_error("end the holder of", &places::vmm_lock(places), source);
        process.kill().map_err(end)?;
        process.ended().await;
        return Ok(None);
    }
    for shelf in shelves.iter().filter(|shelf| shelf.is_used()) {
        if let Err(error) = shelf.clear() {
            tracing::warn!(%error, "what an earlier daemon saved takes up room");
        }
    }
    let uplink = uplink::adopt(places, process.pid(), journal)
        .inspect_err(|error| tracing::warn!(%error, "an adopted VM has no network"))
        .unwrap_or_default();
    let control = {
        let pumps = control::pump(places);
        let pid = process.pid();
        FirecrackerControl::new(places, pid, History::MayBeSaved, pumps, uplink)
    };
    Ok(Some((process, Box::new(control))))
}

/// Removes what a VMM that is gone has left.
pub(crate) async fn sweep(places: &VmPlaces, journal: &dyn Journal) -> Result<(), HostError> {
    acts::strike_inside(places, journal)?;
    journal.undo(&acts::jail(places), || jail::sweep(places))?;
    journal.undo(&acts::uplink(places), || uplink::sweep(places))?;
    cgroups::sweep(places, journal).await
}
