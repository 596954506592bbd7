//! Owns what later code has to know of a root file system before it boots: its init, its shell,
//! its distribution, its processor. Reads trees and a little data; decides nothing.

use std::collections::BTreeMap;
use std::io;

use super::image::Data;
use super::node::{Content, Kind, NodeId};
use super::tree::{Last, Tree};

/// More than any honest `os-release` has.
const OS_RELEASE_MOST: u64 = 64 << 10;
/// The longest value that is kept.
const VALUE_MOST: usize = 256;
/// How many executables are looked into for the processor that they are for.
const EXECUTABLES_MOST: usize = 4096;
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
const ELF_HEAD: u64 = 20;

/// What a root file system has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Where systemd's own program is.
    pub systemd: Option<&'static str>,
    /// `/sbin/init`, if there is one.
    pub init: Option<Init>,
    /// Whether `/bin/sh` leads to an executable.
    pub has_shell: bool,
    pub os_release: OsRelease,
    /// The processor that its programs are for.
    pub machine: Option<Machine>,
}

/// What `/sbin/init` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// A program.
    Program,
    /// A symbolic link with this target.
    Link(String),
}

/// A part of `os-release`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsRelease {
    pub id: Option<String>,
    pub id_like: Option<String>,
    pub version_id: Option<String>,
    pub version: Option<String>,
    pub pretty_name: Option<String>,
}

/// A processor by ELF's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Aarch64,
    /// Any other, by its number.
    Other(u16),
}

/// Looks a tree over.
pub(crate) fn gather(tree: &Tree, data: &Data<'_>) -> io::Result<Facts> {
    let exists = |path: &str| {
        tree.lookup(path, Last::Follow)
            .is_some_and(|id| is_program(tree, id))
    };
    Ok(Facts {
        systemd: SYSTEMD.into_iter().find(|path| exists(path)),
        init: init(tree),
        has_shell: exists("/bin/sh"),
        os_release: os_release(tree, data)?,
        machine: machine(tree, data)?,
    })
}

fn is_program(tree: &Tree, id: NodeId) -> bool {
    let node = tree.node(id);
    matches!(node.kind, Kind::File(_)) && node.attrs.mode & 0o111 != 0
}

fn init(tree: &Tree) -> Option<Init> {
    let id = tree.lookup("/sbin/init", Last::Keep)?;
    match &tree.node(id).kind {
        Kind::Symlink(target) => Some(Init::Link(String::from_utf8_lossy(target).into_owned())),
        Kind::File(_) => is_program(tree, id).then_some(Init::Program),
        Kind::Directory(_) | Kind::Special(_) => None,
    }
}

fn file<'t>(tree: &'t Tree, path: &str) -> Option<&'t Content> {
    content(tree, tree.lookup(path, Last::Follow)?)
}

fn content(tree: &Tree, id: NodeId) -> Option<&Content> {
    match &tree.node(id).kind {
        Kind::File(content) => Some(content),
        Kind::Directory(_) | Kind::Symlink(_) | Kind::Special(_) => None,
    }
}

fn os_release(tree: &Tree, data: &Data<'_>) -> io::Result<OsRelease> {
    let found = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| file(tree, path));
    let Some(content) = found else {
        return Ok(OsRelease::default());
    };
    let raw = data.head(content, OS_RELEASE_MOST)?;
    Ok(OsRelease::parse(&String::from_utf8_lossy(&raw)))
}

impl OsRelease {
    /// Reads the assignments of a file of that name; what is no assignment is passed over.
    pub fn parse(text: &str) -> Self {
        let mut found: BTreeMap<&str, String> = text
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .filter_map(|(key, value)| Some((key, unquote(value)?)))
            .collect();
        Self {
            id: found.remove("ID"),
            id_like: found.remove("ID_LIKE"),
            version_id: found.remove("VERSION_ID"),
            version: found.remove("VERSION"),
            pretty_name: found.remove("PRETTY_NAME"),
        }
    }
}

/// A value as a shell would take it; nothing for one that is too long or not printable.
fn unquote(raw: &str) -> Option<String> {
    let raw = raw.trim();
    let inner = match raw.chars().next() {
        Some(quote @ ('"' | '\'')) => raw[1..].strip_suffix(quote)?,
        Some(_) | None => raw,
    };
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' { chars.next()? } else { c };
        value.push(c);
    }
    let fine = value.len() <= VALUE_MOST && !value.chars().any(char::is_control);
    fine.then_some(value)
}

/// The shell tells it, or init, or the first program found.
fn machine(tree: &Tree, data: &Data<'_>) -> io::Result<Option<Machine>> {
    for path in ["/bin/sh", "/sbin/init"] {
        if let Some(machine) = file(tree, path)
            .map(|c| elf_machine(c, data))
            .transpose()?
            .flatten()
        {
            return Ok(Some(machine));
        }
    }
    let mut looked_into = 0;
    let mut stack = vec![NodeId::ROOT];
    while let Some(id) = stack.pop() {
        if let Some(directory) = tree.directory(id) {
            stack.extend(directory.children().rev().map(|(_, child)| child));
        } else if let Some(content) = content(tree, id).filter(|_| is_program(tree, id)) {
            looked_into += 1;
            if let Some(machine) = elf_machine(content, data)? {
                return Ok(Some(machine));
            }
        }
        if looked_into == EXECUTABLES_MOST {
            break;
        }
    }
    Ok(None)
}

fn elf_machine(content: &Content, data: &Data<'_>) -> io::Result<Option<Machine>> {
    let head = data.head(content, ELF_HEAD)?;
    let [0x7f, b'E', b'L', b'F', _, order, .., low, high] = head[..] else {
        return Ok(None);
    };
    if head.len() < ELF_HEAD as usize {
        return Ok(None);
    }
    let number = match order {
        2 => u16::from_be_bytes([low, high]),
        _ => u16::from_le_bytes([low, high]),
    };
    Ok(Some(match number {
        62 => Machine::X86_64,
        183 => Machine::Aarch64,
        other => Machine::Other(other),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let text = "PRETTY_NAME=\"Debian \\\"12\\\"\"\n# ID=no\nID=debian\n VERSION_ID='12'\nNAME\n\
                    ID_LIKE=\"open\nVERSION=\"1\u{1b}[2J\"\n";
        let expected = OsRelease {
            id: Some("debian".into()),
            version_id: Some("12".into()),
            pretty_name: Some("Debian \"12\"".into()),
            ..OsRelease::default()
        };
        assert_eq!(OsRelease::parse(text), expected);
    }

    #[test]
    fn values_are_bounded() {
        let text = format!("ID={}\nVERSION={}\n", "x".repeat(257), "y".repeat(256));
        let parsed = OsRelease::parse(&text);
        assert!(parsed.id.is_none() && parsed.version.is_some());
    }
}
