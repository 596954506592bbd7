//! Owns the table of a tar's files: where each begins and how long it is. Reads no content.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tar::{Archive, EntryType};

use super::error::LayoutError;
use super::files::failed;

/// More files than any image has layers, many times over.
const MOST: usize = 100_000;
/// Old versions of docker link layers that are equal.
const MOST_LINKS: usize = 8;
const LONGEST_NAME: usize = 1024;

#[derive(Debug)]
enum Entry {
    File {
        begin: u64,
        length: u64,
    },
    /// Another name, from the archive's root.
    Link(String),
}

#[derive(Debug)]
pub(super) struct TarIndex(HashMap<String, Entry>);

impl TarIndex {
    pub(super) fn read(file: &File, path: &Path) -> Result<Self, LayoutError> {
        let failed = failed("read the archive", path);
        let mut entries = HashMap::new();
        let mut archive = Archive::new(BufReader::with_capacity(4096, file));
        for entry in archive.entries_with_seek().map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            let Some(name) = normal("", &entry.path_bytes()) else {
                continue;
            };
            if entries.len() >= MOST {
                return Err(LayoutError::TooMany {
                    path: path.to_owned(),
                    most: MOST,
                });
            }
            let found = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => Entry::File {
                    begin: entry.raw_file_position(),
                    length: entry.size(),
                },
                EntryType::Symlink | EntryType::Link => {
                    let from = match entry.header().entry_type() {
                        EntryType::Symlink => name.rsplit_once('/').map_or("", |(dir, _)| dir),
                        _ => "",
                    };
                    let target = entry.link_name_bytes().and_then(|to| normal(from, &to));
                    let Some(target) = target else { continue };
                    Entry::Link(target)
                }
                _ => continue,
            };
            entries.insert(name, found);
        }
        Ok(Self(entries))
    }

    /// Where a file's bytes begin, and how many they are.
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal("", name.as_bytes())?;
        for _ in 0..MOST_LINKS {
            match self.0.get(&name)? {
                Entry::File { begin, length } => return Some((*begin, *length)),
                Entry::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

/// A name without `.` and `..`, seen from a directory; `None` for what leads out.
fn normal(directory: &str, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if name.len() > LONGEST_NAME || name.starts_with('/') {
        return None;
    }
    let mut words: Vec<&str> = directory
        .split('/')
        .filter(|word| !word.is_empty())
        .collect();
    for word in name.split('/') {
        match word {
            "" | "." => {}
            ".." => drop(words.pop()?),
            word => words.push(word),
        }
    }
    Some(words.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_lead_out() {
        let check = |directory: &str, name: &str, expected: Option<&str>| {
            let found = normal(directory, name.as_bytes());
            assert_eq!(found.as_deref(), expected, "{directory} {name}");
        };
        check("", "./a//b", Some("a/b"));
        check("a/b", "../c/layer.tar", Some("a/c/layer.tar"));
        check("a", "../../b", None);
        check("", "/etc/passwd", None);
        assert_eq!(normal("", b"\xff"), None);
    }

    #[test]
    fn links_are_followed_to_files_and_not_in_circles() {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        builder
            .append_data(&mut header, "a/layer.tar", &b"abc"[..])
            .unwrap();
        let mut link = |name: &str, target: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        };
        link("b/layer.tar", "../a/layer.tar");
        link("c", "d");
        link("d", "c");
        link("e", "../../../etc/passwd");
        let file = builder.into_inner().unwrap();
        use std::io::Seek;
        (&file).rewind().unwrap();
        let index = TarIndex::read(&file, Path::new("x")).unwrap();
        assert_eq!(index.find("./a/layer.tar"), index.find("b/layer.tar"));
        assert_eq!(index.find("a/layer.tar").map(|(_, length)| length), Some(3));
        for gone in ["c", "d", "e", "f"] {
            assert_eq!(index.find(gone), None, "{gone}");
        }
    }
}
