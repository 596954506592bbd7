//! Owns the machine's name: in the kernel, and in the two files that repeat it.

use std::io;

use banger_guest_proto::boot::Hostname;

/// A name that could not be given.
#[derive(Debug, thiserror::Error)]
#[error("cannot name the machine {name}")]
pub(crate) struct HostnameError {
    name: Hostname,
    #[source]
    source: io::Error,
}

/// Names the machine for everything that asks the kernel.
pub(crate) fn set(name: &Hostname) -> Result<(), HostnameError> {
    rustix::system::sethostname(name.as_str().as_bytes()).map_err(|error| HostnameError {
        name: name.clone(),
        source: error.into(),
    })
}
