//! Machines beside each other: each has its name, its disk and its boot, and nothing of another's.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use e2e::World;

const NAMES: [&str; 3] = ["alder", "birch", "cedar"];

#[test]
fn three_machines_start_at_once_and_share_nothing_they_write() {
    let world = World::new();
    let starting = NAMES.map(|name| world.call(["vm", "create", "--name", name]).spawn());
    for (name, started) in NAMES.iter().zip(starting) {
        started.finish().ok().stdout(format!("{name}\n"));
    }
    assert_eq!(world.machines().len(), NAMES.len());

    let line = "hostname; cat /mark 2>/dev/null; hostname >/mark; rm /etc/passwd";
    let first = NAMES.map(|name| world.call(["exec", name, "--", "sh", "-c", line]).spawn());
    for (name, ran) in NAMES.iter().zip(first) {
        // Nobody sees another's mark, and each has its own file to remove.
        ran.finish().ok().stdout(format!("{name}\n")).stderr("");
    }
    for name in NAMES {
        assert_eq!(
            world.guest(name, "cat /mark; ls /etc/passwd 2>&1 | wc -l"),
            format!("{name}\n1")
        );
    }
    let boots: BTreeSet<_> = NAMES.iter().map(|name| world.boot_id(name)).collect();
    assert_eq!(boots.len(), NAMES.len());
    let disks: BTreeSet<_> = world.vms().into_iter().map(|vm| vm.disk_path).collect();
    assert_eq!(disks.len(), NAMES.len());

    // The image is what it was for whoever comes next.
    let next = world.banger(["run", "--rm", "--", "sh", "-c", "ls /mark; cat /etc/passwd"]);
    next.code(0).stdout_has(["root:"]);
    world
        .banger(["rm", "--force", "alder", "birch", "cedar"])
        .ok();
    assert!(world.machines().is_empty());
}

#[test]
fn one_machine_answers_many_at_once() {
    let world = World::new();
    world.start("web");
    let calls: Vec<_> = (0..12)
        .map(|number| {
            let line = format!("head -c 200000 /dev/zero; exit {number}");
            world.call(["exec", "web", "--", "sh", "-c", &line]).spawn()
        })
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        let code = i32::try_from(number).expect("a small number");
        let outcome = call.finish();
        outcome.code(code);
        assert_eq!(outcome.bytes().len(), 200_000);
    }
}
