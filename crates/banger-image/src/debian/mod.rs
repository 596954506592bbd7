//! Owns Debian's archive as a source of packages: which mirror, whose signature, which index,
//! which package. Every byte is checked against a signature before its meaning is looked at.
//! Knows no kernels.

pub mod archive;
pub mod clearsign;
pub mod index;
pub mod keyring;
pub mod package;
pub mod release;
pub mod sources;

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

pub use archive::{Archive, ArchiveError, Verified};
pub use index::{Package, PackageVersion};
pub use keyring::Keyring;
pub use package::{DebError, Unpacked};
pub use sources::SourcesError;

/// The suite's name as it stands in a path: `bookworm`, `bookworm-security`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Suite(String);

/// The base address of a mirror; the directories `dists` and `pool` are below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mirror(Url);

/// Why a setting of the archive was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("{text:?} is no suite name: letters, digits and . + - _ are allowed")]
    Suite { text: String },
    #[error("{text:?} is no mirror address: http://HOST/PATH or https://HOST/PATH is needed")]
    Mirror { text: String },
}

/// Where packages come from, and how strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    pub mirror: Mirror,
    /// Carries `SUITE-security`; without one only `SUITE` is asked.
    pub security_mirror: Option<Mirror>,
    pub suite: Suite,
    /// Off for archives that are frozen on purpose.
    pub check_valid_until: bool,
}

impl ArchiveConfig {
    /// The mirrors that this host's own apt uses for `suite`.
    pub fn of_host(suite: Suite) -> Result<Self, SourcesError> {
        let found = sources::of_host(&suite)?;
        Ok(Self {
            mirror: found.mirror,
            security_mirror: found.security_mirror,
            suite,
            check_valid_until: true,
        })
    }

    /// The pairs to ask, security updates first.
    #[must_use]
    pub fn suites(&self) -> Vec<(Mirror, Suite)> {
        let security = self
            .security_mirror
            .iter()
            .map(|m| (m.clone(), self.suite.security()));
        security
            .chain([(self.mirror.clone(), self.suite.clone())])
            .collect()
    }
}

impl Suite {
    /// The suite that carries this one's security updates.
    #[must_use]
    pub fn security(&self) -> Self {
        Self(format!("{}-security", self.0))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Suite {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(allowed)
            && text.len() <= 64
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(SettingError::Suite {
                text: text.to_owned(),
            })
        }
    }
}

impl FromStr for Mirror {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || SettingError::Mirror {
            text: text.to_owned(),
        };
        let mut url: Url = text.trim_end_matches('/').parse().map_err(|_| refused())?;
        let plain = url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
            return Err(refused());
        }
        // A path that ends in a slash is what `join` takes for a directory.
        let directory = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&directory);
        Ok(Self(url))
    }
}

impl Mirror {
    /// The address of a file below the mirror. `path` has been checked to stay below.
    fn file(&self, path: &ArchivePath) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{}", url.path(), path.0));
        url
    }
}

/// A path below a mirror that cannot climb out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivePath(String);

impl FromStr for ArchivePath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let safe = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .chars()
                    .all(|c| c.is_ascii_graphic() && !"\\?#%".contains(c))
        };
        if text.len() <= 1024 && text.split('/').all(safe) {
            Ok(Self(text.to_owned()))
        } else {
            Err(())
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::fetch::shown(&self.0).trim_end_matches('/'))
    }
}

impl TryFrom<String> for Suite {
    type Error = SettingError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Suite> for String {
    fn from(suite: Suite) -> Self {
        suite.0
    }
}

impl TryFrom<String> for Mirror {
    type Error = SettingError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Mirror> for String {
    fn from(mirror: Mirror) -> Self {
        mirror.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_names_and_never_paths() {
        for good in ["bookworm", "bookworm-security", "12.1", "sid"] {
            assert!(good.parse::<Suite>().is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/b", "-x", ".x", "a b", "é"] {
            assert!(bad.parse::<Suite>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mirror_is_a_directory_whether_it_ends_in_a_slash_or_not() {
        let path: ArchivePath = "dists/bookworm/InRelease".parse().unwrap();
        for text in [
            "http://mirror.example/debian",
            "http://mirror.example/debian//",
        ] {
            let mirror: Mirror = text.parse().unwrap();
            let url = mirror.file(&path);
            assert_eq!(
                url.as_str(),
                "http://mirror.example/debian/dists/bookworm/InRelease"
            );
            assert_eq!(mirror.to_string(), "http://mirror.example/debian");
        }
    }

    #[test]
    fn only_web_addresses_are_mirrors() {
        for bad in [
            "mirror.example",
            "file:///srv",
            "ftp://mirror.example/",
            "http://",
            "cdrom:x",
        ] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_do_not_reach_messages() {
        let mirror: Mirror = "http://me:secret@mirror.example/d".parse().unwrap();
        assert_eq!(mirror.to_string(), "http://mirror.example/d");
    }

    #[test]
    fn archive_paths_stay_below_the_mirror() {
        assert!(
            "pool/main/l/linux/x_6.1+deb12~1_amd64.deb"
                .parse::<ArchivePath>()
                .is_ok()
        );
        for bad in [
            "",
            "/etc/passwd",
            "a//b",
            "a/../b",
            "..",
            "a?b",
            "a b",
            "a%2e/b",
            "a/",
        ] {
            assert!(bad.parse::<ArchivePath>().is_err(), "{bad}");
        }
    }
}
