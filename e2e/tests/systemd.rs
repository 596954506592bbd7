//! The default image is a Debian whose systemd is content: every unit up, the network there, and a
//! shutdown that loses nothing.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, time::Duration};

use e2e::{DEBIAN, World, eventually};

const SETTLING: Duration = Duration::from_secs(60);

/// Refreshes apt's lists of the host in a place of our own.
const HOST_UPDATE: &str = "cd $BANGER_HOME && mkdir -p lists/partial apt/archives/partial && \
    timeout 100 apt-get -q update -o Debug::NoLocking=1 \
    -o Dir::State::Lists=$BANGER_HOME/lists -o Dir::Cache=$BANGER_HOME/apt \
    -o APT::Update::Error-Mode=any";

fn debian(name: &str) -> World {
    let world = World::with_debian();
    let create = [
        "vm", "create", "--name", name, "--image", DEBIAN, "--memory", "512M",
    ];
    world.banger(create).ok().stdout(format!("{name}\n"));
    world
}

/// Systemd's word for the machine once it has started everything. Exec answers before systemd
/// listens, so the first questions may go unanswered.
fn settled(world: &World, vm: &str) -> String {
    eventually("systemd has started everything", SETTLING, || {
        let ask = ["exec", vm, "--", "systemctl", "is-system-running", "--wait"];
        let word = world.banger(ask).text();
        (!matches!(word.as_str(), "" | "offline" | "initializing" | "starting")).then_some(word)
    })
}

#[test]
fn debian_comes_up_whole_and_keeps_what_was_written() {
    let world = debian("calm-otter");
    let image = world.image(DEBIAN);
    assert!(image.has_systemd && image.has_shell, "{image:?}");
    let vm = world.vm("calm-otter");
    assert_eq!(vm.agent.map(|agent| agent.init).as_deref(), Some("systemd"));

    let state = settled(&world, "calm-otter");
    let failed = world.guest("calm-otter", "systemctl --failed --no-legend --plain");
    assert_eq!((state.as_str(), failed.as_str()), ("running", ""));

    let check =
        |line: &str, wanted: &str| assert_eq!(world.guest("calm-otter", line), wanted, "{line}");
    check("cat /proc/1/comm", "systemd");
    check("hostname", "calm-otter");
    check("cat /etc/hostname", "calm-otter");
    check("hostnamectl --static", "calm-otter");
    check("getent hosts calm-otter >/dev/null && echo known", "known");
    check("grep -c '^nameserver ' /etc/resolv.conf", "1");
    // No machine shares its identity with another, or with who built the image.
    check("grep -cx '[0-9a-f]\\{32\\}' /etc/machine-id", "1");

    let line = "echo kept >/root/file && touch /var/lib/marker && journalctl -b -n 1 >/dev/null";
    let _ = world.guest("calm-otter", line);
    world.banger(["vm", "stop", "calm-otter"]).ok();
    world.banger(["vm", "start", "calm-otter"]).ok();
    check(
        "cat /root/file && ls /var/lib/marker",
        "kept\n/var/lib/marker",
    );
}

#[test]
fn a_debian_that_skips_its_boot_is_as_whole_as_one_that_boots() {
    let world = World::with_debian();
    world.banger(["config", "set", "fast_start", "true"]).ok();
    let run = |name: &str| {
        let args = [
            "run", "-d", "--name", name, "--image", DEBIAN, "--memory", "512M",
        ];
        world.call_with(&args).run().ok();
    };
    run("cold");
    world.banger(["rm", "-f", "cold"]).ok();
    eventually("a boot is saved", 3 * SETTLING, || {
        let whole = world.files_below("snapshots") == 4 && world.files_below("vms") == 0;
        whole.then_some(())
    });
    let who = "cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null; \
               head -c 16 /dev/urandom | sha256sum";
    let mut told = BTreeSet::new();
    for name in ["one", "two"] {
        run(name);
        let says = |line: &str, wanted: &str| {
            assert_eq!(world.guest(name, line), wanted, "{name}: {line}");
        };
        // Nothing is to be waited for: its boot is long over.
        says("systemctl is-system-running", "running");
        says("systemctl --failed --no-legend --plain", "");
        says(
            "hostname; cat /etc/hostname; hostnamectl --static",
            &format!("{name}\n{name}\n{name}"),
        );
        says("getent hosts $(hostname) >/dev/null && echo known", "known");
        says("systemd-run --quiet --wait true && echo ran", "ran");
        says(
            "logger -t story here; journalctl --sync; journalctl -b -q -t story -o cat",
            "here",
        );
        told.insert(world.guest(name, who));
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        world.boot_id("one"),
        world.boot_id("two"),
        "both skipped their boot"
    );
    let _ = world.guest("one", "echo kept >/root/file");
    world.banger(["vm", "restart", "one"]).ok();
    assert_eq!(settled(&world, "one"), "running");
    assert_eq!(world.guest("one", "cat /root/file; hostname"), "kept\none");
}

#[test]
fn exec_answers_before_systemd_is_through_and_run_works_at_once() {
    let world = World::with_debian();
    let line = "cat /etc/os-release; exit 42";
    let run = [
        "run", "--rm", "--image", DEBIAN, "--memory", "512M", "--", "sh", "-c", line,
    ];
    world
        .banger(run)
        .code(42)
        .stdout_has(["ID=debian", "bookworm"]);
    assert!(world.machines().is_empty());
}

#[test]
fn the_guests_packages_come_through_the_user_network() {
    let world = debian("web");
    // What apt can do on the host is the measure: without a network there is nothing to show.
    let on_the_host = world.shell(HOST_UPDATE).run();
    if !on_the_host.succeeded() {
        skip(&format!(
            "the host itself reaches no archive\n{on_the_host}"
        ));
        return;
    }
    let update = "apt-get -q update -o APT::Update::Error-Mode=any";
    world.banger(["exec", "web", "--", "sh", "-c", update]).ok();
    let found = world.guest("web", "apt-cache policy hello | grep -c Candidate");
    assert_eq!(found, "1");
}

#[expect(
    clippy::print_stderr,
    reason = "whoever reads the run must see what was not tested"
)]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
