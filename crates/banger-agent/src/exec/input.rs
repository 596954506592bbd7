//! Owns the way from the host to a process's input, at the speed at which the process reads. Knows no process.

use std::io;

use banger_guest_proto::frame::Kind;
use banger_guest_proto::session::frames::FrameReceiver;
use tokio::sync::oneshot;

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

/// Feeds the process until it ends (`over`), then lets the host come to its own end. A host whose process does not read
/// is stopped by the stream's flow control.
pub(super) async fn feed(mut receiver: FrameReceiver, sink: Sink, over: oneshot::Receiver<()>) {
    tokio::select! {
        () = pour(&mut receiver, sink) => {}
        _ = over => {}
    }
    receiver.drain().await;
}

/// A process that does not want its input is no failure: the rest is dropped.
async fn pour(receiver: &mut FrameReceiver, sink: Sink) {
    let (Sink::Pipe(end) | Sink::Terminal(end)) = &sink;
    while let Ok(Some(piece)) = receiver.next().await {
        if piece.kind != Kind::Stdin || write_all(end, &piece.payload).await.is_err() {
            return;
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
