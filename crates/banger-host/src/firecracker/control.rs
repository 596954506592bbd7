//! A running Firecracker: its agent through vsock, its API, its uplink. Knows no plans.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use banger_core::{
    host::{SnapshotPlaces, VmPlaces, VmmExit},
    host_error::HostError,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::{
    api::{InstanceInfo, InstanceState, MachineConfiguration, State},
    client::Client,
    exit,
    jail::{self, Item, outside},
    launch,
    pipes::Pump,
    saved::Shelf,
    version::{Feature, Version},
};
use crate::{
    command_line::AGENT_VSOCK_PORT,
    control::{Control, Pace},
    logs,
    process::{Ended, Process},
    task::blocking,
};

/// How long a guest may take to accept or refuse a connection. One that is lost in a restore
/// or in a guest's boot is never answered.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Each attempt is a packet that the guest has to deal with, once it has a driver for it: until
/// then the first attempt waits, and from then on the agent is a moment away.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);
/// Firecracker itself gives up a connection after two seconds.
const LONGEST_LINE: usize = 32;

#[derive(Debug)]
pub(crate) struct FirecrackerControl {
    places: VmPlaces,
    pid: u32,
    /// Whether there is room in memory for the save that is about to be made, or was.
    in_memory: AtomicBool,
    /// A guest whose machine was saved hears that its connections are gone only when somebody calls.
    /// That call is lost, too.
    to_knock: AtomicBool,
    agent: PathBuf,
    api: PathBuf,
    /// What it said last, until it is in the log, and what it counted.
    pumps: Vec<Pump>,
    log: PathBuf,
    metrics: PathBuf,
    /// Ends with the VMM; watched so that it is buried.
    _uplink: Option<Process>,
}

/// What is known of a guest's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    Boots,
    /// Its machine was saved once, here or elsewhere, or it cannot be told.
    MayBeSaved,
}

impl FirecrackerControl {
    pub(crate) fn new(
        places: &VmPlaces,
        pid: u32,
        guest: History,
        pumps: Vec<Pump>,
        uplink: Option<Process>,
    ) -> Self {
        Self {
            pid,
            in_memory: AtomicBool::new(false),
            to_knock: AtomicBool::new(guest == History::MayBeSaved),
            places: places.clone(),
            agent: outside(places, Item::AgentSocket),
            api: outside(places, Item::ApiSocket),
            pumps,
            log: places.vmm_log(),
            metrics: metrics_file(places),
            _uplink: uplink,
        }
    }

    async fn change(&self, state: State) -> Result<(), HostError> {
        let mut api = Client::connect(&self.api).await?;
        let info: InstanceInfo = api.get("/").await?;
        if let Ok(version) = info.vmm_version.parse::<Version>() {
            version.require(Feature::Pause)?;
        }
        api.change(state).await
    }

    async fn make_room(&self, pid: u32) -> Result<(), HostError> {
        let mut api = Client::connect(&self.api).await?;
        let machine: MachineConfiguration = api.get("/machine-config").await?;
        let memory = machine.mem_size_mib << 20;
        blocking(move || Shelf::in_memory(pid).make_room(memory)).await
    }

    /// One attempt to reach the agent.
    async fn call_agent(&self) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.agent).await?;
        let request = format!("CONNECT {AGENT_VSOCK_PORT}\n");
        stream.write_all(request.as_bytes()).await?;
        let line = read_line(&mut stream).await?;
        if line.starts_with(b"OK ") {
            return Ok(stream);
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// The VMM's own counters, where they are asked for.
pub(crate) fn metrics_file(places: &VmPlaces) -> PathBuf {
    places.state.join("metrics.json")
}

/// Carries what the VMM of these places says into its logs.
pub(super) fn pump(places: &VmPlaces) -> Vec<Pump> {
    let files = [
        (Item::Log, places.vmm_log()),
        (Item::Metrics, metrics_file(places)),
    ];
    let pumps = files.into_iter().filter_map(|(item, file)| {
        let pipe = outside(places, item);
        let pump = pipe.exists().then(|| Pump::start(&pipe, &file))?;
        pump.inspect_err(|error| tracing::warn!(%error, "cannot read what a VMM says"))
            .ok()
    });
    pumps.collect()
}

/// Whether a guest was ever started in the VMM behind this connection.
pub(super) async fn has_begun(api: &mut Client) -> Result<bool, HostError> {
    let info: InstanceInfo = api.get("/").await?;
    Ok(match info.state {
        InstanceState::NotStarted => false,
        InstanceState::Running | InstanceState::Paused => true,
    })
}

/// A line, byte by byte: what follows it is the agent's.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(line),
            byte if line.len() < LONGEST_LINE => line.push(byte),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[async_trait]
impl Control for FirecrackerControl {
    async fn dial(&self) -> UnixStream {
        if self.to_knock.swap(false, Ordering::Relaxed) {
            let knocked = timeout(HANDSHAKE, self.call_agent()).await;
            tracing::trace!(?knocked, "knocked");
        }
        let mut pace = Pace::up_to(LONGEST_PAUSE);
        loop {
            match timeout(HANDSHAKE, self.call_agent()).await {
                Ok(Ok(stream)) => return stream,
                Ok(Err(error)) => tracing::trace!(%error, "the agent does not listen yet"),
                Err(_) => tracing::debug!("a connection to the agent is not answered"),
            }
            pace.wait().await;
        }
    }

    /// It has no such order: a guest is ended through its agent, and the VMM by a signal.
    async fn quit(&self) -> Result<(), HostError> {
        Err(HostError::Unsupported {
            feature: "an orderly end".into(),
            reason: "Firecracker ends with its guest or by a signal".into(),
        })
    }

    async fn pause(&self) -> Result<(), HostError> {
        self.change(State::Paused).await
    }

    async fn resume(&self) -> Result<(), HostError> {
        self.change(State::Resumed).await
    }

    /// Only what has a root of its own has names that hold elsewhere.
    fn may_save(&self) -> Result<(), HostError> {
        if jail::root(&self.places).exists() {
            return Ok(());
        }
        Err(launch::no_snapshots())
    }

    /// A disk may take seconds to have all of a guest's memory; memory does not.
    async fn prepare_save(&self, pid: u32, _: &SnapshotPlaces) -> Result<(), HostError> {
        let prepared = self.make_room(pid).await;
        if let Err(error) = &prepared {
            tracing::debug!(%error, "a machine is saved by way of the disk");
        }
        self.in_memory.store(prepared.is_ok(), Ordering::Relaxed);
        Ok(())
    }

    async fn save(&self, _: &SnapshotPlaces) -> Result<u64, HostError> {
        self.may_save()?;
        self.to_knock.store(true, Ordering::Relaxed);
        if self.in_memory.load(Ordering::Relaxed) {
            match Shelf::in_memory(self.pid).save(&self.api).await {
                Ok(()) => return Ok(0),
                Err(error) => tracing::warn!(%error, "a machine is saved by way of the disk"),
            }
            self.in_memory.store(false, Ordering::Relaxed);
        }
        Shelf::on_disk(&self.places).save(&self.api).await?;
        Ok(0)
    }

    async fn fetch(&self, into: &SnapshotPlaces, _: u64) -> Result<u64, HostError> {
        let shelf = if self.in_memory.swap(false, Ordering::Relaxed) {
            Shelf::in_memory(self.pid)
        } else {
            Shelf::on_disk(&self.places)
        };
        let into = into.clone();
        blocking(move || shelf.fetch(&into)).await
    }

    /// It tells the guest so, whether that goes on here or elsewhere.
    fn hangs_up_to_save(&self) -> bool {
        true
    }

    fn exit(&self, ended: Ended) -> VmmExit {
        exit::exit(ended)
    }

    fn refusal(&self, ended: Ended) -> Option<String> {
        let refusal = exit::refusal(ended, &logs::end(&self.log))?;
        Some(logs::printable(&refusal))
    }

    fn logs(&self) -> Vec<PathBuf> {
        let metrics = self.metrics.exists().then(|| self.metrics.clone());
        metrics.into_iter().collect()
    }

    async fn drained(&self) {
        for pump in &self.pumps {
            pump.finish().await;
        }
    }
}
