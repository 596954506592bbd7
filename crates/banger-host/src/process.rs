//! Owns the start, the watch and the end of other programs: the only place that makes
//! processes. Knows command lines as given, not what the programs do.

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
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal},
};
use tokio::{io::unix::AsyncFd, sync::watch};

use crate::{
    lock::{Note, VmmLock},
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
        let name = || detached.program.display().to_string();
        let spawn_error = |source| HostError::Spawn {
            program: name(),
            source,
        };
        let lock_error = |operation| {
            let path = detached.lock.clone();
            move |source| HostError::File {
                operation,
                path,
                source,
            }
        };
        let mut lock = VmmLock::create(&detached.lock).map_err(lock_error("open"))?;
        if let Some(pid) = lock.holder().map_err(lock_error("query"))? {
            let text = format!("process {} runs this machine already", pid.as_raw_nonzero());
            return Err(spawn_error(io::Error::new(
                io::ErrorKind::AlreadyExists,
                text,
            )));
        }
        lock.write_note(detached.note)
            .map_err(lock_error("write"))?;
        let child = spawn_detached(detached, lock.into_descriptor())?;
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

/// What a program is told of our environment: nothing that changes its language or its
/// behaviour, but the way to the outside.
fn clean_environment(command: &mut Command) {
    const KEPT: [&str; 10] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "http_proxy",
        "https_proxy",
        "ftp_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ];
    command.env_clear().env("LC_ALL", "C");
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
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

/// Starts a program that works for us and whose output we read. It leads a process group of
/// its own, so that a Ctrl-C at our terminal does not hit it and all of it can be ended.
pub(crate) fn start_worker(
    program: &Path,
    args: &[OsString],
    env: &[(&str, &Path)],
) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;

    let mut command = Command::new(program);
    clean_environment(&mut command);
    command
        .args(args)
        .envs(env.iter().copied())
        .process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Runs a program that answers a question about itself, and returns what it prints. It gets
/// two seconds, and what it prints beyond a pipe's capacity does not matter.
pub(crate) fn ask(program: &Path, args: &[&str]) -> io::Result<String> {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let mut child = start_worker(program, &args, &[])?;
    let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let patience = Timespec {
        tv_sec: 2,
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience));
    if !ready.is_ok_and(|ready| ready > 0) {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(output.status.to_string()))
}

/// Finds a program as a shell would, also where administrators' programs are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fixed = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(fixed)
        .map(|dir| dir.join(program))
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use banger_core::host::{Accelerator, VmmKind};

    use super::*;

    const NOTE: Note = Note { vmm: VmmKind::Qemu, accelerator: Accelerator::Tcg };

    /// A VMM that is no VMM: the shell runs `script`.
    fn stand_in(dir: &Path, script: &str) -> Detached {
        Detached {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            log: dir.join("vmm.log"),
            lock: dir.join("vmm.lock"),
            note: NOTE,
            file_limit: 1 << 20,
        }
    }

    #[tokio::test]
    async fn a_forgotten_vmm_is_found_again_by_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let detached = stand_in(dir.path(), "exec sleep 1000");
        let first = Process::start(&detached).unwrap();
        let pid = first.pid();
        drop(first);
        let (again, note) = Process::adopt(&detached.lock).unwrap().unwrap();
        assert_eq!((again.pid(), note), (pid, NOTE));
        assert!(!again.has_ended());
        again.kill().unwrap();
        again.ended().await;
        assert!(again.has_ended());
        assert!(Process::adopt(&detached.lock).unwrap().is_none());
        again.kill().unwrap();
    }

    #[tokio::test]
    async fn a_machine_runs_once() {
        let dir = tempfile::tempdir().unwrap();
        let detached = stand_in(dir.path(), "exec sleep 1000");
        let process = Process::start(&detached).unwrap();
        assert!(matches!(Process::start(&detached), Err(HostError::Spawn { .. })));
        process.kill().unwrap();
        assert_eq!(process.ended().await, Ended::Signal(9));
        let process = Process::start(&detached).unwrap();
        process.kill().unwrap();
        process.ended().await;
    }

    #[tokio::test]
    async fn an_end_is_told_as_often_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start(&stand_in(dir.path(), "echo words >&2; exit 7")).unwrap();
        for _ in 0..2 {
            assert_eq!(process.ended().await, Ended::Code(7));
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("vmm.log")).unwrap(), "words\n");
        assert!(!VmmExit::from(Ended::Code(7)).clean);
    }

    #[tokio::test]
    async fn a_vmm_leads_a_session_and_inherits_nothing_but_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let inherited = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
        let script = "cut -d' ' -f5,6 /proc/$$/stat; echo $$; umask; ulimit -c; ls -l /proc/$$/fd";
        let process = Process::start(&stand_in(dir.path(), script)).unwrap();
        assert_eq!(process.ended().await, Ended::Code(0));
        let log = std::fs::read_to_string(dir.path().join("vmm.log")).unwrap();
        let lines: Vec<_> = log.lines().collect();
        let pid = lines[1];
        assert_eq!(lines[0], format!("{pid} {pid}"), "group and session");
        assert_eq!(&lines[2..4], ["0077", "0"]);
        let targets: Vec<_> = lines.iter().filter_map(|line| line.split(" -> ").nth(1)).collect();
        let own = |target: &&&str| target.ends_with("vmm.log") || target.ends_with("vmm.lock");
        assert_eq!(targets.iter().filter(own).count(), 3, "{log}");
        assert_eq!(targets.len(), 4, "{log}");
    }

    #[tokio::test]
    async fn no_file_of_a_vmm_grows_beyond_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let script = "head -c 3000000 /dev/zero; true";
        let process = Process::start(&stand_in(dir.path(), script)).unwrap();
        assert_eq!(process.ended().await, Ended::Code(0));
        assert!(std::fs::metadata(dir.path().join("vmm.log")).unwrap().len() <= 1 << 20);
    }

    #[test]
    fn a_program_answers_or_fails() {
        let sh = Path::new("/bin/sh");
        assert_eq!(ask(sh, &["-c", "echo yes"]).unwrap(), "yes\n");
        assert!(ask(sh, &["-c", "exit 1"]).is_err());
        assert!(find("sh").is_some() && find("no-such-program-anywhere").is_none());
    }
}
