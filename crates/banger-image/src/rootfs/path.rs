//! Owns paths from outside: parsed once, confined, bounded. Knows no tree and no host path.

use super::error::EntryError;
use crate::ext4::NAME_MAX;

/// A path below a root, without `.`, `..`, empty names or a leading `/`. Empty is the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// Takes a path as an archive spells it. An absolute one is taken as below the root, as tar
    /// does; one with `..` is refused, for no honest archive has it.
    pub fn parse(raw: &[u8], most: usize) -> Result<Self, EntryError> {
        if raw.len() > most {
            return Err(EntryError::PathTooLong {
                len: raw.len(),
                most,
            });
        }
        if raw.contains(&0) {
            return Err(EntryError::ZeroByte);
        }
        let mut clean = Vec::with_capacity(raw.len());
        for name in raw.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(EntryError::ParentComponent),
                name if name.len() > NAME_MAX => {
                    return Err(EntryError::NameTooLong { len: name.len() });
                }
                name => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(name);
                }
            }
        }
        Ok(Self(clean))
    }

    /// The names joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names from the root on.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
    }

    /// The way to the last name, and that name; nothing for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self(Vec::new()), &self.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_confined() {
        let check = |raw: &str, clean: &str| {
            let parsed = TreePath::parse(raw.as_bytes(), 100).expect("a path");
            assert_eq!(parsed.as_bytes(), clean.as_bytes(), "{raw}");
        };
        check("./", "");
        check("/", "");
        check("./usr//bin/./env/", "usr/bin/env");
        check("/etc/passwd", "etc/passwd");
        check("...", "...");
    }

    #[test]
    fn paths_that_climb_or_overflow_are_refused() {
        let check = |raw: &[u8]| TreePath::parse(raw, 300).expect_err("refused");
        assert_eq!(check(b"a/../b"), EntryError::ParentComponent);
        assert_eq!(check(b"../b"), EntryError::ParentComponent);
        assert_eq!(check(b"a\0b"), EntryError::ZeroByte);
        assert_eq!(check(&[b'n'; 256]), EntryError::NameTooLong { len: 256 });
        assert_eq!(
            check(&[b'/'; 301]),
            EntryError::PathTooLong {
                len: 301,
                most: 300
            }
        );
    }
}
