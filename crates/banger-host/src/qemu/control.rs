//! A running QEMU: its agent's socket, its control socket. Knows no processes.

use std::sync::Mutex;

use async_trait::async_trait;
use banger_core::{
    host::{Halt, SnapshotPlaces, VmPlaces},
    host_error::HostError,
};
use serde_json::json;
use tokio::net::UnixStream;

use super::{halts::Halts, pages::Pages, qmp::Qmp, save};
use crate::{
    arrivals::connect_when_there, command_line::DISK_SERIAL, control::Control, places,
    task::Leashed,
};

#[derive(Debug)]
pub(crate) struct QemuControl {
    places: VmPlaces,
    halts: Halts,
    /// The first byte stream to the agent, opened while QEMU makes its machine.
    first: Mutex<Option<Leashed<UnixStream>>>,
    /// What a save began with while the guest ran.
    begun: Mutex<Option<Pages>>,
}

impl QemuControl {
    pub(crate) fn new(places: &VmPlaces) -> Self {
        let agent = places::agent_socket(places);
        let first = tokio::spawn(async move { connect_when_there(&agent).await });
        Self {
            places: places.clone(),
            halts: Halts::watch(places),
            first: Mutex::new(Some(Leashed(first))),
            begun: Mutex::new(None),
        }
    }

    async fn order(&self, command: &'static str) -> Result<(), HostError> {
        let mut qmp = Qmp::connect(&places::qmp_socket(&self.places)).await?;
        qmp.execute(command).await.map(drop)
    }
}

#[async_trait]
impl Control for QemuControl {
    async fn dial(&self) -> UnixStream {
        let first = self.first.lock().expect("its holders do not panic").take();
        if let Some(first) = first
            && let Ok(stream) = first.outcome().await
        {
            return stream;
        }
        connect_when_there(&places::agent_socket(&self.places)).await
    }

    async fn quit(&self) -> Result<(), HostError> {
        self.order("quit").await
    }

    async fn halted(&self) -> Halt {
        self.halts.next().await
    }

    async fn pause(&self) -> Result<(), HostError> {
        self.order("stop").await
    }

    /// It may have been saved when an earlier daemon ended. A save that still went on would stop it
    /// again.
    async fn resume(&self) -> Result<(), HostError> {
        self.order("migrate_cancel").await?;
        self.order("cont").await
    }

    fn may_save(&self) -> Result<(), HostError> {
        Ok(())
    }

    async fn prepare_save(&self, pid: u32, into: &SnapshotPlaces) -> Result<(), HostError> {
        let pages = save::prepare(&self.places, pid, into).await?;
        *self.begun.lock().expect("its holders do not panic") = Some(pages);
        Ok(())
    }

    async fn save(&self, into: &SnapshotPlaces) -> Result<u64, HostError> {
        let begun = self.begun.lock().expect("its holders do not panic").take();
        save::save(&self.places, into, begun).await
    }

    async fn grow_disk(&self, bytes: u64) -> Result<(), HostError> {
        let mut qmp = Qmp::connect(&places::qmp_socket(&self.places)).await?;
        let arguments = json!({ "node-name": DISK_SERIAL, "size": bytes });
        qmp.execute_with("block_resize", arguments).await.map(drop)
    }
}
