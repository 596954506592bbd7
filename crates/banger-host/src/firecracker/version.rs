//! What a release of Firecracker can do. Pure: a version in, a verdict out.

use std::{fmt, str::FromStr};

use banger_core::host_error::HostError;

/// A release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

/// The first release whose API this module's types are.
pub(crate) const OLDEST: Version = Version::new(1, 12, 0);
/// The last series whose changes are known here.
pub(crate) const NEWEST: Version = Version::new(1, 16, u32::MAX);

/// What not every release has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Pausing a guest whose agent is to be reached afterwards.
    Pause,
}

impl Version {
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The version in what `firecracker --version` or `jailer --version` prints.
    pub(crate) fn of_output(text: &str) -> Option<Self> {
        let word = text.split_whitespace().find(|word| word.starts_with('v'))?;
        word.strip_prefix('v')?.parse().ok()
    }

    /// The version without its last part, for a range of releases.
    pub(crate) fn series(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// Refuses releases whose API is another one.
    pub(crate) fn admit(self) -> Result<(), HostError> {
        if self >= OLDEST && self.major == OLDEST.major {
            return Ok(());
        }
        Err(HostError::Unsupported {
            feature: format!("Firecracker {self}"),
            reason: format!("banger speaks the API of {OLDEST} and later releases of version 1"),
        })
    }

    /// Whether all that this release changed is known here.
    pub(crate) fn is_known(self) -> bool {
        (OLDEST..=NEWEST).contains(&self)
    }

    /// Refuses a feature that this release lacks, by its name.
    pub(crate) fn require(self, feature: Feature) -> Result<(), HostError> {
        let lack = match feature {
            Feature::Pause if self == Self::new(1, 16, 0) || self == Self::new(1, 16, 1) => {
                "after a pause its guest cannot be reached any more; 1.15 and releases after \
                 1.16.1 do better"
            }
            Feature::Pause => return Ok(()),
        };
        Err(HostError::Unsupported {
            feature: format!("{} under Firecracker {self}", feature.name()),
            reason: lack.into(),
        })
    }
}

impl Feature {
    fn name(self) -> &'static str {
        match self {
            Self::Pause => "a pause",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = ();

    /// A suffix, as in `1.16.0-dev`, is of no interest.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = |part: &str| {
            let end = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part[..end].parse().map_err(|_| ())
        };
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(()).and_then(digits);
        Ok(Self::new(next()?, next()?, next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_programs_print() {
        let check = |text, wanted| assert_eq!(Version::of_output(text), wanted, "{text}");
        check(
            "Firecracker v1.12.1\n\n2026-11-21T07:17:05 x",
            Some(Version::new(1, 12, 1)),
        );
        check("Jailer v1.12.1\n", Some(Version::new(1, 12, 1)));
        check("Firecracker v1.16.0-dev", Some(Version::new(1, 16, 0)));
        check("Firecracker", None);
        check("Firecracker v1", None);
    }

    #[test]
    fn only_releases_with_our_api_are_driven() {
        let check = |text: &str, driven: bool, known: bool| {
            let version: Version = text.parse().unwrap();
            assert_eq!(version.admit().is_ok(), driven, "{text}");
            assert_eq!(version.is_known(), known, "{text}");
        };
        check("1.11.9", false, false);
        check("1.12.0", true, true);
        check("1.16.9", true, true);
        check("1.17.0", true, false);
        check("2.0.0", false, false);
    }

    #[test]
    fn a_feature_is_refused_where_it_is_missing_or_broken() {
        let check = |feature, text: &str, wanted: bool| {
            let version: Version = text.parse().unwrap();
            let required = version.require(feature);
            assert_eq!(required.is_ok(), wanted, "{feature:?} {text}");
            if let Err(error) = required {
                assert!(error.to_string().contains(text), "{error}");
            }
        };
        check(Feature::Pause, "1.12.1", true);
        check(Feature::Pause, "1.16.0", false);
        check(Feature::Pause, "1.16.1", false);
        check(Feature::Pause, "1.16.2", true);
    }
}
