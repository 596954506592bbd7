//! What a VM uses: of the host, by the host's word, and inside, by the guest's. Adds up nothing and keeps
//! nothing.

use std::{os::unix::fs::MetadataExt, time::Duration};

use super::VmHandle;
use crate::{
    host::{Health, Host, VmmUsage},
    record::{VmRecord, VmState},
};

/// A guest that needs longer for a figure goes without.
const PATIENCE: Duration = Duration::from_secs(2);

/// Of one VM, now.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    pub record: VmRecord,
    pub host: Option<VmmUsage>,
    pub guest: Option<Health>,
    /// What the VM's own files take on the host's disk.
    pub disk_used: u64,
}

impl VmHandle {
    pub(crate) async fn usage(&self, host: &dyn Host) -> Usage {
        let view = self.view();
        let files = [
            view.places.disk(),
            view.places.console(),
            view.places.vmm_log(),
        ];
        let health = async {
            // One that stands still would not answer.
            let running = view.record.state == VmState::Running;
            let guest = view.guest.as_ref().filter(|_| running)?;
            let asked = tokio::time::timeout(PATIENCE, guest.health()).await;
            asked.ok()?.ok()
        };
        let vmm = async {
            let process = view.process.as_ref()?;
            host.usage(&view.places, process).await
        };
        let (guest, host) = tokio::join!(health, vmm);
        // The kernel counts blocks of 512 bytes, whatever the file system's are (stat(2)).
        let mut record = view.record.clone();
        if let Some(built) = view.process.as_ref().and_then(|process| process.built) {
            // What the figures are of is what it has, not what its next start will give it.
            record.spec = built.holds(&record.spec);
        }
        let blocks = files.iter().filter_map(|file| file.metadata().ok());
        Usage {
            record,
            host,
            guest,
            disk_used: blocks.map(|meta| meta.blocks() * 512).sum(),
        }
    }
}
