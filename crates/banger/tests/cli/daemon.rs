//! Claims about finding, starting and replacing the daemon.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::fake::{Fake, Reaped, banger, check, text};

/// A directory with the real banger and a bangerd that is this script.
///
/// Another process writes the files: a descriptor of ours that is open for writing could be
/// inherited by a program that another test starts, and then the file would be busy.
fn installation(script: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    const COPY: &str = "ln \"$1\" banger 2>/dev/null || cp \"$1\" banger";
    const WRITE: &str = "printf '#!/bin/sh\\n%s\\n' \"$1\" > bangerd && chmod 755 bangerd";
    let directory = tempfile::tempdir().unwrap();
    let shell = |program: &str, argument: &str| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", program, "sh", argument])
            .current_dir(&directory);
        assert!(shell.status().unwrap().success(), "{program}");
    };
    shell(COPY, env!("CARGO_BIN_EXE_banger"));
    if let Some(script) = script {
        shell(WRITE, script);
    }
    let program = directory.path().join("banger");
    (directory, program)
}

fn run(program: &Path, home: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env("BANGER_HOME", home)
        .env("PATH", "/nonexistent")
        .output()
        .unwrap()
}

#[test]
fn a_daemon_that_does_not_start_says_why() {
    let (directory, program) = installation(Some("echo 'bangerd: no space' >&2; exit 3"));
    let home = directory.path().join("home");
    let bangerd = directory.path().join("bangerd");
    let expected = format!(
        "banger: the daemon {} did not start: exit status: 3\n\
         last lines of the log:\n  | bangerd: no space\nhint: banger doctor\n",
        bangerd.display()
    );
    check(&run(&program, &home, &["vm", "list"]), 1, "", &expected);
    check(
        &run(&program, &home, &["run", "--", "true"]),
        125,
        "",
        &expected,
    );
    let doctor = run(&program, &home, &["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    let stdout = text(&doctor.stdout);
    assert!(
        stdout.contains("did not start: exit status: 3; bangerd: no space"),
        "{stdout}"
    );
}

#[test]
fn a_missing_daemon_program_is_told() {
    let (directory, program) = installation(None);
    let expected = "banger: cannot find bangerd beside banger, in ../lib/banger or in PATH\n\
                    hint: install bangerd in the directory where banger is\n";
    check(
        &run(&program, directory.path(), &["vm", "list"]),
        1,
        "",
        expected,
    );
}

#[test]
fn status_and_stop_start_nothing() {
    let (directory, program) = installation(Some("echo started > \"$BANGER_HOME.started\""));
    let home = directory.path().join("home");
    let down = "banger: the daemon is not running\nhint: banger daemon start\n";
    check(&run(&program, &home, &["daemon", "status"]), 1, "", down);
    check(
        &run(&program, &home, &["daemon", "stop"]),
        0,
        "",
        "the daemon was not running\n",
    );
    assert!(!directory.path().join("home.started").exists());
}

#[test]
fn an_older_daemon_is_ended_before_ours_starts() {
    let old = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut old = Reaped(old);
    let fake = Fake::start_with(0, old.0.id());
    let (_directory, program) = installation(Some("exit 7"));
    let home = fake.home();
    let output = run(&program, &home, &["vm", "list"]);
    assert!(text(&output.stderr).contains("did not start: exit status: 7"));
    assert_eq!(fake.asked(), "POST /v1/daemon/shutdown");
    assert_eq!(old.code(), None, "a signal ended it");
}

#[test]
fn an_older_daemon_that_is_our_own_is_used() {
    let (directory, program) = installation(None);
    let bangerd = directory.path().join("bangerd");
    symlink("/bin/cat", &bangerd).unwrap();
    let old = Command::new(&bangerd).stdin(Stdio::piped()).spawn();
    let old = Reaped(old.unwrap());
    let fake = Fake::start_with(0, old.0.id());
    check(&run(&program, &fake.home(), &["ps", "-q"]), 0, "web\n", "");
    assert_eq!(fake.asked(), "GET /v1/overview");
}

#[test]
fn a_daemon_is_stopped_when_its_process_has_gone() {
    let old = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut old = Reaped(old);
    let fake = Fake::start_with(u64::MAX, old.0.id());
    check(&fake.run(&["daemon", "stop"]), 0, "", "");
    assert_eq!(old.code(), None, "a signal ended it");
}

#[test]
fn a_newer_daemon_is_used_as_it_is() {
    let fake = Fake::start();
    let status = fake.run(&["daemon", "status", "--json"]);
    let status: banger_api::daemon::DaemonStatus = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status.build.commit, "paper");
    assert!(text(&fake.run(&["daemon", "start"]).stdout).contains("9.9.9 (paper"));
}

#[test]
fn homes_that_cannot_be_are_refused() {
    let output = banger(Path::new("relative"), &["vm", "list"])
        .output()
        .unwrap();
    let expected = "banger: BANGER_HOME must be an absolute path, not relative\n";
    check(&output, 1, "", expected);
}
