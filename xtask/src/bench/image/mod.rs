//! Measures pulls from a registry on the loopback, beside the tools that do the same in parts.
//! Owns the order of the measurements; asserts nothing.

mod registry;
mod rivals;
mod trees;

use std::fs;
use std::path::{Path, PathBuf};

use super::figures::{Figure, Unit};
use super::home::Home;
use super::stats::{median, ratio};
use super::{BenchError, Report};
use registry::Registry;

const FIRST: &str = "first";
const SECOND: &str = "second";
const MIB: f64 = 1024.0;
/// How many times the smallest tree the others are.
const SIZES: [u32; 3] = [1, 4, 16];

/// What to measure.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// Repetitions of each side of a comparison.
    pub rounds: usize,
    /// A tar of a Debian root file system; one is made with mmdebstrap when absent.
    pub root: Option<PathBuf>,
}

/// Measures everything. `say` is told what is being done.
pub fn run(
    programs: &Path,
    plan: &ImagePlan,
    say: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let home = Home::bare(programs)?;
    let registry = Registry::start()?;
    let root = match &plan.root {
        Some(root) => root.clone(),
        None => {
            say("a Debian root file system");
            trees::debian(registry.directory())?
        }
    };
    say("pushing the image, and one more layer on top of it");
    let layer = registry.push_base(&root)?;
    registry.push_more()?;
    let mut report = Report::default();
    report.add(against_rivals(&home, &registry, &layer, plan.rounds, say)?);
    say("a second image, and what is here already");
    report.add(sharing(&home, &registry, plan.rounds)?);
    say("a layer of 3 GiB");
    report.add(large(&home, &registry)?);
    say("growing trees");
    report.add(growth(&home, &registry, say)?);
    Ok(report)
}

/// Cold pulls and the rivals, in turns: shared cores change their speed.
fn against_rivals(
    home: &Home,
    registry: &Registry,
    layer: &Path,
    rounds: usize,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>, BenchError> {
    let (mut ours, mut floor, mut parts, mut microsandbox) = (vec![], vec![], vec![], vec![]);
    for round in 1..=rounds {
        floor.push(rivals::inflate_and_hash(layer)?);
        ours.push(cold(home, &registry.reference("base"))?);
        parts.push(rivals::in_parts(registry)?);
        microsandbox.extend(rivals::microsandbox(registry)?);
        say(&format!(
            "round {round} of {rounds}: banger {:.2} s, igzip and openssl {:.2} s, skopeo, umoci \
             and mke2fs {:.2} s",
            ours[round - 1],
            floor[round - 1],
            parts[round - 1],
        ));
    }
    let (ours, floor, parts) = (median(ours), median(floor), median(parts));
    let size = fs::metadata(layer).map_err(BenchError::file("look at", layer))?;
    #[expect(clippy::cast_precision_loss, reason = "a size in MiB for people")]
    let packed = size.len() as f64 / MIB / MIB;
    let peak = peak_memory(home)?;
    let mut figures = vec![
        Figure::new("the layer, packed", Unit::Mib, packed),
        Figure::new("image pull, cold", Unit::Seconds, ours)
            .beside("igzip -dc | openssl dgst -sha256", floor)
            .goal(1.25 * floor),
        Figure::new("the same, beside other tools", Unit::Seconds, ours)
            .beside("skopeo + umoci + mke2fs", parts)
            .goal(parts / 2.0),
        Figure::new("bangerd's peak memory", Unit::Mib, peak).goal(64.0),
    ];
    if !microsandbox.is_empty() {
        let name = "the same, beside microsandbox";
        let flat = median(microsandbox);
        figures.push(Figure::new(name, Unit::Seconds, ours).beside("msb pull, flat", flat));
    }
    Ok(figures)
}

fn sharing(home: &Home, registry: &Registry, rounds: usize) -> Result<Vec<Figure>, BenchError> {
    let (mut first, mut second, mut again) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        first.push(cold(home, &registry.reference("base"))?);
        second.push(pull(home, SECOND, &registry.reference("more"))?);
        again.push(pull(home, SECOND, &registry.reference("more"))?);
        home.banger(&["image", "delete", SECOND])?;
    }
    let (first, second) = (median(first), median(second));
    Ok(vec![
        Figure::new("a second image with the same base", Unit::Seconds, second)
            .beside("the first", first)
            .goal(0.3 * first),
        Figure::new("pull of what is here", Unit::Seconds, median(again)).goal(0.05),
    ])
}

/// A layer that is larger than anything could be kept in memory, for a daemon of its own.
fn large(home: &Home, registry: &Registry) -> Result<Vec<Figure>, BenchError> {
    let tar = trees::of_one_file(registry.directory())?;
    registry.push_tar(&tar, "large")?;
    fs::remove_file(&tar).map_err(BenchError::file("remove", &tar))?;
    home.banger(&["daemon", "stop"])?;
    let took = cold(home, &registry.reference("large"))?;
    let peak = peak_memory(home)?;
    home.banger(&["image", "delete", FIRST])?;
    Ok(vec![
        Figure::new("a layer of 3 GiB, cold", Unit::Seconds, took),
        Figure::new("bangerd's peak memory for it", Unit::Mib, peak).goal(64.0),
    ])
}

fn growth(
    home: &Home,
    registry: &Registry,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for (what, tree) in [
        ("bytes", trees::of_bytes as fn(&Path, u32) -> _),
        ("entries", trees::of_entries),
    ] {
        let mut smallest = None;
        for times in SIZES {
            say(&format!("{times} x {what}"));
            let tar = tree(registry.directory(), times)?;
            let name = format!("{what}-{times}");
            registry.push_tar(&tar, &name)?;
            let took = cold(home, &registry.reference(&name))?;
            let each = took / f64::from(times);
            let smallest = *smallest.get_or_insert(each);
            figures.push(Figure::new(
                format!("{times} x {what}, cold"),
                Unit::Seconds,
                took,
            ));
            figures.push(Figure::new(
                format!("{times} x {what}, time for each beside 1 x"),
                Unit::Times,
                ratio(each, smallest),
            ));
        }
    }
    Ok(figures)
}

/// A pull with nothing here of what it needs.
fn cold(home: &Home, reference: &str) -> Result<f64, BenchError> {
    // It may not be there.
    let _ = home.banger(&["image", "delete", FIRST]);
    let cache = home.path("state/image-cache");
    match fs::remove_dir_all(&cache) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(BenchError::file("remove", cache)(error));
        }
        Ok(()) | Err(_) => {}
    }
    pull(home, FIRST, reference)
}

fn pull(home: &Home, name: &str, reference: &str) -> Result<f64, BenchError> {
    home.time(&["image", "pull", "--quiet", "--name", name, reference])
}

/// The most that the daemon ever had in memory, in MiB.
fn peak_memory(home: &Home) -> Result<f64, BenchError> {
    let args = ["daemon", "status", "--json"];
    let status = home.json(&args)?;
    let missing = || super::home::output(&args, "pid");
    let pid = status["pid"].as_u64().ok_or_else(missing)?;
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(BenchError::file("read", &path))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map(|kib| kib / MIB).ok_or_else(missing)
}
