//! Builds a Debian root file system with mmdebstrap, as root or as an ordinary user, and
//! hands out its tar stream. Knows packages and suites as words, not what they mean.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use banger_core::{
    host::{DebianRoot, RootTar},
    host_error::HostError,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use crate::{logs::printable, places::file_error, process, subids};

pub(crate) const PROGRAM: &str = "mmdebstrap";
const TAIL_LINES: usize = 40;
const LINE_BYTES: u64 = 4096;
/// What mmdebstrap gets to unmount and remove its tree before it is ended.
const CLEANUP_PATIENCE: Duration = Duration::from_secs(10);

/// For dpkg while it builds: a tree that is thrown away needs no syncing, and documentation
/// without readers is carried for nothing; licences stay.
const DPKG: [&str; 10] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/linda/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
];

/// Removes what would carry the builder's identity, or one secret, into every machine, and
/// the options that were for the building only.
const CLEAN_UP: &str = concat!(
    "--customize-hook=rm -f ",
    r#""$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/ssh/ssh_host_* "#,
    r#""$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap"#,
);

/// How mmdebstrap gets a root file system's owners right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Root,
    /// In a user namespace with ids of /etc/subuid.
    Unshare,
}

impl Mode {
    /// The mode for this user, or what an ordinary user lacks for it.
    pub(crate) fn of_this_user() -> Result<Self, HostError> {
        if rustix::process::geteuid().is_root() {
            return Ok(Self::Root);
        }
        subids::check_this_user()?;
        Ok(Self::Unshare)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Unshare => "unshare",
        }
    }
}

/// A running mmdebstrap.
#[derive(Debug)]
pub(crate) struct Mmdebstrap {
    child: Child,
    handle: OwnedFd,
    tar: ChildStdout,
    said: Said,
    listener: Option<JoinHandle<()>>,
    ended: bool,
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
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
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
        let handle = handle.map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            child,
            handle,
            tar,
            said,
            listener: Some(listener),
            ended: false,
        })
    }

    /// Asks for an end, and enforces it on all of the program's processes after a while.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::TERM);
        if !has_ended_within(&self.handle, CLEANUP_PATIENCE) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
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
        let status = self.child.wait();
        self.ended = true;
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
        // A handle cannot hit a stranger that got the program's pid later.
        let handle = self.handle.try_clone();
        Box::new(move || {
            if let Ok(handle) = handle {
                let _ = pidfd_send_signal(handle, Signal::TERM);
            }
        })
    }
}

impl Drop for Mmdebstrap {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn find(program: Option<&Path>) -> Result<PathBuf, HostError> {
    let found = program
        .map(Path::to_owned)
        .or_else(|| process::find(PROGRAM));
    found.ok_or_else(|| HostError::ProgramMissing {
        program: PROGRAM.into(),
        package: PROGRAM,
    })
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

fn args(root: &DebianRoot, mode: Mode) -> Result<Vec<OsString>, HostError> {
    let mut args = vec![
        "--variant=minbase".to_owned(),
        format!("--mode={}", mode.word()),
        "--format=tar".into(),
    ];
    args.extend(DPKG.iter().map(|path| format!("--dpkgopt={path}")));
    args.push(CLEAN_UP.into());
    if !root.packages.is_empty() {
        args.push(format!("--include={}", root.packages.join(",")));
    }
    let words = [root.suite.clone(), "-".into()];
    check_words(
        words
            .iter()
            .take(1)
            .chain(&root.sources)
            .chain(&root.packages),
    )?;
    args.extend(words);
    args.extend(root.sources.iter().cloned());
    Ok(args.into_iter().map(OsString::from).collect())
}

/// Words of a configuration must not turn into options.
fn check_words<'a>(words: impl Iterator<Item = &'a String>) -> Result<(), HostError> {
    for word in words {
        if word.is_empty() || word.starts_with('-') || word.chars().any(char::is_control) {
            let feature = format!("\"{}\" for mmdebstrap", printable(word));
            let reason = "a suite, source or package is not empty, has no control characters \
                          and does not begin with -";
            return Err(HostError::Unsupported {
                feature,
                reason: reason.into(),
            });
        }
    }
    Ok(())
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

/// Lines stay whole whatever happened to another thread that held them.
fn lock(tail: &Mutex<VecDeque<String>>) -> MutexGuard<'_, VecDeque<String>> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_ended_within(handle: &OwnedFd, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    let timeout = Timespec {
        tv_sec: seconds,
        tv_nsec: patience.subsec_nanos().into(),
    };
    let mut waiting = [PollFd::new(handle, PollFlags::IN)];
    poll(&mut waiting, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd, unix::fs::PermissionsExt},
        time::Instant,
    };

    use super::*;

    fn root() -> DebianRoot {
        DebianRoot {
            suite: "bookworm".into(),
            sources: vec!["deb http://mirror.test/debian bookworm main".into()],
            packages: vec!["systemd-sysv".into(), "openssh-server".into()],
        }
    }

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
    fn a_root_becomes_these_words() {
        let words = args(&root(), Mode::Unshare).unwrap();
        for word in [
            "--variant=minbase",
            "--mode=unshare",
            "--format=tar",
            "--include=systemd-sysv,openssh-server",
            "--dpkgopt=path-exclude=/usr/share/man/*",
        ] {
            assert!(words.iter().any(|have| have == word), "{word}");
        }
        let end = [
            "bookworm",
            "-",
            "deb http://mirror.test/debian bookworm main",
        ];
        assert!(words.ends_with(&end.map(OsString::from)));
    }

    #[test]
    fn a_configurations_words_cannot_become_options() {
        let check = |change: fn(&mut DebianRoot)| {
            let mut root = root();
            change(&mut root);
            assert!(args(&root, Mode::Root).is_err(), "{root:?}");
        };
        check(|root| root.suite = "--setup-hook=reboot".into());
        check(|root| root.sources.push("--aptopt=x".into()));
        check(|root| root.packages.push("-x".into()));
        check(|root| root.suite = String::new());
        check(|root| root.sources.push("deb a b\nc".into()));
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
