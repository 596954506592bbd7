//! Other people's programs: the editor, systemd's command. Beside `daemon::launch`, the only place of the command line
//! that starts a process.

use std::{
    env, io,
    path::Path,
    process::{Command, Stdio},
};

use crate::report::Failure;

/// Opens a file in the user's editor, and waits until that is closed.
pub(crate) fn edit(file: &Path) -> Result<(), Failure> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| env::var(name).ok());
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // People put flags into these variables.
    let mut words = editor.split_whitespace();
    let failed = |source| Failure::Host {
        operation: "run the editor that VISUAL or EDITOR names",
        source,
    };
    let program = words
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let status = Command::new(program).args(words).arg(file).status();
    let status = status.map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(io::Error::other(format!("it ended with {status}"))))
    }
}

/// Gives systemd an order.
pub(crate) fn systemctl(system: bool, words: &[&str]) -> Result<(), Failure> {
    let output = systemctl_command(system).args(words).output();
    let failed = |source| Failure::Systemd {
        order: words.join(" "),
        source,
    };
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(io::Error::other(said)))
}

/// What systemd answers to a question in one word, if there is one that answers.
pub(crate) fn systemctl_word(system: bool, question: &str, unit: &str) -> Option<String> {
    let output = systemctl_command(system).args([question, unit]).output();
    // It says `inactive` with a code that means failure.
    let word = String::from_utf8_lossy(&output.ok()?.stdout)
        .trim()
        .to_owned();
    (!word.is_empty() && !word.contains(' ')).then_some(word)
}

fn systemctl_command(system: bool) -> Command {
    let mut command = Command::new("systemctl");
    command.stdin(Stdio::null());
    if !system {
        command.arg("--user");
    }
    command
}
