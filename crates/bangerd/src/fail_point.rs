//! The sudden end of a daemon at a chosen moment, for those who want to know what the next one
//! makes of it. Only builds for development have this door: what is released cannot be told to die.

use std::sync::Arc;

use banger_core::journal::{Moment, Watch};
use rustix::process::{Signal, getpid, kill_process};

/// Names the moment, as in `after vmm is intended`.
const VARIABLE: &str = "BANGER_TEST_END";

/// Whoever ends this daemon, if somebody is to.
pub(crate) fn from_environment() -> Option<Arc<dyn Watch>> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let moment = std::env::var(VARIABLE).ok()?;
    Some(Arc::new(End(moment)))
}

struct End(String);

impl Watch for End {
    fn at(&self, moment: Moment<'_>) {
        if moment.to_string() == self.0 {
            // Nothing of this process runs any more, no destructor either.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
