//! Unbuffered reading and writing of descriptors that other processes share with us.
//! Copes with what they may have done to them: signals, and descriptors that do not block.

use std::{
    io::{self, IsTerminal},
    os::fd::AsFd,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// Writes everything.
pub(crate) fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) => pass_over(&fd, error, PollFlags::OUT)?,
        }
    }
    Ok(())
}

/// Reads what is there; 0 is the end.
pub(crate) fn read_some(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(&fd, &mut *buffer) {
            Ok(read) => return Ok(read),
            Err(error) => pass_over(&fd, error, PollFlags::IN)?,
        }
    }
}

/// Errors that only mean `later`.
fn pass_over(fd: impl AsFd, error: Errno, event: PollFlags) -> io::Result<()> {
    match error {
        Errno::INTR => Ok(()),
        // The other holder of this file may have made it non-blocking.
        Errno::AGAIN => match poll(&mut [PollFd::new(&fd, event)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        },
        other => Err(other.into()),
    }
}

/// Whether colours are welcome on this stream (<https://no-color.org>).
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    stream.is_terminal() && !refused && !dumb
}
