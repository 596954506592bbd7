//! Boots that never hang, one after the other. Long, so only on request:
//! `BANGER_E2E_SOAK=100 cargo nextest run --profile e2e -E 'binary(soak)'`; with
//! `BANGER_TEST_GENERIC_KERNEL=DIR` of the kernel in DIR.
#![forbid(unsafe_code)]

use std::{env, time::Duration};

use e2e::{KernelUnderTest, World};

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
