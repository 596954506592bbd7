//! The two small images of the stories, made out of the host's static busybox: a system without
//! systemd, and a single program. Knows tar; knows no banger.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use tar::{Builder, EntryType, Header};

/// Debian's `busybox-static` puts it there; it needs no library.
const BUSYBOX: &str = "/bin/busybox";

/// Names under which a program would be taken for the first process.
const INITS: [&str; 2] = ["init", "linuxrc"];

/// A root file system with a shell, the usual tools and two users, but without an init.
#[must_use]
pub fn busybox_tar() -> Vec<u8> {
    busybox_root().finish()
}

/// The same with programs of the host, and the libraries that they need. Nothing where the host lacks one.
#[must_use]
pub fn busybox_tar_with(programs: &[&str]) -> Option<Vec<u8>> {
    let mut files = BTreeSet::new();
    for program in programs {
        let listed = Command::new("ldd").arg(program).output().ok()?;
        let listed = String::from_utf8(listed.stdout)
            .ok()
            .filter(|_| listed.status.success())?;
        files.extend(
            listed
                .split_ascii_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(str::to_owned),
        );
        files.insert((*program).to_owned());
    }
    let mut tar = busybox_root();
    let mut made = BTreeSet::new();
    for file in files {
        for parent in Path::new(&file)
            .ancestors()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let path = parent.to_str()?.trim_start_matches('/');
            if !matches!(path, "" | "bin" | "etc") && made.insert(path.to_owned()) {
                tar.directory(path, 0o755);
            }
        }
        tar.file(file.trim_start_matches('/'), 0o755, &fs::read(&file).ok()?);
    }
    Some(tar.finish())
}

fn busybox_root() -> Root {
    let mut tar = Root::default();
    for (path, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("var", 0o755),
    ] {
        tar.directory(path, mode);
    }
    tar.file("bin/busybox", 0o755, &busybox());
    for applet in applets() {
        tar.link(&format!("bin/{applet}"), "busybox");
    }
    tar.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    );
    tar.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    tar.file(
        "etc/os-release",
        0o644,
        b"ID=busybox\nPRETTY_NAME=\"Busybox of the stories\"\n",
    );
    tar
}

/// An image that holds one program, `/bin/echo`, and nothing else: no shell, no users.
#[must_use]
pub fn one_binary_tar() -> Vec<u8> {
    let mut tar = Root::default();
    tar.file("bin/echo", 0o755, &busybox());
    tar.finish()
}

fn busybox() -> Vec<u8> {
    match fs::read(BUSYBOX) {
        Ok(program) => program,
        Err(error) => {
            panic!("the stories need busybox-static, and {BUSYBOX} cannot be read: {error}")
        }
    }
}

fn applets() -> Vec<String> {
    let listed = Command::new(BUSYBOX).arg("--list").output();
    let listed = listed.expect("busybox was read a moment ago");
    let text = String::from_utf8(listed.stdout).expect("applets have ASCII names");
    let ours = |name: &&str| !INITS.contains(name) && *name != "busybox";
    text.lines().filter(ours).map(str::to_owned).collect()
}

/// A tar that belongs to root and always has the same bytes.
struct Root(Builder<Vec<u8>>);

impl Default for Root {
    fn default() -> Self {
        Self(Builder::new(Vec::new()))
    }
}

impl Root {
    fn directory(&mut self, path: &str, mode: u32) {
        self.append(EntryType::Directory, path, mode, None, &[]);
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.append(EntryType::Regular, path, mode, None, content);
    }

    fn link(&mut self, path: &str, target: &str) {
        self.append(EntryType::Symlink, path, 0o777, Some(target), &[]);
    }

    fn append(
        &mut self,
        kind: EntryType,
        path: &str,
        mode: u32,
        link: Option<&str>,
        content: &[u8],
    ) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        let appended = match link {
            Some(target) => self.0.append_link(&mut header, path, Path::new(target)),
            None => self.0.append_data(&mut header, path, content),
        };
        appended.expect("a tar in memory takes everything");
    }

    fn finish(self) -> Vec<u8> {
        self.0
            .into_inner()
            .expect("a tar in memory takes everything")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entries(tar: &[u8]) -> BTreeMap<String, EntryType> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().entry_type(),
                )
            })
            .collect()
    }

    #[test]
    fn the_busybox_image_has_a_shell_and_no_init() {
        let entries = entries(&busybox_tar());
        assert_eq!(entries["bin/busybox"], EntryType::Regular);
        assert_eq!(entries["bin/sh"], EntryType::Symlink);
        assert!(!entries.contains_key("bin/init"));
    }

    #[test]
    fn the_other_image_has_one_program() {
        assert_eq!(
            entries(&one_binary_tar()).into_keys().collect::<Vec<_>>(),
            ["bin/echo"]
        );
    }
}
