//! Machines that are ready before anybody asks: taken at once, each as itself, replaced, and gone with
//! their pool whoever is killed.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, thread, time::Duration};

use banger_api::{event::Event, pool::Pool, vm::VmState};
use e2e::{World, eventually, firecracker_world};

/// Two stories at a time share two cores.
const FILLING: Duration = Duration::from_secs(90);

fn pool(world: &World, name: &str) -> Pool {
    world.banger(["pool", "show", name, "--json"]).ok().json()
}

/// Waits until a pool has all its machines.
fn full(world: &World, name: &str) -> Pool {
    eventually("the pool is full", FILLING, || {
        let pool = pool(world, name);
        (pool.ready == pool.size).then_some(pool)
    })
}

fn names(pool: &Pool) -> BTreeSet<String> {
    let machines = pool.machines.iter();
    machines.map(|machine| machine.name.clone()).collect()
}

fn create(world: &World, name: &str, size: &str) -> Pool {
    let made = world.banger(["pool", "create", name, "--size", size, "--wait", "--json"]);
    made.ok().json()
}

/// Asserts that nothing of machines is left.
fn is_empty(world: &World) {
    assert!(world.machines().is_empty() && world.vms().is_empty());
    for place in ["vms", "snapshots"] {
        assert_eq!(world.files_below(place), 0, "{place}");
    }
}

#[test]
fn a_machine_that_is_ready_is_taken_and_another_takes_its_place() {
    let world = World::new();
    let made = create(&world, "web", "2");
    assert_eq!((made.ready, made.machines.len()), (2, 2));
    assert!(made.machines.iter().all(|one| one.state == VmState::Paused));
    assert!(world.vms().is_empty(), "they are nobody's yet");
    assert_eq!(world.machines().len(), 2);
    let table = world.banger(["df"]).ok().text();
    assert!(table.contains("waits in pool web"), "{table}");
    let doctor = world.banger(["doctor"]).text();
    assert!(doctor.contains("web: 2 of 2 ready"), "{doctor}");

    // Each is itself, with the present time, and none of it is another's.
    let who = "hostname; cat /etc/machine-id 2>/dev/null; head -c 16 /dev/urandom | sha256sum";
    let mut told = BTreeSet::new();
    for name in ["a", "b"] {
        let run = [
            "run", "--rm", "--pool", "web", "--name", name, "--label", "of=pool", "--",
        ];
        let line = [&run[..], &["sh", "-c", who]].concat();
        let text = world.call_with(&line).run().ok().text();
        assert!(text.starts_with(&format!("{name}\n")), "{text}");
        told.insert(text);
    }
    assert_eq!(told.len(), 2);
    let now = full(&world, "web");
    assert!(names(&now).is_disjoint(&names(&made)), "they are replaced");

    // What is taken is as any VM: labels, a restart, a disk of its own.
    let detached = [
        "run", "-d", "--pool", "web", "--name", "kept", "--label", "of=pool",
    ];
    world.call_with(&detached).run().ok().stdout("kept\n");
    let vm = world.vm("kept");
    assert_eq!(vm.labels.get("of").map(String::as_str), Some("pool"));
    let clock = "date +%s";
    let here: u64 = world
        .shell(clock)
        .run()
        .ok()
        .text()
        .trim()
        .parse()
        .expect("a number");
    let there: u64 = world.guest("kept", clock).trim().parse().expect("a number");
    assert!(there.abs_diff(here) <= 2, "{there} {here}");
    let _ = world.guest("kept", "echo mine >/file && sync");
    world.banger(["vm", "restart", "kept"]).ok();
    assert_eq!(world.guest("kept", "cat /file; hostname"), "mine\nkept");
    let events = world.banger(["events", "--json"]).ok().text();
    let events: Vec<Event> = events
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect();
    let taken = events
        .iter()
        .find(|event| event.what == "taken" && event.name == "kept");
    let detail = taken.and_then(|event| event.detail.as_deref());
    assert_eq!(detail, Some("from pool web"));
    full(&world, "web");

    world.banger(["pool", "delete", "web"]).ok().stdout("web\n");
    assert_eq!(world.machines().len(), 1, "what was taken stays");
    world
        .banger(["pool", "delete", "web"])
        .code(1)
        .stderr_has(["web", "pool list"]);
    world.banger(["rm", "-f", "kept"]).ok();
    is_empty(&world);
}

#[test]
fn a_pool_that_is_empty_starts_a_machine_and_says_so() {
    let world = World::new();
    create(&world, "web", "1");
    // There is one, and each of these wants it.
    let wanted: Vec<_> = (0..4)
        .map(|_| {
            world
                .call(["run", "--rm", "--pool", "web", "--", "true"])
                .spawn()
        })
        .collect();
    let told = wanted.into_iter().map(|run| {
        let outcome = run.finish();
        outcome.ok();
        outcome.to_string()
    });
    let told: Vec<_> = told.collect();
    let empty = |text: &&String| text.contains("no machine of pool web is ready");
    assert!(told.iter().any(|text| empty(&text)), "{told:?}");
    world
        .banger([
            "run", "--rm", "--pool", "web", "--memory", "1G", "--", "true",
        ])
        .code(2);
    world
        .banger(["run", "--rm", "--pool", "nowhere", "--", "true"])
        .code(125)
        .stderr_has(["nowhere", "pool list"]);
    world
        .banger(["pool", "create", "web"])
        .code(1)
        .stderr_has(["exists already", "pool delete web"]);
    world.banger(["pool", "delete", "web"]).ok();
    is_empty(&world);
}

#[test]
fn a_pool_outlives_daemons_and_their_deaths() {
    let world = World::new();
    let made = create(&world, "web", "2");
    world.banger(["daemon", "stop"]).ok();
    assert_eq!(world.machines().len(), 2, "they go on");
    assert_eq!(
        names(&full(&world, "web")),
        names(&made),
        "they are adopted"
    );

    // A machine that dies while no daemon watches is replaced.
    let gone = world.machines()[0];
    let daemon = world.daemon().pid;
    world
        .shell(&format!("kill -KILL {daemon} {gone}"))
        .run()
        .ok();
    let now = full(&world, "web");
    assert_eq!(names(&now).intersection(&names(&made)).count(), 1);

    // Killed while one is taken, or made in its place: nothing is left over, nothing is lost.
    for instant in [0, 20, 60, 150, 400, 900] {
        full(&world, "web");
        let daemon = world.daemon().pid;
        let taking = world
            .call(["run", "-d", "--pool", "web", "--name", "taken"])
            .spawn();
        // This is the instant itself; nothing is waited for.
        thread::sleep(Duration::from_millis(instant));
        world.shell(&format!("kill -KILL {daemon}")).run().ok();
        let answer = taking.finish();
        full(&world, "web");
        let vms = world.vms();
        if answer.succeeded() {
            assert_eq!(vms.len(), 1, "after {instant} ms it was told of");
        }
        for vm in vms {
            assert_eq!((vm.name.as_str(), vm.state), ("taken", VmState::Running));
            assert_eq!(world.guest("taken", "hostname"), "taken");
            world.banger(["rm", "-f", "taken"]).ok();
        }
        let ours = world.files_below("vms");
        assert!(ours > 0);
        eventually("only the pool's machines run", FILLING, || {
            (world.machines().len() == 2).then_some(())
        });
    }
    world.banger(["pool", "delete", "web"]).ok();
    is_empty(&world);
}

#[test]
fn an_image_that_is_replaced_replaces_the_machines() {
    let world = World::new();
    let made = create(&world, "web", "1");
    world.banger(["image", "delete", "busybox"]).ok();
    assert!(pool(&world, "web").machines.is_empty());
    assert!(world.machines().is_empty());
    world
        .call(["image", "import", "busybox", "tar:-"])
        .stdin(e2e::busybox_tar())
        .run()
        .ok();
    assert!(names(&full(&world, "web")).is_disjoint(&names(&made)));
    let run = [
        "run", "--rm", "--pool", "web", "--name", "new", "--", "hostname",
    ];
    world.call_with(&run).run().ok().stdout("new\n");
    world.banger(["pool", "delete", "web"]).ok();
    is_empty(&world);
}

#[test]
fn a_pool_under_firecracker_has_machines_that_have_booted() {
    let Some(world) = firecracker_world() else {
        return;
    };
    let made = create(&world, "fire", "1");
    assert_eq!(made.machines[0].state, VmState::Paused);
    let line = "hostname; date +%s";
    let run = ["run", "--rm", "--pool", "fire", "--name", "taken", "--"];
    let text = world.call_with(&[&run[..], &["sh", "-c", line]].concat());
    let text = text.run().ok().text();
    let (name, time) = text.split_once('\n').expect("two lines");
    let here = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("it is past 1970");
    let there: u64 = time.trim().parse().expect("a number");
    assert_eq!(name, "taken");
    assert!(there.abs_diff(here.as_secs()) <= 5, "{there} {here:?}");
    world.banger(["pool", "delete", "fire"]).ok();
    is_empty(&world);
}
