//! Owns the way from the host to a process's input, at the speed at which the process reads. Knows no process.

use std::future::pending;
use std::io;

use banger_guest_proto::frame::{Kind, Piece};
use banger_guest_proto::session::frames::FrameReceiver;

use super::spawn::End;

/// What a terminal takes for the end of input.
const END_OF_TRANSMISSION: &[u8] = &[4];

/// Where input goes.
#[derive(Debug)]
pub(super) enum Sink {
    /// Closing it is the end of input.
    Pipe(End),
    /// It stays open; the end of input is a character.
    Terminal(End),
}

/// Feeds the process until the input ends or is not wanted any more. Input that comes after that stays unread, so that
/// the stream's flow control stops the host, as a full pipe would. A host that goes away has not ended the input: the
/// process must not take what it got for all there was, so the pipe stays open until this future is dropped.
pub(super) async fn feed(mut receiver: FrameReceiver, sink: Sink) {
    let (Sink::Pipe(end) | Sink::Terminal(end)) = &sink;
    loop {
        match receiver.next().await {
            Ok(Some(Piece {
                kind: Kind::Stdin,
                payload,
            })) => {
                if write_all(end, &payload).await.is_err() {
                    return;
                }
            }
            Ok(None) => break,
            Ok(Some(_)) | Err(_) => return pending().await,
        }
    }
    match &sink {
        Sink::Pipe(_) => {}
        Sink::Terminal(end) => {
            // A terminal that nobody listens to needs no end.
            let _ = write_all(end, END_OF_TRANSMISSION).await;
        }
    }
}

async fn write_all(end: &End, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let mut guard = end.writable().await?;
        let written = guard.try_io(|end| Ok(rustix::io::write(end.get_ref(), data)?));
        match written {
            Ok(Ok(count)) => data = &data[count..],
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    Ok(())
}
