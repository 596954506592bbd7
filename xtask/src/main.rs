//! The command line of the repository's own chores: `cargo xtask TASK`.
//! Owns arguments, printing and exit codes; what a task does lives in the library.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a terminal tool: printing is its output"
)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::tidy::{self, Report};

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
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Tidy => run_tidy(),
    };
    outcome.unwrap_or_else(|error| {
        print_chain(error.as_ref());
        ExitCode::FAILURE
    })
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
