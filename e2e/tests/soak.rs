//! Boots that never hang, one after the other. Long, so only on request:
//! `BANGER_E2E_SOAK=100 cargo nextest run --profile e2e -E 'binary(soak)'`; with
//! `BANGER_TEST_GENERIC_KERNEL=DIR` of the kernel in DIR.
#![forbid(unsafe_code)]

use std::{env, time::Duration};

use banger_api::snapshot::Forked;
use e2e::{KernelUnderTest, World};

/// Forks of one call.
const FORKS: u32 = 10;

#[test]
fn a_thousand_forks_and_deletes_leave_the_state_as_it_was() {
    let Ok(wanted) = env::var("BANGER_E2E_SOAK") else {
        eprintln!("SKIPPED: set BANGER_E2E_SOAK to the number of forks");
        return;
    };
    let wanted: u32 = wanted
        .parse()
        .expect("BANGER_E2E_SOAK is a number of forks");
    let world = World::new();
    world.start("web");
    // What is made once is there before.
    fork_and_delete(&world, 1);
    let before = everything(&world);
    let memory = resident(&world);
    let mut made = 0;
    while made < wanted {
        let count = FORKS.min(wanted - made);
        fork_and_delete(&world, count);
        made += count;
        eprintln!(
            "{made} of {wanted} forks, the daemon has {} KiB",
            resident(&world)
        );
    }
    assert_eq!(everything(&world), before);
    assert_eq!(world.machines().len(), 1);
    assert_eq!(world.guest("web", "echo well"), "well");
    let grown = resident(&world).saturating_sub(memory);
    assert!(grown < 16 << 10, "the daemon has {grown} KiB more");
}

fn fork_and_delete(world: &World, count: u32) {
    let forked: Forked = world
        .banger(["vm", "fork", "web", "-n", &count.to_string(), "--json"])
        .ok()
        .json();
    let names = forked.vms.iter().map(|vm| vm.name.as_str());
    let delete: Vec<_> = ["rm", "--force"].into_iter().chain(names).collect();
    world.call_with(&delete).run().ok();
}

/// All that is in the state, but for what the store and the log have of it.
fn everything(world: &World) -> String {
    let line = "cd state && find . ! -name 'state.db*' ! -name 'bangerd.log*' | sort; \
                cd ../run && find . | sort; banger host journal --json | grep -c '\"act\"'";
    let line = format!("cd {} && {line}", world.home().display());
    world.shell(&line).run().ok().text()
}

fn resident(world: &World) -> u64 {
    let status = format!("/proc/{}/status", world.daemon().pid);
    let status = std::fs::read_to_string(status).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    number.expect("the kernel tells a process's memory")
}

#[test]
fn no_boot_hangs() {
    let Ok(wanted) = env::var("BANGER_E2E_SOAK") else {
        eprintln!("SKIPPED: set BANGER_E2E_SOAK to the number of boots");
        return;
    };
    let boots: u32 = wanted
        .parse()
        .expect("BANGER_E2E_SOAK is a number of boots");
    let world = World::with_kernel_under_test();
    let kernel = KernelUnderTest::of_this_run().name();
    let mut took: Vec<Duration> = Vec::new();
    for boot in 1..=boots {
        let ran = world.banger(["run", "--rm", "--kernel", kernel, "--", "true"]);
        ran.ok().stdout("");
        took.push(ran.took());
        eprintln!("boot {boot} of {boots}: {:.2?}", ran.took());
    }
    took.sort();
    let (Some(fastest), Some(slowest)) = (took.first(), took.last()) else {
        return;
    };
    eprintln!(
        "{boots} boots of {kernel}: {fastest:.2?} to {slowest:.2?}, median {:.2?}",
        took[took.len() / 2]
    );
}
