//! A daemon that is killed in the middle of its work, at chosen moments and at any: machines go on,
//! nothing that was confirmed is lost, nothing is left behind, and the same command works again.
#![forbid(unsafe_code)]

use std::{
    env, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use banger_api::vm::VmState;
use e2e::{World, no_door, wait_for_end};

const SOON: Duration = Duration::from_secs(60);

/// A program of the guest that writes one number after the other, each to its disk.
const WRITER: &str = "i=0; while :; do i=$((i+1)); echo $i >>/count; sync; sleep 0.1; done";

/// A machine whose guest keeps writing, whatever happens to the daemon.
struct Kept<'a> {
    world: &'a World,
    boot: String,
    pid: Option<u32>,
}

impl<'a> Kept<'a> {
    fn start(world: &'a World) -> Self {
        world.start("kept");
        let line = format!("setsid sh -c '{WRITER}' </dev/null >/dev/null 2>&1 &");
        assert_eq!(world.guest("kept", &line), "");
        Self {
            world,
            boot: world.boot_id("kept"),
            pid: world.vm("kept").pid,
        }
    }

    /// How far the guest has written; not a number is missing.
    fn runs_on(&self) -> u64 {
        let vm = self.world.vm("kept");
        assert_eq!((vm.state, vm.pid), (VmState::Running, self.pid));
        assert_eq!(self.world.boot_id("kept"), self.boot);
        let line = "n=$(wc -l </count); head -n $n /count | sha256sum; seq $n | sha256sum; echo $n";
        let said = self.world.guest("kept", line);
        let lines: Vec<_> = said.lines().collect();
        let [written, wanted, count] = lines[..] else {
            panic!("{said}");
        };
        assert_eq!(written, wanted, "all that the guest has written is there");
        count.parse().expect("a number of lines")
    }
}

/// Moments of a creation with its start, as they come.
const MOMENTS: [&str; 10] = [
    "before vm is intended",
    "after vm is intended",
    "after directory is intended",
    "before disk is confirmed",
    "after sockets is intended",
    "after vmm is intended",
    "before vmm is confirmed",
    "after group is intended",
    "before vm is confirmed",
    "after vm is confirmed",
];

/// Starts a daemon that ends at a moment, and asks it for a machine. Whether it did end.
fn create_until(world: &World, moment: &str) -> bool {
    world.banger(["daemon", "stop"]).ok();
    let create = world.call(["vm", "create", "--name", "web"]);
    !create.env("BANGER_TEST_END", moment).run().succeeded()
}

#[test]
fn a_creation_is_undone_or_done_wherever_the_daemon_is_killed() {
    let world = World::new();
    let kept = Kept::start(&world);
    for moment in MOMENTS {
        if !create_until(&world, moment) {
            return no_door(&format!("end at {moment:?}"));
        }
        world.expect_tidy(SOON);
        kept.runs_on();
        let names: Vec<_> = world.vms().into_iter().map(|vm| vm.name).collect();
        match moment {
            // Nobody heard of it, but it was done.
            "after vm is confirmed" => assert_eq!(world.state_of("web"), VmState::Running),
            _ => {
                assert_eq!(names, ["kept"], "{moment}");
                world.start("web");
            }
        }
        assert_eq!(world.guest("web", "echo here"), "here");
        world.banger(["rm", "--force", "web"]).ok();
        world.expect_tidy(SOON);
    }
    assert!(kept.runs_on() > 1);
}

#[test]
fn a_stop_and_a_deletion_go_through_wherever_the_daemon_is_killed() {
    let world = World::new();
    world.start("web");
    world.banger(["daemon", "stop"]).ok();
    let stop = world.call(["vm", "stop", "web"]);
    let moment = "after sockets is undoing";
    if stop.env("BANGER_TEST_END", moment).run().succeeded() {
        return no_door(&format!("end at {moment:?}"));
    }
    world.expect_tidy(SOON);
    assert_eq!(world.state_of("web"), VmState::Stopped);
    world.banger(["daemon", "stop"]).ok();
    let delete = world.call(["rm", "web"]);
    let deleted = delete.env("BANGER_TEST_END", "after directory is undoing");
    deleted.run().code(1);
    world.expect_tidy(SOON);
    assert!(world.vms().is_empty(), "an accepted deletion goes through");
}

#[test]
fn a_disk_that_grows_does_so_wherever_the_daemon_is_killed() {
    let world = World::new();
    world.configure_also("vmm = \"qemu\"");
    let create = ["vm", "create", "--name", "web", "--disk-size", "200M"];
    world.banger(create).ok();
    let (boot, pid) = (world.boot_id("web"), world.vm("web").pid);
    let mib = || -> u64 {
        let line = "echo $(($(stat -f -c '%b * %S' /) >> 20))";
        world.guest("web", line).trim().parse().expect("a number")
    };
    for (moment, wanted) in [
        ("after growth is intended", 400),
        ("before growth is struck", 600),
    ] {
        world.banger(["daemon", "stop"]).ok();
        let size = format!("{wanted}M");
        let grow = ["vm", "set", "web", "--disk-size", &size];
        let grown = world.call(grow).env("BANGER_TEST_END", moment).run();
        if grown.succeeded() {
            return no_door(&format!("end at {moment:?}"));
        }
        world.expect_tidy(SOON);
        let vm = world.vm("web");
        assert_eq!((vm.state, vm.pid), (VmState::Running, pid), "{moment}");
        world.banger(grow).ok();
        assert!(
            (wanted - 100..wanted).contains(&mib()),
            "{moment}: {}",
            mib()
        );
    }
    assert_eq!(world.boot_id("web"), boot);
}

/// What is going on when a daemon is killed.
const LOAD: &str = "
    banger vm create --name made --no-start &
    banger run --rm -- true &
    banger vm create --name started &
    banger vm stop started; banger vm delete made; banger rm --force started;
    banger vm list; wait";

/// `BANGER_E2E_KILLS` says how often; a few times are enough for every day.
#[test]
fn a_daemon_may_be_killed_at_any_instant() {
    let kills = env::var("BANGER_E2E_KILLS").map_or(3, |kills| {
        kills
            .parse()
            .expect("BANGER_E2E_KILLS is a number of kills")
    });
    let world = World::new();
    let kept = Kept::start(&world);
    let mut written = 0;
    for kill in 1..=kills {
        let daemon = world.daemon().pid;
        let load = world.shell(LOAD).spawn();
        let instant = Duration::from_millis(any_below(3_000));
        // This is the instant itself; nothing is waited for.
        thread::sleep(instant);
        world.shell(&format!("kill -KILL {daemon}")).run().ok();
        wait_for_end(daemon, SOON);
        // What was cut off has failed, and what came later has found the next daemon.
        let _ = load.finish();
        world.expect_tidy(SOON);
        let now = kept.runs_on();
        assert!(now > written, "the guest writes on");
        written = now;
        world
            .shell("banger vm list --quiet | grep -v kept | xargs -r banger rm --force")
            .run()
            .ok();
        world.expect_tidy(SOON);
        eprintln!("kill {kill} of {kills}, after {instant:?}: {written} numbers written");
    }
}

fn any_below(most: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::from(now.map_or(0, |now| now.subsec_nanos()) / 1_000) % most
}
