//! A program's tar that the test controls: it says nothing until it may, and hears when it is
//! stopped.

use std::{
    io::{self, Cursor, Read},
    sync::mpsc,
};

use super::tiny_tar;
use crate::{host::RootTar, host_error::HostError};

/// A stream that begins when `go` says so, and ends early when it is stopped.
pub(crate) struct FakeTar {
    go: mpsc::Receiver<()>,
    stop: mpsc::Sender<()>,
    bytes: Cursor<Vec<u8>>,
    begun: bool,
    content: bool,
}

impl FakeTar {
    /// A tar that flows at once.
    pub(crate) fn flowing() -> Self {
        let (tar, go) = Self::held();
        go.send(()).expect("the tar is here");
        tar
    }

    /// A tar that flows once the sender says so.
    pub(crate) fn held() -> (Self, mpsc::Sender<()>) {
        let (stop, go) = mpsc::channel();
        let bytes = Cursor::new(tiny_tar());
        (
            Self {
                go,
                stop: stop.clone(),
                bytes,
                begun: false,
                content: true,
            },
            stop,
        )
    }

    /// A tar that is whole, of a program that says that it failed.
    pub(crate) fn discontent(self) -> Self {
        Self {
            content: false,
            ..self
        }
    }
}

impl Read for FakeTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.go
                .recv()
                .map_err(|_| io::Error::other("nobody holds this tar"))?;
            self.begun = true;
        }
        self.bytes.read(buffer)
    }
}

impl RootTar for FakeTar {
    fn finish(self: Box<Self>) -> Result<(), HostError> {
        if self.content {
            return Ok(());
        }
        Err(HostError::ProgramFailed {
            program: "fake".into(),
            status: "exit code 1".into(),
            tail: Vec::new(),
        })
    }

    /// A stopped program's stream goes on only to its end.
    fn stopper(&self) -> Box<dyn FnOnce() + Send> {
        let stop = self.stop.clone();
        Box::new(move || {
            // The stream may be over.
            let _ = stop.send(());
        })
    }
}
