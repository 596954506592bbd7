//! Commands in a machine that runs: how long the shortest takes beside the channel's own round
//! trip, and how fast bytes flow.

use std::{io::Write, process::Stdio, thread, time::Instant};

use super::{
    BenchError,
    boots::Boots,
    figures::{Figure, Unit},
    home::Home,
    stats::median,
};

const MIB: usize = 1 << 20;
/// Enough to make starting and ending small beside it.
const LOAD: usize = 64 * MIB;

pub(super) fn measure(
    home: &Home,
    boots: &Boots<'_>,
    rounds: usize,
) -> Result<Vec<Figure>, BenchError> {
    let (greeting, ping) = round_trips(boots, rounds)?;
    home.banger(&["vm", "create", "--name", "bench"])?;
    let exec = repeat(rounds, || home.time(&["exec", "bench", "--", "true"]))?;
    let start = repeat(rounds, || home.time(&["version"]))?;
    let figures = vec![
        Figure::new("exec VM -- true, start to exit", Unit::Seconds, exec)
            .beside("ping over the channel", ping)
            .goal(3.0 * ping),
        Figure::new(
            "the same, without the start of a process",
            Unit::Seconds,
            exec - start,
        )
        .beside("banger version", start),
        Figure::new("a new session and its greeting", Unit::Seconds, greeting)
            .beside("ping over the channel", ping),
        Figure::new("out of the guest", Unit::MibPerSecond, out_of_guest(home)?),
        Figure::new("into the guest", Unit::MibPerSecond, into_guest(home)?),
    ];
    Ok(figures)
}

/// Medians of the greeting's and the ping's round trip, spoken by hand.
fn round_trips(boots: &Boots<'_>, rounds: usize) -> Result<(f64, f64), BenchError> {
    let mut machine = boots.by_hand()?;
    let channel = machine.channel();
    let greeting = repeat(rounds, || {
        let begin = Instant::now();
        channel.greet()?;
        Ok(begin.elapsed().as_secs_f64())
    })?;
    channel.open()?;
    channel.ping()?;
    let ping = repeat(rounds, || channel.ping())?;
    Ok((greeting, ping))
}

fn repeat(
    rounds: usize,
    mut once: impl FnMut() -> Result<f64, BenchError>,
) -> Result<f64, BenchError> {
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        took.push(once()?);
    }
    Ok(median(took))
}

fn out_of_guest(home: &Home) -> Result<f64, BenchError> {
    let line = format!("cat /dev/zero | head -c {LOAD}");
    let line = ["exec", "bench", "--", "/bin/busybox", "sh", "-c", &line];
    Ok(speed(home.time(&line)?))
}

fn into_guest(home: &Home) -> Result<f64, BenchError> {
    let begin = Instant::now();
    let mut command = home.command(&["exec", "bench", "--", "wc", "-c"]);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let program = "banger".to_owned();
    let mut child = spawned.map_err(|source| BenchError::Spawn { program, source })?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A failure shows in what the guest has counted.
    let writer = thread::spawn(move || drop(stdin.write_all(&vec![0; LOAD])));
    let output = child.wait_with_output();
    let output = output.map_err(BenchError::channel("wait for banger"))?;
    let took = begin.elapsed().as_secs_f64();
    drop(writer);
    if String::from_utf8_lossy(&output.stdout).trim() == LOAD.to_string() {
        return Ok(speed(took));
    }
    Err(super::home::output(
        &["exec", "bench", "--", "wc", "-c"],
        "count of all bytes",
    ))
}

fn speed(seconds: f64) -> f64 {
    const MEBIBYTES: f64 = (LOAD / MIB) as f64;
    MEBIBYTES / seconds
}
