//! Claims about the commands that make, change, list and show.

use std::{io::Read, process::Stdio};

use rustix::process::Signal;

use crate::fake::{Fake, ID, Reaped, check, text};

#[test]
fn data_goes_to_stdout_and_progress_to_stderr() {
    let fake = Fake::start();
    let output = fake.run(&[
        "vm", "create", "--name", "web", "--memory", "2G", "--vcpu", "3",
    ]);
    check(&output, 0, "web\n", "image: paper\\u{1b}\nboot: kernel\n");
    assert_eq!(fake.asked(), "POST /v1/vms");
    assert_eq!(
        fake.asked(),
        r#"{"name":"web","vcpus":3,"memory_bytes":2147483648,"start":true,"auto_remove":false}"#
    );
    check(&fake.run(&["run", "-d", "-q"]), 0, "web\n", "");
    check(
        &fake.run(&["vm", "create", "-q", "--no-start"]),
        0,
        "web\n",
        "",
    );
}

#[test]
fn ps_lists_what_runs_and_vm_list_all() {
    let fake = Fake::start();
    check(&fake.run(&["ps", "-q"]), 0, "web\n", "");
    check(&fake.run(&["ps", "-q", "-a"]), 0, "web\ndb\n", "");
    check(&fake.run(&["vm", "list", "-q"]), 0, "web\ndb\n", "");
    let output = fake.run(&["vm", "ls", "--json"]);
    let vms: Vec<banger_api::vm::Vm> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(vms.len(), 2);
    let table = fake.run(&["ps"]);
    assert!(
        text(&table.stdout).starts_with("NAME  STATE    IMAGE"),
        "{}",
        text(&table.stdout)
    );
}

#[test]
fn several_targets_are_done_once_each_and_reported_in_order() {
    let fake = Fake::start();
    let output = fake.run(&["vm", "stop", "db", "gone", "web", ID, "db", "lost"]);
    check(
        &output,
        1,
        "db\nweb\n",
        "banger: no VM is called gone\nbanger: no VM is called lost\n",
    );
    let asked = fake.asked_so_far();
    let stops = asked.iter().filter(|line| line.ends_with("/stop")).count();
    assert_eq!(stops, 2, "{asked:?}");
    check(&fake.run(&["vm", "stop", "web"]), 0, "web\n", "");
}

#[test]
fn a_running_vm_is_deleted_with_force_only() {
    let fake = Fake::start();
    let refused = "banger: VM web runs\nhint: banger rm -f\n";
    check(&fake.run(&["rm", "web"]), 1, "", refused);
    check(&fake.run(&["rm", "-f", "web", "db"]), 0, "web\ndb\n", "");
}

#[test]
fn several_starts_say_which_step_is_whose() {
    let fake = Fake::start();
    let output = fake.run(&["vm", "start", "web"]);
    check(&output, 0, "web\n", "boot: kernel\nagent\n");
    let output = fake.run(&["vm", "start", "web", "db"]);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("web: boot: kernel\n") && stderr.contains("db: agent\n"),
        "{stderr}"
    );
}

#[test]
fn an_interrupted_creation_is_cancelled() {
    let fake = Fake::start();
    for (arguments, code) in [
        (["vm", "create", "--name", "slow"].as_slice(), 130),
        (["run", "--rm", "--name", "slow"].as_slice(), 130),
    ] {
        let child = fake
            .banger(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Reaped(child);
        let mut stderr = child.0.stderr.take().unwrap();
        let mut first = [0; "image: slow\n".len()];
        stderr.read_exact(&mut first).unwrap();
        child.signal(Signal::INT);
        assert_eq!(child.code(), Some(code));
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(
            rest,
            "banger: interrupted: making the VM was cancelled, and it is removed\n"
        );
        while fake.asked() != "gone" {}
    }
}

#[test]
fn logs_are_the_very_bytes_for_a_program() {
    let fake = Fake::start();
    let output = fake.run(&["vm", "logs", "--vmm", "-f", "web"]);
    assert_eq!(output.stdout, b"a\x1b[2J\xff\n");
    assert_eq!(fake.asked(), "GET /v1/vms/web/logs?kind=vmm&follow=true");
}

#[test]
fn a_tar_from_a_pipe_is_sent_to_the_daemon() {
    let fake = Fake::start();
    let mut echo = std::process::Command::new("sh");
    let mut echo = echo
        .args(["-c", "printf 12345"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = echo.stdout.take().unwrap();
    let output = fake
        .banger(&["image", "import", "x", "tar:-"])
        .stdin(pipe)
        .output()
        .unwrap();
    echo.wait().unwrap();
    check(&output, 0, "x\n", "");
    assert_eq!(fake.asked(), "PUT /v1/images/x/tar");
    assert_eq!(fake.asked(), "5 bytes");
    check(
        &fake.run(&["image", "import", "x", "tar:/gone.tar"]),
        1,
        "",
        "banger: cannot open /gone.tar\n  caused by: No such file or directory (os error 2)\n",
    );
}

#[test]
fn doctor_fails_where_a_check_fails() {
    let fake = Fake::start();
    let output = fake.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    for row in [
        "WARN  runtime directory  ",
        "PASS  daemon  ",
        "WARN  build  ",
        "FAIL  paper  ",
    ] {
        assert!(stdout.contains(row), "{stdout}");
    }
    assert!(
        stdout.contains("hint: unfold\n") && !stdout.contains('\x1b'),
        "{stdout}"
    );
    let json = fake.run(&["doctor", "--json"]);
    let checks: Vec<banger_api::doctor::Check> = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(checks.len(), 5);
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_shout() {
    let fake = Fake::start();
    for arguments in [["vm", "list"].as_slice(), &["--help"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = fake.banger(arguments).stdout(writer).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        assert!(
            matches!(output.status.code(), Some(0 | 141)),
            "{arguments:?}"
        );
    }
}

#[test]
fn completion_knows_live_names_and_nothing_without_a_daemon() {
    let fake = Fake::start();
    let complete = |home: Option<&str>, words: &[&str]| {
        let mut command = fake.banger(&[&["--", "banger"], words].concat());
        command.env("BANGER_COMPLETE", "fish");
        if let Some(home) = home {
            command.env("BANGER_HOME", home);
        }
        let output = command.output().unwrap();
        text(&output.stdout).to_owned()
    };
    assert_eq!(complete(None, &["exec", ""]).lines().next(), Some("web"));
    assert_eq!(complete(None, &["vm", "delete", "d"]), "db\n");
    assert_eq!(complete(Some("/nonexistent"), &["vm", "delete", "d"]), "");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = fake.run(&["completion", shell]);
        assert!(text(&script.stdout).contains("BANGER_COMPLETE"), "{shell}");
    }
}
