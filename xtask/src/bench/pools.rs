//! What taking a machine costs that waits in a pool.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    BenchError,
    figures::{Figure, Unit},
    home::{Home, output},
    stats::median,
};

const CREATE: [&str; 4] = ["pool", "create", "bench", "--wait"];
const SHOW: [&str; 4] = ["pool", "show", "bench", "--json"];
const RUN: [&str; 6] = ["run", "--rm", "--pool", "bench", "--", "true"];
/// Between two looks, and between a machine that is ready and the run that takes it.
const BREATH: Duration = Duration::from_millis(300);
/// What the pool gets to have its machine ready.
const FILLING: Duration = Duration::from_secs(60);

/// A run in a machine that waited, from start to exit; the pool fills itself between two of them.
pub(super) fn runs(home: &Home, rounds: usize) -> Result<Figure, BenchError> {
    home.banger(&CREATE)?;
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        is_ready(home)?;
        sleep(BREATH);
        took.push(home.time(&RUN)?);
    }
    home.banger(&["pool", "delete", "bench"])?;
    let name = "run --rm --pool -- true, start to exit";
    Ok(Figure::new(name, Unit::Seconds, median(took)))
}

fn is_ready(home: &Home) -> Result<(), BenchError> {
    let deadline = Instant::now() + FILLING;
    while Instant::now() < deadline {
        if home.json(&SHOW)?["ready"].as_u64() == Some(1) {
            return Ok(());
        }
        sleep(BREATH);
    }
    Err(output(&SHOW, "ready"))
}
