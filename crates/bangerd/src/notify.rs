//! What a service manager is told of the daemon (sd_notify(3)): a datagram for each change. Knows the
//! protocol, not units; does nothing where nobody asked.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::SocketAddr, net::UnixDatagram},
    },
};

/// Whose service a daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    User,
    System,
}

impl Service {
    /// The word in the unit's environment, and in documents.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
        }
    }
}

/// Set by our own unit.
const SERVICE: &str = "BANGER_SERVICE";

/// The manager that started this process, if one did.
#[derive(Debug)]
pub(crate) struct Manager(Option<SocketAddr>);

impl Manager {
    /// Of `NOTIFY_SOCKET`. A manager that names a socket wrongly is none.
    pub(crate) fn of_environment() -> Self {
        let named = env::var_os("NOTIFY_SOCKET");
        Self(named.as_deref().and_then(|name| address(name).ok()))
    }

    /// Whether somebody keeps this process: its streams and its life are theirs.
    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Whose service this is, where it is one of ours.
    pub(crate) fn service(&self) -> Option<Service> {
        let named = env::var(SERVICE).ok().filter(|_| self.is_there())?;
        let all = [Service::User, Service::System];
        all.into_iter().find(|service| service.as_str() == named)
    }

    /// Connections are taken.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving\n");
    }

    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.0 else {
            return;
        };
        let told = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(state.as_bytes(), address));
        if let Err(error) = told {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

/// A path, or a name behind an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &OsStr, socket: &UnixDatagram) {
        let manager = Manager(address(name).ok());
        assert!(manager.is_there());
        manager.ready();
        manager.stopping();
        let mut heard = Vec::new();
        for _ in 0..2 {
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        assert_eq!(heard, ["READY=1\nSTATUS=serving\n", "STOPPING=1\n"]);
    }

    #[test]
    fn a_manager_is_told_at_a_path_or_at_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        check(path.as_os_str(), &UnixDatagram::bind(&path).unwrap());
        let name = format!("banger-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        check(OsStr::new(&format!("@{name}")), &socket);
    }

    #[test]
    fn without_a_manager_nothing_is_told() {
        let nobody = Manager(None);
        nobody.ready();
        assert!(!nobody.is_there());
    }
}
