//! Owns the start of an exec's process: its pipes or terminal, its session, its user. Decides nothing.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use banger_guest_proto::message::{Failure, FailureKind, WindowSize};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;

use super::plan::{Plan, failure};
use crate::reaper::{Process, Reaper};
use crate::sys;
use crate::sys::spawn::{Program, SpawnError};

/// A non-blocking end of a pipe or terminal.
pub(super) type End = Rc<AsyncFd<OwnedFd>>;

/// A process that runs, and our ends of what it reads and writes.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) io: Io,
}

/// Our ends.
#[derive(Debug)]
pub(super) enum Io {
    Pipes {
        stdin: End,
        stdout: End,
        stderr: End,
    },
    Terminal(End),
}

/// Programs expect this many descriptors and no more: some close all that there could be.
const SOFT_FILE_LIMIT: u64 = 1024;

/// The steps between the process's birth and its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Session,
    Terminal,
    User,
    Directory,
}

/// A step that failed, and what the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StepError {
    step: Step,
    errno: Errno,
}

impl Step {
    fn mark(self, result: rustix::io::Result<()>) -> Result<(), StepError> {
        result.map_err(|errno| StepError { step: self, errno })
    }
}

/// Starts the process.
pub(super) fn spawn(plan: &Plan, reaper: &Reaper) -> Result<Running, Failure> {
    let cannot = |what: &'static str| {
        move |error: io::Error| failure(FailureKind::Other, format!("cannot {what}: {error}"))
    };
    let (io, theirs) = match plan.tty {
        Some(size) => terminal(size).map_err(cannot("open a terminal"))?,
        None => pipes().map_err(cannot("open pipes"))?,
    };
    let texts = Texts::new(plan);
    let program = Program {
        path: &texts.path,
        argv: &texts.argv,
        env: &texts.env,
        stdio: theirs.stdio(),
    };
    let mut steps = steps(plan, &texts.directory);
    let process = reaper
        .spawn(&program, &mut steps)
        .map_err(|error| explain(error, plan))?;
    Ok(Running { process, io })
}

/// A plan in the kernel's form.
struct Texts {
    path: CString,
    directory: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Texts {
    fn new(plan: &Plan) -> Self {
        let text = |bytes: &[u8]| CString::new(bytes).expect("a plan's texts have no NUL");
        let path = |path: &Path| text(path.as_os_str().as_bytes());
        Self {
            path: path(&plan.program),
            directory: path(&plan.directory),
            argv: plan
                .argv
                .iter()
                .map(|argument| text(argument.as_bytes()))
                .collect(),
            env: plan
                .env
                .iter()
                .map(|(name, value)| text(format!("{name}={value}").as_bytes()))
                .collect(),
        }
    }
}

/// The process's ends of what it reads and writes.
enum Theirs {
    Pipes([OwnedFd; 3]),
    Terminal(OwnedFd),
}

impl Theirs {
    fn stdio(&self) -> [BorrowedFd<'_>; 3] {
        match self {
            Self::Pipes(ends) => ends.each_ref().map(AsFd::as_fd),
            Self::Terminal(end) => [end.as_fd(); 3],
        }
    }
}

fn pipes() -> io::Result<(Io, Theirs)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let (stdin, ours_in) = pipe()?;
    let (ours_out, stdout) = pipe()?;
    let (ours_err, stderr) = pipe()?;
    let ours = Io::Pipes {
        stdin: end(ours_in)?,
        stdout: end(ours_out)?,
        stderr: end(ours_err)?,
    };
    Ok((ours, Theirs::Pipes([stdin, stdout, stderr])))
}

fn terminal(size: WindowSize) -> io::Result<(Io, Theirs)> {
    let pty = rustix_openpty::openpty(None, Some(&winsize(size)))?;
    Ok((
        Io::Terminal(end(pty.controller)?),
        Theirs::Terminal(pty.user),
    ))
}

pub(super) fn winsize(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn end(fd: OwnedFd) -> io::Result<End> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(Rc::new(sys::watch(fd)?))
}

/// What the new process does before its program: system calls only, on memory that was made before.
fn steps<'a>(
    plan: &'a Plan,
    directory: &'a CString,
) -> impl FnMut() -> Result<(), StepError> + use<'a> {
    let (uid, gid, groups) = plan.user.ids();
    move || {
        Step::Session.mark(rustix::process::setsid().map(drop))?;
        if plan.tty.is_some() {
            Step::Terminal.mark(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()))?;
        }
        shed_the_agents_privileges();
        Step::User.mark(become_user(uid, gid, &groups))?;
        Step::Directory.mark(rustix::process::chdir(directory.as_c_str()))
    }
}

fn become_user(uid: Uid, gid: Gid, groups: &[Gid]) -> rustix::io::Result<()> {
    match rustix::thread::set_thread_groups(groups) {
        // Who may not change groups, as in a test without root, keeps those that it has.
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => {}
        result => result?,
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// The agent is spared when memory runs out and may open many files; its children are not and may not. Process 1 needs
/// no sparing, since the kernel never chooses it.
fn shed_the_agents_privileges() {
    if rustix::process::getppid() != Some(Pid::INIT) {
        become_killable();
    }
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let soft = limit
        .maximum
        .map_or(SOFT_FILE_LIMIT, |hard| hard.min(SOFT_FILE_LIMIT));
    let limit = Rlimit {
        current: Some(soft),
        maximum: limit.maximum,
    };
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

fn become_killable() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
}

fn explain(error: SpawnError<StepError>, plan: &Plan) -> Failure {
    let (kind, what, cause) = match error {
        SpawnError::Clone(cause) => (FailureKind::Other, "cannot create a process".into(), cause),
        SpawnError::Stdio(cause) => (
            FailureKind::Other,
            "cannot connect the process".into(),
            cause,
        ),
        SpawnError::Exec(cause) => {
            let what = format!("cannot execute {}", plan.program.display());
            (exec_kind(&cause), what, cause)
        }
        SpawnError::Steps(StepError { step, errno }) => {
            let (kind, what) = explain_step(step, errno, plan);
            (kind, what, errno.into())
        }
    };
    failure(kind, format!("{what}: {cause}"))
}

fn explain_step(step: Step, errno: Errno, plan: &Plan) -> (FailureKind, String) {
    match step {
        Step::Session => (FailureKind::Other, "cannot start a session".into()),
        Step::Terminal => (FailureKind::Other, "cannot take the terminal".into()),
        Step::User => (
            FailureKind::Other,
            format!("cannot become user {}", plan.user.uid),
        ),
        Step::Directory => {
            let missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
            let kind = if missing {
                FailureKind::NoSuchDirectory
            } else {
                FailureKind::Other
            };
            (kind, format!("cannot enter {}", plan.directory.display()))
        }
    }
}

/// A program that was found and yet is not there has an interpreter that is not.
fn exec_kind(cause: &io::Error) -> FailureKind {
    match cause.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => FailureKind::NotFound,
        Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR | Errno::LIBBAD) => {
            FailureKind::NotExecutable
        }
        Some(_) | None => FailureKind::Other,
    }
}

/// What is at the other end of an [`End`].
pub(super) fn descriptor(end: &End) -> BorrowedFd<'_> {
    end.get_ref().as_fd()
}
