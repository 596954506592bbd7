//! Kernels in the journal. A kernel appears and vanishes as a whole, so what its path says is
//! what has become of an act, however that ended.

use std::sync::Arc;

use banger_image::kernel::KernelName;
use tracing::warn;

use crate::journal::{Act, JournalError, Ledger, Owner, Page};

/// Work on a kernel that is written down. Its end says what became of it, also where the work
/// was given up.
#[derive(Debug)]
pub(super) struct Recorded {
    page: Page,
    act: Act,
}

impl Recorded {
    pub(super) fn begin(
        ledger: &Arc<Ledger>,
        name: &KernelName,
        act: Act,
    ) -> Result<Self, JournalError> {
        let page = ledger.page(Owner::Kernel(name.clone()));
        page.journal().intend(&act)?;
        Ok(Self { page, act })
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        judge(&self.page, &self.act);
    }
}

/// Says what became of the work of an earlier daemon, which cannot go on any more.
pub(super) fn settle(ledger: &Arc<Ledger>) {
    for owner in ledger.owners_of_halves() {
        if matches!(owner, Owner::Kernel(_)) {
            let page = ledger.page(owner.clone());
            for half in ledger.halves_of(&owner) {
                judge(&page, &half.act);
            }
            ledger.settle(&owner);
        }
    }
}

fn judge(page: &Page, act: &Act) {
    if let Err(error) = page.judge(act) {
        warn!(%error, "a kernel's entry in the journal stays open");
    }
}
