//! Measures banger beside QEMU started by hand, and its sizes beside its goals.
//! Owns the order of the measurements; asserts nothing: a figure is for people to judge.
//!
//! Both sides of a comparison alternate, as shared cores change their speed while one looks away.

mod argv;
mod boots;
mod channel;
mod daemon;
mod error;
mod execs;
mod figures;
mod firecracker;
mod fork;
mod home;
mod image;
mod pools;
mod qemu;
mod sizes;
mod stats;
mod timeline;
mod vmm;

use std::path::Path;

pub use daemon::daemon;
pub use error::BenchError;
pub use figures::Report;
pub use fork::{UnderFirecracker, fork};
pub use image::{ImagePlan, run as run_image};
pub use timeline::boot;
pub use vmm::vmm;

use boots::{Boots, Pair};
use figures::{Figure, Unit};
use home::Home;
use stats::{median, ratio};

/// What to measure, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Pairs of boots, banger's and by hand.
    pub pairs: usize,
    /// Repetitions of everything short.
    pub rounds: usize,
    /// VMs that `vm list` is measured with.
    pub vms: usize,
    /// Whether the default image is measured, too; making it takes a minute.
    pub debian: bool,
}

/// Measures everything. `say` is told what is being done.
pub fn run(programs: &Path, plan: Plan, say: &mut dyn FnMut(&str)) -> Result<Report, BenchError> {
    let home = Home::make(programs, say)?;
    let boots = Boots::prepare(&home, say)?;
    let mut report = Report::default();
    let pairs = boot_pairs(&boots, plan.pairs, say)?;
    report.add(boot_figures(&pairs));
    if plan.debian {
        report.add(vec![debian(&home, plan.pairs, say)?]);
    }
    say("exec");
    report.add(execs::measure(&home, &boots, plan.rounds)?);
    say("sizes");
    report.add(sizes::measure(&home)?);
    say("create and list");
    report.add(sizes::many_vms(&home, plan.rounds, plan.vms)?);
    report.pairs = pairs;
    Ok(report)
}

fn boot_pairs(
    boots: &Boots<'_>,
    count: usize,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Pair>, BenchError> {
    let mut pairs = Vec::with_capacity(count);
    for number in 1..=count {
        let pair = boots.pair()?;
        say(&format!(
            "pair {number} of {count}: banger {:.3} s, by hand {:.3} s, ratio {:.3}",
            pair.banger,
            pair.by_hand,
            pair.ratio()
        ));
        pairs.push(pair);
    }
    Ok(pairs)
}

fn boot_figures(pairs: &[Pair]) -> Vec<Figure> {
    let banger = median(pairs.iter().map(|pair| pair.banger));
    let by_hand = median(pairs.iter().map(|pair| pair.by_hand));
    let ratios = median(pairs.iter().map(Pair::ratio));
    vec![
        Figure::new("run --rm -- true, start to exit", Unit::Seconds, banger)
            .beside("bare QEMU", by_hand)
            .goal(1.10 * by_hand),
        Figure::new("the same, median ratio of the pairs", Unit::Times, ratios).goal(1.10),
        Figure::new(
            "the same, ratio of the medians",
            Unit::Times,
            ratio(banger, by_hand),
        )
        .goal(1.10),
        Figure::new("bare QEMU to the agent's answer", Unit::Seconds, by_hand).goal(2.5),
    ]
}

fn debian(home: &Home, rounds: usize, say: &mut dyn FnMut(&str)) -> Result<Figure, BenchError> {
    say("the default image, which may have to be made");
    home.banger(&["image", "pull", home::DEBIAN])?;
    let run = [
        "run",
        "--rm",
        "--image",
        home::DEBIAN,
        "--",
        "sh",
        "-c",
        "true",
    ];
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        took.push(home.time(&run)?);
    }
    let name = "run --rm -- true of Debian with systemd";
    Ok(Figure::new(name, Unit::Seconds, median(took)).goal(4.5))
}
