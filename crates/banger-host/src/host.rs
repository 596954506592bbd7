//! The port's implementation: strings the parts of this crate together. Each act is in a
//! module of its own.

use std::{
    fs::File,
    ops::Range,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use banger_core::{
    host::{
        Accelerator, Binding, Built, Check, Confinement, DebianRoot, Host, LaunchPlan, Machine,
        RootTar, SnapshotPlaces, Space, VmPlaces, VmmChoice, VmmExit, VmmKind, VmmProcess,
        VmmUsage,
    },
    host_error::{BootFailure, HostError},
    journal::{Act, Journal, Unrecorded},
    name::VmId,
    spec::Network,
};

use crate::{
    acts, admission,
    cgroups::{self, Limits},
    choice::{self, Observations},
    command_line::{Measured, command_line},
    control::Control,
    doctor,
    firecracker::{
        FirecrackerSettings,
        launch::{self, Start},
        programs::{KnownPrograms, Programs},
    },
    headroom,
    lock::Note,
    log_keeper::LogKeeper,
    logs,
    machine::VmmMachine,
    mmdebstrap::Mmdebstrap,
    places,
    probe::KvmVerdict,
    process::{self, Detached, Log, Process},
    qemu::{self, args, control::QemuControl, version::KnownVersion},
    shared_blocks, sparse,
    sys::Surroundings,
    task::blocking,
    tsc::{self, TscRate},
    usage,
};

/// What is fixed for the life of a daemon.
#[derive(Debug, Clone, Default)]
pub struct HostConfig {
    /// QEMU's program; found in the PATH when absent.
    pub qemu: Option<PathBuf>,
    /// mmdebstrap's program; found in the PATH when absent.
    pub mmdebstrap: Option<PathBuf>,
    /// The VMM of machines that ask for none; the probe decides when absent.
    pub vmm: Option<VmmKind>,
    pub firecracker: FirecrackerSettings,
    /// Where the probe's verdict is remembered.
    pub cache: PathBuf,
    /// Where large temporary trees may be made.
    pub scratch: PathBuf,
    /// What stays free of each disk, in bytes.
    pub disk_reserve: u64,
}

/// This Linux.
#[derive(Debug)]
pub struct LinuxHost {
    config: HostConfig,
    /// What of a disk is kept free, in bytes.
    reserve: AtomicU64,
    tsc: TscRate,
    programs: KnownPrograms,
    qemu_version: KnownVersion,
    log_keeper: LogKeeper,
}

impl LinuxHost {
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        Self {
            reserve: AtomicU64::new(config.disk_reserve),
            config,
            tsc: TscRate::measure(),
            programs: KnownPrograms::default(),
            qemu_version: KnownVersion::default(),
            log_keeper: LogKeeper::default(),
        }
    }

    fn qemu(&self) -> Result<PathBuf, HostError> {
        let configured = self.config.qemu.as_deref();
        process::locate(configured, qemu::PROGRAM)
            .ok_or_else(|| process::missing(configured, qemu::PROGRAM, qemu::PACKAGE))
    }

    fn start<'a>(
        &'a self,
        plan: &'a LaunchPlan,
        command_line: String,
        programs: &'a Programs,
        journal: &'a dyn Journal,
    ) -> Start<'a> {
        Start {
            journal,
            plan,
            command_line,
            settings: &self.config.firecracker,
            programs,
        }
    }

    async fn measured(&self) -> Measured {
        let tsc = self.tsc.clone();
        let tsc_khz = blocking(move || tsc.khz()).await;
        Measured {
            tsc_khz,
            now: SystemTime::now(),
        }
    }
}

impl LinuxHost {
    /// Finds Firecracker and asks it for its version; in a thread that may wait.
    /// What is kept free of disks from now on.
    pub fn set_disk_reserve(&self, bytes: u64) {
        self.reserve.store(bytes, Ordering::Relaxed);
    }

    fn disk_reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    async fn firecracker(&self) -> Result<Programs, HostError> {
        let (known, settings) = (self.programs.clone(), self.config.firecracker.clone());
        blocking(move || known.find(&settings)).await
    }

    async fn launch_qemu(
        &self,
        plan: &LaunchPlan,
        command_line: String,
        journal: &dyn Journal,
    ) -> Result<Started, HostError> {
        places::check_socket_paths(&plan.places)?;
        let note = Note {
            vmm: plan.vmm,
            accelerator: plan.accelerator,
            confinement: Confinement::Seccomp,
            command_line,
            built: Some(Built::of(plan)),
            copy: plan.resume_from.is_some(),
        };
        let mut args = args::args(plan, &note.command_line);
        let state = plan.resume_from.as_ref().map(open_state).transpose()?;
        if let Some(state) = &state {
            args.extend(args::incoming(state.as_raw_fd()));
        }
        let detached = Detached {
            program: self.qemu()?,
            args,
            output: None,
            log: Log::New(plan.places.vmm_log()),
            lock: places::vmm_lock(&plan.places),
            note: note.clone(),
            file_limit: admission::file_limit(plan)?,
            surroundings: Surroundings {
                yields: plan.yields,
                ..Surroundings::default()
            },
            kept: state.into_iter().map(OwnedFd::from).collect(),
        };
        let sockets = acts::sockets(&plan.places);
        journal.act(&sockets, || places::prepare(&plan.places))?;
        logs::start_console(&plan.places.console())?;
        journal.intend(&acts::vmm(&plan.places))?;
        let process = Process::start(detached)?;
        let control = QemuControl::new(&plan.places);
        if let Err(error) = stand_by(plan, &process, journal).await {
            return Err(process.give_up(error).await);
        }
        Ok((process, note, Box::new(control)))
    }

    fn machine(&self, places: &VmPlaces, started: Started) -> Arc<dyn Machine> {
        let (process, note, control) = started;
        let machine = VmmMachine::new(places, process, note, control, &self.log_keeper);
        Arc::new(machine)
    }
}

/// While the VMM makes its machine: what it may use. One that goes on does so now.
async fn stand_by(
    plan: &LaunchPlan,
    process: &Process,
    journal: &dyn Journal,
) -> Result<(), HostError> {
    journal.confirm(&acts::vmm(&plan.places))?;
    let limits = Limits::of(plan);
    let held = cgroups::hold(&plan.places, limits, process.pid(), journal)?;
    drop(held.await?);
    match plan.resume_from {
        Some(_) => go_on(&plan.places, process).await,
        None => Ok(()),
    }
}

fn open_state(files: &SnapshotPlaces) -> Result<File, HostError> {
    let path = files.devices();
    File::open(&path).map_err(|source| places::file_error("read", &path, source))
}

/// Lets a machine go on, or says how its VMM ended over its state.
async fn go_on(places: &VmPlaces, process: &Process) -> Result<(), HostError> {
    tokio::select! {
        biased;
        ended = process.ended() => {
            let status = VmmExit::from(ended).status;
            let (cause, tail) = (BootFailure::Unknown, logs::tails(places));
            Err(HostError::VmmExited { status, cause, tail })
        }
        went_on = qemu::save::go_on(places) => went_on,
    }
}

type Started = (Process, Note, Box<dyn Control>);

#[async_trait]
impl Host for LinuxHost {
    async fn choose_vmm(&self, wanted: Option<VmmKind>) -> Result<VmmChoice, HostError> {
        let cache = self.config.cache.clone();
        let verdict = blocking(move || KvmVerdict::of_this_host(&cache)).await;
        let wanted = wanted.or(self.config.vmm);
        let firecracker = match wanted {
            Some(VmmKind::Qemu) => Ok(()),
            None if !verdict.is_usable() => Ok(()),
            // A machine that asks for nothing has a network, too.
            None => self
                .firecracker()
                .await
                .and_then(|_| launch::can_make_taps()),
            Some(VmmKind::Firecracker) => self.firecracker().await.map(drop),
        };
        let choice = choice::choose(
            wanted,
            Observations {
                kvm: &verdict,
                firecracker,
                allow_emulated_kvm: self.config.firecracker.allow_emulated_kvm,
            },
        )?;
        match choice.vmm {
            VmmKind::Qemu => self.qemu().map(drop)?,
            VmmKind::Firecracker => {}
        }
        Ok(choice)
    }

    async fn admit(&self, plan: &LaunchPlan) -> Result<(), HostError> {
        places::check_socket_paths(&plan.places)?;
        let command_line = command_line(plan, self.measured().await)?;
        match plan.vmm {
            VmmKind::Qemu => {}
            VmmKind::Firecracker => {
                let programs = self.firecracker().await?;
                self.start(plan, command_line, &programs, &Unrecorded)
                    .admit()?;
            }
        }
        admission::admit(plan, self.disk_reserve())
    }

    async fn acts(
        &self,
        places: &VmPlaces,
        vmm: VmmKind,
        network: Network,
    ) -> Result<Vec<Act>, HostError> {
        Ok(match vmm {
            VmmKind::Qemu => acts::of_qemu(places),
            VmmKind::Firecracker => {
                let walls = self.firecracker().await?.walls;
                acts::of_firecracker(places, walls, network)
            }
        })
    }

    async fn launch(
        &self,
        plan: &LaunchPlan,
        journal: &dyn Journal,
    ) -> Result<Arc<dyn Machine>, HostError> {
        // What follows would take the sockets and the console of a machine that runs.
        process::refuse_running(&places::vmm_lock(&plan.places))?;
        let command_line = command_line(plan, self.measured().await)?;
        let started = match plan.vmm {
            VmmKind::Qemu => self.launch_qemu(plan, command_line, journal).await?,
            VmmKind::Firecracker => {
                let programs = self.firecracker().await?;
                let start = self.start(plan, command_line, &programs, journal);
                start.run().await?
            }
        };
        Ok(self.machine(&plan.places, started))
    }

    async fn adopt(
        &self,
        places: &VmPlaces,
        journal: &dyn Journal,
    ) -> Result<Option<Arc<dyn Machine>>, HostError> {
        let Some((process, note)) = Process::adopt(&places::vmm_lock(places))? else {
            return Ok(None);
        };
        let adopted = match note.vmm {
            VmmKind::Qemu => {
                let control: Box<dyn Control> = Box::new(QemuControl::new(places));
                Some((process, control))
            }
            VmmKind::Firecracker => launch::adopt(places, process, journal).await?,
        };
        let Some((process, control)) = adopted else {
            return Ok(None);
        };
        let (held, pid) = (places.clone(), process.pid());
        blocking(move || cgroups::hold_again(&held, pid)).await;
        Ok(Some(self.machine(places, (process, note, control))))
    }

    async fn sweep(&self, places: &VmPlaces, journal: &dyn Journal) -> Result<(), HostError> {
        process::refuse_running(&places::vmm_lock(places))?;
        launch::sweep(places, journal).await?;
        journal.undo(&acts::sockets(places), || places::sweep(places))
    }

    async fn binding(&self, vmm: VmmKind, accelerator: Accelerator) -> Result<Binding, HostError> {
        let (version, processor) = match vmm {
            VmmKind::Qemu => {
                let (known, program) = (self.qemu_version.clone(), self.qemu()?);
                let version = blocking(move || known.of(&program)).await?;
                (
                    format!("{version}, {}", args::MACHINE),
                    args::processor(accelerator).1.to_owned(),
                )
            }
            VmmKind::Firecracker => {
                let programs = self.firecracker().await?;
                (programs.version.to_string(), "host".to_owned())
            }
        };
        let processor = match accelerator {
            Accelerator::Tcg => processor,
            Accelerator::Kvm => format!("{processor}: {}", tsc::processor()),
        };
        Ok(Binding {
            vmm,
            accelerator,
            version,
            processor,
            clock_khz: self.measured().await.tsc_khz,
        })
    }

    fn flavour(&self, vmm: VmmKind) -> String {
        match vmm {
            VmmKind::Qemu => String::new(),
            VmmKind::Firecracker => format!("{:?}", self.config.firecracker),
        }
    }

    async fn copy_sparse(&self, from: &Path, to: &Path) -> Result<u64, HostError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || sparse::copy(&from, &to)).await
    }

    fn debian_root(&self, root: &DebianRoot) -> Result<Box<dyn RootTar>, HostError> {
        let program = self.config.mmdebstrap.as_deref();
        Ok(Box::new(Mmdebstrap::start(
            program,
            root,
            &self.config.scratch,
        )?))
    }

    async fn credential(&self, helper: &str, server: &str) -> Result<Option<Vec<u8>>, HostError> {
        let (helper, server) = (helper.to_owned(), server.to_owned());
        blocking(move || process::credential(&helper, &server)).await
    }

    async fn usage(&self, places: &VmPlaces, process: &VmmProcess) -> Option<VmmUsage> {
        let (places, pid) = (places.clone(), process.pid);
        blocking(move || usage::of_process(pid, cgroups::memory_limit(&places))).await
    }

    fn space(&self, path: &Path) -> Result<Space, HostError> {
        admission::space(path, self.disk_reserve())
    }

    fn spare_memory(&self) -> u64 {
        headroom::memory().unwrap_or(u64::MAX)
    }

    fn shared_blocks(&self, path: &Path) -> Vec<Range<u64>> {
        shared_blocks::of(path)
    }

    fn strays(&self, known: &[VmId]) -> Vec<Act> {
        cgroups::strays(known).into_iter().map(Act::Group).collect()
    }

    fn remove_stray(&self, stray: &Act) -> Result<(), HostError> {
        match stray {
            Act::Group(path) => cgroups::remove_stray(path),
            Act::Vm(_)
            | Act::Image(_)
            | Act::Kernel(_)
            | Act::Directory(_)
            | Act::Disk(_)
            | Act::Growth(_)
            | Act::Download(_)
            | Act::Initramfs(_)
            | Act::Sockets(_)
            | Act::Jail(_)
            | Act::Namespaces(_)
            | Act::Tap(_)
            | Act::Vmm(_)
            | Act::Uplink(_) => Ok(()),
        }
    }

    fn boot_id(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned())
    }

    async fn checks(&self, state: &Path) -> Vec<Check> {
        let (config, state) = (self.config.clone(), state.to_owned());
        blocking(move || doctor::checks(&config, &state)).await
    }
}
