//! Owns extended attributes as ext4 stores them: which names exist, how access control lists
//! are written on disk, and how much room there is. Knows no archive's spelling of them.

use thiserror::Error;

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
            "system.posix_acl_access" | "system.posix_acl_default" => {
                acl_on_disk(value).ok_or_else(|| XattrError::Acl { name: lossy() })?
            }
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

/// The namespace's number on disk and what remains of the name.
fn split(name: &str) -> Option<(u8, &str)> {
    match name {
        "system.posix_acl_access" => return Some((2, "")),
        "system.posix_acl_default" => return Some((3, "")),
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

/// Rewrites a list from the form of the system call (version 2, an id in each entry) into the
/// form of the disk (version 1, an id only where it means something). The kernel refuses the
/// first form on disk with EINVAL, and no checker notices.
fn acl_on_disk(value: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let mut out = 1_u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        out.extend_from_slice(&entry[..4]);
        match u16::from_le_bytes([entry[0], entry[1]]) {
            ACL_USER | ACL_GROUP => out.extend_from_slice(&entry[4..]),
            ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_MASK | ACL_OTHER => {}
            _ => return None,
        }
    }
    Some(out)
}

const ACL_USER_OBJ: u16 = 0x01;
const ACL_USER: u16 = 0x02;
const ACL_GROUP_OBJ: u16 = 0x04;
const ACL_GROUP: u16 = 0x08;
const ACL_MASK: u16 = 0x10;
const ACL_OTHER: u16 = 0x20;

/// Whether a set of attributes has room: as many as fit go into the inode, in the disk's
/// order, and all others share one block.
pub fn check_fits(xattrs: &[Xattr]) -> Result<(), XattrError> {
    let mut sorted: Vec<_> = xattrs
        .iter()
        .filter_map(|x| {
            split(&x.name).map(|(index, suffix)| (index, suffix.len(), suffix, x.value.len()))
        })
        .collect();
    sorted.sort_unstable();
    let room =
        |suffix: usize, value: usize| 16 + suffix.next_multiple_of(4) + value.next_multiple_of(4);
    let mut inode = 4;
    let mut rest = sorted
        .iter()
        .map(|(_, suffix, _, value)| room(*suffix, *value))
        .peekable();
    while let Some(bytes) = rest.next_if(|bytes| inode + bytes <= INODE_ROOM) {
        inode += bytes;
    }
    let outside: usize = rest.sum();
    if outside > BLOCK_ROOM {
        return Err(XattrError::TooMuch {
            len: inode + outside,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut raw = 2_u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            raw.extend_from_slice(&tag.to_le_bytes());
            raw.extend_from_slice(&perm.to_le_bytes());
            raw.extend_from_slice(&id.to_le_bytes());
        }
        raw
    }

    #[test]
    fn lists_keep_ids_only_where_they_mean_something() {
        let raw = acl(&[
            (1, 6, u32::MAX),
            (2, 4, 1000),
            (4, 4, u32::MAX),
            (0x10, 4, u32::MAX),
            (0x20, 4, u32::MAX),
        ]);
        let on_disk = Xattr::new(b"system.posix_acl_access", &raw).expect("valid");
        let expected = [
            1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0x10, 0, 4, 0, 0x20, 0,
            4, 0,
        ];
        assert_eq!(on_disk.value(), expected);
    }

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
        assert!(matches!(
            check(b"system.posix_acl_default", &acl(&[(3, 0, 0)])),
            XattrError::Acl { .. }
        ));
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
