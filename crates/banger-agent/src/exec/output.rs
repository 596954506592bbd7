//! Owns the way from a process's output to the host: reads only what the host has room for. Knows no process.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use banger_guest_proto::frame::{self, HEADER_LEN, Kind};
use banger_guest_proto::session::frames::{Closed, FrameSender};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::spawn::{End, descriptor};

/// As much as is read in one go. The kernel's channel takes as much at once.
const CHUNK: usize = 32 << 10;
/// As much as a pipe can hold, which bounds what a process can have left behind at its end.
const LEFT_BEHIND: usize = 64 << 10;

/// Why [`Output::pump`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Everything was read and queued.
    Drained,
    /// The host does not want any more.
    Gone,
}

/// A stream of output that has not ended.
#[derive(Debug)]
struct Source {
    kind: Kind,
    end: End,
    /// Once set, no more than this is read, and only what is there already.
    limit: Option<usize>,
}

/// The sources of an exec, and the host at the other side.
#[derive(Debug)]
pub(super) struct Output {
    sender: FrameSender,
    sources: Vec<Source>,
    buffer: Vec<u8>,
    waits_for_host: bool,
}

impl Output {
    pub(super) fn new(sender: FrameSender, ends: impl IntoIterator<Item = (Kind, End)>) -> Self {
        let sources =
            ends.into_iter().map(|(kind, end)| Source { kind, end, limit: None }).collect();
        Self { sender, sources, buffer: Vec::new(), waits_for_host: false }
    }

    /// Whether all output was read.
    pub(super) fn is_drained(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether it is the host that holds the output up.
    pub(super) fn waits_for_host(&self) -> bool {
        self.waits_for_host
    }

    /// Takes what is there and then regards the sources as ended, though someone may still hold their other end.
    pub(super) fn stop_at_what_is_there(&mut self) {
        for source in &mut self.sources {
            source.limit.get_or_insert(LEFT_BEHIND);
        }
    }

    /// Closes all sources unread.
    pub(super) fn abandon(&mut self) {
        self.sources.clear();
    }

    /// Moves output until there is none left. Called again after that, it only waits for the host to go away.
    pub(super) async fn pump(&mut self) -> Pumped {
        poll_fn(|cx| self.poll_pump(cx)).await
    }

    /// Gives the sender back for the last frame.
    pub(super) fn into_sender(self) -> FrameSender {
        self.sender
    }

    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<Pumped> {
        if self.sender.poll_closed(cx).is_ready() {
            return Poll::Ready(Pumped::Gone);
        }
        if self.sources.is_empty() {
            return Poll::Pending;
        }
        let mut progress = true;
        while progress {
            progress = false;
            for index in (0..self.sources.len()).rev() {
                match self.poll_source(cx, index) {
                    Poll::Ready(Ok(())) => progress = true,
                    Poll::Ready(Err(Closed)) => return Poll::Ready(Pumped::Gone),
                    Poll::Pending => {}
                }
            }
            if self.sources.is_empty() {
                return Poll::Ready(Pumped::Drained);
            }
        }
        Poll::Pending
    }

    /// Moves one chunk, or removes a source that has ended.
    fn poll_source(&mut self, cx: &mut Context<'_>, index: usize) -> Poll<Result<(), Closed>> {
        let source = &mut self.sources[index];
        let wanted = source.limit.unwrap_or(CHUNK).min(CHUNK);
        let room = self.sender.poll_room(cx, wanted.max(1));
        self.waits_for_host = room.is_pending();
        let room = ready!(room)?.min(wanted);
        let count = match read(cx, &source.end, source.limit.is_some(), room, &mut self.buffer) {
            Poll::Ready(count) => count,
            Poll::Pending => return Poll::Pending,
        };
        if count == 0 {
            self.sources.remove(index);
            return Poll::Ready(Ok(()));
        }
        if let Some(limit) = &mut source.limit {
            *limit -= count;
        }
        let frame = finish_frame(source.kind, &mut self.buffer);
        Poll::Ready(self.sender.queue(frame))
    }
}

/// Reads behind the place where the header goes. Zero is the end: of the stream, or of what is there.
fn read(
    cx: &mut Context<'_>,
    end: &End,
    only_what_is_there: bool,
    room: usize,
    buffer: &mut Vec<u8>,
) -> Poll<usize> {
    loop {
        let mut guard = if only_what_is_there {
            None
        } else {
            match ready!(end.poll_read_ready(cx)) {
                Ok(guard) => Some(guard),
                Err(_) => return Poll::Ready(0),
            }
        };
        match read_now(end, room, buffer) {
            Ok(count) => return Poll::Ready(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match &mut guard {
                Some(guard) => guard.clear_ready(),
                None => return Poll::Ready(0),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal that nobody has open any more gives EIO.
            Err(_) => return Poll::Ready(0),
        }
    }
}

fn read_now(end: &End, room: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.clear();
    buffer.resize(HEADER_LEN, 0);
    if room == 0 {
        return Ok(0);
    }
    buffer.reserve_exact(room);
    // A reservation may be more than was asked for, but the host has room for so much only.
    let mut spare = buffer.spare_capacity_mut();
    let limit = spare.len().min(room);
    spare = &mut spare[..limit];
    let (filled, _) = rustix::io::read(descriptor(end), spare).map_err(Errno::from)?;
    let count = filled.len();
    let _ = spare_capacity::<u8>;
    Ok(count)
}

fn finish_frame(kind: Kind, buffer: &mut Vec<u8>) -> Bytes {
    frame::encode(kind, &buffer[HEADER_LEN..])
}
