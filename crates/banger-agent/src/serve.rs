//! Owns the serving process: what it is to the kernel and to init, its event loop, and what ends it.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::Duration;

use banger_guest_proto::boot::{BootConfig, fatal};
use banger_guest_proto::hello::{BootMarks, Pid1};
use banger_guest_proto::message::{InitState, ShutdownRequest};
use rustix::process::{Resource, Rlimit};
use rustix::system::RebootCommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::agent::Agent;
use crate::boot::{Booted, Card, Fatal, OrFatal, cgroups, clock};
use crate::channel::OpenChannel;
use crate::init::Notifications;
use crate::reaper::{Reaper, Scope};
use crate::{console, journal, proc_files, shutdown, version};

/// As many files as systemd allows its services.
const FILE_LIMIT: u64 = 524_288;
/// How long a shutdown that was asked for inside the guest may take.
const INNER_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// The process that serves the host.
#[derive(Debug)]
pub(crate) struct Server {
    config: BootConfig,
    marks: BootMarks,
    disk: OwnedFd,
    card: Option<Card>,
    pid1: Pid1,
    notifications: Option<Notifications>,
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot start the event loop")]
    Runtime(#[source] io::Error),
    #[error("cannot shut down")]
    ShutDown(#[source] io::Error),
}

impl Server {
    /// Serves as process 1.
    pub(crate) fn as_process_1(booted: Booted) -> Self {
        if let Err(error) = cgroups() {
            console::warn("control groups", &error);
        }
        // Ctrl-Alt-Del, which a VMM can press, comes as a signal instead of a sudden restart.
        let _ = rustix::system::reboot(RebootCommand::CadOff);
        Self::new(booted, Pid1::Agent, None)
    }

    /// Serves as a process of its own beside another init, set apart so that init leaves it alone.
    pub(crate) fn beside(pid1: Pid1, booted: Booted, notifications: Option<Notifications>) -> Self {
        let attempts = [
            (
                "session",
                rustix::process::setsid().map(drop).map_err(io::Error::from),
            ),
            ("mark", mark_as_survivor()),
            (
                "memory",
                std::fs::write("/proc/self/oom_score_adj", "-1000"),
            ),
        ];
        for (what, result) in attempts {
            if let Err(error) = result {
                console::warn(what, &error);
            }
        }
        let _ = rustix::thread::set_name(c"banger-agent");
        Self::new(booted, pid1, notifications)
    }

    fn new(booted: Booted, pid1: Pid1, notifications: Option<Notifications>) -> Self {
        let limit = Rlimit {
            current: Some(FILE_LIMIT),
            maximum: Some(FILE_LIMIT),
        };
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limit) {
            console::warn("file limit", &io::Error::from(error));
        }
        let Booted {
            config,
            marks,
            disk,
            card,
        } = booted;
        Self {
            config,
            marks,
            disk,
            card,
            pid1,
            notifications,
        }
    }

    /// Serves until the machine ends.
    pub(crate) fn run(self) -> Result<Infallible, Fatal> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(ServeError::Runtime).or_fatal(fatal::BOOT)?;
        LocalSet::new().block_on(&runtime, self.serve())
    }

    async fn serve(mut self) -> Result<Infallible, Fatal> {
        let scope = match self.pid1 {
            Pid1::Agent => Scope::Everything,
            Pid1::Systemd | Pid1::Other => Scope::Own,
        };
        let reaper = Reaper::start(scope)
            .map_err(ServeError::Runtime)
            .or_fatal(fatal::BOOT)?;
        let (shutdowns, requests) = mpsc::channel(1);
        if self.pid1 == Pid1::Agent {
            take_wishes(&shutdowns)
                .map_err(ServeError::Runtime)
                .or_fatal(fatal::BOOT)?;
        }
        let channel = OpenChannel::open(&self.config.channel)
            .await
            .or_fatal(fatal::CHANNEL)?;
        self.marks.ready = Some(clock::uptime_ns());
        console::trace(format_args!("ready"));
        journal::note(format_args!(
            "{} is ready beside process 1: {:?}",
            version::line(),
            self.pid1
        ));
        let agent = Rc::new(Agent::new(
            reaper, self.pid1, self.marks, self.card, shutdowns,
        ));
        if let Some(notifications) = self.notifications.take() {
            tokio::task::spawn_local(notifications.follow(Rc::clone(&agent)));
        }
        tokio::select! {
            error = channel.serve(&agent) => Err(error).or_fatal(fatal::CHANNEL),
            error = self.end(&agent, requests) => Err(error).or_fatal(fatal::BOOT),
        }
    }

    /// Waits for the wish to go down and goes down.
    async fn end(
        &self,
        agent: &Agent,
        mut requests: mpsc::Receiver<ShutdownRequest>,
    ) -> ServeError {
        let Some(request) = requests.recv().await else {
            return std::future::pending().await;
        };
        journal::note(format_args!("going down, {:?}", request.mode));
        agent.init_is(InitState::Stopping);
        match shutdown::go_down(request, self.pid1, &agent.reaper, &self.disk).await {
            Ok(()) => std::future::pending().await,
            Err(error) => ServeError::ShutDown(error),
        }
    }
}

/// systemd spares processes of root whose first argument begins with an at sign when it kills what is left at the end,
/// so that the host can follow a shutdown to its end. The kernel shows the arguments from our own memory.
fn mark_as_survivor() -> io::Result<()> {
    let address = proc_files::arguments_address()
        .ok_or_else(|| io::Error::other("the kernel does not tell where the arguments are"))?;
    OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")?
        .write_all_at(b"@", address)
}

/// Takes the signals with which programs of the guest ask process 1 for the machine's end.
fn take_wishes(shutdowns: &mpsc::Sender<ShutdownRequest>) -> io::Result<()> {
    let wishes = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::from_raw(libc::SIGPWR),
    ];
    for wish in wishes {
        let (mut signal, shutdowns) = (signal(wish)?, shutdowns.clone());
        tokio::task::spawn_local(async move {
            while signal.recv().await.is_some() {
                // One wish is enough; while it is carried out, others change nothing.
                let _ = shutdowns.try_send(ShutdownRequest::graceful(INNER_SHUTDOWN_TIMEOUT));
            }
        });
    }
    Ok(())
}
