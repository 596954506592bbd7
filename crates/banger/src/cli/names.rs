//! Names that people type, parsed once. Knows the forms; whether a name exists is the daemon's business.

use std::str::FromStr;

/// What a name would have to be, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NameError(&'static str);

macro_rules! names {
    ($($(#[$about:meta])* $name:ident if $fits:expr, else $words:literal;)*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $name(String);

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let fits: fn(&str) -> bool = $fits;
                fits(text).then(|| Self(text.to_owned())).ok_or(NameError($words))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )*};
}

names! {
    /// The name of a VM that is to be made.
    VmName if |text| of_a_host(text, 63),
        else "a VM name has 1 to 63 of a-z, 0-9 and -, with no - at either end";
    /// The name of a pool, which is part of its machines' names.
    PoolName if |text| of_a_host(text, 40),
        else "a pool's name has 1 to 40 of a-z, 0-9 and -, with no - at either end";
    /// The name of an image or a kernel.
    StoreName if |text| of_a_file(text, 128),
        else "a name has 1 to 128 of a-z, 0-9 and . _ -, and begins with a letter or digit";
    /// The name of a snapshot.
    SnapshotName if |text| of_a_file(text, 63),
        else "a snapshot's name has 1 to 63 of a-z, 0-9 and . _ -, and begins with a letter or digit";
    /// The name of a catalog.
    CatalogName if of_a_catalog,
        else "a catalog's name has 1 to 63 of a-z, 0-9 and -, and begins with a letter or digit";
    /// Something of any catalog, or of one.
    EntryName if |text| match text.split_once('/') {
            None => of_a_file(text, 128),
            Some((catalog, name)) => of_a_catalog(catalog) && of_a_file(name, 128),
        },
        else "write NAME, or CATALOG/NAME";
    /// What somebody calls an existing VM.
    Target if |text| consists_of(text, 63, b"-"),
        else "a VM is given by its name, its id or a unique prefix of them: a-z, 0-9 and -";
}

fn of_a_host(text: &str, most: usize) -> bool {
    consists_of(text, most, b"-") && !text.starts_with('-') && !text.ends_with('-')
}

fn of_a_file(text: &str, most: usize) -> bool {
    consists_of(text, most, b"._-") && !text.starts_with(['.', '_', '-'])
}

fn of_a_catalog(text: &str) -> bool {
    consists_of(text, 63, b"-") && !text.starts_with('-') && text != "localhost"
}

/// Of lower-case letters, digits and a few others.
fn consists_of(text: &str, most: usize, others: &[u8]) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || others.contains(&c);
    (1..=most).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr<Err = NameError>>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?}");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_that_a_hostname_cannot_be_are_refused() {
        let long = "a".repeat(64);
        check::<VmName>(
            &["a", "calm-otter", "7", &long[1..]],
            &["", "-a", "a-", "A", "a_b", "a.b", "ä", "a b", &long],
        );
    }

    #[test]
    fn pool_names_leave_room_for_their_machines() {
        let long = "a".repeat(41);
        check::<PoolName>(&["web", "ci-2", &long[1..]], &["", "-a", "A", "a.b", &long]);
    }

    #[test]
    fn names_of_files_cannot_leave_their_directory() {
        let bad = ["", "..", ".a", "_a", "a/b", "-a", "A", "a b"];
        check::<StoreName>(&["debian-bookworm", "6.12_x", "a"], &bad);
        let long = "a".repeat(64);
        check::<SnapshotName>(&["ready", "v1.2_x", &long[1..]], &bad);
        check::<SnapshotName>(&[], &[&long]);
    }

    #[test]
    fn entries_are_of_any_catalog_or_of_one() {
        check::<EntryName>(
            &["debian-6.1", "acme/debian-6.1", "0/a"],
            &["", "/", "a/", "/a", "a/b/c", "a.b/c", "a/../b"],
        );
        check::<CatalogName>(
            &["acme", "team-7"],
            &["", "-a", "a.b", "a/b", "localhost", "A"],
        );
    }

    #[test]
    fn targets_may_be_prefixes() {
        check::<Target>(&["calm-", "0af3", "a", "-"], &["", "../x", "A", "a%"]);
    }
}
