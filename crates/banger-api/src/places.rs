//! Where everything of one user lives: XDG directories, or all below `BANGER_HOME`.
//! Computes paths; creates nothing, and looks only for the directory of the user's sessions.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Why there are no places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacesError {
    #[error("neither BANGER_HOME nor HOME is set")]
    NoHome,
    #[error("{name} must be an absolute path, not {path}", path = .path.display())]
    Relative { name: &'static str, path: PathBuf },
}

/// The four directories of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    pub config: PathBuf,
    pub state: PathBuf,
    pub cache: PathBuf,
    /// Sockets; private to the user, gone after a reboot.
    pub runtime: PathBuf,
}

impl Places {
    /// From the process's environment.
    pub fn from_env() -> Result<Self, PlacesError> {
        let uid = rustix::process::getuid().as_raw();
        let variable = |name: &'static str| match env::var_os(name) {
            // Also where no session has set it, as under cron or `su`: a daemon is found by its socket.
            None if name == "XDG_RUNTIME_DIR" => session_directory(uid),
            value => value,
        };
        Self::resolve(variable, uid)
    }

    /// The rules themselves: `BANGER_HOME` moves all four, then the XDG base directory
    /// specification, then its defaults.
    pub fn resolve(
        variable: impl Fn(&'static str) -> Option<OsString>,
        uid: u32,
    ) -> Result<Self, PlacesError> {
        let directory = |name: &'static str| match variable(name).filter(|v| !v.is_empty()) {
            None => Ok(None),
            Some(value) => absolute(name, PathBuf::from(value)).map(Some),
        };
        if let Some(base) = directory("BANGER_HOME")? {
            return Ok(Self {
                config: base.join("config"),
                state: base.join("state"),
                cache: base.join("cache"),
                runtime: base.join("run"),
            });
        }
        let home = directory("HOME")?;
        let below = |name, default: &str| -> Result<PathBuf, PlacesError> {
            let base = match (directory(name)?, &home) {
                (Some(base), _) => base,
                (None, Some(home)) => home.join(default),
                (None, None) => return Err(PlacesError::NoHome),
            };
            Ok(base.join("banger"))
        };
        let runtime = match directory("XDG_RUNTIME_DIR")? {
            Some(base) => base.join("banger"),
            None => PathBuf::from(format!("/tmp/banger-runtime-{uid}")),
        };
        Ok(Self {
            config: below("XDG_CONFIG_HOME", ".config")?,
            state: below("XDG_STATE_HOME", ".local/state")?,
            cache: below("XDG_CACHE_HOME", ".cache")?,
            runtime,
        })
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("bangerd.sock")
    }

    /// The daemon's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.state.join("bangerd.log")
    }

    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }
}

/// The directory that systemd makes for a user's sessions, where it is there and that user's.
fn session_directory(uid: u32) -> Option<OsString> {
    let directory = PathBuf::from(format!("/run/user/{uid}"));
    let meta = fs::symlink_metadata(&directory).ok()?;
    (meta.is_dir() && meta.uid() == uid).then(|| directory.into_os_string())
}

fn absolute(name: &'static str, path: PathBuf) -> Result<PathBuf, PlacesError> {
    if Path::is_absolute(&path) {
        Ok(path)
    } else {
        Err(PlacesError::Relative { name, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], state: &Result<&str, PlacesError>, runtime: &str) {
        let lookup = |name: &'static str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| OsString::from(value))
        };
        let places = Places::resolve(lookup, 7);
        let got = places.as_ref().map(|p| p.state.as_path());
        assert_eq!(got, state.as_ref().map(|s| Path::new(*s)));
        if let Ok(places) = places {
            assert_eq!(places.runtime, Path::new(runtime));
        }
    }

    #[test]
    fn banger_home_moves_everything() {
        let variables = [
            ("BANGER_HOME", "/b"),
            ("HOME", "/h"),
            ("XDG_STATE_HOME", "/s"),
        ];
        check(&variables, &Ok("/b/state"), "/b/run");
    }

    #[test]
    fn xdg_wins_over_home() {
        check(
            &[("HOME", "/h"), ("XDG_STATE_HOME", "/s")],
            &Ok("/s/banger"),
            "/tmp/banger-runtime-7",
        );
        check(
            &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")],
            &Ok("/h/.local/state/banger"),
            "/r/banger",
        );
    }

    #[test]
    fn relative_and_missing_homes_are_refused() {
        check(&[], &Err(PlacesError::NoHome), "");
        let relative = PlacesError::Relative {
            name: "BANGER_HOME",
            path: "b".into(),
        };
        check(&[("BANGER_HOME", "b")], &Err(relative), "");
    }
}
