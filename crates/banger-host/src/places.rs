//! Owns the files in a VM's directories that only the host side knows: sockets and the lock.
//! Knows names and limits, not what is spoken over the sockets.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use banger_core::{host::VmPlaces, host_error::HostError};

/// What `sun_path` holds, without its terminating zero.
pub(crate) const SOCKET_PATH_MAX: usize = 107;

pub(crate) fn agent_socket(places: &VmPlaces) -> PathBuf {
    places.runtime.join("agent.sock")
}

pub(crate) fn qmp_socket(places: &VmPlaces) -> PathBuf {
    places.runtime.join("qmp.sock")
}

/// Where QEMU tells what happens to it, beside the socket on which it takes orders.
pub(crate) fn events_socket(places: &VmPlaces) -> PathBuf {
    places.runtime.join("told.sock")
}

/// Where a VMM's state comes out while its machine is saved.
pub(crate) fn save_socket(places: &VmPlaces) -> PathBuf {
    places.runtime.join("save.sock")
}

pub(crate) fn vmm_lock(places: &VmPlaces) -> PathBuf {
    places.state.join("vmm.lock")
}

fn sockets(places: &VmPlaces) -> [PathBuf; 4] {
    [
        agent_socket(places),
        qmp_socket(places),
        events_socket(places),
        save_socket(places),
    ]
}

/// Refuses directories in which no socket can be bound.
pub(crate) fn check_socket_paths(places: &VmPlaces) -> Result<(), HostError> {
    for path in sockets(places) {
        if path.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
            return Err(HostError::SocketPath {
                path,
                max: SOCKET_PATH_MAX,
            });
        }
    }
    Ok(())
}

/// Makes the runtime directory, for this user alone, free of sockets of earlier runs.
pub(crate) fn prepare(places: &VmPlaces) -> Result<(), HostError> {
    let error = |source| file_error("create", &places.runtime, source);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&places.runtime)
        .map_err(error)?;
    for socket in sockets(places) {
        remove(&socket)?;
    }
    Ok(())
}

/// Removes what is of no use without a VMM. The lock's file stays: it is empty of meaning
/// when nobody holds it, and removing it would race with a start.
pub(crate) fn sweep(places: &VmPlaces) -> Result<(), HostError> {
    for socket in sockets(places) {
        remove(&socket)?;
    }
    match fs::remove_dir(&places.runtime) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Somebody else's file is in there, which is not ours to remove.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        Err(source) => Err(file_error("remove", &places.runtime, source)),
    }
}

/// Removes a file; one that is gone already is no error.
pub(crate) fn remove(path: &Path) -> Result<(), HostError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(file_error("remove", path, source)),
    }
}

pub(crate) fn file_error(operation: &'static str, path: &Path, source: io::Error) -> HostError {
    HostError::File {
        operation,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use banger_core::name::VmId;

    use super::*;

    fn places(root: &Path) -> VmPlaces {
        VmPlaces {
            id: VmId::random(),
            state: root.join("state"),
            runtime: root.join("run/vm"),
        }
    }

    #[test]
    fn a_runtime_directory_that_is_too_deep_is_refused() {
        let check = |length: usize, fits: bool| {
            let root = PathBuf::from("/".to_owned() + &"x".repeat(length - 1));
            let places = VmPlaces {
                runtime: root.clone(),
                ..places(&root)
            };
            assert_eq!(check_socket_paths(&places).is_ok(), fits, "{length}");
        };
        let name = "/agent.sock".len();
        check(SOCKET_PATH_MAX - name, true);
        check(SOCKET_PATH_MAX - name + 1, false);
    }

    #[test]
    fn a_sweep_leaves_nothing_and_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        prepare(&places).unwrap();
        let mode = fs::metadata(&places.runtime).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(agent_socket(&places), "").unwrap();
        prepare(&places).unwrap();
        assert!(!agent_socket(&places).exists());
        fs::write(qmp_socket(&places), "").unwrap();
        sweep(&places).unwrap();
        assert!(!places.runtime.exists());
        sweep(&places).unwrap();
    }
}
