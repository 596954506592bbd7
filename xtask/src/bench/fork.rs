//! Machines that go on: beside QEMU started by hand on the same files, and what their copies take.

use std::{
    fs,
    os::linux::fs::MetadataExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    BenchError, Report,
    figures::{Figure, Unit},
    firecracker,
    home::{self, Home, output},
    pools,
    qemu::ByHand,
    sizes::{mapped, times},
    stats::median,
};

const ORIGIN: &str = "origin";
const SNAPSHOT: &str = "ready";
const COPY: &str = "copy";
const OWN_KERNEL: &str = "for-this-host";
const FORKS: usize = 10;
/// Between two starts, so that neither pays for the other's end.
const BREATH: Duration = Duration::from_millis(300);
/// So many breaths at most the daemon takes to boot and save a machine.
const SAVING: u32 = 200;
/// What machines get to come to rest.
const REST: Duration = Duration::from_secs(2);
const RUN: [&str; 4] = ["run", "--rm", "--", "true"];
const RUN_SAVED: [&str; 6] = ["run", "--rm", "--snapshot", SNAPSHOT, "--", "true"];
const GO_ON: [&str; 7] = [
    "vm",
    "create",
    "--quiet",
    "--name",
    COPY,
    "--snapshot",
    SNAPSHOT,
];

/// A Firecracker that is to be measured in the place of QEMU.
#[derive(Debug, Clone)]
pub struct UnderFirecracker {
    pub program: PathBuf,
    /// The directory of a kernel for hosts whose /dev/kvm only emulates, and what it is to be told.
    pub kernel: Option<(PathBuf, String)>,
}

/// Measures `rounds` of everything; a machine has 512 MiB.
pub fn fork(
    programs: &Path,
    rounds: usize,
    firecracker: Option<&UnderFirecracker>,
    say: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let mut report = Report::default();
    if let Some(under) = firecracker {
        report.add(under_firecracker(programs, rounds, under, say)?);
        return Ok(report);
    }
    let home = Home::make(programs, say)?;
    say("a machine to be saved");
    home.banger(&["vm", "create", "--quiet", "--name", ORIGIN])?;
    // What a kernel leaves for after its boot would be done again by each copy.
    sleep(REST);
    let one = shared_out(&home, &[ORIGIN.to_owned()])?;
    say("saving it");
    report.add(vec![pauses(&home, rounds)?]);
    say("going on, and by hand");
    report.add(beside_qemu(&home, rounds)?);
    say("forks");
    report.add(forks(&home, rounds, one)?);
    home.banger(&["rm", "--force", ORIGIN])?;
    say("runs that go on from the boot of the first");
    home.banger(&["config", "set", "fast_start", "true"])?;
    home.banger(&["daemon", "stop"])?;
    home.banger(&RUN)?;
    is_saved(&home)?;
    let cold = ["run", "--rm", "--cold", "--", "true"];
    let boots = times(rounds, || home.time(&cold))?;
    let warm = times(rounds, || home.time(&RUN))?;
    report.add(vec![
        Figure::new(
            "run --rm -- true, from the boot of the first",
            Unit::Seconds,
            warm,
        )
        .beside("with --cold", boots)
        .goal(0.35),
    ]);
    say("runs in machines that waited");
    report.add(vec![pools::runs(&home, rounds)?]);
    Ok(report)
}

/// Waits until the daemon has saved a boot for whoever comes next: its machine is gone then.
fn is_saved(home: &Home) -> Result<(), BenchError> {
    let vms = home.path("state/vms");
    for _ in 0..SAVING {
        sleep(BREATH);
        let mut left = fs::read_dir(&vms).map_err(BenchError::file("list", &vms))?;
        if left.next().is_none() {
            return Ok(());
        }
    }
    Err(output(&RUN, "a saved boot behind its back"))
}

/// The same machine under Firecracker, without a network: by hand there would be none.
fn under_firecracker(
    programs: &Path,
    rounds: usize,
    under: &UnderFirecracker,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>, BenchError> {
    let home = Home::make(programs, say)?;
    let program = under.program.to_string_lossy();
    let settings = [
        ("firecracker_bin", program.as_ref()),
        ("allow_emulated_kvm", "true"),
        ("vmm", "firecracker"),
    ];
    for (key, value) in settings {
        home.banger(&["config", "set", key, value])?;
    }
    let mut create = [
        "vm",
        "create",
        "--quiet",
        "--network",
        "none",
        "--name",
        ORIGIN,
    ]
    .to_vec();
    if let Some((directory, words)) = &under.kernel {
        let from = directory.to_string_lossy();
        let import = [
            "kernel",
            "import",
            OWN_KERNEL,
            "--from",
            &from,
            "--cmdline",
            words,
        ];
        home.banger(&import)?;
        create.extend(["--kernel", OWN_KERNEL]);
    }
    home.banger(&["daemon", "stop"])?;
    say("a machine to be saved, under Firecracker");
    home.banger(&create)?;
    let pauses = pauses(&home, rounds)?;
    say("going on, and by hand");
    let restores = beside_firecracker(&home, rounds, under)?;
    home.banger(&["rm", "--force", ORIGIN])?;
    Ok(vec![pauses, restores])
}

fn beside_firecracker(
    home: &Home,
    rounds: usize,
    under: &UnderFirecracker,
) -> Result<Figure, BenchError> {
    let show = ["vm", "snapshot", "show", SNAPSHOT, "--json"];
    let files = PathBuf::from(text(&home.json(&show)?, "path", &show)?);
    let image = ["image", "show", home::IMAGE, "--json"];
    let base = PathBuf::from(text(&home.json(&image)?, "rootfs_path", &image)?);
    let root = home.path("by-hand");
    let by_hand = firecracker::ByHand::going_on(root, &under.program, &base, &files)?;
    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..rounds {
        sleep(BREATH);
        let (machine, took) = by_hand.start()?;
        drop(machine);
        bare.push(took);
        sleep(BREATH);
        ours.push(home.time(&GO_ON)?);
        home.banger(&["rm", "--force", COPY])?;
    }
    let (ours, bare) = (median(ours), median(bare));
    let name = "vm create --snapshot, to the agent's answer";
    Ok(Figure::new(name, Unit::Seconds, ours)
        .beside("Firecracker by hand", bare)
        .goal(bare + 0.020))
}

/// How long the machine stands still to be saved. The last of its snapshots stays.
fn pauses(home: &Home, rounds: usize) -> Result<Figure, BenchError> {
    let create = [
        "vm",
        "snapshot",
        "create",
        ORIGIN,
        SNAPSHOT,
        "--keep-running",
        "--json",
    ];
    let mut paused = Vec::with_capacity(rounds);
    for round in 0..rounds {
        if round > 0 {
            home.banger(&["vm", "snapshot", "delete", SNAPSHOT])?;
        }
        sleep(BREATH);
        let saved = home.json(&create)?;
        let ms = saved["paused_ms"].as_f64();
        paused.push(ms.ok_or_else(|| output(&create, "paused_ms"))? / 1000.0);
    }
    let name = "the origin stands still to be saved";
    Ok(Figure::new(name, Unit::Seconds, median(paused)).goal(0.2))
}

/// Pairs of machines that go on from the snapshot: banger's, and QEMU's with the same command line.
fn beside_qemu(home: &Home, rounds: usize) -> Result<Vec<Figure>, BenchError> {
    let show = ["vm", "snapshot", "show", SNAPSHOT, "--json"];
    let files = PathBuf::from(text(&home.json(&show)?, "path", &show)?);
    home.banger(&GO_ON)?;
    let argv = home.command_line_of(COPY)?;
    home.banger(&["rm", "--force", COPY])?;
    let by_hand = ByHand::like(&argv, home.path("by-hand"), files.join("disk.ext4"))?;
    let by_hand = by_hand.going_on(files.join("devices"));
    let (mut ours, mut bare, mut runs) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        sleep(BREATH);
        let (machine, took) = by_hand.boot()?;
        drop(machine);
        bare.push(took);
        sleep(BREATH);
        ours.push(home.time(&GO_ON)?);
        home.banger(&["rm", "--force", COPY])?;
        sleep(BREATH);
        runs.push(home.time(&RUN_SAVED)?);
    }
    let (ours, bare) = (median(ours), median(bare));
    Ok(vec![
        Figure::new(
            "vm create --snapshot, to the agent's answer",
            Unit::Seconds,
            ours,
        )
        .beside("QEMU by hand", bare)
        .goal(bare + 0.020),
        Figure::new(
            "run --rm --snapshot -- true, start to exit",
            Unit::Seconds,
            median(runs),
        )
        .beside("QEMU by hand", bare)
        .goal(0.35),
    ])
}

/// Forks at once: their time, their disks, their memory beside that of `one` machine.
fn forks(home: &Home, rounds: usize, one: f64) -> Result<Vec<Figure>, BenchError> {
    let number = FORKS.to_string();
    let (mut took, mut disks, mut memory) = (vec![], vec![], vec![]);
    for _ in 0..rounds.div_ceil(2) {
        sleep(BREATH);
        let begin = Instant::now();
        let made = home.banger(&["vm", "fork", ORIGIN, "--quiet", "-n", &number])?;
        let names: Vec<String> = made.split_whitespace().map(str::to_owned).collect();
        for name in &names {
            home.banger(&["exec", name, "--", "true"])?;
        }
        took.push(begin.elapsed().as_secs_f64());
        sleep(REST);
        memory.push(shared_out(home, &names)?);
        disks.push(disk(home, &names[0])?);
        let words: Vec<&str> = names.iter().map(String::as_str).collect();
        home.banger(&[&["rm", "--force"], words.as_slice()].concat())?;
    }
    Ok(vec![
        Figure::new(
            format!("{FORKS} forks, each answering a command"),
            Unit::Seconds,
            median(took),
        )
        .goal(3.0),
        Figure::new(
            "disk of a fork that wrote nothing",
            Unit::Kib,
            median(disks),
        ),
        Figure::new(
            format!("host memory of {FORKS} idle forks"),
            Unit::Mib,
            median(memory),
        )
        .beside("one machine", one)
        .goal(2.0 * one),
    ])
}

/// What a fork's disk takes on the host, in KiB.
fn disk(home: &Home, name: &str) -> Result<f64, BenchError> {
    let show = ["vm", "show", "--json", name];
    let path = text(&home.json(&show)?, "disk_path", &show)?;
    let found = fs::metadata(&path).map_err(BenchError::file("look at", path))?;
    let sectors = u32::try_from(found.st_blocks()).unwrap_or(u32::MAX);
    Ok(f64::from(sectors) / 2.0)
}

/// The memory of machines in MiB, what several processes share divided by their number.
fn shared_out(home: &Home, names: &[String]) -> Result<f64, BenchError> {
    let mut sum = 0.0;
    for name in names {
        sum += mapped(home.machine(name)?, "Pss:")?;
    }
    Ok(sum / 1024.0)
}

fn text(document: &Value, field: &'static str, asked: &[&str]) -> Result<String, BenchError> {
    let found = document[field].as_str().map(str::to_owned);
    found.ok_or_else(|| output(asked, field))
}
