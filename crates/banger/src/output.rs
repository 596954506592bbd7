//! Data for standard output and remarks for standard error, and nothing that panics when
//! a reader has gone.

use std::{fmt::Display, io};

use serde::Serialize;

use crate::{fdio, report::Failure};

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    fdio::write_all(io::stdout(), bytes).map_err(Failure::output)
}

/// Writes a document to standard output as people and programs read it.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value).expect("wire types serialise");
    text.push('\n');
    print(&text)
}

/// Writes a document to standard output: as JSON, or as a text for people.
pub(crate) fn print_as<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if json {
        print_json(value)
    } else {
        print(&text(value))
    }
}

/// A question on standard error, which stays on its line.
pub(crate) fn prompt(text: &str) {
    let _ = fdio::write_all(io::stderr(), text.as_bytes());
}

/// Writes a document to standard output on a line of its own.
pub(crate) fn print_line(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(value).expect("wire types serialise");
    text.push('\n');
    print(&text)
}

/// A line on standard error. Nobody is left to be told when that fails.
pub(crate) fn remark(line: impl Display) {
    let _ = fdio::write_all(io::stderr(), format!("{line}\n").as_bytes());
}
