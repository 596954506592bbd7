//! Hears when QEMU stops its guest because it cannot write. Asleep until then; knows no states of VMs.

use std::sync::Arc;

use banger_core::{
    host::{Halt, VmPlaces},
    host_error::HostError,
};
use tokio::sync::watch;

use super::qmp::{Qmp, Told};
use crate::{arrivals::connect_when_there, places, task::Leashed};

/// The latest halt, for who asks.
#[derive(Debug)]
pub(crate) struct Halts {
    latest: Arc<watch::Sender<Option<Halt>>>,
    _listening: Leashed,
}

impl Halts {
    /// Listens for as long as this lives.
    pub(crate) fn watch(places: &VmPlaces) -> Self {
        let latest = Arc::new(watch::Sender::new(None));
        let (places, heard) = (places.clone(), latest.clone());
        let listening = tokio::spawn(async move {
            if let Err(error) = listen(&places, &heard).await {
                tracing::debug!(%error, "QEMU tells nothing more");
            }
        });
        Self {
            latest,
            _listening: Leashed(listening),
        }
    }

    /// The next halt, which is told once.
    pub(crate) async fn next(&self) -> Halt {
        let mut latest = self.latest.subscribe();
        loop {
            // Taken in one step: a future that is dropped before has taken nothing.
            let mut taken = None;
            self.latest.send_if_modified(|latest| {
                taken = latest.take();
                false
            });
            match taken {
                Some(halt) => return halt,
                // The sender is ours.
                None => drop(latest.wait_for(Option::is_some).await),
            }
        }
    }
}

async fn listen(places: &VmPlaces, heard: &watch::Sender<Option<Halt>>) -> Result<(), HostError> {
    let stream = connect_when_there(&places::events_socket(places)).await;
    let mut qmp = Qmp::over(stream).await?;
    // It may have happened while no daemon listened. Which error it was is told no more.
    if qmp.is_halted().await? {
        heard.send_replace(Some(Halt::NoSpace));
    }
    loop {
        match qmp.told().await? {
            Told::WriteFailed { no_space: true } => heard.send_replace(Some(Halt::NoSpace)),
            Told::WriteFailed { no_space: false } => heard.send_replace(Some(Halt::DiskError)),
            Told::Else => continue,
        };
    }
}
