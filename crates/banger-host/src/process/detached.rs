//! Processes that outlive this one: started in a session of their own, found again by the
//! lock that they hold, watched by their descriptors.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use banger_core::{host::VmmExit, host_error::HostError};
use rustix::{
    pipe::PipeFlags,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, pidfd_open, pidfd_send_signal,
    },
};
use tokio::{io::unix::AsyncFd, sync::watch};

use super::clean_environment;
use crate::{
    lock::{Note, VmmLock},
    places::file_error,
    sys::{self, Detachment, Step, Surroundings},
};

/// A program that is to run on its own, whatever becomes of this process.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Where its standard output goes; to the log where absent. Begun by others.
    pub(crate) output: Option<PathBuf>,
    pub(crate) log: Log,
    pub(crate) lock: PathBuf,
    pub(crate) note: Note,
    pub(crate) file_limit: u64,
    pub(crate) surroundings: Surroundings,
    /// Descriptors of this process that it keeps, under the same numbers.
    pub(crate) kept: Vec<OwnedFd>,
}

/// The file that a program's messages go to.
#[derive(Debug, Clone)]
pub(crate) enum Log {
    /// Begun anew.
    New(PathBuf),
    /// Continued: another program began it.
    Shared(PathBuf),
}

impl Log {
    fn path(&self) -> &Path {
        match self {
            Self::New(path) | Self::Shared(path) => path,
        }
    }
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
    pub(crate) fn start(detached: Detached) -> Result<Self, HostError> {
        let program = detached.program.display().to_string();
        let spawn_error = |source| HostError::Spawn {
            program: program.clone(),
            source,
        };
        refuse_running(&detached.lock)?;
        let lock = VmmLock::create(&detached.lock).and_then(|mut lock| {
            lock.write_note(&detached.note)?;
            Ok(lock.into_descriptor())
        });
        let lock = lock.map_err(|source| file_error("write", &detached.lock, source))?;
        let pid = spawn_detached(detached, lock)?;
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

impl Process {
    /// Ends a process that misses something, which is the error that its starter is to have.
    pub(crate) async fn give_up(&self, error: HostError) -> HostError {
        if let Err(error) = self.kill() {
            tracing::warn!(%error, "cannot end a VMM that does not start");
        }
        self.ended().await;
        error
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

fn spawn_detached(detached: Detached, lock: OwnedFd) -> Result<Pid, HostError> {
    let err = open_log(&detached.log)?;
    let out = match &detached.output {
        Some(path) => append(path),
        None => err.try_clone(),
    };
    let out = out.map_err(|source| {
        let path = detached.output.as_deref();
        file_error("open", path.unwrap_or(detached.log.path()), source)
    })?;
    let program = detached.program.display().to_string();
    let spawn_error = |source| HostError::Spawn {
        program: program.clone(),
        source,
    };
    let (told, tell) = match rustix::pipe::pipe_with(PipeFlags::CLOEXEC) {
        Ok(ends) => ends,
        Err(error) => return Err(spawn_error(error.into())),
    };
    let mut command = Command::new(&detached.program);
    command.args(&detached.args).stdout(out).stderr(err);
    clean_environment(&mut command);
    let forks = detached.surroundings.forks();
    let detachment = Detachment {
        lock,
        file_limit: detached.file_limit,
        surroundings: detached.surroundings,
        kept: detached.kept,
        tell,
    };
    sys::detach(&mut command, detachment);
    let spawned = command.spawn();
    // The pipe ends with the last of its writers; this process must not be one.
    drop(command);
    let told = Told::read(told);
    match (spawned, told.grandchild) {
        (Ok(child), _) if !forks => Ok(Pid::from_child(&child)),
        (Ok(mut child), Some(pid)) => {
            // It has nothing left to do but to end.
            child.wait().map_err(spawn_error)?;
            Ok(pid)
        }
        (Ok(mut child), None) => {
            child.wait().map_err(spawn_error)?;
            Err(spawn_error(io::Error::other("it was not told its number")))
        }
        (Err(source), grandchild) => {
            if let Some(pid) = grandchild {
                // It has ended already, or is about to.
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            }
            Err(spawn_error(told.explain(source)))
        }
    }
}

/// What a child told of its way to its exec.
struct Told {
    last: Option<Step>,
    grandchild: Option<Pid>,
}

impl Told {
    fn read(pipe: OwnedFd) -> Self {
        let mut bytes = Vec::new();
        // What cannot be read was not told.
        let _ = File::from(pipe).take(256).read_to_end(&mut bytes);
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut told = Self {
            last: None,
            grandchild: None,
        };
        let mut rest = bytes;
        while let Some((&code, after)) = rest.split_first() {
            rest = match after.split_first_chunk() {
                Some((number, behind)) if code == sys::NUMBER => {
                    let number = i32::try_from(i64::from_ne_bytes(*number)).ok();
                    told.grandchild = number.and_then(Pid::from_raw);
                    behind
                }
                Some(_) | None => {
                    told.last = Step::ALL.into_iter().find(|step| *step as u8 == code);
                    after
                }
            };
        }
        told
    }

    fn explain(&self, source: io::Error) -> io::Error {
        match self.last {
            Some(Step::Exec) | None => source,
            Some(step) => {
                let text = format!("cannot {}: {source}", step.as_str());
                io::Error::new(source.kind(), text)
            }
        }
    }
}

fn open_log(log: &Log) -> Result<File, HostError> {
    let path = log.path();
    let opened = append(path).and_then(|file| {
        match log {
            Log::New(_) => file.set_len(0)?,
            Log::Shared(_) => {}
        }
        Ok(file)
    });
    opened.map_err(|source| file_error("open", path, source))
}

/// Appending keeps a log right when it is cut while the program runs.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
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
