//! Owns the socket on which systemd says how far it is: the protocol of sd_notify, of which two words matter here.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::rc::Rc;

use banger_guest_proto::message::InitState;
use tokio::net::UnixDatagram;

use crate::agent::Agent;

/// In a directory that is root's alone, so that nobody else speaks for systemd.
pub(super) const SOCKET: &str = "/run/banger/notify";

/// The socket, bound before systemd starts.
#[derive(Debug)]
pub(crate) struct Notifications(std::os::unix::net::UnixDatagram);

impl Notifications {
    pub(crate) fn bind() -> io::Result<Self> {
        let directory = Path::new(SOCKET)
            .parent()
            .expect("the socket is in a directory");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let socket = std::os::unix::net::UnixDatagram::bind(SOCKET)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Tells the agent what systemd says, for as long as both live.
    pub(crate) async fn follow(self, agent: Rc<Agent>) -> io::Result<()> {
        let socket = UnixDatagram::from_std(self.0)?;
        let mut message = [0; 1024];
        loop {
            let length = socket.recv(&mut message).await?;
            if let Some(state) = parse(&message[..length]) {
                agent.init_is(state);
            }
        }
    }
}

fn parse(message: &[u8]) -> Option<InitState> {
    message
        .split(|byte| *byte == b'\n')
        .find_map(|line| match line {
            b"READY=1" => Some(InitState::Running),
            b"STOPPING=1" => Some(InitState::Stopping),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_matter_are_found_among_others() {
        let check = |message: &str, state| assert_eq!(parse(message.as_bytes()), state);
        check(
            "READY=1\nSTATUS=Startup finished in 3s.",
            Some(InitState::Running),
        );
        check("STATUS=x\nSTOPPING=1\n", Some(InitState::Stopping));
        check("STATUS=READY=1", None);
        check("", None);
    }
}
