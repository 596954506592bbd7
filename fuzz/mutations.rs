//! Inputs for fuzz targets without a fuzzer: their seeds, and mutations of these, a short and fixed run for
//! any compiler. `BANGER_FUZZ_SECONDS=N` mutates each target at random for so long instead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const RUNS: u32 = 150;

/// One change to an input.
#[derive(Debug, Clone)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || any::<prop::sample::Index>();
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, 1 << bit)),
        1 => at().prop_map(Mutation::Cut),
        1 => (at(), 1..600_usize).prop_map(|(at, len)| Mutation::Remove(at, len)),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (at(), 1..1024_usize).prop_map(|(at, len)| Mutation::Repeat(at, len)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        bytes.push(0);
    }
    let len = bytes.len();
    let range = |at: &prop::sample::Index, count: usize| {
        let start = at.index(len);
        start..(start + count).min(len)
    };
    match mutation {
        Mutation::Set(at, byte) => bytes[at.index(len)] = *byte,
        Mutation::Flip(at, mask) => bytes[at.index(len)] ^= mask,
        Mutation::Cut(at) => bytes.truncate(at.index(len)),
        Mutation::Remove(at, count) => drop(bytes.drain(range(at, *count))),
        Mutation::Insert(at, new) => {
            let at = at.index(len);
            bytes.splice(at..at, new.iter().copied());
        }
        Mutation::Repeat(at, count) => {
            let piece = bytes[range(at, *count)].to_vec();
            let at = at.index(len);
            bytes.splice(at..at, piece);
        }
    }
}

/// A header whose sum is wrong goes no further, so the sums of what look like headers are made
/// right again half of the time.
fn mend(bytes: &mut [u8]) {
    for block in bytes.as_chunks_mut::<512>().0 {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("seeds")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("readable"))
        .collect()
}

/// The target holds on every seed and on mutations of them.
pub(crate) fn check(name: &str, target: fn(&[u8])) {
    let seeds = seeds(name);
    assert!(!seeds.is_empty());
    for seed in &seeds {
        target(seed);
    }
    let input = (
        prop::sample::select(seeds),
        prop::collection::vec(mutation(), 1..6),
        any::<bool>(),
    );
    match seconds() {
        None => {
            let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            mutate_all(
                name,
                target,
                &input,
                TestRunner::new_with_rng(config(), rng),
            );
        }
        Some(time) => {
            let (begin, mut rounds) = (Instant::now(), 0);
            while begin.elapsed() < time {
                mutate_all(name, target, &input, TestRunner::new(config()));
                rounds += 1;
            }
            eprintln!("{name}: {} inputs", rounds * RUNS);
        }
    }
}

fn seconds() -> Option<Duration> {
    let text = std::env::var("BANGER_FUZZ_SECONDS").ok()?;
    let seconds = text.parse().expect("BANGER_FUZZ_SECONDS is a number");
    Some(Duration::from_secs(seconds))
}

fn config() -> Config {
    Config {
        cases: RUNS,
        failure_persistence: None,
        ..Config::default()
    }
}

fn mutate_all(
    name: &str,
    target: fn(&[u8]),
    input: &impl Strategy<Value = (Vec<u8>, Vec<Mutation>, bool)>,
    mut runner: TestRunner,
) {
    let result = runner.run(input, |(mut bytes, mutations, mended)| {
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        if mended {
            mend(&mut bytes);
        }
        catch_unwind(AssertUnwindSafe(|| target(&bytes)))
            .map_err(|_| TestCaseError::fail(format!("{} bytes", bytes.len())))
    });
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
}
