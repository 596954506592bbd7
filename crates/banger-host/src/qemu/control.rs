//! A running QEMU: its agent's socket, its control socket. Knows no processes.

use async_trait::async_trait;
use banger_core::{host::VmPlaces, host_error::HostError};
use tokio::net::UnixStream;

use super::qmp::Qmp;
use crate::{arrivals::connect_when_there, control::Control, places};

#[derive(Debug)]
pub(crate) struct QemuControl(VmPlaces);

impl QemuControl {
    pub(crate) fn new(places: &VmPlaces) -> Self {
        Self(places.clone())
    }

    async fn order(&self, command: &'static str) -> Result<(), HostError> {
        let mut qmp = Qmp::connect(&places::qmp_socket(&self.0)).await?;
        qmp.execute(command).await.map(drop)
    }
}

#[async_trait]
impl Control for QemuControl {
    async fn dial(&self) -> UnixStream {
        connect_when_there(&places::agent_socket(&self.0)).await
    }

    async fn quit(&self) -> Result<(), HostError> {
        self.order("quit").await
    }

    async fn pause(&self) -> Result<(), HostError> {
        self.order("stop").await
    }

    async fn resume(&self) -> Result<(), HostError> {
        self.order("cont").await
    }
}
