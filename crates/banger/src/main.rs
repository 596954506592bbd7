//! banger: a real Linux machine with one command. Arguments in, exit code out.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod complete;
mod config_file;
mod console;
mod daemon;
mod exec;
mod fdio;
mod output;
mod programs;
mod progress;
mod report;
mod table;
mod targets;
mod text;
mod unit;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    complete::answer();
    let command = match cli::Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(message) => {
            // Help that nobody reads to its end is no failure.
            let _ = message.print();
            return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(u8::MAX));
        }
    };
    let role = commands::role(&command);
    match commands::dispatch(command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let report = failure.render();
            if !report.is_empty() {
                output::remark(report.trim_end());
            }
            ExitCode::from(failure.exit_code(role))
        }
    }
}
