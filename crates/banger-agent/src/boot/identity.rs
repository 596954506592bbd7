//! Owns the files in /etc that tell a machine who it is: hostname, hosts, resolv.conf. Knows no kernel interface.
//!
//! A link that the image has in a file's place is removed and never followed.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use banger_guest_proto::boot::{BootConfig, Hostname};
use banger_guest_proto::message::MachineId;

const ETC: &str = "/etc";
/// Reading stops here; a larger file is replaced.
const MAX_FILE: u64 = 1 << 20;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub(crate) struct FileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Writes all files that follow from the configuration.
pub(super) fn write(config: &BootConfig) -> Result<(), FileError> {
    write_name(&config.hostname)?;
    match &config.net {
        Some(net) => replace(Path::new(ETC), "resolv.conf", &resolv_conf(&net.dns)),
        None => Ok(()),
    }
}

/// Writes the files that follow from the machine's name.
pub(crate) fn write_name(name: &Hostname) -> Result<(), FileError> {
    let etc = Path::new(ETC);
    replace(etc, "hostname", &format!("{name}\n"))?;
    let old = read(&etc.join("hosts")).unwrap_or_default();
    replace(etc, "hosts", &hosts(&old, name))
}

/// The machine's id, where it has one.
pub(crate) fn machine_id(root: &Path) -> Option<String> {
    let id = read(&root.join("etc/machine-id"))?.trim().to_owned();
    (!id.is_empty()).then_some(id)
}

/// Gives the machine another id where it has one: in a copy it is its origin's.
pub(crate) fn write_machine_id(root: &Path, id: &MachineId) -> Result<(), FileError> {
    for directory in ["etc", "var/lib/dbus"] {
        let directory = root.join(directory);
        // An empty one is made by the first boot, and a link leads to the other one.
        if read(&directory.join("machine-id")).is_some_and(|old| !old.trim().is_empty()) {
            replace(&directory, "machine-id", &format!("{id}\n"))?;
        }
    }
    Ok(())
}

/// The old file with this machine's name on 127.0.1.1, where Debian has it, and with localhost in any case.
fn hosts(old: &str, name: &Hostname) -> String {
    let names_us = |line: &&str| line.split_whitespace().next() == Some("127.0.1.1");
    let mut lines: Vec<&str> = old.lines().filter(|line| !names_us(line)).collect();
    let has = |address: &str| {
        lines
            .iter()
            .any(|line| line.split_whitespace().next() == Some(address))
    };
    let (has_v4, has_v6) = (has("127.0.0.1"), has("::1"));
    let own = format!("127.0.1.1\t{name}");
    if !has_v6 {
        lines.insert(0, "::1\tlocalhost ip6-localhost ip6-loopback");
    }
    if !has_v4 {
        lines.insert(0, "127.0.0.1\tlocalhost");
    }
    lines.push(&own);
    lines.join("\n") + "\n"
}

fn resolv_conf(servers: &[IpAddr]) -> String {
    servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect()
}

/// Reads a plain file of a sensible size.
fn read(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_FILE).then(|| fs::read_to_string(path).ok())?
}

/// Gives a file its contents, whatever is in its place; leaves it alone when it has them already.
fn replace(directory: &Path, name: &str, contents: &str) -> Result<(), FileError> {
    let path = directory.join(name);
    if read(&path).as_deref() == Some(contents) {
        return Ok(());
    }
    let written = match write_over(&path, contents) {
        Ok(false) => write_beside(directory, name, contents),
        Ok(true) => Ok(()),
        Err(error) => Err(error),
    };
    written.map_err(|source| FileError { path, source })
}

/// Writes over a plain file that has no other name; false where there is none. A copy waits for it, and to put a new file
/// in its place would take an emulated processor six times as long: all that code is translated first.
fn write_over(path: &Path, contents: &str) -> io::Result<bool> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(false);
    };
    if !found.is_file() || found.nlink() != 1 {
        return Ok(false);
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all_at(contents.as_bytes(), 0)?;
    let length = contents.len() as u64;
    if found.len() > length {
        file.set_len(length)?;
    }
    Ok(true)
}

fn write_beside(directory: &Path, name: &str, contents: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".{name}.banger"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)?;
    file.write_all(contents.as_bytes())?;
    fs::rename(&temporary, directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn web() -> Hostname {
        "web".parse().unwrap()
    }

    #[test]
    fn hosts_keeps_what_was_there_and_names_the_machine() {
        let check = |old: &str, new: &str| assert_eq!(hosts(old, &web()), new, "{old:?}");
        let localhosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        check("", &format!("{localhosts}127.0.1.1\tweb\n"));
        check(
            "127.0.0.1 localhost\n::1 localhost\n",
            "127.0.0.1 localhost\n::1 localhost\n127.0.1.1\tweb\n",
        );
        check(
            "127.0.0.1 a\n127.0.1.1 builder\n::1 b\n10.0.0.1 db\n",
            "127.0.0.1 a\n::1 b\n10.0.0.1 db\n127.0.1.1\tweb\n",
        );
    }

    proptest! {
        #[test]
        fn naming_a_machine_twice_changes_nothing(old in "[ -~\n\t]{0,200}") {
            let once = hosts(&old, &web());
            prop_assert_eq!(hosts(&once, &web()), once);
        }
    }

    #[test]
    fn only_a_machine_that_has_an_id_gets_another() {
        let dir = tempfile::tempdir().unwrap();
        let id = MachineId::try_from("00112233445566778899aabbccddeeff".to_owned()).unwrap();
        let (etc, dbus) = (dir.path().join("etc"), dir.path().join("var/lib/dbus"));
        write_machine_id(dir.path(), &id).unwrap();
        assert!(!etc.exists());
        fs::create_dir_all(&etc).unwrap();
        fs::create_dir_all(&dbus).unwrap();
        fs::write(etc.join("machine-id"), "ffeeddccbbaa99887766554433221100\n").unwrap();
        std::os::unix::fs::symlink("/etc/machine-id", dbus.join("machine-id")).unwrap();
        write_machine_id(dir.path(), &id).unwrap();
        let text = fs::read_to_string(etc.join("machine-id")).unwrap();
        assert_eq!(text, format!("{id}\n"));
        assert!(dbus.join("machine-id").is_symlink());
        fs::write(etc.join("machine-id"), "").unwrap();
        write_machine_id(dir.path(), &id).unwrap();
        assert_eq!(fs::read_to_string(etc.join("machine-id")).unwrap(), "");
    }

    #[test]
    fn a_link_is_replaced_and_its_target_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, target) = (dir.path().join("etc"), dir.path().join("target"));
        fs::create_dir(&etc).unwrap();
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, etc.join("resolv.conf")).unwrap();
        replace(&etc, "resolv.conf", "nameserver 10.0.2.3\n").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(
            read(&etc.join("resolv.conf")).unwrap(),
            "nameserver 10.0.2.3\n"
        );
        assert_eq!(fs::read_dir(&etc).unwrap().count(), 1);
    }

    #[test]
    fn a_file_with_two_names_is_replaced_under_ours() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("hosts"), dir.path().join("other"));
        fs::write(&other, "precious").unwrap();
        fs::hard_link(&other, &file).unwrap();
        replace(dir.path(), "hosts", "a\n").unwrap();
        assert_eq!(read(&other).unwrap(), "precious");
        assert_eq!(read(&file).unwrap(), "a\n");
    }

    #[test]
    fn a_plain_file_is_written_over_by_longer_and_shorter_texts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hostname");
        for text in ["origin\n", "a-longer-name\n", "c\n"] {
            replace(dir.path(), "hostname", text).unwrap();
            assert_eq!(read(&file).unwrap(), text);
        }
    }

    #[test]
    fn a_missing_directory_is_created_and_a_leftover_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        replace(&etc, "hostname", "a\n").unwrap();
        std::os::unix::fs::symlink("/dev/full", etc.join(".hostname.banger")).unwrap();
        replace(&etc, "hostname", "b\n").unwrap();
        assert_eq!(read(&etc.join("hostname")).unwrap(), "b\n");
    }
}
