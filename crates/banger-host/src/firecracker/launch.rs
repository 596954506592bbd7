//! The order of a start under Firecracker: the place, the process, the calls, the uplink, the
//! guest. Each step is another module's; what a failed start leaves is undone here.

use std::{
    ffi::OsString,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use banger_core::{
    host::{LaunchPlan, VmPlaces},
    host_error::{BootFailure, HostError},
    spec::Network,
};

use tokio::time::timeout;

use super::{
    JAILER, PACKAGE, PROGRAM,
    api::{Action, Call},
    cgroups::{Hierarchy, Limits},
    client::Client,
    control::{self, FirecrackerControl},
    jail::{self, Item, Jail, Walls, outside},
    settings::FirecrackerSettings,
    setup,
    uplink::{self, Uplink},
    version::Version,
};
use crate::{
    admission,
    control::{Control, connect_when_there},
    lock::Note,
    logs, places,
    process::{self, Detached, Log, Process},
    userns,
};

/// The programs that were found last. Asking them for their versions takes longer than all of a
/// start's calls, so they are asked again only when a file has changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownPrograms(Arc<Mutex<Option<(Stamp, Programs)>>>);

/// What tells one file from another, for each program.
type Stamp = Vec<(PathBuf, u64, i64, i64)>;

impl KnownPrograms {
    /// Finds the programs, or remembers them.
    pub(crate) fn find(&self, settings: &FirecrackerSettings) -> Result<Programs, HostError> {
        let (firecracker, jailer) = locate(settings)?;
        let stamp = [Some(&firecracker), jailer.as_ref()];
        let stamp: Stamp = stamp
            .into_iter()
            .flatten()
            .filter_map(|path| stamp_of(path))
            .collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, programs)) if *of == stamp => Ok(programs.clone()),
            Some(_) | None => {
                let programs = Programs::ask(firecracker, jailer)?;
                *known = Some((stamp, programs.clone()));
                Ok(programs)
            }
        }
    }
}

fn stamp_of(path: &Path) -> Option<(PathBuf, u64, i64, i64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((path.to_owned(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

fn locate(settings: &FirecrackerSettings) -> Result<(PathBuf, Option<PathBuf>), HostError> {
    let configured = settings.program.as_deref();
    let firecracker = process::locate(configured, PROGRAM)
        .ok_or_else(|| process::missing(configured, PROGRAM, PACKAGE))?;
    let beside = firecracker.with_file_name(JAILER);
    let jailer = match settings.jailer.as_deref() {
        Some(path) => process::locate(Some(path), JAILER),
        None => process::locate(Some(&beside), JAILER).or_else(|| process::find(JAILER)),
    };
    Ok((firecracker, jailer))
}

/// The programs of one release, and what they can do here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(crate) firecracker: PathBuf,
    pub(crate) version: Version,
    /// Absent where it is of no use: not there, or of another release.
    pub(crate) jailer: Option<PathBuf>,
    /// The best confinement that this user can have with them.
    pub(crate) walls: Walls,
}

impl Programs {
    /// Finds them and asks them for their versions, which takes some milliseconds.
    pub(crate) fn find(settings: &FirecrackerSettings) -> Result<Self, HostError> {
        let (firecracker, jailer) = locate(settings)?;
        Self::ask(firecracker, jailer)
    }

    fn ask(firecracker: PathBuf, jailer: Option<PathBuf>) -> Result<Self, HostError> {
        let version = version_of(&firecracker)?;
        version.admit()?;
        let jailer = jailer.filter(|jailer| match version_of(jailer) {
            Ok(own) if own == version => true,
            Ok(own) => {
                tracing::warn!(%own, %version, "the jailer is of another release: not used");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the jailer does not tell its version: not used");
                false
            }
        });
        let as_root = rustix::process::geteuid().is_root();
        let walls = match &jailer {
            Some(_) if as_root => Walls::Jailer,
            Some(_) | None if as_root || userns::may_be_made() => Walls::Namespaces,
            Some(_) | None => Walls::Landlock,
        };
        Ok(Self {
            firecracker,
            version,
            jailer,
            walls,
        })
    }
}

fn version_of(program: &Path) -> Result<Version, HostError> {
    let spawn_error = |source| HostError::Spawn {
        program: program.display().to_string(),
        source,
    };
    let text = process::ask(program, &["--version"]).map_err(spawn_error)?;
    Version::of_output(&text).ok_or_else(|| HostError::Unsupported {
        feature: format!("the program {}", program.display()),
        reason: "it does not tell a version of Firecracker".into(),
    })
}

/// How long after a failed call the VMM's end may follow and explain it.
const AFTERMATH: Duration = Duration::from_millis(100);

/// Everything that a start needs to know.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) plan: &'a LaunchPlan,
    pub(crate) command_line: String,
    pub(crate) settings: &'a FirecrackerSettings,
    pub(crate) programs: &'a Programs,
}

/// A VMM in which the guest has begun.
pub(crate) type Started = (Process, Note, Box<dyn Control>);

impl Start<'_> {
    /// Refuses what cannot work, before anything is made.
    pub(crate) fn admit(&self) -> Result<(), HostError> {
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
        let jail = Jail::new(places, self.programs.walls);
        places::prepare(places)?;
        logs::start_console(&places.console())?;
        let started = match jail.prepare(self.plan, self.settings.metrics) {
            Ok(()) => self.run_in(&jail).await,
            Err(error) => Err(error),
        };
        if started.is_err()
            && let Err(error) = sweep(places)
        {
            tracing::warn!(%error, "cannot undo a start");
        }
        started
    }

    async fn run_in(&self, jail: &Jail) -> Result<Started, HostError> {
        let note = self.note();
        let process = Process::start(self.detached(jail, note.clone())?)?;
        let made = tokio::select! {
            biased;
            made = self.make_machine(jail, &process) => made,
            ended = process.ended() => Err(self.ended_early(ended)),
        };
        match made {
            Ok(control) => Ok((process, note, control)),
            Err(error) => Err(self.explain(error, &process).await),
        }
    }

    /// A call that fails because the VMM ends says less than its end. Nothing of the VMM is left.
    async fn explain(&self, error: HostError, process: &Process) -> HostError {
        if let Ok(ended) = timeout(AFTERMATH, process.ended()).await {
            return self.ended_early(ended);
        }
        if let Err(error) = process.kill() {
            tracing::warn!(%error, "cannot end a VMM that does not start");
        }
        process.ended().await;
        error
    }

    pub(super) fn note(&self) -> Note {
        Note {
            vmm: self.plan.vmm,
            accelerator: self.plan.accelerator,
            confinement: self.programs.walls.into(),
            command_line: self.command_line.clone(),
        }
    }

    fn ended_early(&self, ended: process::Ended) -> HostError {
        HostError::VmmExited {
            status: super::exit::exit(ended).status,
            cause: BootFailure::Unknown,
            tail: logs::tails(&self.plan.places),
        }
    }

    pub(super) fn detached(&self, jail: &Jail, note: Note) -> Result<Detached, HostError> {
        let places = &self.plan.places;
        let firecracker = &self.programs.firecracker;
        let api = jail.inside(Item::ApiSocket, self.plan);
        let own_words = [
            "--api-sock".into(),
            api.into(),
            "--id".into(),
            jail.id().into(),
            // Until it has a log of its own, it speaks on the guest's console.
            "--level".into(),
            "Warning".into(),
        ];
        let (program, args) = match (self.programs.walls, &self.programs.jailer) {
            (Walls::Jailer, Some(jailer)) => (jailer.clone(), self.jailer_words(jail)),
            (Walls::Namespaces, _) => ("/firecracker".into(), own_words.into()),
            (Walls::Jailer | Walls::Landlock, _) => (firecracker.clone(), own_words.into()),
        };
        Ok(Detached {
            program,
            args,
            output: Some(places.console()),
            log: Log::New(places.vmm_log()),
            lock: places::vmm_lock(places),
            note,
            file_limit: admission::file_limit(self.plan)?,
            surroundings: jail.surroundings(self.plan, firecracker)?,
            kept: Vec::new(),
        })
    }

    /// The jailer gives Firecracker the id by itself.
    fn jailer_words(&self, jail: &Jail) -> Vec<OsString> {
        let user = jail.user().unwrap_or_default().to_string();
        let limits = Limits::of(self.plan.vcpus, self.plan.memory);
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
        ];
        let groups = Hierarchy::of_this_host().jailer_words(&jail.parent_group(), limits);
        words.extend(groups.into_iter().map(OsString::from));
        let api = jail.inside(Item::ApiSocket, self.plan);
        words.extend(["--", "--level", "Warning", "--api-sock"].map(OsString::from));
        words.push(api.into());
        words
    }

    /// Configures the VMM and starts the guest.
    async fn make_machine(
        &self,
        jail: &Jail,
        process: &Process,
    ) -> Result<Box<dyn Control>, HostError> {
        let places = &self.plan.places;
        let stream = connect_when_there(&outside(places, Item::ApiSocket)).await;
        let mut api = Client::over(stream).await?;
        for call in setup::calls(self.plan, &self.command_line, self.settings, jail) {
            api.call(&call).await?;
        }
        let uplink = start_uplink(self.plan.network, places, process)?;
        let control = FirecrackerControl::new(places, uplink);
        api.call(&Call::Action(Action::InstanceStart)).await?;
        Ok(Box::new(control))
    }
}

fn start_uplink(
    network: Network,
    places: &VmPlaces,
    vmm: &Process,
) -> Result<Option<Process>, HostError> {
    match network {
        Network::None => Ok(None),
        Network::User => Uplink::find()?.ensure(places, vmm.pid()).map(Some),
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

/// Takes over a VMM that an earlier daemon started. One whose guest never began is of no use
/// to anybody, and is ended.
pub(crate) async fn adopt(
    places: &VmPlaces,
    process: Process,
) -> Result<Option<(Process, Box<dyn Control>)>, HostError> {
    let started = tokio::select! {
        started = control::has_started(places) => started,
        _ = process.ended() => return Ok(None),
    };
    if !matches!(started, Ok(true)) {
        let end =
            |source| places::file_error("end the holder of", &places::vmm_lock(places), source);
        process.kill().map_err(end)?;
        process.ended().await;
        return Ok(None);
    }
    let uplink = uplink::adopt(places, process.pid())
        .inspect_err(|error| tracing::warn!(%error, "an adopted VM has no network"))
        .unwrap_or_default();
    let control = FirecrackerControl::new(places, uplink);
    Ok(Some((process, Box::new(control))))
}

/// Removes what a VMM that is gone has left.
pub(crate) fn sweep(places: &VmPlaces) -> Result<(), HostError> {
    jail::sweep(places)?;
    uplink::sweep(places)?;
    let id = places.id.short();
    Hierarchy::of_this_host()
        .sweep(&format!("banger-{id}"), &id)
        .map_err(|(path, source)| places::file_error("remove", &path, source))
}
