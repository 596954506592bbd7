//! Credential helpers: small programs that are told a server's name and print what they keep.

use std::{
    io::{self, Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use banger_core::host_error::HostError;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::worker::{find, has_ended_within, missing};

/// Helpers may have to ask a person for a password first.
const PATIENCE: Duration = Duration::from_secs(60);
/// No honest answer is longer.
const LONGEST: u64 = 64 << 10;
const NOTHING: &str = "credentials not found";

/// What `docker-credential-NAME get` prints for a server; `None` where it keeps nothing for it.
/// The helper sees our whole environment: it finds its agent, bus or store through it.
pub(crate) fn credential(name: &str, server: &str) -> Result<Option<Vec<u8>>, HostError> {
    let program = format!("docker-credential-{name}");
    let path = find(&program).ok_or_else(|| missing(None, &program, "the helper's own package"))?;
    let failed = |source| HostError::Spawn {
        program: program.clone(),
        source,
    };
    let answer = run(&path, server).map_err(failed)?;
    if answer.success {
        return Ok(Some(answer.said));
    }
    let said = String::from_utf8_lossy(&answer.said).into_owned();
    if said.contains(NOTHING) {
        return Ok(None);
    }
    let line = said.lines().next().unwrap_or_default();
    Err(HostError::ProgramFailed {
        program,
        status: answer.status,
        tail: vec![line.chars().filter(|c| !c.is_control()).take(200).collect()],
    })
}

struct Answer {
    success: bool,
    status: String,
    said: Vec<u8>,
}

fn run(program: &Path, server: &str) -> io::Result<Answer> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let stdin = child.stdin.take();
    let question = format!("{server}\n");
    // A helper that does not read its question may know the answer anyway.
    let asked = stdin.map(|mut stdin| stdin.write_all(question.as_bytes()));
    drop(asked);
    let stdout = child.stdout.take().expect("the helper's output is a pipe");
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        stdout.take(LONGEST).read_to_end(&mut said).map(|_| said)
    });
    if !has_ended_within(&handle, PATIENCE) {
        child.kill()?;
    }
    let status = child.wait()?;
    let said = reader.join().unwrap_or_else(|_| Ok(Vec::new()))?;
    Ok(Answer {
        success: status.success(),
        status: status.to_string(),
        said,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn ask(script: &str) -> Answer {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("helper");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        run(&path, "quay.io").unwrap()
    }

    #[test]
    fn a_helper_is_told_the_server_and_answers() {
        let answer = ask("read server; echo \"$1 $server\"");
        assert_eq!(
            (answer.success, &answer.said[..]),
            (true, &b"get quay.io\n"[..])
        );
        let refused = ask("echo 'credentials not found in native keychain'; exit 1");
        assert!(!refused.success && refused.said.starts_with(NOTHING.as_bytes()));
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let error = credential("no-such-helper-anywhere", "quay.io").unwrap_err();
        assert!(
            matches!(error, HostError::ProgramMissing { .. }),
            "{error:?}"
        );
    }
}
