//! What the daemon costs by itself: lists of many VMs, many creations at once, its memory for each
//! VM, and how often it wakes when nobody asks anything of it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use super::{
    BenchError, Report,
    figures::{Figure, Unit},
    home::{Home, output},
    sizes::{mapped, times},
};

/// What a daemon gets to come to rest after it was asked for something.
const REST: Duration = Duration::from_secs(2);
/// What its threads take to end that wait for more work.
const THREADS_REST: Duration = Duration::from_secs(15);
/// How long it is watched while nobody asks.
const WATCH: Duration = Duration::from_secs(5);
/// Creations that are asked for in the same moment.
const AT_ONCE: usize = 200;
/// Machines that run while the daemon's memory is looked at.
const RUNNING: [&str; 4] = ["one", "two", "three", "four"];
const CREATE: [&str; 4] = ["vm", "create", "--quiet", "--no-start"];
const LIST: [&str; 3] = ["vm", "list", "-q"];
const TABLE: [&str; 2] = ["vm", "list"];

/// Measures the daemon with `vms` VMs, `rounds` times what is short.
pub fn daemon(
    programs: &Path,
    vms: usize,
    rounds: usize,
    say: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let home = Home::make(programs, say)?;
    let mut report = Report::default();
    say("a daemon that nobody asks");
    restart(&home)?;
    let empty = anonymous(&home)?;
    report.add(vec![wakes("wake-ups in 5 s, no VM", &home)?]);

    say("machines that run");
    for name in RUNNING {
        home.banger(&[
            "vm", "create", "--quiet", "--memory", "128M", "--name", name,
        ])?;
    }
    restart(&home)?;
    for name in RUNNING {
        home.banger(&["exec", name, "--", "true"])?;
    }
    sleep(REST);
    let each = (anonymous(&home)? - empty) / count(RUNNING.len());
    report.add(vec![
        Figure::new("memory for a VM that runs", Unit::Kib, each).goal(200.0),
        wakes("wake-ups in 5 s, machines that run", &home)?,
    ]);
    home.banger(&[&["rm", "--force"], RUNNING.as_slice()].concat())?;

    say("creations at once");
    let few = times(rounds, || home.time(&TABLE))?;
    report.add(vec![at_once(&home)?]);
    say("many VMs");
    for _ in AT_ONCE..vms {
        home.banger(&CREATE)?;
    }
    let many = times(rounds, || home.time(&TABLE))?;
    restart(&home)?;
    let each = (anonymous(&home)? - empty) / count(vms.max(AT_ONCE));
    report.add(vec![
        Figure::new(format!("vm list with {vms} VMs"), Unit::Seconds, many)
            .beside("without any", few)
            .goal(0.010),
        Figure::new("memory for a VM that is stopped", Unit::Kib, each).goal(4.0),
    ]);
    Ok(report)
}

/// As many creations as there are, and none of them lost or under another's name.
fn at_once(home: &Home) -> Result<Figure, BenchError> {
    let begin = Instant::now();
    let made: Result<Vec<String>, BenchError> = thread::scope(|scope| {
        let all: Vec<_> = (0..AT_ONCE)
            .map(|_| scope.spawn(|| home.banger(&CREATE)))
            .collect();
        let ended = all.into_iter().map(|one| match one.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    });
    let took = begin.elapsed().as_secs_f64();
    let made: BTreeSet<String> = made?.into_iter().map(|name| name.trim().into()).collect();
    let listed = home.banger(&LIST)?;
    let listed: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
    if made.len() != AT_ONCE || made != listed {
        return Err(output(&LIST, "list of all that were created"));
    }
    let name = format!("{AT_ONCE} creations at once, processes included");
    Ok(Figure::new(name, Unit::Seconds, took).goal(2.0))
}

/// How often threads of the daemon were given a processor while it was left alone.
fn wakes(name: &str, home: &Home) -> Result<Figure, BenchError> {
    let pid = home.daemon()?;
    sleep(THREADS_REST);
    let before = switches(pid)?;
    sleep(WATCH);
    let woken = switches(pid)? - before;
    Ok(Figure::new(name, Unit::Count, woken).goal(0.0))
}

fn switches(pid: u64) -> Result<f64, BenchError> {
    let tasks = format!("/proc/{pid}/task");
    let failed = || BenchError::file("read", &tasks);
    let mut sum = 0.0;
    for task in fs::read_dir(&tasks).map_err(failed())? {
        let status = task.map_err(failed())?.path().join("status");
        // A thread may have ended since.
        let text = fs::read_to_string(status).unwrap_or_default();
        let counts = text.lines().filter_map(|line| {
            let (name, count) = line.split_once(':')?;
            name.ends_with("voluntary_ctxt_switches")
                .then(|| count.trim().parse::<f64>().ok())?
        });
        sum += counts.sum::<f64>();
    }
    Ok(sum)
}

/// Another daemon, as young as the one that it is compared with.
fn restart(home: &Home) -> Result<(), BenchError> {
    home.banger(&["daemon", "stop"])?;
    home.banger(&LIST)?;
    sleep(REST);
    Ok(())
}

/// Memory that the daemon has for itself, in KiB.
fn anonymous(home: &Home) -> Result<f64, BenchError> {
    mapped(home.daemon()?, "Anonymous:")
}

fn count(of: usize) -> f64 {
    f64::from(u32::try_from(of).expect("few enough to be made one by one"))
}
