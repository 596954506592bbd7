//! bangerd: the engine of banger-core behind HTTP on a unix socket. Wiring, nothing else.
#![forbid(unsafe_code)]

mod classify;
mod clock;
mod config;
mod convert;
mod convert_journal;
mod convert_pool;
mod exec_stream;
mod fail_point;
mod follow;
mod lifecycle;
mod limits;
mod log;
mod long_answer;
mod notify;
mod reload;
mod routes;
mod server;
mod wiring;

use std::{io::Write, process::ExitCode};

use banger_api::{build::BuildInfo, places::Places};
use clap::Parser;

/// The daemon of banger. `banger` starts it when it is needed.
#[derive(Debug, Parser)]
#[command(name = "bangerd", version = version(), after_help = "\
Example:
  bangerd            serve this user's socket until `banger daemon stop`")]
struct Arguments {}

fn version() -> String {
    BuildInfo::current().to_string()
}

fn main() -> ExitCode {
    banger_host::memory::set_up();
    let Arguments {} = Arguments::parse();
    match Places::from_env()
        .map_err(Into::into)
        .and_then(|places| lifecycle::run(&places))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The starter reads this; where even that is gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "bangerd: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
