//! Claims about the commands that save machines, take them back and copy them.

use std::{io::Read, process::Stdio};

use banger_api::snapshot::{Forked, Snapshot};
use rustix::process::Signal;

use crate::fake::{Fake, Reaped, check, text};

#[test]
fn what_was_made_is_named_on_stdout() {
    let fake = Fake::start();
    let save = ["vm", "snapshot", "create", "web", "ready"];
    check(&fake.run(&save), 0, "ready\n", "save: VM web\n");
    assert_eq!(fake.asked(), "POST /v1/vms/web/snapshots");
    assert_eq!(fake.asked(), r#"{"name":"ready","keep_running":false}"#);
    let back = ["vm", "restore", "web", "ready"];
    check(&fake.run(&back), 0, "web\n", "restore: web on paper\n");
    let fork = ["vm", "fork", "web", "-n", "2", "--name-prefix", "try", "-q"];
    check(&fake.run(&fork), 0, "try-1\ntry-2\n", "");

    let saved = fake.run(&[&save[..], &["--json", "-q"]].concat());
    let saved: Snapshot = serde_json::from_slice(&saved.stdout).unwrap();
    assert_eq!(saved.paused_ms, 7);
    let forked = fake.run(&[&fork[..], &["--json"]].concat());
    let forked: Forked = serde_json::from_slice(&forked.stdout).unwrap();
    assert_eq!((forked.vms.len(), forked.paused_ms), (2, 7));
}

#[test]
fn what_contradicts_a_saved_machine_is_refused_before_anything_is_asked() {
    let fake = Fake::start();
    let flags = [
        ["--image", "alpine"],
        ["--kernel", "k"],
        ["--vcpu", "2"],
        ["--memory", "1G"],
        ["--disk-size", "1G"],
        ["--init", "agent"],
        ["--network", "none"],
        ["--vmm", "qemu"],
    ];
    for way in [["--snapshot", "s"], ["--pool", "p"]] {
        for flag in flags {
            for command in [["vm", "run"], ["vm", "create"]] {
                let output = fake.run(&[command, way, flag].concat());
                let stderr = text(&output.stderr);
                assert_eq!(output.status.code(), Some(2), "{way:?} {flag:?}");
                let named = stderr.contains(way[0]) && stderr.contains(flag[0]);
                assert!(named, "{stderr}");
            }
        }
        let cold = fake.run(&[&["vm", "run", "--cold"][..], &way].concat());
        assert_eq!(cold.status.code(), Some(2));
        let later = fake.run(&[&["vm", "create", "--no-start"][..], &way].concat());
        assert_eq!(later.status.code(), Some(2));
    }
    let both = fake.run(&["run", "--snapshot", "s", "--pool", "p"]);
    assert_eq!(both.status.code(), Some(2));
    assert_eq!(
        fake.run(&["vm", "fork", "web", "-n", "0"]).status.code(),
        Some(2)
    );
    assert_eq!(fake.asked_so_far(), Vec::<String>::new());
}

#[test]
fn who_interrupts_is_told_what_becomes_of_the_machine() {
    let fake = Fake::start();
    let check = |arguments: &[&str], first: &str, outcome: &str| {
        let child = fake.banger(arguments).stderr(Stdio::piped()).spawn();
        let mut child = Reaped(child.unwrap());
        let mut stderr = child.0.stderr.take().unwrap();
        let mut told = vec![0; first.len()];
        stderr.read_exact(&mut told).unwrap();
        assert_eq!(text(&told), first);
        child.signal(Signal::INT);
        assert_eq!(child.code(), Some(130), "{arguments:?}");
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, format!("banger: interrupted: {outcome}\n"));
        while fake.asked() != "gone" {}
    };
    check(
        &["vm", "snapshot", "create", "web", "slow"],
        "save: slow\n",
        "there is no snapshot, and the VM goes on",
    );
    check(
        &["vm", "restore", "web", "slow"],
        "restore: slow\n",
        "the VM is as it was, or stopped if it had begun to go back",
    );
    check(
        &["vm", "fork", "web", "-n", "101"],
        "save: slow\n",
        "there are no forks, and the VM goes on",
    );
}
