//! Owns the machine's name: in the kernel, and in the two files that repeat it.

use std::io;

use banger_guest_proto::boot::Hostname;

use super::identity;

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

/// Gives a running machine another name, as a fork of a snapshot needs it.
pub(crate) fn rename(name: &Hostname) -> Result<(), HostnameError> {
    let current = rustix::system::uname();
    if current.nodename().to_bytes() == name.as_str().as_bytes() {
        return Ok(());
    }
    set(name)?;
    identity::write_name(name).map_err(|error| HostnameError {
        name: name.clone(),
        source: io::Error::other(error),
    })
}
