//! Owns what is recorded about a kernel: its name, its origin, its digests. Knows no files.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// The version of the manifest's own form; a manifest of another form is not guessed at.
pub const FORMAT: u32 = 1;

/// A kernel's name: letters, digits, `.`, `-`, `_`; at most 63; not beginning with `.` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelName(String);

/// What was refused as a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no kernel name: 1 to 63 letters, digits, dots, dashes and underscores, \
     beginning with neither dot nor dash"
)]
pub struct NameError {
    text: String,
}

/// The processors that kernels are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arch {
    #[serde(rename = "x86_64")]
    X86_64,
}

/// Where a kernel came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// A package of Debian's archive, verified up to the archive's signature.
    Debian {
        url: String,
        package: String,
        package_version: String,
        sha256: Sha256,
    },
    /// A file of a catalog, checked against the digest in it.
    Bundle {
        /// The catalog's place.
        catalog: String,
        file: String,
        sha256: Sha256,
    },
    /// A directory of this host, taken as it was.
    Import { directory: PathBuf },
}

/// What a kernel must be told, beside what every kernel is told: words without blanks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandLine(Vec<String>);

/// What was refused as words for a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    #[error("a kernel's command line has at most {max} bytes, not {0}", max = CommandLine::MAX)]
    TooLong(usize),
    #[error(
        "the word {0:?} cannot be on a kernel's command line: it takes printable ASCII without \
         quotes, and words that begin with banger. are the agent's"
    )]
    Word(String),
}

/// A module that boot needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootModule {
    /// The module's name with dashes as underscores: `virtio_blk`.
    pub name: String,
    /// The file below the kernel's `modules` directory.
    pub path: PathBuf,
    /// Of the file as it lies there, packed or not.
    pub sha256: Sha256,
}

/// All that is recorded about a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub name: KernelName,
    /// As `uname -r` says it.
    pub version: String,
    pub arch: Arch,
    pub source: Origin,
    /// Of the vmlinux.
    pub sha256: Sha256,
    /// RFC 3339, UTC.
    pub imported_at: String,
    /// All files together, in bytes.
    pub size_bytes: u64,
    /// What to load before the root can be mounted, in this order.
    pub boot_modules: Vec<BootModule>,
    /// What this kernel must be told; older manifests say nothing.
    #[serde(default, skip_serializing_if = "CommandLine::is_empty")]
    pub cmdline: CommandLine,
}

impl CommandLine {
    /// Half of what x86 Linux reads: the rest is for the VMM and the agent.
    pub const MAX: usize = 1024;

    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for CommandLine {
    type Err = CommandLineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::MAX {
            return Err(CommandLineError::TooLong(text.len()));
        }
        let word = |word: &str| {
            let plain = word.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
            if plain && !word.starts_with("banger.") {
                return Ok(word.to_owned());
            }
            Err(CommandLineError::Word(word.chars().take(80).collect()))
        };
        let words: Result<_, _> = text.split_ascii_whitespace().map(word).collect();
        Ok(Self(words?))
    }
}

impl TryFrom<String> for CommandLine {
    type Error = CommandLineError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CommandLine> for String {
    fn from(line: CommandLine) -> Self {
        line.0.join(" ")
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl KernelName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KernelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let good = (1..=63).contains(&text.len())
            && text.chars().all(allowed)
            && !text.starts_with(['.', '-']);
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError {
                text: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for KernelName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KernelName> for String {
    fn from(name: KernelName) -> Self {
        name.0
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Arch> for crate::catalog::Arch {
    fn from(arch: Arch) -> Self {
        let name = arch.to_string();
        name.parse().expect("our own names of processors are words")
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X86_64 => f.write_str("x86_64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_never_paths() {
        for good in ["debian-6.1", "a", "_x", "K.1-2_3", &"a".repeat(63)] {
            assert!(good.parse::<KernelName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "-x",
            "a/b",
            "a b",
            "é",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<KernelName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn words_for_a_kernel_stay_words() {
        let check = |text: &str, wanted: Option<&[&str]>| {
            let words = text
                .parse::<CommandLine>()
                .map(|line| line.words().to_vec());
            assert_eq!(
                words.ok().as_deref(),
                wanted
                    .map(|w| w.iter().map(ToString::to_string).collect::<Vec<_>>())
                    .as_deref(),
                "{text:?}"
            );
        };
        check("", Some(&[]));
        check(" a=b,c  quiet\n", Some(&["a=b,c", "quiet"]));
        check("a=\"b c\"", None);
        check("é", None);
        check("quiet banger.init=/bin/sh", None);
        check(&"x".repeat(CommandLine::MAX + 1), None);
    }

    #[test]
    fn a_manifest_survives_json_and_refuses_a_bad_name() {
        let manifest = Manifest {
            format: FORMAT,
            name: "debian-6.1".parse().unwrap(),
            version: "6.1.0-50-cloud-amd64".into(),
            arch: Arch::X86_64,
            source: Origin::Import {
                directory: "/build".into(),
            },
            sha256: Sha256::of(b"vmlinux"),
            imported_at: "2026-07-11T10:16:37Z".into(),
            size_bytes: 7,
            boot_modules: vec![BootModule {
                name: "overlay".into(),
                path: "kernel/fs/overlayfs/overlay.ko".into(),
                sha256: Sha256::of(b"overlay"),
            }],
            cmdline: "noxsave  lpj=1".parse().unwrap(),
        };
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
        assert!(json.contains(r#""arch":"x86_64""#) && json.contains(r#""kind":"import""#));
        assert!(json.contains(r#""cmdline":"noxsave lpj=1""#), "{json}");
        let evil = json.replace("debian-6.1", "../debian");
        assert!(serde_json::from_str::<Manifest>(&evil).is_err());
    }
}
