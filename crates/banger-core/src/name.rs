//! Names and identities, parsed once at the edge. Knows no VM.

use std::{fmt, str::FromStr};

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a VM name has 1 to 63 characters, \"{0}\" has {len}", len = .0.len())]
    VmLength(String),
    #[error("a VM name has only a-z, 0-9 and -, with no - at either end: \"{0}\"")]
    VmCharacters(String),
    #[error("an image name has 1 to 128 characters, \"{0}\" has {len}", len = .0.len())]
    ImageLength(String),
    #[error(
        "an image name has only a-z, 0-9 and . _ -, and begins with a letter or digit: \"{0}\""
    )]
    ImageCharacters(String),
    #[error(
        "a catalog's name has 1 to 63 of a-z, 0-9 and -, and begins with a letter or digit: \"{0}\""
    )]
    Catalog(String),
    #[error(
        "a snapshot's name has 1 to 63 of a-z, 0-9 and . _ -, and begins with a letter or digit: \"{0}\""
    )]
    Snapshot(String),
    #[error("a snapshot's name that begins with \"boot.\" is banger's own: \"{0}\"")]
    SnapshotReserved(String),
    #[error(
        "a pool's name has 1 to {longest} of a-z, 0-9 and -, with no - at either end: \"{0}\"",
        longest = PoolName::LONGEST
    )]
    Pool(String),
    #[error("a VM id is 32 hexadecimal digits: \"{0}\"")]
    Id(String),
}

/// The name of a VM: 1 to 63 of `a-z 0-9 -`, no `-` at either end.
///
/// It becomes a hostname (RFC 1123 label), a word of the kernel's command line and part of
/// messages, so it is never changed silently.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmName(String);

/// The name of an image in the local store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName(String);

/// The name of a catalog that is trusted: short, and never a registry's host, which has a dot or a
/// colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogName(String);

/// The name of a snapshot. It is no part of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName(String);

/// The name of a pool, which is part of its machines' names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(String);

/// The identity of a VM for its whole life: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId([u8; 16]);

impl VmId {
    /// A new identity from the kernel's random source.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel's random source does not fail after boot");
        Self(bytes)
    }

    /// The twelve digits that people see.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }

    /// All bits, for identifiers in other formats such as a file system's UUID.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for VmId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NameError::Id(shown(text)))?;
        Ok(Self(bytes))
    }
}

impl FromStr for VmName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 63 {
            return Err(NameError::VmLength(shown(text)));
        }
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let hyphen_at_end = text.starts_with('-') || text.ends_with('-');
        if hyphen_at_end || !text.bytes().all(allowed) {
            return Err(NameError::VmCharacters(shown(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 128 {
            return Err(NameError::ImageLength(shown(text)));
        }
        let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let allowed = |c: u8| word(c) || matches!(c, b'.' | b'_' | b'-');
        if !text.bytes().next().is_some_and(word) || !text.bytes().all(allowed) {
            return Err(NameError::ImageCharacters(shown(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for CatalogName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let fits = (1..=63).contains(&text.len()) && text.bytes().all(allowed);
        // The one registry whose host has neither.
        if fits && !text.starts_with('-') && text != "localhost" {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Catalog(shown(text)))
        }
    }
}

impl SnapshotName {
    /// What the names of snapshots that banger made by itself begin with.
    pub const OF_BOOTS: &str = "boot.";

    /// Whether banger made it by itself.
    #[must_use]
    pub fn is_of_a_boot(&self) -> bool {
        self.0.starts_with(Self::OF_BOOTS)
    }
}

impl FromStr for SnapshotName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let allowed = |c: u8| word(c) || matches!(c, b'.' | b'_' | b'-');
        let fits = (1..=63).contains(&text.len()) && text.bytes().all(allowed);
        if fits && text.bytes().next().is_some_and(word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Snapshot(shown(text)))
        }
    }
}

impl PoolName {
    /// A machine's name has to hold more.
    pub const LONGEST: usize = 40;
}

impl FromStr for PoolName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_label = text.parse::<VmName>().is_ok();
        if is_label && text.len() <= Self::LONGEST {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Pool(shown(text)))
        }
    }
}

/// A name as a message may repeat it: bounded and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

macro_rules! text_name {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text_name!(VmName, ImageName, CatalogName, SnapshotName, PoolName);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?} is a name");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?} is no name");
        }
    }

    #[test]
    fn vm_names_are_hostname_labels() {
        let long = "a".repeat(63);
        let too_long = "a".repeat(64);
        check::<VmName>(
            &["a", "calm-otter", "0", &long],
            &[
                "", "-a", "a-", "A", "a_b", "a.b", "ä", "a b", "a\n", &too_long,
            ],
        );
    }

    #[test]
    fn image_names_cannot_be_paths() {
        check::<ImageName>(
            &["debian-bookworm", "alpine_3.20", "0"],
            &["", ".", "..", "a/b", "-a", ".hidden", "A", "a\0"],
        );
    }

    #[test]
    fn catalog_names_are_no_hosts() {
        check::<CatalogName>(
            &["acme", "team-7", "0"],
            &["", "localhost", "a.b", "a:5000", "-a", "A", "a/b"],
        );
    }

    #[test]
    fn snapshot_names_are_plain_words() {
        check::<SnapshotName>(
            &["a", "before-upgrade", "v1.2_rc", "0"],
            &["", ".a", "-a", "A", "a/b", "a b", &"a".repeat(64)],
        );
    }

    #[test]
    fn pool_names_leave_room_for_their_machines() {
        let (long, too_long) = ("a".repeat(40), "a".repeat(41));
        check::<PoolName>(&["a", "web-2", &long], &["", "-a", "A", "a.b", &too_long]);
        let machine = format!("pool-{long}-001122334455");
        assert!(machine.parse::<VmName>().is_ok());
    }

    #[test]
    fn ids_survive_their_text() {
        let id = VmId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().starts_with(&id.short()));
    }
}
