//! Other people's programs: the editor. Beside `daemon::launch`, the only place of the command line
//! that starts a process.

use std::{env, io, path::Path, process::Command};

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
