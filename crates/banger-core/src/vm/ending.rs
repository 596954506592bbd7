//! How a guest is brought to its end: asked, asked again where the question was lost, and
//! awaited. Knows no states and no records.

use std::{sync::Arc, time::Duration};

use crate::{
    host::{Guest, Machine, VmmExit},
    host_error::GuestError,
};

/// How much longer than the guest's services the VMM may take to end.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// Asks the guest to end, and waits for its VMM to be gone.
pub(super) async fn end_gracefully(
    machine: &dyn Machine,
    guest: Option<Arc<dyn Guest>>,
    patience: Duration,
) -> Result<VmmExit, GuestError> {
    let limit = patience.saturating_add(EXIT_GRACE);
    let ended = tokio::time::timeout(limit, async {
        tokio::select! {
            biased;
            // A guest that ends may take the answer with it.
            exit = machine.exited() => return Ok(exit),
            asked = ask(machine, guest, patience) => asked?,
        }
        Ok(machine.exited().await)
    });
    ended.await.unwrap_or_else(|_| {
        Err(GuestError::Silent {
            after: limit,
            tail: Default::default(),
        })
    })
}

/// A connection that broke may have lost the question, and what the guest has not written to
/// its disk depends on it: it is asked once more on a new connection.
async fn ask(
    machine: &dyn Machine,
    guest: Option<Arc<dyn Guest>>,
    patience: Duration,
) -> Result<(), GuestError> {
    if let Some(guest) = guest {
        match guest.shutdown(patience).await {
            Err(GuestError::Broken { .. }) => {}
            asked => return asked,
        }
    }
    let guest = machine.connect(patience, None).await?;
    guest.shutdown(patience).await
}
