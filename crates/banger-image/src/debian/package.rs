//! Owns taking a few members out of a .deb: an ar archive that holds a packed tar archive.
//! Treats every name and length in it as hostile. Knows no kernels: the caller says what it wants.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::decompress::{self, Bounded};

/// More than any kernel package unpacks to.
const LARGEST_DATA: u64 = 2 * 1024 * 1024 * 1024;
const MOST_ENTRIES: usize = 200_000;
const LONGEST_NAME: u64 = 4096;
const FORMAT: &[u8] = b"2.0\n";

/// What came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub files: u64,
    pub bytes: u64,
}

/// Why a .deb was refused.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    #[error("cannot read the package")]
    Read { source: io::Error },
    #[error("it is not a Debian package of format 2.0")]
    Format,
    #[error("it has no data archive")]
    NoData,
    #[error("it holds the unsafe name {name:?}")]
    UnsafeName { name: String },
    #[error("its member {name:?} is not a plain file")]
    NotAFile { name: String },
    #[error("it holds the member {name:?} twice")]
    Twice { name: String },
    #[error("its data archive is of a kind that packages do not use")]
    Dialect,
    #[error("it holds more than {MOST_ENTRIES} members")]
    TooMany,
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("unpacking was given up")]
    GivenUp,
}

/// What to do with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Skip,
    /// Write it here; the parent directories are made.
    Place(PathBuf),
}

/// Unpacks the plain files for which `choose` names a place. `go_on` is asked before each member.
pub fn unpack(
    package: impl Read,
    choose: impl Fn(&Path) -> Verdict,
    go_on: impl Fn(Unpacked) -> bool,
) -> Result<Unpacked, DebError> {
    let mut outer = ar::Archive::new(package);
    check_format(&mut outer)?;
    while let Some(member) = outer.next_entry() {
        let member = member.map_err(read_error)?;
        if member.header().identifier().starts_with(b"data.tar") {
            let data = decompress::reader(member).map_err(read_error)?;
            return unpack_tar(Bounded::new(data, LARGEST_DATA), choose, go_on);
        }
    }
    Err(DebError::NoData)
}

fn read_error(source: io::Error) -> DebError {
    DebError::Read { source }
}

fn check_format(outer: &mut ar::Archive<impl Read>) -> Result<(), DebError> {
    let first = outer.next_entry().ok_or(DebError::Format)?;
    let first = first.map_err(|_| DebError::Format)?;
    if first.header().identifier() != b"debian-binary" {
        return Err(DebError::Format);
    }
    let version = decompress::read_all(first, 64).map_err(|_| DebError::Format)?;
    if version.starts_with(b"2.") && version.len() >= FORMAT.len() {
        Ok(())
    } else {
        Err(DebError::Format)
    }
}

/// The same for a plain tar archive.
pub(crate) fn unpack_tar(
    data: impl Read,
    choose: impl Fn(&Path) -> Verdict,
    go_on: impl Fn(Unpacked) -> bool,
) -> Result<Unpacked, DebError> {
    let mut archive = tar::Archive::new(data);
    let mut done = Unpacked::default();
    let mut long_name = None;
    // Raw entries, because only so the length of a long name can be bounded before it is read.
    let entries = archive.entries().map_err(read_error)?.raw(true);
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(read_error)?;
        if count == MOST_ENTRIES {
            return Err(DebError::TooMany);
        }
        if !go_on(done) {
            return Err(DebError::GivenUp);
        }
        match entry.header().entry_type() {
            tar::EntryType::GNULongName => long_name = Some(read_long_name(&mut entry)?),
            tar::EntryType::GNULongLink => {}
            tar::EntryType::XHeader | tar::EntryType::XGlobalHeader => {
                return Err(DebError::Dialect);
            }
            kind => {
                let raw = long_name
                    .take()
                    .unwrap_or_else(|| entry.path_bytes().into_owned());
                if let Verdict::Place(target) = choose(&safe_path(&raw)?) {
                    if kind.is_dir() {
                        continue;
                    }
                    if !kind.is_file() {
                        return Err(DebError::NotAFile { name: lossy(&raw) });
                    }
                    done.bytes += place(&mut entry, &target, &raw)?;
                    done.files += 1;
                }
            }
        }
    }
    Ok(done)
}

fn read_long_name(entry: &mut impl Read) -> Result<Vec<u8>, DebError> {
    let name = decompress::read_all(entry, LONGEST_NAME).map_err(read_error)?;
    Ok(name
        .split(|b| *b == 0)
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// The member's path without its leading `./`; nothing that climbs or starts at the root.
fn safe_path(raw: &[u8]) -> Result<PathBuf, DebError> {
    let refused = || DebError::UnsafeName { name: lossy(raw) };
    let text = std::str::from_utf8(raw).map_err(|_| refused())?;
    if text.contains('\0') {
        return Err(refused());
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => path.push(part),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(refused());
            }
        }
    }
    Ok(path)
}

fn lossy(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).chars().take(200).collect()
}

fn place(member: &mut impl Read, target: &Path, raw: &[u8]) -> Result<u64, DebError> {
    let write_error = |source: io::Error| DebError::Write {
        path: target.to_owned(),
        source,
    };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(write_error)?;
    }
    let mut file = match File::create_new(target) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(DebError::Twice { name: lossy(raw) });
        }
        Err(source) => return Err(write_error(source)),
    };
    copy(member, &mut file, target)
}

/// Like [`io::copy`], but tells a package that cannot be read from a file that cannot be written.
fn copy(from: &mut impl Read, to: &mut File, target: &Path) -> Result<u64, DebError> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        let n = from.read(&mut buffer).map_err(read_error)?;
        if n == 0 {
            return Ok(total);
        }
        io::Write::write_all(to, &buffer[..n]).map_err(|source| DebError::Write {
            path: target.to_owned(),
            source,
        })?;
        total += n as u64;
    }
}
