//! Finds Firecracker and its jailer, asks them for their release, and decides how well they can be
//! confined by this user. Starts no machine.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use banger_core::host_error::HostError;

use super::{
    JAILER, PACKAGE, PROGRAM, settings::FirecrackerSettings, version::Version, walls::Walls,
};
use crate::{
    process::{self, Stamp},
    userns,
};

/// The programs that were found last. Asking them for their versions takes longer than all of a
/// start's calls, so they are asked again only when a file has changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownPrograms(Arc<Mutex<Option<Known>>>);

/// With the stamp of each program.
type Known = (Vec<Stamp>, Programs);

impl KnownPrograms {
    /// Finds the programs, or remembers them.
    pub(crate) fn find(&self, settings: &FirecrackerSettings) -> Result<Programs, HostError> {
        let (firecracker, jailer) = locate(settings)?;
        let stamp = [Some(&firecracker), jailer.as_ref()];
        let stamp: Vec<Stamp> = stamp
            .into_iter()
            .flatten()
            .filter_map(|path| Stamp::of(path))
            .collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, programs)) if *of == stamp => Ok(programs.clone()),
            Some(_) | None => {
                let programs = Programs::ask(firecracker, jailer)?;
                *known = Some((stamp, programs.clone()));
                Ok(programs)
            }
        }
    }
}

fn locate(settings: &FirecrackerSettings) -> Result<(PathBuf, Option<PathBuf>), HostError> {
    let configured = settings.program.as_deref();
    let firecracker = process::locate(configured, PROGRAM)
        .ok_or_else(|| process::missing(configured, PROGRAM, PACKAGE))?;
    let beside = firecracker.with_file_name(JAILER);
    let jailer = match settings.jailer.as_deref() {
        Some(path) => process::locate(Some(path), JAILER),
        None => process::locate(Some(&beside), JAILER).or_else(|| process::find(JAILER)),
    };
    Ok((firecracker, jailer))
}

/// The programs of one release, and what they can do here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(crate) firecracker: PathBuf,
    pub(crate) version: Version,
    /// Absent where it is of no use: not there, or of another release.
    pub(crate) jailer: Option<PathBuf>,
    /// The best confinement that this user can have with them.
    pub(crate) walls: Walls,
}

impl Programs {
    /// Finds them and asks them for their versions, which takes some milliseconds.
    pub(crate) fn find(settings: &FirecrackerSettings) -> Result<Self, HostError> {
        let (firecracker, jailer) = locate(settings)?;
        Self::ask(firecracker, jailer)
    }

    fn ask(firecracker: PathBuf, jailer: Option<PathBuf>) -> Result<Self, HostError> {
        let version = version_of(&firecracker)?;
        version.admit()?;
        let jailer = jailer.filter(|jailer| match version_of(jailer) {
            Ok(own) if own == version => true,
            Ok(own) => {
                tracing::warn!(%own, %version, "the jailer is of another release: not used");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the jailer does not tell its version: not used");
                false
            }
        });
        let as_root = rustix::process::geteuid().is_root();
        let walls = match &jailer {
            Some(_) if as_root => Walls::Jailer,
            Some(_) | None if as_root || userns::may_be_made() => Walls::Namespaces,
            Some(_) | None => Walls::Landlock,
        };
        Ok(Self {
            firecracker,
            version,
            jailer,
            walls,
        })
    }
}

fn version_of(program: &Path) -> Result<Version, HostError> {
    let spawn_error = |source| HostError::Spawn {
        program: program.display().to_string(),
        source,
    };
    let text = process::ask(program, &["--version"]).map_err(spawn_error)?;
    Version::of_output(&text).ok_or_else(|| HostError::Unsupported {
        feature: format!("the program {}", program.display()),
        reason: "it does not tell a version of Firecracker".into(),
    })
}
