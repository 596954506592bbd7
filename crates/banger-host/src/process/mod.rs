//! Owns the start, the watch and the end of other programs: the only place that makes
//! processes. Knows command lines as given, not what the programs do.

mod detached;
mod helper;
mod stamp;
mod worker;

use std::process::Command;

pub(crate) use detached::{Detached, Ended, Log, Process, refuse_running};
pub(crate) use helper::credential;
pub(crate) use stamp::Stamp;
pub(crate) use worker::{ask, find, has_ended_within, locate, missing, start_worker};

/// What a program is told of our environment: nothing that changes its language or its
/// behaviour, but the way to the outside.
fn clean_environment(command: &mut Command) {
    const KEPT: [&str; 10] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "http_proxy",
        "https_proxy",
        "ftp_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ];
    command.env_clear().env("LC_ALL", "C");
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}
