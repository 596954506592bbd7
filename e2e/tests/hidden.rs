//! The machine that boots behind everybody's back, to be saved: seen by who asks, modest, gone when
//! nobody wants it, and gone with whatever its daemon dies at.
#![forbid(unsafe_code)]

use std::{fs, path::Path, time::Duration};

use banger_api::daemon::HiddenVm;
use e2e::{World, eventually};

const SOON: Duration = Duration::from_secs(60);

fn world() -> World {
    let world = World::new();
    world.banger(["config", "set", "fast_start", "true"]).ok();
    world
}

/// Runs a machine that is the first of its kind, and waits for the one that boots to be saved.
fn run(world: &World) -> HiddenVm {
    world.banger(["run", "--rm", "--", "true"]).ok();
    eventually("another boots to be saved", SOON, || {
        world.daemon().hidden_vms.into_iter().next()
    })
}

/// That nothing of a machine is left, nor of what was saved of it.
fn is_gone(world: &World) {
    eventually("it is gone", SOON, || {
        let is_left = world.files_below("vms") > 0 || !world.machines().is_empty();
        (!is_left).then_some(())
    });
    assert!(world.daemon().hidden_vms.is_empty());
    world.expect_tidy(SOON);
}

/// Whether a snapshot is being written.
fn is_being_saved(snapshots: &Path) -> bool {
    let entries = fs::read_dir(snapshots).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().ends_with(".partial"))
}

/// How modest a process is (proc(5), the 19th field).
fn niceness(process: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let after_name = stat.rsplit(')').next().expect("a name ends");
    let field = after_name.split_whitespace().nth(16);
    let number = field.and_then(|field| field.parse().ok());
    number.expect("the kernel tells it")
}

#[test]
fn what_boots_unasked_is_seen_yields_and_goes_when_nobody_wants_it() {
    let world = world();
    let hidden = run(&world);
    assert!(hidden.name.starts_with("boot-"), "{hidden:?}");
    assert_eq!(hidden.purpose, "boots to be saved");
    let status = world.banger(["daemon", "status"]).ok().text();
    assert!(status.contains("boots to be saved (1)"), "{status}");
    let table = world.banger(["df"]).ok().text();
    assert!(table.contains("boots to be saved"), "{table}");
    assert!(world.vms().is_empty() && world.daemon().running_vms == 0);
    let vmm = eventually("its VMM runs", SOON, || world.machines().first().copied());
    assert_eq!(niceness(vmm), (niceness(world.daemon().pid) + 10).min(19));
    let off = world.banger(["config", "set", "fast_start", "false"]);
    assert!(!off.ok().to_string().contains("restart"), "{off}");
    is_gone(&world);
    assert_eq!(world.files_below("snapshots"), 0);
    world.banger(["run", "--rm", "--", "true"]).ok();
    assert!(world.daemon().hidden_vms.is_empty());
}

#[test]
fn a_daemon_that_is_killed_while_it_saves_a_boot_leaves_nothing_of_it() {
    let world = world();
    let snapshots = world.state("snapshots");
    let booting = || !world.machines().is_empty();
    let saving = || is_being_saved(&snapshots);
    let moments: [(&str, &dyn Fn() -> bool); 2] = [("boots", &booting), ("is saved", &saving)];
    for (moment, has_come) in moments {
        run(&world);
        let daemon = world.daemon().pid;
        eventually(moment, SOON, || has_come().then_some(()));
        world.shell(&format!("kill -KILL {daemon}")).run().ok();
        assert!(world.vms().is_empty(), "it is nobody's");
        is_gone(&world);
        assert!(!is_being_saved(&snapshots), "killed while it {moment}");
    }
    // What the last one had written down before it was killed is whole, or not there.
    let files = world.files_below("snapshots");
    assert!(files == 0 || files == 4, "{files}");
    world.banger(["run", "--rm", "--", "true"]).ok();
}
