//! A story about a clock that jumps back under a daemon: what was to end ends in its time.
#![forbid(unsafe_code)]

use std::{
    fs,
    time::{Duration, SystemTime},
};

use e2e::{World, no_door, wait_for_end};

const DAY: Duration = Duration::from_secs(24 * 3600);
const SOON: Duration = Duration::from_secs(20);

/// A daemon's clock that is wrong by what is written into a file.
struct Clock<'a> {
    world: &'a World,
    file: std::path::PathBuf,
}

impl<'a> Clock<'a> {
    /// Nothing where the daemon believes its host, as released ones do.
    fn of(world: &'a World) -> Option<Self> {
        let file = world.home().join("clock");
        let clock = Self { world, file };
        clock.jump_back(2 * DAY);
        clock.start_daemon();
        let create = ["vm", "create", "--no-start", "--name", "probe"];
        world.banger(create).ok();
        let made = humantime::parse_rfc3339(&world.vm("probe").created_at);
        let made = made.expect("a time is a time");
        world.banger(["rm", "probe"]).ok();
        clock.jump_back(Duration::ZERO);
        let age = SystemTime::now().duration_since(made).unwrap_or_default();
        (age > DAY).then_some(clock)
    }

    /// From the true time.
    fn jump_back(&self, by: Duration) {
        let new = self.file.with_extension("new");
        let written = fs::write(&new, format!("-{}", by.as_secs()))
            .and_then(|()| fs::rename(&new, &self.file));
        written.expect("the home is writable");
    }

    fn start_daemon(&self) {
        let start = self.world.call(["daemon", "start"]);
        start.env("BANGER_TEST_CLOCK", &self.file).run().ok();
    }
}

#[test]
fn what_is_to_end_ends_in_its_time_when_the_clock_jumps_back() {
    let world = World::new();
    let Some(clock) = Clock::of(&world) else {
        return no_door("believe a wrong clock");
    };
    let create = |args: &[&str]| {
        let args = [&["vm", "create", "--name"], args].concat();
        world.call_with(&args).run().ok();
    };
    create(&["idle", "--idle-stop", "3s"]);
    create(&["short", "--no-start", "--ttl", "8s"]);
    create(&["late", "--no-start", "--ttl", "15s"]);
    let last: u64 = {
        let told = world.banger(["events", "--json"]).ok().text();
        let last = told.lines().last().expect("something happened");
        let event: serde_json::Value = serde_json::from_str(last).expect("a line of JSON");
        event["seq"].as_u64().expect("a number")
    };
    clock.jump_back(DAY);
    // Under the daemon that was there.
    world.banger(["vm", "wait", "--timeout", "60", "idle"]).ok();
    let wait = ["vm", "wait", "--for", "deleted", "--timeout", "60"];
    world
        .call_with(&[&wait[..], &["short"]].concat())
        .run()
        .ok();
    // And under the next one, which knows the wrong clock only.
    let daemon = world.daemon().pid;
    world.shell(&format!("kill -KILL {daemon}")).run().ok();
    wait_for_end(daemon, SOON);
    clock.start_daemon();
    world.call_with(&[&wait[..], &["late"]].concat()).run().ok();
    let since = last.to_string();
    let told = world.banger(["events", "--since", &since]).ok().text();
    for event in [
        "idle stopped",
        "short deleted",
        "bangerd started",
        "late deleted",
    ] {
        assert!(told.contains(event), "{event}: {told}");
    }
}
