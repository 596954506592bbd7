//! The world that the tests live in: keys, packages, kernels, a mirror and its server.

pub(crate) mod fakes;
pub(crate) mod mirror;
pub(crate) mod signer;

use std::sync::Arc;
use std::time::Duration;

use banger_image::fetch::{Fetcher, Patience, Report};
use banger_image::progress::{SharedProgress, Silent};

pub(crate) fn silent() -> SharedProgress {
    Arc::new(Silent)
}

pub(crate) fn report() -> Report {
    Report {
        progress: silent(),
        stage: "test",
        detail: String::new(),
    }
}

/// A fetcher that loses its patience soon.
pub(crate) fn fetcher() -> Fetcher {
    let patience = Patience {
        connect: Duration::from_secs(5),
        headers: Duration::from_secs(5),
        stall: Duration::from_millis(200),
        tries: 3,
        pause: Duration::from_millis(1),
    };
    Fetcher::new(patience).unwrap()
}

/// An error and all of its causes, as a person sees them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
