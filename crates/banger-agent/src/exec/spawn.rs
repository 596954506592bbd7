//! Owns the start of an exec's process: its pipes or terminal, its session, its user. Decides nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;

use banger_guest_proto::message::{Failure, FailureKind, WindowSize};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit};
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;

use super::plan::{Plan, failure};
use crate::reaper::{Process, Reaper};
use crate::sys;

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

/// The steps between fork and exec. Their failures travel as numbers: the step, and what the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Step {
    Session = 1,
    Terminal = 2,
    Groups = 3,
    Group = 4,
    User = 5,
    Directory = 6,
}

const STEP: i32 = 1000;

impl Step {
    const ALL: [Self; 6] = [
        Self::Session,
        Self::Terminal,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::Directory,
    ];

    /// Keeps the step beside the kernel's number, since only one number crosses over to the parent.
    fn mark(self, result: rustix::io::Result<()>) -> io::Result<()> {
        result.map_err(|error| {
            io::Error::from_raw_os_error(self as i32 * STEP + error.raw_os_error())
        })
    }

    /// Takes the number apart; none of our steps means that the exec itself failed.
    fn unmark(error: &io::Error) -> (Option<Self>, io::Error) {
        let number = error.raw_os_error().unwrap_or(0);
        let step = Self::ALL
            .into_iter()
            .find(|step| *step as i32 == number / STEP);
        (step, io::Error::from_raw_os_error(number % STEP))
    }
}

/// Starts the process.
pub(super) fn spawn(plan: &Plan, reaper: &Reaper) -> Result<Running, Failure> {
    let cannot = |what: &'static str| {
        move |error: io::Error| failure(FailureKind::Other, format!("cannot {what}: {error}"))
    };
    let mut command = Command::new(&plan.program);
    command
        .arg0(&plan.argv[0])
        .args(&plan.argv[1..])
        .env_clear()
        .envs(&plan.env);
    let io = match plan.tty {
        Some(size) => terminal(&mut command, size).map_err(cannot("open a terminal"))?,
        None => pipes(&mut command).map_err(cannot("open pipes"))?,
    };
    prepare(&mut command, plan);
    let process = reaper
        .spawn(&mut command)
        .map_err(|error| explain(&error, plan))?;
    Ok(Running { process, io })
}

fn pipes(command: &mut Command) -> io::Result<Io> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let (stdin, ours_in) = pipe()?;
    let (ours_out, stdout) = pipe()?;
    let (ours_err, stderr) = pipe()?;
    command
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    Ok(Io::Pipes {
        stdin: end(ours_in)?,
        stdout: end(ours_out)?,
        stderr: end(ours_err)?,
    })
}

fn terminal(command: &mut Command, size: WindowSize) -> io::Result<Io> {
    let pty = rustix_openpty::openpty(None, Some(&winsize(size)))?;
    command.stdin(Stdio::from(pty.user.try_clone()?));
    command.stdout(Stdio::from(pty.user.try_clone()?));
    command.stderr(Stdio::from(pty.user));
    Ok(Io::Terminal(end(pty.controller)?))
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

/// Adds what happens between fork and exec. All memory that it uses is made here, before.
fn prepare(command: &mut Command, plan: &Plan) {
    let (uid, gid, groups) = plan.user.ids();
    let directory = std::ffi::CString::new(plan.directory.as_os_str().as_encoded_bytes())
        .expect("a plan's texts have no NUL");
    let has_terminal = plan.tty.is_some();
    sys::before_exec(command, move || {
        Step::Session.mark(rustix::process::setsid().map(drop))?;
        if has_terminal {
            // SAFETY of the borrow is std's: descriptor 0 is the terminal by now.
            let stdin = rustix::stdio::stdin();
            Step::Terminal.mark(rustix::process::ioctl_tiocsctty(stdin))?;
        }
        drop_privileges_of_the_agent();
        Step::Groups.mark(set_groups(&groups))?;
        Step::Group.mark(rustix::thread::set_thread_res_gid(gid, gid, gid))?;
        Step::User.mark(rustix::thread::set_thread_res_uid(uid, uid, uid))?;
        Step::Directory.mark(rustix::process::chdir(directory.as_c_str()))
    });
}

/// Who may not change groups, as in a test without root, keeps those that it has.
fn set_groups(groups: &[rustix::fs::Gid]) -> rustix::io::Result<()> {
    match rustix::thread::set_thread_groups(groups) {
        Err(Errno::PERM) if !rustix::process::getuid().is_root() => Ok(()),
        result => result,
    }
}

/// The agent is spared when memory runs out and may open many files; its children are and may not.
fn drop_privileges_of_the_agent() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
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

fn explain(error: &io::Error, plan: &Plan) -> Failure {
    let (step, cause) = Step::unmark(error);
    let program = plan.program.display();
    let directory = plan.directory.display();
    let (kind, what) = match step {
        None => (exec_kind(&cause), format!("cannot execute {program}")),
        Some(Step::Directory) => (directory_kind(&cause), format!("cannot enter {directory}")),
        Some(Step::Session | Step::Terminal) => {
            (FailureKind::Other, "cannot set up a session".into())
        }
        Some(Step::Groups | Step::Group | Step::User) => (
            FailureKind::Other,
            format!("cannot become user {}", plan.user.uid),
        ),
    };
    failure(kind, format!("{what}: {cause}"))
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

fn directory_kind(cause: &io::Error) -> FailureKind {
    match cause.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR) => FailureKind::NoSuchDirectory,
        Some(_) | None => FailureKind::Other,
    }
}

/// What is at the other end of an [`End`].
pub(super) fn descriptor(end: &End) -> BorrowedFd<'_> {
    end.get_ref().as_fd()
}
