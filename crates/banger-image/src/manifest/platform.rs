//! Owns platforms: what an image is for, and whether it fits what is wanted.

use std::fmt;
use std::str::FromStr;

/// An operating system and a processor, in the words of Go, as images have them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a platform is OS/ARCHITECTURE[/VARIANT], such as linux/amd64, not {text:?}")]
pub struct ParsePlatformError {
    text: String,
}

impl Platform {
    /// Linux on this host's processor.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    /// How well an image of `self` serves who wants `wanted`: the lower the better; `None` if it
    /// does not.
    pub(super) fn fits(&self, wanted: &Self) -> Option<u32> {
        if self.os != wanted.os || self.architecture != wanted.architecture {
            return None;
        }
        match (&self.variant, &wanted.variant) {
            (found, Some(wanted)) if found.as_ref() == Some(wanted) => Some(0),
            (None, _) => Some(1),
            (Some(_), Some(_)) => None,
            // The first variant of a processor is its common ground, the eighth arm's.
            (Some(found), None) => match (self.architecture.as_str(), found.as_str()) {
                ("amd64", "v1") | ("arm64", "v8") => Some(1),
                ("arm", variant) => Some(2 + u32::from(variant != "v7")),
                (_, _) => None,
            },
        }
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, ParsePlatformError> {
        let refused = || ParsePlatformError {
            text: text.chars().take(60).collect(),
        };
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
        let mut words = text.split('/').map(|word| {
            let fits = !word.is_empty() && word.bytes().all(allowed);
            fits.then(|| word.to_ascii_lowercase()).ok_or_else(refused)
        });
        let os = words.next().ok_or_else(refused)??;
        let architecture = words.next().ok_or_else(refused)??;
        let variant = words.next().transpose()?;
        if words.next().is_some() {
            return Err(refused());
        }
        // The kernel's names for what Go calls otherwise.
        let architecture = match architecture.as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            _ => architecture,
        };
        Ok(Self {
            os,
            architecture,
            variant,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_are_words_between_slashes() {
        for good in ["linux/amd64", "linux/arm/v7", "LINUX/x86_64"] {
            assert!(good.parse::<Platform>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "a/b c",
            "linux//v7",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        assert_eq!(platform("linux/aarch64").to_string(), "linux/arm64");
    }

    #[test]
    fn an_image_fits_if_the_processor_can_run_it() {
        let check = |found: &str, wanted: &str, fits: bool| {
            let rank = platform(found).fits(&platform(wanted));
            assert_eq!(rank.is_some(), fits, "{found} for {wanted}");
        };
        check("linux/amd64", "linux/amd64", true);
        check("linux/amd64/v3", "linux/amd64", false);
        check("linux/amd64/v3", "linux/amd64/v3", true);
        check("linux/arm64/v8", "linux/arm64", true);
        check("linux/arm64", "linux/arm64/v8", true);
        check("windows/amd64", "linux/amd64", false);
        check("linux/arm/v6", "linux/arm/v7", false);
    }
}
