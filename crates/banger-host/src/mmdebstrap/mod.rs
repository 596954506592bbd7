//! Builds a Debian root file system with mmdebstrap, as root or as an ordinary user, and
//! hands out its tar stream. Knows packages and suites as words, not what they mean.

mod args;

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use banger_core::{
    host::{DebianRoot, RootTar},
    host_error::HostError,
};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::sync::watch;

pub(crate) use self::args::Mode;
use self::args::args;
use crate::{logs::printable, places::file_error, process, process::missing};

pub(crate) const PROGRAM: &str = "mmdebstrap";
const TAIL_LINES: usize = 40;
const LINE_BYTES: u64 = 4096;
/// What mmdebstrap gets to unmount and remove its tree before it is ended.
const CLEANUP_PATIENCE: Duration = Duration::from_secs(10);

/// A running mmdebstrap.
#[derive(Debug)]
pub(crate) struct Mmdebstrap {
    child: Child,
    group: Arc<Group>,
    tar: ChildStdout,
    said: Said,
    listener: Option<JoinHandle<()>>,
}

/// The program with all its processes. Its leader is not reaped while a signal is on its
/// way, so that no signal can hit a stranger that got its number.
#[derive(Debug)]
struct Group {
    leader: Pid,
    reaped: Mutex<bool>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if !*lock(&self.reaped) {
            let _ = kill_process_group(self.leader, signal);
        }
    }

    /// Waits for the leader; only the first call has its status.
    fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // Leaves the leader as it is, so the lock is not held while it works.
        let _ = waitid(WaitId::Pid(self.leader), ended);
        let mut reaped = lock(&self.reaped);
        *reaped = true;
        child.wait()
    }

    fn has_ended_within(&self, patience: Duration) -> bool {
        let Ok(handle) = pidfd_open(self.leader, PidfdFlags::empty()) else {
            return true;
        };
        process::has_ended_within(&handle, patience)
    }
}

/// What the program said last, shared with the thread that listens to it.
#[derive(Debug, Clone)]
struct Said {
    tail: Arc<Mutex<VecDeque<String>>>,
    latest: watch::Sender<String>,
}

impl Mmdebstrap {
    pub(crate) fn start(
        program: Option<&Path>,
        root: &DebianRoot,
        scratch: &Path,
    ) -> Result<Self, HostError> {
        let program = find(program)?;
        let mode = Mode::of_this_user()?;
        Self::run(&program, &args(root, mode)?, &temporary(mode, scratch)?)
    }

    fn run(program: &Path, args: &[OsString], temporary: &Path) -> Result<Self, HostError> {
        let failed = |source| HostError::Spawn {
            program: PROGRAM.into(),
            source,
        };
        let env = [("TMPDIR", temporary)];
        let mut child = process::start_worker(program, args, &env).map_err(failed)?;
        let group = Group {
            leader: Pid::from_child(&child),
            reaped: Mutex::new(false),
        };
        let tar = child.stdout.take().expect("a worker's output is a pipe");
        let messages = child.stderr.take().expect("a worker's messages are a pipe");
        let said = Said {
            tail: Arc::default(),
            latest: watch::Sender::new(String::new()),
        };
        let listener = thread::spawn({
            let said = said.clone();
            move || listen(messages, &said)
        });
        Ok(Self {
            child,
            group: Arc::new(group),
            tar,
            said,
            listener: Some(listener),
        })
    }

    /// Asks for an end, and enforces it on all of the program's processes after a while.
    fn end(&mut self) {
        if *lock(&self.group.reaped) {
            return;
        }
        self.group.signal(Signal::TERM);
        if !self.group.has_ended_within(CLEANUP_PATIENCE) {
            self.group.signal(Signal::KILL);
        }
        let _ = self.group.reap(&mut self.child);
    }
}

impl Read for Mmdebstrap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.read(buffer)
    }
}

impl RootTar for Mmdebstrap {
    fn finish(mut self: Box<Self>) -> Result<(), HostError> {
        // Without a reader the program would wait for ever with what a tar has behind its end.
        let _ = io::copy(&mut self.tar, &mut io::sink());
        let status = self.group.reap(&mut self.child);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let status = match status {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let tail = lock(&self.said.tail).drain(..).collect();
        Err(HostError::ProgramFailed {
            program: PROGRAM.into(),
            status,
            tail,
        })
    }

    fn progress(&self) -> watch::Receiver<String> {
        self.said.latest.subscribe()
    }

    fn stopper(&self) -> Box<dyn FnOnce() + Send> {
        let group = Arc::clone(&self.group);
        Box::new(move || group.signal(Signal::TERM))
    }
}

impl Drop for Mmdebstrap {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn find(configured: Option<&Path>) -> Result<PathBuf, HostError> {
    process::locate(configured, PROGRAM).ok_or_else(|| missing(configured, PROGRAM, PROGRAM))
}

/// Where the tree is built. The ids of a user namespace cannot enter a user's own
/// directories, so an ordinary user's tree is where everybody's are.
fn temporary(mode: Mode, scratch: &Path) -> Result<PathBuf, HostError> {
    match mode {
        Mode::Root => {
            fs::create_dir_all(scratch).map_err(|source| file_error("create", scratch, source))?;
            Ok(scratch.to_owned())
        }
        Mode::Unshare => Ok(PathBuf::from("/var/tmp")),
    }
}

fn listen(messages: ChildStderr, said: &Said) {
    let mut messages = BufReader::new(messages);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut messages)
            .take(LINE_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => keep(printable(String::from_utf8_lossy(&line).trim_end()), said),
        }
    }
}

fn keep(line: String, said: &Said) {
    if line.is_empty() {
        return;
    }
    let mut tail = lock(&said.tail);
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(line.clone());
    said.latest.send_replace(line);
}

/// What is behind these locks is whole whatever happened to a thread that held them.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd, unix::fs::PermissionsExt},
        time::Instant,
    };

    use super::*;

    /// A program of the test's own that is run as if it were mmdebstrap.
    fn stand_in(script: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stand-in");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    fn start(program: &Path, scratch: &Path) -> Mmdebstrap {
        Mmdebstrap::run(program, &[], scratch).unwrap()
    }

    #[test]
    fn a_failure_tells_the_programs_last_words() {
        let (dir, program) = stand_in("printf tar; echo 'E: \u{1b}[1mno network' >&2; exit 3");
        let mut tar: Box<dyn RootTar> = Box::new(start(&program, dir.path()));
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"tar");
        let Err(HostError::ProgramFailed { status, tail, .. }) = tar.finish() else {
            panic!("exit code 3 is a failure");
        };
        assert!(status.contains('3'), "{status}");
        assert_eq!(tail, ["E: no network"]);
    }

    #[test]
    fn it_can_be_stopped_while_another_thread_reads() {
        let (dir, program) = stand_in("sleep 1000 & sleep 1000");
        let mut tar: Box<dyn RootTar> = Box::new(start(&program, dir.path()));
        let stop = tar.stopper();
        let reader = thread::spawn(move || {
            io::copy(&mut tar, &mut io::sink()).unwrap();
            tar.finish()
        });
        stop();
        assert!(matches!(
            reader.join().unwrap(),
            Err(HostError::ProgramFailed { .. })
        ));
    }

    #[test]
    fn dropping_it_ends_all_its_processes() {
        let (dir, program) = stand_in("sleep 1000 & sleep 1000");
        let tar = start(&program, dir.path());
        // Whoever is left holds the other end of this pipe open.
        let mut pipe = fs::File::from(tar.tar.as_fd().try_clone_to_owned().unwrap());
        let start = Instant::now();
        drop(tar);
        assert_eq!(pipe.read(&mut [0]).unwrap(), 0);
        assert!(start.elapsed() < CLEANUP_PATIENCE);
    }
}
