//! Commands in a machine that runs: how long the shortest takes beside the channel's own round
//! trip, and how fast bytes flow.

use std::{io::Write, process::Stdio, thread, time::Instant};

use super::{
    BenchError,
    boots::Boots,
    figures::{Figure, Unit},
    home::{Home, output},
    stats::median,
};

const MIB: usize = 1 << 20;
/// Enough to make starting and ending small beside it.
const LOAD: usize = 64 * MIB;
/// Writes the load; larger blocks than a pipe takes, so that the guest's own part is small.
const SOURCE: &str = "dd if=/dev/zero bs=64k count=1024 2>/dev/null";
/// Reads it to its end.
const SINK: &str = "cat >/dev/null";

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
        Figure::new(
            "a process started by the guest's shell",
            Unit::Seconds,
            process_in_guest(home)?,
        ),
        Figure::new("out of the guest", Unit::MibPerSecond, out_of_guest(home)?)
            .beside("a pipe inside the guest", pipe_in_guest(home)?),
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

/// What the guest itself needs for the shortest command: under emulation most of an exec.
fn process_in_guest(home: &Home) -> Result<f64, BenchError> {
    const PROCESSES: u32 = 100;
    let line =
        |count: u32| format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i + 1)); done");
    let many = home.time(&["exec", "bench", "--", "sh", "-c", &line(PROCESSES)])?;
    let none = home.time(&["exec", "bench", "--", "sh", "-c", &line(0)])?;
    Ok((many - none) / f64::from(PROCESSES))
}

fn out_of_guest(home: &Home) -> Result<f64, BenchError> {
    let args = ["exec", "bench", "--", "sh", "-c", SOURCE];
    let begin = Instant::now();
    let length = home.banger(&args)?.len();
    let took = begin.elapsed().as_secs_f64();
    let whole = (length == LOAD).then(|| speed(took));
    whole.ok_or_else(|| output(&args, "64 MiB"))
}

fn pipe_in_guest(home: &Home) -> Result<f64, BenchError> {
    let line = format!("{SOURCE} | cat >/dev/null");
    let took = home.time(&["exec", "bench", "--", "sh", "-c", &line])?;
    Ok(speed(took))
}

fn into_guest(home: &Home) -> Result<f64, BenchError> {
    let args = ["exec", "bench", "--", "sh", "-c", SINK];
    let begin = Instant::now();
    let mut command = home.command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let program = "banger".to_owned();
    let spawned = command.spawn();
    let mut child = spawned.map_err(|source| BenchError::Spawn { program, source })?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let writer = thread::spawn(move || drop(stdin.write_all(&vec![0; LOAD])));
    let status = child.wait();
    let status = status.map_err(BenchError::channel("wait for banger"))?;
    let took = begin.elapsed().as_secs_f64();
    // The command reads to the end, so an input that broke off is one that banger reported.
    drop(writer);
    let whole = status.success().then(|| speed(took));
    whole.ok_or_else(|| output(&args, "good end"))
}

fn speed(seconds: f64) -> f64 {
    const MEBIBYTES: f64 = (LOAD / MIB) as f64;
    MEBIBYTES / seconds
}
