//! Claims about commands of a guest: their streams, their signals and their exit codes.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    process::Stdio,
};

use rustix::process::Signal;

use crate::fake::{Fake, ID, Reaped, check, text};

#[test]
fn the_exit_code_is_the_command_s_own() {
    let fake = Fake::start();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["exit", "0"], 0, ""),
        (&["exit", "42"], 42, ""),
        (&["exit", "255"], 255, ""),
        (&["die", "9"], 137, ""),
        (&["missing"], 127, "banger: missing is not there\n"),
        (
            &["vanish"],
            125,
            "banger: the daemon ended the stream without saying how the command ended\n\
             hint: the daemon may have died: its log is in `banger daemon status`\n",
        ),
    ];
    for (command, code, stderr) in cases {
        let arguments = [&["exec", "web", "--"], command].concat();
        let output = fake
            .banger(&arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if command == ["vanish"] {
            // The transport may add how the stream broke.
            assert_eq!(output.status.code(), Some(code));
        } else {
            check(&output, code, "", stderr);
        }
    }
}

#[test]
fn a_refused_exec_is_125() {
    let fake = Fake::start();
    check(
        &fake.run(&["exec", "nobody", "--", "cat"]),
        125,
        "",
        "banger: no VM is called nobody\n",
    );
}

#[test]
fn stdout_and_stderr_stay_apart() {
    let fake = Fake::start();
    check(
        &fake.run(&["exec", "web", "--", "both"]),
        0,
        "out\nmore\n",
        "err\n",
    );
}

#[test]
fn what_is_asked_for_reaches_the_daemon() {
    let fake = Fake::start();
    let arguments = [
        "exec", "-e", "A=1", "-e", "GIVEN", "-e", "GONE", "-w", "/w", "-u", "u", "web", "--",
    ];
    let arguments = [arguments.as_slice(), &["exit", "0"]].concat();
    let status = fake
        .banger(&arguments)
        .env("GIVEN", "2")
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fake.asked(), "GET /v1/vms/web/exec");
    assert_eq!(
        fake.asked(),
        r#"{"argv":["exit","0"],"env":[["A","1"],["GIVEN","2"]],"cwd":"/w","user":"u","tty":null,"stdin":true,"image":"surroundings","owner":false}"#
    );
}

#[test]
fn bytes_pass_through_both_ways_unchanged() {
    let fake = Fake::start();
    let content: Vec<u8> = (0..16_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(&content).unwrap();
    input.rewind().unwrap();
    let output = fake
        .banger(&["exec", "web", "--", "cat"])
        .stdin(input)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        output.stdout == content,
        "{} of {} bytes",
        output.stdout.len(),
        content.len()
    );
}

#[test]
fn an_unreadable_input_is_told_and_ends_the_input() {
    let fake = Fake::start();
    let directory = File::open("/").unwrap();
    let output = fake
        .banger(&["exec", "web", "--", "cat"])
        .stdin(directory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).starts_with("banger: cannot read standard input: "));
}

#[test]
fn a_closed_output_hangs_the_command_up_in_silence() {
    let fake = Fake::start();
    let mut command = fake.banger(&["exec", "web", "--", "yes"]);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Reaped(child.unwrap());
    let mut stdout = child.0.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    assert_eq!(child.code(), Some(141));
    let mut stderr = String::new();
    child
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(stderr, "");
    while fake.asked() != "gone" {}
}

/// A command that listens, with an input that does not end.
fn listening(fake: &Fake, arguments: &[&str]) -> Reaped {
    let mut command = fake.banger(arguments);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = Reaped(child.unwrap());
    while fake.asked() != "listening" {}
    child
}

#[test]
fn signals_reach_the_command() {
    let fake = Fake::start();
    let mut child = listening(&fake, &["exec", "web", "--", "listen"]);
    for (signal, told) in [
        (Signal::INT, "Signal(2)"),
        (Signal::USR1, "Signal(10)"),
        (Signal::TERM, "Signal(15)"),
    ] {
        child.signal(signal);
        assert_eq!(fake.asked(), told);
    }
    assert_eq!(child.code(), Some(143));
}

#[test]
fn the_third_interrupt_in_a_row_stops_waiting() {
    let fake = Fake::start();
    let mut child = listening(&fake, &["exec", "web", "--", "listen"]);
    for _ in 0..2 {
        child.signal(Signal::INT);
        assert_eq!(fake.asked(), "Signal(2)");
    }
    child.signal(Signal::INT);
    assert_eq!(child.code(), Some(130));
    assert_eq!(fake.asked(), "gone");
}

#[test]
fn a_vm_with_rm_goes_with_its_command_whatever_its_end() {
    for (command, code) in [("exit 42", 42), ("missing", 127), ("vanish", 125)] {
        let fake = Fake::start();
        let mut arguments = vec!["run", "--rm", "-q", "--"];
        arguments.extend(command.split(' '));
        let output = fake
            .banger(&arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}");
        let asked = fake.asked_so_far();
        assert!(
            asked[1].contains(r#""start":true,"auto_remove":true"#),
            "{asked:?}"
        );
        assert!(
            asked.iter().any(|line| line.contains(r#""owner":true"#)),
            "{asked:?}"
        );
        let deletion = format!("DELETE /v1/vms/{ID}?force=true");
        assert!(asked.contains(&deletion), "{asked:?}");
        assert!(!text(&output.stderr).contains("still running"));
    }
}

#[test]
fn a_vm_with_rm_goes_when_the_wait_for_its_command_is_given_up() {
    let fake = Fake::start();
    let mut child = listening(&fake, &["run", "--rm", "-q", "--", "listen"]);
    for _ in 0..2 {
        child.signal(Signal::HUP);
        assert_eq!(fake.asked(), "Signal(1)");
    }
    child.signal(Signal::HUP);
    assert_eq!(child.code(), Some(129));
    let deletion = format!("DELETE /v1/vms/{ID}?force=true");
    while fake.asked() != deletion {}
}

#[test]
fn without_rm_the_vm_stays_and_a_failure_says_so() {
    let fake = Fake::start();
    let output = fake
        .banger(&["run", "--", "missing"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    check(
        &output,
        127,
        "",
        "image: paper\\u{1b}\nboot: kernel\n\
         VM web is still running: banger exec web -- CMD, banger rm -f web\n\
         banger: missing is not there\n",
    );
    assert!(
        !fake
            .asked_so_far()
            .iter()
            .any(|line| line.starts_with("DELETE"))
    );
}

#[test]
fn a_failed_creation_is_125_and_runs_nothing() {
    let fake = Fake::start();
    let output = fake.run(&["run", "-q", "--rm", "--name", "taken", "--", "cat"]);
    check(&output, 125, "", "banger: the name taken is taken\n");
    let asked = fake.asked_so_far();
    assert!(
        !asked
            .iter()
            .any(|line| line.contains("exec") || line.starts_with("DELETE"))
    );
}
