//! The command line of the repository's own chores: `cargo xtask TASK`.
//! Owns arguments, printing and exit codes; what a task does lives in the library.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a terminal tool: printing is its output"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use xtask::tidy::{self, Report};
use xtask::{bench, notices};

/// Chores of banger's repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Hold the rules that no compiler checks: crate edges, module headers, file lengths, links.
    Tidy,
    /// Measure banger.
    #[command(subcommand)]
    Bench(Bench),
    /// Print the licences of the libraries inside the programs, for a release.
    Notices,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Boots, commands and sizes, beside QEMU started by hand; needs `make build`.
    Run(BenchRun),
    /// Where the time of a boot goes, with Debian's kernel and with our own; needs `make build`.
    Boot(BenchBoot),
    /// Firecracker under banger beside Firecracker started by hand; fetches it where it is missing.
    Vmm(BenchVmm),
    /// The daemon by itself: many VMs, many creations at once, memory, wake-ups; needs `make build`.
    Daemon(BenchDaemon),
    /// Machines that go on from snapshots, and forks, beside QEMU started by hand; needs `make build`.
    Fork(BenchFork),
    /// Pulls of images, beside igzip, skopeo, umoci and mke2fs; needs `make build` and Debian's
    /// docker-registry, isal, skopeo and umoci.
    Image(BenchImage),
}

#[derive(Debug, Args)]
struct BenchImage {
    /// Repetitions of each side of a comparison.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// A tar of a Debian root file system; one is made when absent.
    #[arg(long, value_name = "TAR")]
    root: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct BenchBoot {
    /// Boots with each kernel.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// The directory of our own kernel, as `make kernel` leaves it.
    #[arg(long, value_name = "DIR")]
    generic: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct BenchDaemon {
    /// VMs that `vm list` is measured with.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    vms: usize,
    /// Repetitions of everything short.
    #[arg(long, default_value_t = 40, value_name = "N")]
    rounds: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct BenchFork {
    /// Repetitions of everything.
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    /// Measure this Firecracker in the place of QEMU; as root.
    #[arg(long, value_name = "PROGRAM")]
    firecracker: Option<PathBuf>,
    /// The directory of a kernel for a /dev/kvm that only emulates.
    #[arg(long, value_name = "DIR", requires_all = ["firecracker", "words"])]
    kernel: Option<PathBuf>,
    /// What that kernel is to be told.
    #[arg(long, value_name = "WORDS")]
    words: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct BenchVmm {
    /// Pairs of starts, banger's and by hand.
    #[arg(long, default_value_t = 40, value_name = "N")]
    pairs: usize,
}

#[derive(Debug, Args)]
struct BenchRun {
    /// Pairs of boots, banger's and by hand.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pairs: usize,
    /// Repetitions of everything short.
    #[arg(long, default_value_t = 40, value_name = "N")]
    rounds: usize,
    /// VMs that `vm list` is measured with.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    vms: usize,
    /// Measure the default image, too; making it takes a minute.
    #[arg(long)]
    debian: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Tidy => run_tidy(),
        Task::Bench(Bench::Run(args)) => run_bench(&args),
        Task::Bench(Bench::Boot(args)) => boot_bench(&args),
        Task::Bench(Bench::Daemon(args)) => daemon_bench(&args),
        Task::Bench(Bench::Fork(args)) => fork_bench(&args),
        Task::Notices => run_notices(),
        Task::Bench(Bench::Vmm(args)) => bench_vmm(args.pairs),
        Task::Bench(Bench::Image(args)) => run_bench_image(args),
    };
    outcome.unwrap_or_else(|error| {
        print_chain(error.as_ref());
        ExitCode::FAILURE
    })
}

fn bench_vmm(pairs: usize) -> Result<ExitCode, Box<dyn Error>> {
    bench::vmm(repository_root(), pairs)?;
    Ok(ExitCode::SUCCESS)
}

fn run_tidy() -> Result<ExitCode, Box<dyn Error>> {
    let report = tidy::check_repository(repository_root())?;
    print_report(&report);
    Ok(if report.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_bench(args: &BenchRun) -> Result<ExitCode, Box<dyn Error>> {
    let plan = bench::Plan {
        pairs: args.pairs,
        rounds: args.rounds,
        vms: args.vms,
        debian: args.debian,
    };
    let report = bench::run(&release_programs(), plan, &mut say)?;
    print_figures(&report, args.json)
}

fn boot_bench(args: &BenchBoot) -> Result<ExitCode, Box<dyn Error>> {
    let generic = args.generic.as_deref();
    let report = bench::boot(&release_programs(), generic, args.rounds, &mut say)?;
    print_figures(&report, args.json)
}

fn daemon_bench(args: &BenchDaemon) -> Result<ExitCode, Box<dyn Error>> {
    let report = bench::daemon(&release_programs(), args.vms, args.rounds, &mut say)?;
    print_figures(&report, args.json)
}

fn fork_bench(args: &BenchFork) -> Result<ExitCode, Box<dyn Error>> {
    let firecracker = args.firecracker.clone().map(|program| {
        let kernel = args.kernel.clone().zip(args.words.clone());
        bench::UnderFirecracker { program, kernel }
    });
    let programs = release_programs();
    let rounds = args.rounds.max(1);
    let report = bench::fork(&programs, rounds, firecracker.as_ref(), &mut say)?;
    print_figures(&report, args.json)
}

fn say(step: &str) {
    eprintln!("bench: {step}");
}

fn run_bench_image(args: BenchImage) -> Result<ExitCode, Box<dyn Error>> {
    let plan = bench::ImagePlan {
        rounds: args.rounds.max(1),
        root: args.root,
    };
    let report = bench::run_image(&release_programs(), &plan, &mut say)?;
    print_figures(&report, args.json)
}

fn print_figures(report: &bench::Report, json: bool) -> Result<ExitCode, Box<dyn Error>> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

fn run_notices() -> Result<ExitCode, Box<dyn Error>> {
    print!("{}", notices::gather(repository_root())?);
    Ok(ExitCode::SUCCESS)
}

/// Where `make build` leaves the programs.
fn release_programs() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    repository_root().join(target).join("release")
}

fn print_report(report: &Report) {
    for note in &report.notes {
        eprintln!("note: {note}");
    }
    for violation in &report.violations {
        eprintln!("error: {violation}");
    }
    let broken = report.violations.len();
    println!("tidy: {} files, {broken} broken rules", report.files);
}

fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies directly below the repository's root")
}

fn print_chain(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  caused by: {error}");
        cause = error.source();
    }
}
