//! What Firecracker says, through named pipes: they hold a little while nobody reads, and
//! never grow, whatever a guest makes it say. Knows bytes only.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{CWD, FileType, Mode};
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::watch};

use crate::task::Leashed;

/// More than the pipe of a log can hold comes in pieces.
const PIECE: usize = 16 << 10;

/// Makes a pipe that only its owner can use.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0)?)
}

/// Carries what a pipe holds to the end of a file. From its first moment on nothing is lost that
/// a writer says, whether the writer has come yet, or has gone already.
#[derive(Debug)]
pub(super) struct Pump {
    last: watch::Sender<bool>,
    done: watch::Receiver<bool>,
    _task: Leashed,
}

impl Pump {
    pub(super) fn start(from: &Path, to: &Path) -> io::Result<Self> {
        // A pipe that can be written to does not end before its writer comes.
        let pipe = pipe::OpenOptions::new()
            .read_write(true)
            .open_receiver(from)?;
        let mut options = OpenOptions::new();
        let log = options.append(true).create(true).mode(0o600).open(to)?;
        let (last, is_last) = watch::channel(false);
        let (tell, done) = watch::channel(false);
        let task = tokio::spawn(async move {
            if let Err(error) = carry(pipe, log, is_last).await {
                tracing::warn!(%error, "cannot carry on with a VMM's log");
            }
            tell.send_replace(true);
        });
        Ok(Self {
            last,
            done,
            _task: Leashed(task),
        })
    }

    /// Waits until all is in the log that a writer has said which is gone.
    pub(super) async fn finish(&self) {
        self.last.send_replace(true);
        let mut done = self.done.clone();
        // An error is the task's end, which is what is waited for.
        let _ = done.wait_for(|done| *done).await;
    }
}

async fn carry(
    mut pipe: pipe::Receiver,
    mut log: File,
    mut is_last: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = tokio::select! {
            biased;
            length = pipe.read(&mut piece) => length?,
            _ = is_last.wait_for(|last| *last) => break,
        };
        // Appending to a file of this host takes no longer than a thread's change would.
        log.write_all(&piece[..length])?;
    }
    // The runtime may not have been told yet of what came last: the kernel is asked.
    while let Ok(length @ 1..) = rustix::io::read(&pipe, &mut piece) {
        log.write_all(&piece[..length])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_has_all_that_came_before_its_writer_went() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, log) = (dir.path().join("pipe"), dir.path().join("log"));
        make(&pipe).unwrap();
        let mut options = OpenOptions::new();
        let mut writer = options.read(true).write(true).open(&pipe).unwrap();
        writer.write_all(b"early\n").unwrap();
        std::fs::write(&log, "first\n").unwrap();
        let pump = Pump::start(&pipe, &log).unwrap();
        writer.write_all(b"late\n").unwrap();
        drop(writer);
        for _ in 0..2 {
            pump.finish().await;
        }
        assert_eq!(
            std::fs::read_to_string(&log).unwrap(),
            "first\nearly\nlate\n"
        );
    }

    #[tokio::test]
    async fn a_pump_waits_for_a_writer_that_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, log) = (dir.path().join("pipe"), dir.path().join("log"));
        make(&pipe).unwrap();
        let pump = Pump::start(&pipe, &log).unwrap();
        tokio::task::yield_now().await;
        std::fs::write(&pipe, "here\n").unwrap();
        pump.finish().await;
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "here\n");
    }
}
