//! Owns what a catalog says: its number, how long it holds, what it offers. Reads and writes its JSON;
//! knows no place and no signature.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::kernel::{CatalogEntry, KernelName, UnknownKernel};

/// The version of the document's form.
const FORMAT: u32 = 1;

/// What can be had, and as of when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    format: u32,
    /// Grows with each publication, so that an older one is known for what it is. A catalog that is
    /// trusted for its place needs none.
    #[serde(default)]
    pub serial: u64,
    /// From then on it is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
    #[serde(default)]
    kernels: Vec<CatalogEntry>,
    #[serde(default)]
    images: Vec<ImageEntry>,
}

/// An image that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    pub name: EntryName,
    #[serde(default)]
    pub description: String,
    pub arch: Arch,
    pub bundle: Bundle,
    /// Of the disk image that comes out.
    pub image_bytes: u64,
}

/// An image's name: what a name of the local store may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryName(String);

/// The processors that something is for, as `uname -m` says it: `x86_64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arch(String);

/// A moment, in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expiry(SystemTime);

/// Why a document is no catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogFault {
    #[error("it is not valid")]
    Json { source: serde_json::Error },
    #[error("its format is {found}, which this version does not know")]
    Format { found: u32 },
    #[error("it has the {what} {name} for {arch} twice")]
    Twice {
        what: &'static str,
        name: String,
        arch: Arch,
    },
}

/// What was refused as part of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    #[error(
        "{0:?} is no name of an image: 1 to 128 of a-z, 0-9 and . _ -, beginning with a letter or digit"
    )]
    Name(String),
    #[error("{0:?} is no architecture")]
    Arch(String),
    #[error("{0:?} is no time as 2026-01-31T12:00:00Z")]
    Time(String),
}

#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl Catalog {
    /// A catalog with nothing in it.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            format: FORMAT,
            ..Self::default()
        }
    }

    pub fn parse(json: &[u8]) -> Result<Self, CatalogFault> {
        let broken = |source| CatalogFault::Json { source };
        // A form that is not known may have anything in it.
        let Form { format } = serde_json::from_slice(json).map_err(broken)?;
        if format != FORMAT {
            return Err(CatalogFault::Format { found: format });
        }
        let catalog: Self = serde_json::from_slice(json).map_err(broken)?;
        let kernels = catalog.kernels.iter();
        unique("kernel", kernels.map(|k| (k.name.as_str(), &k.arch)))?;
        let images = catalog.images.iter();
        unique("image", images.map(|i| (i.name.as_str(), &i.arch)))?;
        Ok(catalog)
    }

    /// As [`Self::parse`] reads it, for people, too.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a catalog is plain data");
        json.push('\n');
        json
    }

    /// The kernels for this host's processor.
    pub fn kernels(&self) -> impl Iterator<Item = &CatalogEntry> {
        let host = Arch::host();
        self.kernels.iter().filter(move |entry| entry.arch == host)
    }

    /// The images for this host's processor.
    pub fn images(&self) -> impl Iterator<Item = &ImageEntry> {
        let host = Arch::host();
        self.images.iter().filter(move |entry| entry.arch == host)
    }

    pub fn kernel(&self, name: &KernelName) -> Result<&CatalogEntry, UnknownKernel> {
        let found = self.kernels().find(|entry| entry.name == *name);
        found.ok_or_else(|| UnknownKernel {
            name: name.clone(),
            available: self.kernels().map(|entry| entry.name.to_string()).collect(),
        })
    }

    /// Puts a kernel in, in place of one of its name and architecture.
    pub fn put_kernel(&mut self, entry: CatalogEntry) {
        let same = |old: &CatalogEntry| old.name == entry.name && old.arch == entry.arch;
        self.kernels.retain(|old| !same(old));
        self.kernels.push(entry);
        self.kernels
            .sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    }

    /// Puts an image in, in place of one of its name and architecture.
    pub fn put_image(&mut self, entry: ImageEntry) {
        let same = |old: &ImageEntry| old.name == entry.name && old.arch == entry.arch;
        self.images.retain(|old| !same(old));
        self.images.push(entry);
        self.images
            .sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    }
}

fn unique<'a>(
    what: &'static str,
    names: impl Iterator<Item = (&'a str, &'a Arch)>,
) -> Result<(), CatalogFault> {
    let mut seen = BTreeSet::new();
    for (name, arch) in names {
        if !seen.insert((name, arch)) {
            let (name, arch) = (name.to_owned(), arch.clone());
            return Err(CatalogFault::Twice { what, name, arch });
        }
    }
    Ok(())
}

impl EntryName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntryName {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let allowed = |c: u8| word(c) || matches!(c, b'.' | b'_' | b'-');
        let begins_well = text.bytes().next().is_some_and(word);
        if begins_well && text.len() <= 128 && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError::Name(shown(text)))
        }
    }
}

impl Arch {
    /// This host's.
    #[must_use]
    pub fn host() -> Self {
        Self(std::env::consts::ARCH.to_owned())
    }
}

impl FromStr for Arch {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError::Arch(shown(text)))
        }
    }
}

impl Expiry {
    /// After so long, to the second.
    #[must_use]
    pub fn after(now: SystemTime, valid: Duration) -> Option<Self> {
        let at = now.checked_add(valid)?;
        let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        // What cannot be written as four digits of a year cannot be read again.
        let seconds = since_1970.as_secs();
        (seconds < 253_402_300_800)
            .then(|| Self(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    #[must_use]
    pub fn is_past(self, now: SystemTime) -> bool {
        self.0 <= now
    }
}

impl FromStr for Expiry {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let parsed = humantime::parse_rfc3339(text).ok();
        let whole = |at: &SystemTime| match at.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since_1970) => since_1970.subsec_nanos() == 0,
            Err(_) => false,
        };
        let parsed = parsed.filter(whole).map(Self);
        parsed.ok_or_else(|| WordError::Time(shown(text)))
    }
}

/// A word as a message may repeat it.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

macro_rules! words {
    ($($word:ident => |$value:ident| $text:expr),*) => {$(
        impl TryFrom<String> for $word {
            type Error = WordError;

            fn try_from(text: String) -> Result<Self, WordError> {
                text.parse()
            }
        }

        impl From<$word> for String {
            fn from(word: $word) -> Self {
                word.to_string()
            }
        }

        impl fmt::Display for $word {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $value = self;
                write!(f, "{}", $text)
            }
        }
    )*};
}

words!(
    EntryName => |name| name.0,
    Arch => |arch| arch.0,
    Expiry => |expiry| humantime::format_rfc3339_seconds(expiry.0)
);

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, arch: &str, file: &str) -> String {
        let digest = crate::digest::Sha256::of(b"");
        format!(
            r#"{{"name": "{name}", "arch": "{arch}", "image_bytes": 1,
                "bundle": {{"file": "{file}", "sha256": "{digest}", "bytes": 1}}}}"#
        )
    }

    fn check(images: &str, more: &str, good: bool) {
        let json = format!(r#"{{"format": 1, "images": [{images}] {more}}}"#);
        let parsed = Catalog::parse(json.as_bytes());
        assert_eq!(parsed.is_ok(), good, "{json}: {parsed:?}");
        if let Ok(catalog) = parsed {
            let again = Catalog::parse(catalog.to_json().as_bytes()).unwrap();
            assert_eq!(again, catalog);
        }
    }

    #[test]
    fn only_what_makes_sense_is_a_catalog() {
        let web = image("web", "x86_64", "web.tar.zst");
        check("", "", true);
        check(&web, r#", "serial": 7, "from_the_future": {}"#, true);
        check(&web, r#", "expires": "2026-01-31T12:00:00Z""#, true);
        check(&web, r#", "expires": "soon""#, false);
        check(&web, r#", "expires": "2026-01-31T12:00:00.5Z""#, false);
        check(&web, r#", "serial": -1"#, false);
        check(&format!("{web},{web}"), "", false);
        let other = image("web", "riscv64", "web.tar.zst");
        check(&format!("{web},{other}"), "", true);
        check(&image("../web", "x86_64", "x"), "", false);
        check(&image("Web", "x86_64", "x"), "", false);
        check(&image("web", "x86/64", "x"), "", false);
        for file in ["../x", "a/b", "", ".x", "x\\n"] {
            check(&image("web", "x86_64", file), "", false);
        }
        for json in ["", "{}", "[]", r#"{"format": 2}"#, r#"{"format": 1"#] {
            assert!(Catalog::parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn entries_of_other_processors_are_kept_but_not_offered() {
        let json = format!(
            r#"{{"format": 1, "images": [{}]}}"#,
            image("web", "vax", "web.tar.zst")
        );
        let mut catalog = Catalog::parse(json.as_bytes()).unwrap();
        assert_eq!(catalog.images().count(), 0);
        let own = ImageEntry {
            arch: Arch::host(),
            ..catalog.images[0].clone()
        };
        catalog.put_image(own.clone());
        catalog.put_image(own.clone());
        assert_eq!(catalog.images().collect::<Vec<_>>(), [&own]);
        assert_eq!(catalog.images.len(), 2);
    }

    #[test]
    fn a_catalog_holds_until_it_does_not() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let expiry = Expiry::after(now, Duration::from_secs(10)).unwrap();
        assert_eq!(expiry.to_string(), "1970-01-01T00:16:50Z");
        assert!(!expiry.is_past(now + Duration::from_secs(9)));
        assert!(expiry.is_past(now + Duration::from_secs(10)));
        assert_eq!(Expiry::after(now, Duration::from_secs(1 << 40)), None);
    }
}
