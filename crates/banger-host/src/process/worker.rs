//! Programs that work for this process, in a group of their own.

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use banger_core::host_error::HostError;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::clean_environment;

/// Starts a program that works for us and whose output we read. It leads a process group of
/// its own, so that a Ctrl-C at our terminal does not hit it and all of it can be ended.
pub(crate) fn start_worker(
    program: &Path,
    args: &[OsString],
    env: &[(&str, &Path)],
) -> io::Result<Child> {
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

pub(crate) fn has_ended_within(handle: &OwnedFd, patience: Duration) -> bool {
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    let timeout = Timespec {
        tv_sec: seconds,
        tv_nsec: patience.subsec_nanos().into(),
    };
    let mut waiting = [PollFd::new(handle, PollFlags::IN)];
    poll(&mut waiting, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// How long a program may take that is asked about itself.
const ANSWER: Duration = Duration::from_secs(2);

/// Runs a program that answers a question about itself, and returns what it prints, which
/// must fit into a pipe.
pub(crate) fn ask(program: &Path, args: &[&str]) -> io::Result<String> {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let mut child = start_worker(program, &args, &[])?;
    let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    if !has_ended_within(&handle, ANSWER) {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(output.status.to_string()))
}

/// The program that was configured, else the one that a shell would find.
pub(crate) fn locate(configured: Option<&Path>, program: &str) -> Option<PathBuf> {
    match configured {
        Some(path) => is_program(path).then(|| path.to_owned()),
        None => find(program),
    }
}

/// Says which program there is not.
pub(crate) fn missing(
    configured: Option<&Path>,
    program: &str,
    package: &'static str,
) -> HostError {
    let program = configured.map_or_else(|| program.to_owned(), |path| path.display().to_string());
    HostError::ProgramMissing { program, package }
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
    use super::*;

    #[test]
    fn a_program_answers_or_fails() {
        let sh = Path::new("/bin/sh");
        assert_eq!(ask(sh, &["-c", "echo yes"]).unwrap(), "yes\n");
        assert!(ask(sh, &["-c", "exit 1"]).is_err());
        assert!(find("sh").is_some() && find("no-such-program-anywhere").is_none());
    }
}
