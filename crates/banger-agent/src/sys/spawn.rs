//! Owns the system calls that start a process. Knows no policy: what happens in the child is given to it.
//!
//! The child borrows the parent's memory until it executes its program, as `posix_spawn` does it in C libraries. A
//! copy of the memory, page by page, would cost an emulated processor more than all the rest of an exec.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::process::Pid;

/// More than a handful of system calls and their frames need.
const STACK: usize = 16 << 10;

/// What to execute.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) path: &'a CStr,
    pub(crate) argv: &'a [CString],
    /// `NAME=VALUE`
    pub(crate) env: &'a [CString],
    /// What the process finds as descriptors 0, 1 and 2. None of them may be one of these in this process.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
}

/// A process that did not come to be.
#[derive(Debug)]
pub(crate) enum SpawnError<E> {
    /// There is no process.
    Clone(io::Error),
    /// Its descriptors could not be put in their places.
    Stdio(io::Error),
    /// The given steps failed.
    Steps(E),
    /// The program could not be executed.
    Exec(io::Error),
}

/// What parent and child share while the parent is stopped.
struct Shared<'a, E> {
    path: *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    stdio: [c_int; 3],
    steps: &'a mut dyn FnMut() -> Result<(), E>,
    mask: libc::sigset_t,
    error: Option<SpawnError<E>>,
}

/// Starts a program. `steps` run in the child, right before the program, on this process's memory: they may make system
/// calls and must neither allocate nor panic nor touch what others use.
pub(crate) fn spawn<E>(
    program: &Program<'_>,
    steps: &mut dyn FnMut() -> Result<(), E>,
) -> Result<Pid, SpawnError<E>> {
    let (argv, env) = (pointers(program.argv), pointers(program.env));
    let mut shared = Shared {
        path: program.path.as_ptr(),
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        stdio: program.stdio.map(|fd| fd.as_raw_fd()),
        steps,
        mask: block_signals(),
        error: None,
    };
    let pid = clone_and_wait(&mut shared);
    restore_signals(&shared.mask);
    let pid = pid.map_err(SpawnError::Clone)?;
    match shared.error {
        None => Ok(pid),
        Some(error) => {
            // It has ended already, and nobody else knows of it.
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            Err(error)
        }
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Returns once the child has executed its program or ended.
fn clone_and_wait<E>(shared: &mut Shared<'_, E>) -> io::Result<Pid> {
    // Words of 16 bytes: the stack's top must be aligned so.
    let mut stack = vec![0_u128; STACK / 16];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = ptr::from_mut(shared).cast::<c_void>();
    // SAFETY: the child runs `child` on a stack of its own, which outlives it: with CLONE_VFORK this thread stops until the
    // child has left our memory. `shared` is used by the child only, until then.
    let pid = unsafe { libc::clone(child::<E>, top, flags, argument) };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(Pid::from_raw(pid).expect("clone returns a process id"))
}

/// What the child does: never returns to the parent's code.
extern "C" fn child<E>(argument: *mut c_void) -> c_int {
    // SAFETY: `clone_and_wait` passes a `Shared<E>` that nobody else touches meanwhile.
    let shared = unsafe { &mut *argument.cast::<Shared<'_, E>>() };
    shared.error = Some(run_child(shared));
    // SAFETY: ends the child alone, without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Returns only where something fails.
fn run_child<E>(shared: &mut Shared<'_, E>) -> SpawnError<E> {
    for (target, fd) in (0..).zip(shared.stdio) {
        // SAFETY: dup2 takes two integers; the child's table of descriptors is a copy.
        if unsafe { libc::dup2(fd, target) } == -1 {
            return SpawnError::Stdio(io::Error::last_os_error());
        }
    }
    // Rust ignores broken pipes, and what is ignored stays ignored in the program.
    // SAFETY: the child's table of dispositions is a copy.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if let Err(error) = (shared.steps)() {
        return SpawnError::Steps(error);
    }
    restore_signals(&shared.mask);
    // SAFETY: path, arguments and variables are strings and arrays that end with NUL, alive in the parent's frame.
    unsafe { libc::execve(shared.path, shared.argv, shared.env) };
    SpawnError::Exec(io::Error::last_os_error())
}

/// No handler may run in the child, which would act on the parent's memory. Returns the mask that was set before.
fn block_signals() -> libc::sigset_t {
    let (mut all, mut old) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: both sets are written before they are read.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        old.assume_init()
    }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the mask is a set that `block_signals` has returned.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitOptions, waitpid};
    use std::os::fd::AsFd;

    fn spawn_true(path: &CStr, fail: Option<i32>) -> Result<i32, SpawnError<i32>> {
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let argv = [
            CString::from(c"sh"),
            CString::from(c"-c"),
            CString::from(c"exit $X"),
        ];
        let program = Program {
            path,
            argv: &argv,
            env: &[CString::from(c"X=5")],
            stdio: [null.as_fd(); 3],
        };
        let pid = spawn(&program, &mut || fail.map_or(Ok(()), Err))?;
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        Ok(status.exit_status().unwrap())
    }

    #[test]
    fn a_program_runs_with_its_arguments_and_variables() {
        assert!(matches!(spawn_true(c"/bin/sh", None), Ok(5)));
    }

    #[test]
    fn failures_come_back_from_where_they_happen() {
        assert!(matches!(
            spawn_true(c"/bin/sh", Some(7)),
            Err(SpawnError::Steps(7))
        ));
        match spawn_true(c"/nonexistent", None) {
            Err(SpawnError::Exec(error)) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        }
    }
}
