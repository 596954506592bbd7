//! Which release of QEMU there is. Asking takes longer than most starts, so the answer is kept until
//! the file changes.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use banger_core::host_error::HostError;

use crate::process::{self, Stamp};

/// The release that was asked for last.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownVersion(Arc<Mutex<Option<(Stamp, String)>>>);

impl KnownVersion {
    /// The program's own word for its release.
    pub(crate) fn of(&self, program: &Path) -> Result<String, HostError> {
        let stamp = Stamp::of(program);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(stamp), Some((of, version))) = (&stamp, &*known)
            && of == stamp
        {
            return Ok(version.clone());
        }
        let text = process::ask(program, &["--version"]);
        let text = text.map_err(|source| HostError::Spawn {
            program: program.display().to_string(),
            source,
        })?;
        let version = parse(&text).ok_or_else(|| HostError::Unsupported {
            feature: format!("the program {}", program.display()),
            reason: "it does not tell a version of QEMU".into(),
        })?;
        *known = stamp.map(|stamp| (stamp, version.clone()));
        Ok(version)
    }
}

/// Builds of one release differ between distributions, so the distribution's own word counts, too.
fn parse(text: &str) -> Option<String> {
    let version = text.lines().next()?.split_once(" version ")?.1.trim();
    let plain = !version.is_empty() && version.chars().all(|c| !c.is_control());
    (plain && version.len() < 128).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_first_lines_end() {
        let check = |text, wanted: Option<&str>| assert_eq!(parse(text).as_deref(), wanted);
        check(
            "QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7)\nCopyright (c)\n",
            Some("7.2.19 (Debian 1:7.2+dfsg-7)"),
        );
        check("QEMU emulator version 9.0.0\n", Some("9.0.0"));
        check("bash: no such file", None);
        check("", None);
    }
}
