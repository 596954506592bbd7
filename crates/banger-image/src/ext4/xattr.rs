//! Owns extended attributes as ext4 stores them: which names exist, how access control lists
//! are written on disk, and how much room there is. Knows no archive's spelling of them.

use std::collections::BTreeMap;

use thiserror::Error;

use super::acl::Acl;

const ACCESS_LIST: &str = "system.posix_acl_access";
const DEFAULT_LIST: &str = "system.posix_acl_default";
/// The room for attributes inside the inode, after their magic number.
const INODE_ROOM: usize = 92;
/// The room in the one block outside of the inode, header and terminator taken off.
const BLOCK_ROOM: usize = 4096 - 32 - 4;

/// One attribute, ready for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    name: Box<str>,
    value: Box<[u8]>,
}

/// An attribute that ext4 cannot hold.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum XattrError {
    #[error("the attribute {name:?} has a name that is not UTF-8")]
    NotText { name: String },
    #[error("the attribute {name:?} is in no namespace that ext4 knows")]
    Namespace { name: String },
    #[error("the attribute {name:?} has a name of {len} bytes, the most is 255")]
    NameTooLong { name: String, len: usize },
    #[error("the attribute {name:?} is no valid access control list")]
    Acl { name: String },
    #[error("{len} bytes of attributes do not fit the inode and its one block")]
    TooMuch { len: usize },
}

impl Xattr {
    /// Takes an attribute as the system call `setxattr` would.
    pub fn new(name: &[u8], value: &[u8]) -> Result<Self, XattrError> {
        let lossy = || String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
        let text = std::str::from_utf8(name).map_err(|_| XattrError::NotText { name: lossy() })?;
        let (_, suffix) = split(text).ok_or_else(|| XattrError::Namespace { name: lossy() })?;
        if suffix.len() > 255 {
            return Err(XattrError::NameTooLong {
                name: lossy(),
                len: name.len(),
            });
        }
        let value = match text {
            ACCESS_LIST | DEFAULT_LIST => Acl::parse(value)
                .ok_or_else(|| XattrError::Acl { name: lossy() })?
                .on_disk(),
            _ => value.to_vec(),
        };
        Ok(Self {
            name: text.into(),
            value: value.into(),
        })
    }

    /// The full name with its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes as the disk holds them.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// What a set of attributes becomes when a kernel takes it, one by one: a list of access rights
/// changes the mode, and is not kept where it says no more than the mode does.
pub(crate) fn settle(
    raw: &BTreeMap<Vec<u8>, Vec<u8>>,
    takes_lists: bool,
    mode: &mut u16,
) -> Result<Vec<Xattr>, XattrError> {
    let mut kept = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        let is_access = name == ACCESS_LIST.as_bytes();
        let is_list = is_access || name == DEFAULT_LIST.as_bytes();
        if is_list && !takes_lists {
            continue;
        }
        let xattr = Xattr::new(name, value)?;
        if is_list {
            let acl = Acl::parse(value).expect("it was parsed above");
            if is_access {
                *mode = acl.applied_to(*mode);
            }
            if acl.is_empty() || is_access && acl.is_minimal() {
                continue;
            }
        }
        kept.push(xattr);
    }
    check_fits(&kept)?;
    Ok(kept)
}

/// The mode and attributes of a directory that is made in another, with the default list that it
/// takes over from there.
pub(crate) fn inherit(parent: &[Xattr], mode: u16) -> (u16, Vec<Xattr>) {
    let default = parent.iter().find(|xattr| &*xattr.name == DEFAULT_LIST);
    let acl = default.and_then(|xattr| Acl::from_disk(&xattr.value));
    let (Some(default), Some(acl)) = (default, acl) else {
        return (mode, Vec::new());
    };
    let mut inherited = vec![default.clone()];
    if !acl.is_minimal() {
        inherited.push(Xattr {
            name: ACCESS_LIST.into(),
            value: default.value.clone(),
        });
    }
    (acl.applied_to(mode), inherited)
}

/// The namespace's number on disk and what remains of the name.
fn split(name: &str) -> Option<(u8, &str)> {
    match name {
        ACCESS_LIST => return Some((2, "")),
        DEFAULT_LIST => return Some((3, "")),
        _ => {}
    }
    let spaces = [
        ("user.", 1),
        ("trusted.", 4),
        ("security.", 6),
        ("system.", 7),
    ];
    spaces
        .iter()
        .find_map(|(prefix, index)| name.strip_prefix(prefix).map(|rest| (*index, rest)))
        .filter(|(_, rest)| !rest.is_empty())
}

/// Attributes in the disk's order, as many as fit in the inode, all others in one block.
pub(super) struct Shares<'a> {
    pub(super) inode: Vec<Stored<'a>>,
    pub(super) block: Vec<Stored<'a>>,
}

/// An attribute as its record spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stored<'a> {
    pub(super) index: u8,
    /// The disk's order is by length before the letters.
    len: usize,
    pub(super) suffix: &'a str,
    pub(super) value: &'a [u8],
}

impl Stored<'_> {
    pub(super) fn record_len(&self) -> usize {
        16 + self.suffix.len().next_multiple_of(4)
    }

    fn room(&self) -> usize {
        self.record_len() + self.value.len().next_multiple_of(4)
    }
}

pub(super) fn shares(xattrs: &[Xattr]) -> Result<Shares<'_>, XattrError> {
    fn stored(xattr: &Xattr) -> Option<Stored<'_>> {
        split(&xattr.name).map(|(index, suffix)| Stored {
            index,
            len: suffix.len(),
            suffix,
            value: &xattr.value,
        })
    }
    let mut sorted: Vec<_> = xattrs.iter().filter_map(stored).collect();
    sorted.sort_unstable();
    let mut inside = 4;
    let fits = sorted.iter().take_while(|xattr| {
        inside += xattr.room();
        inside <= INODE_ROOM
    });
    let outside = sorted.split_off(fits.count());
    let bytes: usize = outside.iter().map(Stored::room).sum();
    if bytes > BLOCK_ROOM {
        let len = sorted.iter().map(Stored::room).sum::<usize>() + bytes;
        return Err(XattrError::TooMuch { len });
    }
    Ok(Shares {
        inode: sorted,
        block: outside,
    })
}

/// Whether a set of attributes has room: as many as fit go into the inode, in the disk's
/// order, and all others share one block.
fn check_fits(xattrs: &[Xattr]) -> Result<(), XattrError> {
    shares(xattrs).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lists_that_ext4_lacks_are_refused() {
        let check = |name: &[u8], value: &[u8]| Xattr::new(name, value).expect_err("refused");
        assert!(matches!(
            check(b"user.\xff", b""),
            XattrError::NotText { .. }
        ));
        assert!(matches!(
            check(b"btrfs.compression", b""),
            XattrError::Namespace { .. }
        ));
        assert!(matches!(check(b"user.", b""), XattrError::Namespace { .. }));
        assert!(matches!(
            check(format!("user.{}", "n".repeat(256)).as_bytes(), b""),
            XattrError::NameTooLong { .. }
        ));
        assert!(matches!(
            check(b"system.posix_acl_access", b"\x02\0\0\0x"),
            XattrError::Acl { .. }
        ));
    }

    #[test]
    fn a_list_of_access_rights_changes_the_mode() {
        let list = |middle: &[u8]| {
            let (user, group, other) = ([1, 0, 6, 0], [4, 0, 4, 0], [32, 0, 0, 0]);
            let undefined = [255; 4];
            let mut raw = vec![2, 0, 0, 0];
            for entry in [&user, &group] {
                raw.extend_from_slice(entry);
                raw.extend_from_slice(&undefined);
            }
            raw.extend_from_slice(middle);
            raw.extend_from_slice(&other);
            raw.extend_from_slice(&undefined);
            BTreeMap::from([(ACCESS_LIST.as_bytes().to_vec(), raw)])
        };
        let check = |raw, takes, expected_mode, expected_count| {
            let mut mode = 0o4777;
            let kept = settle(&raw, takes, &mut mode).expect("valid");
            assert_eq!((mode, kept.len()), (expected_mode, expected_count));
        };
        check(list(&[]), true, 0o4640, 0);
        check(list(&[]), false, 0o4777, 0);
        let mask_and_group = [8, 0, 7, 0, 9, 0, 0, 0, 16, 0, 1, 0, 255, 255, 255, 255];
        check(list(&mask_and_group), true, 0o4610, 1);
    }

    #[test]
    fn room_is_the_inode_and_one_block() {
        let check = |sizes: &[usize]| {
            let set: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(i, len)| {
                    Xattr::new(format!("user.{i:03}").as_bytes(), &vec![0; *len]).expect("valid")
                })
                .collect();
            check_fits(&set).is_ok()
        };
        assert!(check(&[]));
        assert!(check(&[68, 4040]));
        assert!(!check(&[68, 4044]));
        assert!(check(&[4040]));
        assert!(!check(&[2000, 2000, 100]));
    }
}
