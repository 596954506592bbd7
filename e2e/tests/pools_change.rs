//! Pools that change while they serve: their size, their takers, the store that they are written in.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fs, thread, time::Duration};

use banger_api::{pool::Pool, vm::VmState};
use e2e::{Running, World, eventually};

/// Two stories at a time share two cores.
const FILLING: Duration = Duration::from_secs(90);

fn pool(world: &World) -> Pool {
    world.banger(["pool", "show", "web", "--json"]).ok().json()
}

/// Waits until the pool has all its machines.
fn full(world: &World) -> BTreeSet<String> {
    let full = eventually("the pool is full", FILLING, || {
        let pool = pool(world);
        (pool.ready == pool.size).then_some(pool)
    });
    let machines = full.machines.into_iter();
    machines.map(|machine| machine.name).collect()
}

fn set(world: &World, size: &str) -> Pool {
    let set = ["pool", "set", "web", "--size", size, "--json"];
    world.banger(set).ok().json()
}

fn is_empty(world: &World) {
    eventually("nothing runs", FILLING, || {
        let left = world.files_below("vms") + world.files_below("snapshots");
        (world.machines().is_empty() && left == 0).then_some(())
    });
    assert!(world.vms().is_empty());
    world.expect_tidy(FILLING);
}

#[test]
fn a_pool_changes_its_size_and_outlives_a_lost_store() {
    let world = World::new();
    let create = ["pool", "create", "web", "--wait", "--detach"];
    let number = world.banger(create).ok().text();
    world.banger(["operations", "wait", &number]).ok();
    let first = full(&world);
    assert_eq!(first.len(), 1);
    set(&world, "3");
    assert!(full(&world).is_superset(&first));
    let status = world.banger(["daemon", "status"]).ok().text();
    assert!(status.contains("waits in pool web (3)"), "{status}");
    let now = set(&world, "2");
    assert_eq!((now.size, now.ready, now.machines.len()), (2, 2, 2));
    assert_eq!(world.machines().len(), 2, "it is gone already");
    let waiting = full(&world);

    world.banger(["daemon", "stop"]).ok();
    for part in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(world.state(part));
    }
    assert_eq!(full(&world), waiting, "they are had again");
    let run = [
        "run", "--rm", "--pool", "web", "--name", "a", "--", "hostname",
    ];
    let told = world.call_with(&run).run();
    told.ok().stdout("a\n");
    assert!(!told.to_string().contains("starting another"), "{told}");

    assert!(set(&world, "0").machines.is_empty());
    assert!(world.machines().is_empty(), "it rests");
    let told = world.call_with(&run).run();
    told.ok().stderr_has(["no machine of pool web is ready"]);
    world
        .banger(["pool", "set", "web", "--size", "101"])
        .code(2);
    world
        .banger(["pool", "set", "nowhere", "--size", "1"])
        .code(1)
        .stderr_has(["nowhere", "pool list"]);
    world.banger(["pool", "delete", "web"]).ok();
    is_empty(&world);
    world.banger(["recover"]).ok().stdout("");
}

#[test]
fn many_takers_each_have_a_machine_and_those_that_go_away_leave_none() {
    let world = World::new();
    world.banger(["config", "set", "fast_start", "true"]).ok();
    let create = ["pool", "create", "web", "--size", "3", "--wait"];
    world.banger(create).ok();
    let take = |name: &str, command: &[&str]| -> Running {
        let run = ["run", "--rm", "--pool", "web", "--name", name, "--"];
        world.call_with(&[&run[..], command].concat()).spawn()
    };
    let names: Vec<_> = (0..20).map(|number| format!("vm-{number}")).collect();
    let takers: Vec<_> = names.iter().map(|name| take(name, &["hostname"])).collect();
    let mut started = 0;
    for (name, taker) in names.iter().zip(takers) {
        let told = taker.finish();
        told.ok().stdout(format!("{name}\n"));
        started += usize::from(told.to_string().contains("starting another"));
    }
    assert!((1..=17).contains(&started), "{started} found none ready");
    full(&world);
    assert!(world.vms().is_empty() && world.machines().len() == 3);

    // Interrupted in the middle of it.
    let instants = [0, 30, 60, 120, 250];
    let leaving = instants.map(|instant| {
        let taker = take(&format!("gone-{instant}"), &["sleep", "600"]);
        // This is the instant itself; nothing is waited for.
        thread::sleep(Duration::from_millis(instant));
        taker.interrupt();
        taker
    });
    for taker in leaving {
        assert!(!taker.finish().succeeded());
    }
    full(&world);
    eventually("what was taken is gone", FILLING, || {
        (world.vms().is_empty() && world.machines().len() == 3).then_some(())
    });

    // The pool goes while it is taken from; who comes too late has a machine all the same.
    let takers: Vec<_> = (0..5)
        .map(|n| take(&format!("late-{n}"), &["true"]))
        .collect();
    world.banger(["pool", "delete", "web"]).ok();
    for taker in takers {
        let told = taker.finish();
        let came_after = told.to_string().contains("pool list");
        assert!(told.succeeded() || came_after, "{told}");
    }
    world.banger(["config", "set", "fast_start", "false"]).ok();
    is_empty(&world);
}

#[test]
fn a_daemon_that_is_killed_while_it_fills_a_pool_leaves_no_half_machine() {
    let world = World::new();
    world.banger(["pool", "create", "web"]).ok();
    // The boot that is to be saved for it, then its machine.
    for is_there in ["boot-", "pool-"] {
        // The next daemon begins with this.
        assert!(world.vms().is_empty(), "they are nobody's");
        eventually(is_there, FILLING, || {
            let mut hidden = world.daemon().hidden_vms.into_iter();
            hidden.find(|vm| vm.name.starts_with(is_there))
        });
        let daemon = world.daemon().pid;
        world.shell(&format!("kill -KILL {daemon}")).run().ok();
    }
    full(&world);
    assert_eq!(world.machines().len(), 1);
    let pool = pool(&world);
    assert_eq!(pool.machines[0].state, VmState::Paused);
    world.banger(["pool", "delete", "web"]).ok();
    is_empty(&world);
}
