//! A Debian with systemd is forked and taken back, and neither systemd nor anybody who asks it is the wiser: units,
//! timers and the journal go on, and each machine is somebody.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, time::Duration};

use e2e::{DEBIAN, World, eventually};

const SETTLING: Duration = Duration::from_secs(90);
const PATIENCE: Duration = Duration::from_secs(60);

/// Host keys, a service, a timer that beats, one that is due once, and a word in the journal. hostnamed and the bus
/// run, and have been asked who this is.
const FURNISH: &str = "\
    ssh-keygen -A >/dev/null
    systemd-run --quiet --unit=steady sleep infinity
    systemd-run --quiet --unit=beat --on-active=3 --on-unit-active=3 --timer-property=AccuracySec=100ms \
        --property=StartLimitIntervalSec=0 sh -c 'echo >>/run/beats'
    systemd-run --quiet --unit=due --on-active=30 touch /run/due
    hostnamectl >/dev/null
    echo kept >/root/kept
    logger -t story before; journalctl --sync";

const STEADY: &str = "systemctl show --property=MainPID,NRestarts,ActiveState steady.service";

/// What systemd says of a machine in which everything is in order.
fn is_whole(world: &World, vm: &str) {
    let says = |line: &str, wanted: &str| assert_eq!(world.guest(vm, line), wanted, "{vm}: {line}");
    says("systemctl is-system-running", "running");
    says("systemctl --failed --no-legend --plain", "");
    says(
        "hostname; cat /etc/hostname; hostnamectl hostname; hostnamectl --static",
        &[vm; 4].join("\n"),
    );
    says("getent hosts $(hostname) >/dev/null && echo known", "known");
    says("systemd-run --quiet --wait true && echo ran", "ran");
    says(
        "systemctl is-active beat.timer dbus.service",
        "active\nactive",
    );
    says("cat /root/kept", "kept");
}

/// The journal goes on: what was written before is found, and so is what comes, under the machine's own id.
fn keeps_its_journal(world: &World, vm: &str) {
    let newest = "logger -t story now; journalctl --sync; \
                  journalctl -q -t story -n 1 -o json --output-fields=_MACHINE_ID,_HOSTNAME,MESSAGE";
    let id = world.guest(vm, "cat /etc/machine-id");
    eventually("the journal is the machine's own", PATIENCE, || {
        let entry = world.guest(vm, newest);
        let has = |field: &str, value: &str| entry.contains(&format!("\"{field}\":\"{value}\""));
        let own = has("_MACHINE_ID", &id) && has("_HOSTNAME", vm) && has("MESSAGE", "now");
        own.then_some(())
    });
    let before = "journalctl -b -q -t story -o cat | sort | uniq";
    assert_eq!(world.guest(vm, before), "before\nnow", "{vm}");
}

fn beats(world: &World, vm: &str) -> usize {
    let lines = world.guest(vm, "wc -l </run/beats");
    lines.trim().parse().expect("a number")
}

/// The timer goes on, and neither misses a beat for long nor makes up for any.
fn keeps_time(world: &World, vm: &str) {
    let before = beats(world, vm);
    eventually("the timer beats", PATIENCE, || {
        (beats(world, vm) > before).then_some(())
    });
    eventually("the other one was due", PATIENCE, || {
        let due = "[ -e /run/due ] && systemctl is-active due.timer || true";
        (world.guest(vm, due) == "inactive").then_some(())
    });
}

fn host_key(world: &World, vm: &str) -> String {
    let show = "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub";
    world.guest(vm, show)
}

#[test]
fn a_debian_is_whole_in_its_forks_and_when_it_is_taken_back() {
    let world = World::with_debian();
    let create = [
        "vm", "create", "--name", "web", "--image", DEBIAN, "--memory", "512M",
    ];
    world.banger(create).ok();
    eventually("systemd has started everything", SETTLING, || {
        let ask = [
            "exec",
            "web",
            "--",
            "systemctl",
            "is-system-running",
            "--wait",
        ];
        (world.banger(ask).text() == "running").then_some(())
    });
    let _ = world.guest("web", FURNISH);
    let steady = world.guest("web", STEADY);
    let id = world.guest("web", "cat /etc/machine-id");
    let key = host_key(&world, "web");
    let save = ["vm", "snapshot", "create", "web", "s", "--keep-running"];
    world.banger(save).ok();
    world.banger(["vm", "fork", "web", "-n", "2"]).ok();

    let (mut ids, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for vm in ["web", "web-1", "web-2"] {
        is_whole(&world, vm);
        assert_eq!(world.guest(vm, STEADY), steady, "{vm}");
        keeps_its_journal(&world, vm);
        keeps_time(&world, vm);
        ids.insert(world.guest(vm, "cat /etc/machine-id"));
        keys.insert(host_key(&world, vm));
    }
    assert_eq!((ids.len(), keys.len()), (3, 3), "{ids:?} {keys:?}");
    assert!(
        ids.contains(&id) && keys.contains(&key),
        "the origin's stay"
    );

    let _ = world.guest("web", "rm /root/kept; systemctl stop steady beat.timer");
    world.banger(["vm", "restore", "web", "s"]).ok();
    is_whole(&world, "web");
    assert_eq!(world.guest("web", STEADY), steady);
    let now = (
        world.guest("web", "cat /etc/machine-id"),
        host_key(&world, "web"),
    );
    assert_eq!(now, (id.clone(), key), "it is nobody's copy");
    keeps_its_journal(&world, "web");
    keeps_time(&world, "web");

    // And a fork boots from its own disk as itself.
    world.banger(["vm", "restart", "web-1"]).ok();
    eventually("systemd has started everything", SETTLING, || {
        let ask = [
            "exec",
            "web-1",
            "--",
            "systemctl",
            "is-system-running",
            "--wait",
        ];
        (world.banger(ask).text() == "running").then_some(())
    });
    let who = world.guest("web-1", "cat /etc/machine-id; hostname; cat /root/kept");
    let [own, name, kept] = who.lines().collect::<Vec<_>>()[..] else {
        panic!("{who}");
    };
    assert!(ids.contains(own) && own != id);
    assert_eq!((name, kept), ("web-1", "kept"));
}
