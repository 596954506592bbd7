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

/// Carries what a pipe holds to the end of a file, for as long as somebody can write to it.
#[derive(Debug)]
pub(super) struct Pump {
    done: watch::Receiver<bool>,
    _task: Leashed,
}

impl Pump {
    /// To be called once the writer has opened its end: a pipe without writers has ended.
    pub(super) fn start(from: &Path, to: &Path) -> io::Result<Self> {
        let pipe = pipe::OpenOptions::new().open_receiver(from)?;
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(to)?;
        let (tell, done) = watch::channel(false);
        let task = tokio::spawn(async move {
            if let Err(error) = carry(pipe, log).await {
                tracing::warn!(%error, "cannot carry on with a VMM's log");
            }
            tell.send_replace(true);
        });
        Ok(Self {
            done,
            _task: Leashed(task),
        })
    }

    /// Waits until the last writer is gone and all is in the log.
    pub(super) async fn finished(&self) {
        let mut done = self.done.clone();
        // An error is the task's end, which is what is waited for.
        let _ = done.wait_for(|done| *done).await;
    }
}

async fn carry(mut pipe: pipe::Receiver, mut log: File) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = pipe.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        // Appending to a file of this host takes no longer than a thread's change would.
        log.write_all(&piece[..length])?;
    }
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
        pump.finished().await;
        assert_eq!(
            std::fs::read_to_string(&log).unwrap(),
            "first\nearly\nlate\n"
        );
    }
}
