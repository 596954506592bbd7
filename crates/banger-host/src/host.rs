//! The port's implementation: strings the parts of this crate together. Each act is in a
//! module of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use async_trait::async_trait;
use banger_core::{
    host::{Check, DebianRoot, Host, LaunchPlan, Machine, RootTar, VmPlaces, VmmChoice, VmmKind},
    host_error::HostError,
};

use crate::{
    admission, choice, doctor,
    lock::Note,
    log_keeper::LogKeeper,
    logs,
    machine::QemuMachine,
    mmdebstrap::Mmdebstrap,
    places,
    probe::KvmVerdict,
    process::{self, Detached, Process},
    qemu::{
        self, args,
        command_line::{Measured, command_line},
    },
    tsc::TscRate,
};

/// What is fixed for the life of a daemon.
#[derive(Debug, Clone, Default)]
pub struct HostConfig {
    /// QEMU's program; found in the PATH when absent.
    pub qemu: Option<PathBuf>,
    /// mmdebstrap's program; found in the PATH when absent.
    pub mmdebstrap: Option<PathBuf>,
    /// Where the probe's verdict is remembered.
    pub cache: PathBuf,
    /// Where large temporary trees may be made.
    pub scratch: PathBuf,
}

/// This Linux.
#[derive(Debug)]
pub struct LinuxHost {
    config: HostConfig,
    tsc: TscRate,
    log_keeper: LogKeeper,
}

impl LinuxHost {
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        Self {
            config,
            tsc: TscRate::measure(),
            log_keeper: LogKeeper::default(),
        }
    }

    fn qemu(&self) -> Result<PathBuf, HostError> {
        let configured = self.config.qemu.as_deref();
        process::locate(configured, qemu::PROGRAM)
            .ok_or_else(|| process::missing(configured, qemu::PROGRAM, qemu::PACKAGE))
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

#[async_trait]
impl Host for LinuxHost {
    async fn choose_vmm(&self, wanted: Option<VmmKind>) -> Result<VmmChoice, HostError> {
        let cache = self.config.cache.clone();
        let verdict = blocking(move || KvmVerdict::of_this_host(&cache)).await;
        let choice = choice::choose(wanted, &verdict)?;
        self.qemu()?;
        Ok(choice)
    }

    async fn admit(&self, plan: &LaunchPlan) -> Result<(), HostError> {
        choice::refuse_what_is_not_built(plan.vmm)?;
        places::check_socket_paths(&plan.places)?;
        command_line(plan, self.measured().await)?;
        admission::admit(plan)
    }

    async fn launch(&self, plan: &LaunchPlan) -> Result<Arc<dyn Machine>, HostError> {
        choice::refuse_what_is_not_built(plan.vmm)?;
        places::check_socket_paths(&plan.places)?;
        let line = command_line(plan, self.measured().await)?;
        let note = Note {
            vmm: plan.vmm,
            accelerator: plan.accelerator,
        };
        let detached = Detached {
            program: self.qemu()?,
            args: args::args(plan, &line),
            log: plan.places.vmm_log(),
            lock: places::vmm_lock(&plan.places),
            note,
            file_limit: admission::file_limit(plan)?,
        };
        // What follows would take the sockets and the console of a machine that runs.
        process::refuse_running(&detached.lock)?;
        places::prepare(&plan.places)?;
        logs::start_console(&plan.places.console())?;
        let process = Process::start(&detached)?;
        Ok(Arc::new(QemuMachine::new(
            &plan.places,
            process,
            note,
            &self.log_keeper,
        )))
    }

    async fn adopt(&self, places: &VmPlaces) -> Result<Option<Arc<dyn Machine>>, HostError> {
        let adopted = Process::adopt(&places::vmm_lock(places))?;
        Ok(adopted.map(|(process, note)| {
            let machine: Arc<dyn Machine> =
                Arc::new(QemuMachine::new(places, process, note, &self.log_keeper));
            machine
        }))
    }

    async fn sweep(&self, places: &VmPlaces) -> Result<(), HostError> {
        process::refuse_running(&places::vmm_lock(places))?;
        places::sweep(places)
    }

    fn debian_root(&self, root: &DebianRoot) -> Result<Box<dyn RootTar>, HostError> {
        let program = self.config.mmdebstrap.as_deref();
        Ok(Box::new(Mmdebstrap::start(
            program,
            root,
            &self.config.scratch,
        )?))
    }

    async fn checks(&self, state: &Path) -> Vec<Check> {
        let (config, state) = (self.config.clone(), state.to_owned());
        blocking(move || doctor::checks(&config, &state)).await
    }
}

/// Runs what blocks for some milliseconds beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
