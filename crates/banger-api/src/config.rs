//! What the configuration may say: each key, the form of its value, and what holds without it. The daemon
//! and the command line read the same list; this knows no file and no TOML.

use std::fmt;

use crate::size::parse_size;

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// As in `512M` or `8G`.
    Size,
    /// As in `90s` or `2h`.
    Time,
    Count,
    Bool,
    Path,
    Texts,
    /// All of them absolute.
    Paths,
    /// A text for each name that is written behind the key.
    TextOfName,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
            Self::Size => f.write_str("a size in quotes, as in \"512M\" or \"8G\""),
            Self::Time => f.write_str("a time in quotes, as in \"90s\" or \"2h\""),
            Self::Count => f.write_str("a whole number"),
            Self::Bool => f.write_str("true or false"),
            Self::Path => f.write_str("a path in quotes"),
            Self::Texts => f.write_str("a list of texts"),
            Self::Paths => f.write_str("a list of absolute paths"),
            Self::TextOfName => f.write_str("a name behind the key, and a text for it"),
        }
    }
}

/// What holds where the file says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    Value(&'static str),
    /// The host decides, in these words.
    Host(&'static str),
    Nothing,
}

/// Something that the configuration may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    pub form: Form,
    pub default: Otherwise,
    pub about: &'static str,
    /// A variable of the environment that wins.
    pub variable: Option<&'static str>,
}

const fn key(name: &'static str, form: Form, default: Otherwise, about: &'static str) -> Key {
    Key {
        name,
        form,
        default,
        about,
        variable: None,
    }
}

use Form::{Bool, Count, Path, Paths, Size, Text, TextOfName, Texts, Time, Word};
use Otherwise::{Host, Nothing, Value};

/// Everything.
pub const KEYS: &[Key] = &[
    Key {
        variable: Some("BANGER_LOG_LEVEL"),
        ..key(
            "log_level",
            Word(&["error", "warn", "info", "debug", "trace"]),
            Value("info"),
            "how much the daemon writes into its log",
        )
    },
    key(
        "default_image",
        Text,
        Value("debian-bookworm"),
        "the image of a VM that asks for none",
    ),
    key(
        "default_kernel",
        Text,
        Host("generic-6.12 where it is at hand, else debian-6.1"),
        "the kernel of a VM that asks for none",
    ),
    key(
        "kernel_catalogs",
        Paths,
        Nothing,
        "directories with kernel bundles",
    ),
    key(
        "qemu_bin",
        Path,
        Host("qemu-system-x86_64 of the PATH"),
        "QEMU's program",
    ),
    key(
        "firecracker_bin",
        Path,
        Host("firecracker of the PATH"),
        "Firecracker's program",
    ),
    key(
        "jailer_bin",
        Path,
        Host("beside Firecracker, or of the PATH"),
        "Firecracker's jailer",
    ),
    key(
        "vmm",
        Word(&["qemu", "firecracker"]),
        Host("what this host can run"),
        "the VMM of a VM that asks for none",
    ),
    key(
        "allow_emulated_kvm",
        Bool,
        Value("false"),
        "let Firecracker try a /dev/kvm that emulates",
    ),
    key(
        "auto_stop_stale_after",
        Time,
        Value("0s"),
        "stop VMs that nobody used for so long; 0s does not",
    ),
    key(
        "disk_reserve",
        Size,
        Value("512M"),
        "of the disk, what nothing is made of",
    ),
    key(
        "fast_start",
        Bool,
        Value("true"),
        "let VMs go on from the saved boot of another of their kind",
    ),
    key(
        "fast_start_budget",
        Size,
        Value("2G"),
        "the most that saved boots may take",
    ),
    key(
        "cache_budget",
        Size,
        Value("10G"),
        "the most that layers and blobs of pulls may take",
    ),
    key(
        "vm_defaults.vcpus",
        Count,
        Host("2, or as many as this host has"),
        "processors of a VM",
    ),
    key("vm_defaults.memory", Size, Value("2G"), "memory of a VM"),
    key(
        "vm_defaults.disk_size",
        Size,
        Value("8G"),
        "size of a VM's own disk",
    ),
    key(
        "firecracker.disk_cache",
        Word(&["writeback", "unsafe"]),
        Value("writeback"),
        "whether a flush of the guest reaches the disk",
    ),
    key(
        "firecracker.disk_engine",
        Word(&["sync", "async"]),
        Value("sync"),
        "how files are read",
    ),
    key(
        "firecracker.disk_bandwidth",
        Size,
        Nothing,
        "a second, for each VM's own disk",
    ),
    key(
        "firecracker.disk_operations",
        Count,
        Nothing,
        "a second, for each VM's own disk",
    ),
    key(
        "firecracker.network_bandwidth",
        Size,
        Nothing,
        "a second, in each direction",
    ),
    key(
        "firecracker.cpu_template",
        Text,
        Nothing,
        "one of Firecracker's static templates",
    ),
    key(
        "firecracker.mmds",
        Bool,
        Value("false"),
        "a metadata service in the guest",
    ),
    key(
        "firecracker.metrics",
        Bool,
        Value("false"),
        "counters in a file, once a minute",
    ),
    key(
        "debian.mirror",
        Text,
        Host("this host's own apt"),
        "Debian's archive",
    ),
    key(
        "debian.security_mirror",
        Text,
        Host("this host's own apt"),
        "its security updates",
    ),
    key(
        "debian.suite",
        Text,
        Value("bookworm"),
        "the release of the default image",
    ),
    key(
        "debian.check_valid_until",
        Bool,
        Value("true"),
        "false for an archive that is frozen",
    ),
    key(
        "registries.insecure",
        Texts,
        Nothing,
        "may be plain HTTP or have any certificate",
    ),
    key(
        "registries.extra_ca",
        Texts,
        Nothing,
        "PEM files that are trusted beside the system's",
    ),
    key(
        "registries.mirrors",
        TextOfName,
        Nothing,
        "asked in the place of a registry",
    ),
    key(
        "limits.entries",
        Count,
        Value("2000000"),
        "files of an image",
    ),
    key(
        "limits.layer_size",
        Size,
        Value("512G"),
        "of one layer or tar, unpacked",
    ),
    key(
        "limits.content_size",
        Size,
        Value("256G"),
        "of all files of an image, without holes",
    ),
    key(
        "limits.file_size",
        Size,
        Value("8T"),
        "of one file, holes included",
    ),
    key(
        "limits.header_size",
        Size,
        Value("1M"),
        "of one extended header",
    ),
    key(
        "limits.sparse_pieces",
        Count,
        Value("100000"),
        "of data in one file with holes",
    ),
    key(
        "limits.ratio",
        Count,
        Value("1100"),
        "unpacked bytes for each packed one",
    ),
    key(
        "limits.ratio_free",
        Size,
        Value("8G"),
        "what a layer may unpack to at any ratio",
    ),
];

/// Those that a daemon takes up while it serves; the others hold from its next start on.
pub const LIVE: &[&str] = &[
    "log_level",
    "default_image",
    "default_kernel",
    "disk_reserve",
    "fast_start",
    "fast_start_budget",
    "cache_budget",
    "vm_defaults.vcpus",
    "vm_defaults.memory",
    "vm_defaults.disk_size",
];

/// That there is no such key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnknownKey {
    pub name: String,
    pub nearest: Option<&'static str>,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no key {}", self.name.escape_debug())?;
        match self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// The key of a dotted name. A key that takes names has one behind it.
pub fn find(name: &str) -> Result<&'static Key, UnknownKey> {
    let fits = |key: &&Key| match key.form {
        TextOfName => {
            let behind = name.strip_prefix(key.name);
            behind.is_some_and(|behind| behind.len() > 1 && behind.starts_with('.'))
        }
        Text | Word(_) | Size | Time | Count | Bool | Path | Texts | Paths => key.name == name,
    };
    KEYS.iter().find(fits).ok_or_else(|| UnknownKey {
        name: name.chars().take(80).collect(),
        nearest: nearest(name),
    })
}

/// Whether a name is one of a table that keys are in.
#[must_use]
pub fn is_table(name: &str) -> bool {
    KEYS.iter().any(|key| {
        let behind = key.name.strip_prefix(name);
        let names = key.form == TextOfName && key.name == name;
        names || behind.is_some_and(|behind| behind.starts_with('.'))
    })
}

/// What somebody may have meant: not further away than a third of its letters.
fn nearest(name: &str) -> Option<&'static str> {
    let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let far = |key: &Key| distance(name, key.name).min(distance(name, last(key.name)));
    let key = KEYS.iter().min_by_key(|key| far(key))?;
    (far(key) <= name.chars().count() / 3 + 1).then_some(key.name)
}

/// How many letters are to be changed, added or removed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A value, as some file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Text(String),
    Number(i64),
    Bool(bool),
    Texts(Vec<String>),
    /// Of no form that any key has.
    Other,
}

/// That a value has not the form of its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {form}")]
pub struct WrongForm {
    pub key: &'static str,
    pub form: Form,
}

impl Key {
    /// Checks the form. Whether a name means anything is found out when it is used.
    pub fn check(&self, found: &Found) -> Result<(), WrongForm> {
        let fits = match (self.form, found) {
            (Text | Path | TextOfName, Found::Text(text)) => !text.is_empty(),
            (Word(words), Found::Text(text)) => words.contains(&text.as_str()),
            (Size, Found::Text(text)) => parse_size(text).is_ok(),
            (Time, Found::Text(text)) => humantime::parse_duration(text).is_ok(),
            (Count, Found::Number(number)) => *number >= 0,
            (Bool, Found::Bool(_)) => true,
            (Texts, Found::Texts(_)) => true,
            (Paths, Found::Texts(paths)) => paths.iter().all(|path| path.starts_with('/')),
            (
                Text | Path | TextOfName | Word(_) | Size | Time | Count | Bool | Texts | Paths,
                Found::Text(_) | Found::Number(_) | Found::Bool(_) | Found::Texts(_) | Found::Other,
            ) => false,
        };
        let (key, form) = (self.name, self.form);
        fits.then_some(()).ok_or(WrongForm { key, form })
    }

    /// What somebody typed for this key.
    #[must_use]
    pub fn parse(&self, words: &[String]) -> Found {
        let one = || match words {
            [word] => Some(word.clone()),
            _ => None,
        };
        let found = match self.form {
            Text | Path | TextOfName | Word(_) | Size | Time => one().map(Found::Text),
            Count => one().and_then(|word| Some(Found::Number(word.parse().ok()?))),
            Bool => one().and_then(|word| Some(Found::Bool(word.parse().ok()?))),
            Texts | Paths => Some(Found::Texts(words.to_vec())),
        };
        found.unwrap_or(Found::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_with_what_it_may_have_meant() {
        let check = |name: &str, expected: Option<&str>| match find(name) {
            Ok(key) => panic!("{name} is {key:?}"),
            Err(unknown) => assert_eq!(unknown.nearest, expected, "{name}"),
        };
        check("defualt_image", Some("default_image"));
        check("vm_defaults.memroy", Some("vm_defaults.memory"));
        check("memory", Some("vm_defaults.memory"));
        check("registries.mirrors", Some("registries.mirrors"));
        check("balloons_for_everybody", None);
        assert!(find("registries.mirrors.docker.io").is_ok());
        assert!(is_table("limits") && is_table("registries.mirrors") && !is_table("vmm"));
    }

    #[test]
    fn a_value_has_the_form_of_its_key() {
        let check = |name: &str, typed: &[&str], fits: bool| {
            let key = find(name).unwrap();
            let typed: Vec<_> = typed.iter().map(ToString::to_string).collect();
            let found = key.parse(&typed);
            assert_eq!(key.check(&found).is_ok(), fits, "{name} {typed:?}");
        };
        check("vm_defaults.memory", &["4G"], true);
        check("vm_defaults.memory", &["lots"], false);
        check("vm_defaults.memory", &["4G", "5G"], false);
        check("vm_defaults.vcpus", &["4"], true);
        check("vm_defaults.vcpus", &["-4"], false);
        check("vmm", &["qemu"], true);
        check("vmm", &["bochs"], false);
        check("allow_emulated_kvm", &["true"], true);
        check("allow_emulated_kvm", &["yes"], false);
        check("auto_stop_stale_after", &["2h"], true);
        check("kernel_catalogs", &["/a", "/b"], true);
        check("kernel_catalogs", &["a"], false);
        check("registries.mirrors.docker.io", &["mirror:5000"], true);
    }

    #[test]
    fn what_is_taken_up_live_is_a_key() {
        for name in LIVE {
            assert!(find(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_default_has_the_form_of_its_key() {
        for key in KEYS {
            if let Value(default) = key.default {
                let found = key.parse(&[default.to_owned()]);
                assert_eq!(key.check(&found), Ok(()), "{}", key.name);
            }
        }
    }
}
