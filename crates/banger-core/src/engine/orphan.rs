//! What the journal has of a VM that is in no row: its making or its deletion was cut short in
//! between. All of it goes.

use std::sync::Arc;

use tracing::{info, warn};

use crate::{
    error::Error,
    journal::Owner,
    name::VmId,
    vm::{self, Surroundings},
};

/// Undoes it, or says why that is left to the next daemon.
pub(super) async fn forget(surroundings: Arc<Surroundings>, id: VmId) {
    info!(vm = %id, "undoing what was made for a VM that is not in the store");
    if let Err(error) = undo(&surroundings, id).await {
        warn!(vm = %id, error = error.chain(), "cannot undo it");
    }
    surroundings.ledger.settle(&Owner::Vm(id));
}

async fn undo(surroundings: &Surroundings, id: VmId) -> Result<(), Error> {
    let Surroundings {
        host,
        ledger,
        assembly,
        store,
        ..
    } = surroundings;
    let places = assembly.places(id);
    let page = ledger.page(Owner::Vm(id));
    if let Some(machine) = host.adopt(&places, page.journal()).await? {
        machine.kill().await?;
    }
    host.sweep(&places, page.journal()).await?;
    tokio::task::spawn_blocking(move || vm::remove_disk(&places, page.journal()))
        .await
        .map_err(|_| Error::Ending)??;
    Ok(store.strike_all(&Owner::Vm(id))?)
}
