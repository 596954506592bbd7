//! Owns the search for a program, as a shell would do it. Knows directories and permissions, starts nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs are, for who does not say so.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Shells to try when a user has none that exists.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// A search without result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    NotFound,
    /// There is something of that name, but it cannot be executed.
    NotExecutable,
}

/// Finds a program: a name with a slash is a path from `directory`, any other is looked for in `path`.
pub(super) fn find(name: &str, path: &str, directory: &Path) -> Result<PathBuf, Missing> {
    if name.is_empty() {
        return Err(Missing::NotFound);
    }
    if name.contains('/') {
        let program = directory.join(name);
        return look(&program).map(|()| program);
    }
    let mut missing = Missing::NotFound;
    for entry in path.split(':') {
        let program = directory.join(entry).join(name);
        match look(&program) {
            Ok(()) => return Ok(program),
            Err(Missing::NotExecutable) => missing = Missing::NotExecutable,
            Err(Missing::NotFound) => {}
        }
    }
    Err(missing)
}

/// A user's shell where it can be started, else a common one.
pub(super) fn shell(own: Option<&str>) -> Option<PathBuf> {
    let own = own.filter(|shell| shell.starts_with('/'));
    own.into_iter()
        .chain(SHELLS)
        .map(PathBuf::from)
        .find(|shell| look(shell).is_ok())
}

fn look(program: &Path) -> Result<(), Missing> {
    let metadata = fs::metadata(program).map_err(|_| Missing::NotFound)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(Missing::NotExecutable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_executable_in_the_path_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        file("a/tool", 0o644);
        file("b/tool", 0o755);
        file("a/data", 0o644);
        fs::create_dir(dir.path().join("a/dir")).unwrap();
        let check = |name: &str, expected: Result<&str, Missing>| {
            let expected = expected.map(|path| dir.path().join(path));
            assert_eq!(find(name, "missing:a:b", dir.path()), expected, "{name}");
        };
        check("tool", Ok("b/tool"));
        check("./b/tool", Ok("./b/tool"));
        check("data", Err(Missing::NotExecutable));
        check("dir", Err(Missing::NotExecutable));
        check("a/tool", Err(Missing::NotExecutable));
        check("other", Err(Missing::NotFound));
        check("a/other", Err(Missing::NotFound));
        check("", Err(Missing::NotFound));
    }

    #[test]
    fn a_shell_that_is_missing_is_replaced() {
        assert_eq!(shell(Some("/nonexistent/zsh")), shell(None));
        assert!(shell(None).is_some());
    }
}
