//! Owns the way from a process's output to the host: reads only what the host has room for. Knows no process.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use banger_guest_proto::frame::{self, HEADER_LEN, Kind};
use banger_guest_proto::session::frames::{Closed, FrameSender};
use bytes::Bytes;
use rustix::io::Errno;

use super::spawn::{End, descriptor};

/// As much as is read in one go. The kernel's channel takes as much at once.
const CHUNK: usize = 32 << 10;
/// As much as a pipe can hold, which bounds what a process can have left behind at its end.
const LEFT_BEHIND: usize = 64 << 10;

thread_local! {
    /// All execs read into the same place, since none keeps anything there.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

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
    waits_for_host: bool,
}

impl Output {
    pub(super) fn new(sender: FrameSender, ends: impl IntoIterator<Item = (Kind, End)>) -> Self {
        let sources = ends
            .into_iter()
            .map(|(kind, end)| Source {
                kind,
                end,
                limit: None,
            })
            .collect();
        Self {
            sender,
            sources,
            waits_for_host: false,
        }
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

    /// Takes whatever comes, for nobody.
    pub(super) async fn discard(&mut self) -> Infallible {
        poll_fn(|cx| {
            self.sources.retain(|source| {
                loop {
                    match poll_read(cx, source, CHUNK) {
                        Poll::Ready(Some(_)) => {}
                        Poll::Ready(None) => break false,
                        Poll::Pending => break true,
                    }
                }
            });
            Poll::Pending
        })
        .await
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
        if wanted == 0 {
            self.sources.remove(index);
            return Poll::Ready(Ok(()));
        }
        let room = self.sender.poll_room(cx, wanted);
        self.waits_for_host = room.is_pending();
        let Some(frame) = ready!(poll_read(cx, source, ready!(room)?)) else {
            self.sources.remove(index);
            return Poll::Ready(Ok(()));
        };
        if let Some(limit) = &mut source.limit {
            *limit -= frame.len() - HEADER_LEN;
        }
        Poll::Ready(self.sender.queue(frame))
    }
}

/// Reads a frame's payload. `None` is the end: of the stream, or of what is there.
fn poll_read(cx: &mut Context<'_>, source: &Source, room: usize) -> Poll<Option<Bytes>> {
    loop {
        if source.limit.is_some() {
            return Poll::Ready(read(source, room).ok().flatten());
        }
        let Ok(mut guard) = ready!(source.end.poll_read_ready(cx)) else {
            return Poll::Ready(None);
        };
        match read(source, room) {
            Ok(frame) => return Poll::Ready(frame),
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            // A terminal that nobody has open any more gives EIO.
            Err(_) => return Poll::Ready(None),
        }
    }
}

fn read(source: &Source, room: usize) -> rustix::io::Result<Option<Bytes>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let count = rustix::io::read(descriptor(&source.end), &mut scratch[..room])?;
        Ok((count > 0).then(|| frame::encode(source.kind, &scratch[..count])))
    })
}
