//! Measures Firecracker under banger beside Firecracker started by hand: the time to a guest's
//! first instructions, the VMM's own memory, and what many starts and kills leave behind.
//! `cargo xtask bench vmm` runs it. Owns the order of the measurement; judges nothing.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "printing is its output")]

mod census;
#[path = "../../src/firecracker/contract/guest.rs"]
#[allow(dead_code, reason = "the stories need more guests than the bench")]
mod guest;
mod sides;

use std::{error::Error, path::PathBuf};

use banger_core::spec::Network;
use census::Census;
use sides::{Bench, Confined};

type Failure = Box<dyn Error>;

/// How many starts and kills there are at least, those that are timed included.
const STARTS: usize = 200;

/// The ways to a guest that are timed beside the one by hand.
const WAYS: [(&str, Confined, Network); 4] = [
    ("best confinement", Confined::Best, Network::None),
    ("the same, with a network", Confined::Best, Network::User),
    ("namespaces", Confined::Namespaces, Network::None),
    (
        "the same, with a network",
        Confined::Namespaces,
        Network::User,
    ),
];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().ok_or("usage: bench_vmm FIRECRACKER [PAIRS]")?);
    let pairs: usize = args.next().map_or(Ok(40), |text| text.parse())?;
    let bench = Bench::new(program)?;
    // The first starts read the programs from the disk, and open what the runtime keeps.
    for (_, confined, network) in WAYS {
        bench.banger(confined, network).await?;
    }
    bench.by_hand()?;
    let before = Census::take(bench.directory());
    let timed = times(&bench, pairs).await?;
    print(&timed);
    for number in pairs * WAYS.len()..STARTS {
        let (_, confined, network) = WAYS[number % WAYS.len()];
        bench.banger(confined, network).await?;
    }
    let after = Census::take(bench.directory());
    let starts = STARTS.max(pairs * WAYS.len());
    println!("left behind by {starts} starts and kills (goal: nothing):");
    for (name, before, after) in before.beside(&after) {
        println!("  {name:<24} {before} before, {after} after");
    }
    Ok(())
}

/// Milliseconds and MiB, one for each round.
#[derive(Default)]
struct Timed {
    by_hand: Vec<f64>,
    ways: [Vec<f64>; WAYS.len()],
    overhead: Vec<f64>,
}

/// All sides alternate, as shared cores change their speed.
async fn times(bench: &Bench, rounds: usize) -> Result<Timed, Failure> {
    let mut timed = Timed::default();
    for _ in 0..rounds {
        timed.by_hand.push(bench.by_hand()?);
        for ((_, confined, network), took) in WAYS.into_iter().zip(&mut timed.ways) {
            let start = bench.banger(confined, network).await?;
            took.push(start.milliseconds);
            timed.overhead.push(start.overhead);
        }
    }
    Ok(timed)
}

fn print(timed: &Timed) {
    println!(
        "start to the guest's first instructions, of {} each (ms):",
        timed.by_hand.len()
    );
    println!(
        "  {:<28} {:>8} {:>8} {:>8}   above by hand: least, median (goal: at most +20)",
        "", "least", "quarter", "median"
    );
    row("by hand, the same machine", &timed.by_hand, None);
    let by_hand = [0, 2].map(|part| quantile(&timed.by_hand, part));
    for ((name, ..), took) in WAYS.iter().zip(&timed.ways) {
        row(name, took, Some(by_hand));
    }
    let overhead = quantile(&timed.overhead, 2);
    println!("memory of the VMM beside its guest's: {overhead:.1} MiB (goal: at most 5 MiB)");
}

/// On a host that does much else the least are what the way itself takes.
fn row(name: &str, took: &[f64], by_hand: Option<[f64; 2]>) {
    let [least, quarter, median] = [0, 1, 2].map(|part| quantile(took, part));
    let difference = by_hand.map_or_else(String::new, |[its_least, its_median]| {
        format!("{:+.1}, {:+.1}", least - its_least, median - its_median)
    });
    println!("  {name:<28} {least:>8.1} {quarter:>8.1} {median:>8.1}   {difference}");
}

/// The value below which `part` quarters of the others are.
fn quantile(values: &[f64], part: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len() * part / 4)
        .copied()
        .unwrap_or(f64::NAN)
}
