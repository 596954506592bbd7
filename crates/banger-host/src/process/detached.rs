//! Processes that outlive this one: started in a session of their own, found again by the
//! lock that they hold, watched by their descriptors.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use banger_core::{host::VmmExit, host_error::HostError};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal,
};
use tokio::{io::unix::AsyncFd, sync::watch};

use super::clean_environment;
use crate::{
    lock::{Note, VmmLock},
    places::file_error,
    sys,
};

/// A program that is to run on its own, whatever becomes of this process.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) log: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) note: Note,
    pub(crate) file_limit: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
    /// Not our child, so the kernel does not tell us.
    Gone,
}

impl From<Ended> for VmmExit {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Code(code) => Self {
                status: format!("exit code {code}"),
                clean: code == 0,
            },
            Ended::Signal(number) => Self {
                status: format!("signal {number}"),
                clean: false,
            },
            Ended::Gone => Self {
                status: "gone".into(),
                clean: true,
            },
        }
    }
}

/// A running process, held by its descriptor, so that no signal can hit another one.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: Arc<OwnedFd>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Process {
    /// Starts `program` in a session of its own and returns once its exec has succeeded.
    pub(crate) fn start(detached: &Detached) -> Result<Self, HostError> {
        let spawn_error = |source| HostError::Spawn {
            program: detached.program.display().to_string(),
            source,
        };
        refuse_running(&detached.lock)?;
        let lock = VmmLock::create(&detached.lock).and_then(|mut lock| {
            lock.write_note(detached.note)?;
            Ok(lock.into_descriptor())
        });
        let lock = lock.map_err(|source| file_error("write", &detached.lock, source))?;
        let child = spawn_detached(detached, lock)?;
        let pid = Pid::from_child(&child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| spawn_error(e.into()))?;
        Self::watch(pid, handle).map_err(spawn_error)
    }

    /// Takes over the process that holds the lock at `path`, if one does.
    pub(crate) fn adopt(path: &Path) -> Result<Option<(Self, Note)>, HostError> {
        let error = |operation| {
            move |source| HostError::File {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        let Some(mut lock) = VmmLock::open(path).map_err(error("open"))? else {
            return Ok(None);
        };
        let Some(pid) = lock.holder().map_err(error("query"))? else {
            return Ok(None);
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(error("watch the holder of")(errno.into())),
        };
        // The process could have ended, and its number could have been given to another one,
        // before the handle was open. It is the right one if it still holds the lock.
        if lock.holder().map_err(error("query"))? != Some(pid) {
            return Ok(None);
        }
        let note = lock.read_note().map_err(error("read"))?;
        let process = Self::watch(pid, handle).map_err(error("watch the holder of"))?;
        Ok(Some((process, note)))
    }

    fn watch(pid: Pid, handle: OwnedFd) -> io::Result<Self> {
        let handle = Arc::new(handle);
        let readable = sys::readiness(Arc::clone(&handle))?;
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            let how = wait(&readable).await;
            tell.send_replace(Some(how));
        });
        Ok(Self { pid, handle, ended })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for the end, however often and late it is asked.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let how = ended.wait_for(Option::is_some).await;
        // The watching task is gone only when the runtime is shutting down.
        how.ok().and_then(|how| *how).unwrap_or(Ended::Gone)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Ends the process without its consent. One that has ended already is no error.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Succeeds when no process holds the lock at `path`: what is beside it is nobody's then.
pub(crate) fn refuse_running(path: &Path) -> Result<(), HostError> {
    let holder = match VmmLock::open(path) {
        Ok(None) => return Ok(()),
        Ok(Some(lock)) => lock.holder(),
        Err(error) => Err(error),
    };
    let text = match holder {
        Ok(None) => return Ok(()),
        Ok(Some(pid)) => format!("process {} runs the machine", pid.as_raw_nonzero()),
        Err(source) => return Err(file_error("query", path, source)),
    };
    let source = io::Error::new(io::ErrorKind::AlreadyExists, text);
    Err(file_error("take", path, source))
}

fn spawn_detached(detached: &Detached, lock: OwnedFd) -> Result<Child, HostError> {
    let log_error = |source| HostError::File {
        operation: "open",
        path: detached.log.clone(),
        source,
    };
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&detached.log);
    let out = log.map_err(log_error)?;
    // Appending keeps both right when the log is cut while the program runs.
    out.set_len(0).map_err(log_error)?;
    let err = out.try_clone().map_err(log_error)?;
    let mut command = Command::new(&detached.program);
    command
        .args(&detached.args)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    clean_environment(&mut command);
    sys::detach(&mut command, lock, detached.file_limit);
    command.spawn().map_err(|source| HostError::Spawn {
        program: detached.program.display().to_string(),
        source,
    })
}

/// Waits for the process and reaps it, when it is a child of ours.
async fn wait(handle: &AsyncFd<Arc<OwnedFd>>) -> Ended {
    if let Err(error) = handle.readable().await {
        tracing::error!(%error, "cannot watch a process");
        return Ended::Gone;
    }
    let id = WaitId::PidFd(std::os::fd::AsFd::as_fd(handle.get_ref()));
    match rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, Some(signal)) => Ended::Signal(signal),
            (None, None) => Ended::Gone,
        },
        Ok(None) | Err(_) => Ended::Gone,
    }
}

#[cfg(test)]
#[path = "detached_tests.rs"]
mod tests;
