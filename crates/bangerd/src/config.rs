//! `config.toml`: parsed once, unknown keys refused. Knows what may be set, not what it does.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use banger_api::{
    config,
    size::{SizeError, parse_size},
};
use serde::Deserialize;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not valid", path = .path.display())]
    Unknown {
        path: PathBuf,
        source: config::UnknownKey,
    },
    #[error("{path} is not valid", path = .path.display())]
    Parse {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
}

/// The whole file; every key is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    log_level: Option<String>,
    /// The image of a VM that asks for none.
    pub(crate) default_image: Option<String>,
    /// The kernel of a VM that asks for none.
    pub(crate) default_kernel: Option<String>,
    /// Directories with kernel bundles and the catalog that names them, asked in this order.
    #[serde(default)]
    pub(crate) kernel_catalogs: Vec<AbsolutePath>,
    /// QEMU's program, where it is not on the PATH.
    pub(crate) qemu_bin: Option<PathBuf>,
    /// Firecracker's program, where it is not on the PATH.
    pub(crate) firecracker_bin: Option<PathBuf>,
    /// Its jailer, where it is neither beside it nor on the PATH.
    pub(crate) jailer_bin: Option<PathBuf>,
    /// The VMM of a VM that asks for none; the host's probe decides where it is absent.
    pub(crate) vmm: Option<String>,
    /// Lets Firecracker try a /dev/kvm that only emulates.
    #[serde(default)]
    pub(crate) allow_emulated_kvm: bool,
    #[serde(default)]
    pub(crate) firecracker: Firecracker,
    #[serde(default)]
    pub(crate) vm_defaults: VmDefaults,
    #[serde(default)]
    pub(crate) debian: Debian,
    #[serde(default)]
    pub(crate) registries: Registries,
    /// How long a VM may be unused before it is stopped; it asks for something else by itself.
    pub(crate) auto_stop_stale_after: Option<Span>,
    /// What stays free of the disk that machines and images are on.
    pub(crate) disk_reserve: Option<Size>,
    /// Lets VMs go on from a saved boot of their kind; so it is when absent.
    pub(crate) fast_start: Option<bool>,
    /// The most that saved boots may take.
    pub(crate) fast_start_budget: Option<Size>,
    /// The most that layers and blobs of earlier pulls may take.
    pub(crate) cache_budget: Option<Size>,
    #[serde(default)]
    pub(crate) limits: ImageLimits,
}

/// How much one image may ask for; the names are those of messages about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageLimits {
    pub(crate) entries: Option<u64>,
    /// Of one layer, or one tar, unpacked.
    pub(crate) layer_size: Option<Size>,
    /// Of all files, without holes.
    pub(crate) content_size: Option<Size>,
    /// Of one file, holes included.
    pub(crate) file_size: Option<Size>,
    /// Of one extended header.
    pub(crate) header_size: Option<Size>,
    /// Of data in one sparse file.
    pub(crate) sparse_pieces: Option<usize>,
    /// Unpacked bytes for each packed one, in layers beyond `ratio_free`.
    pub(crate) ratio: Option<u64>,
    pub(crate) ratio_free: Option<Size>,
}

/// How registries are talked to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registries {
    /// Those that may be plain HTTP or have any certificate.
    #[serde(default)]
    pub(crate) insecure: Vec<String>,
    /// PEM files with certificates to trust beside the system's.
    #[serde(default)]
    pub(crate) extra_ca: Vec<PathBuf>,
    /// Registries that are asked in the place of others.
    #[serde(default)]
    pub(crate) mirrors: BTreeMap<String, String>,
}

/// Sizes of a VM that asks for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VmDefaults {
    pub(crate) vcpus: Option<u32>,
    pub(crate) memory: Option<Size>,
    pub(crate) disk_size: Option<Size>,
}

/// How Firecracker runs its machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Firecracker {
    pub(crate) disk_cache: Option<String>,
    pub(crate) disk_engine: Option<String>,
    /// Per second, for each VM's own disk.
    pub(crate) disk_bandwidth: Option<Size>,
    pub(crate) disk_operations: Option<u64>,
    /// Per second, in each direction.
    pub(crate) network_bandwidth: Option<Size>,
    pub(crate) cpu_template: Option<String>,
    pub(crate) mmds: bool,
    pub(crate) metrics: bool,
}

/// Debian's archive; what is absent is taken from this host's own apt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debian {
    pub(crate) mirror: Option<String>,
    pub(crate) security_mirror: Option<String>,
    pub(crate) suite: Option<String>,
    /// Off for archives that are frozen on purpose.
    pub(crate) check_valid_until: Option<bool>,
}

/// A path that means the same wherever the daemon was started.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub(crate) struct AbsolutePath(PathBuf);

/// Why a path of the configuration is refused.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} is not an absolute path")]
pub(crate) struct RelativePath {
    path: PathBuf,
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = RelativePath;

    fn try_from(path: PathBuf) -> Result<Self, RelativePath> {
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            Err(RelativePath { path })
        }
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// A size in bytes, written as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Size(pub(crate) u64);

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        parse_size(&text).map(Self)
    }
}

/// A time, written as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<Self, humantime::DurationError> {
        humantime::parse_duration(&text).map(Self)
    }
}

impl Config {
    /// What a file says, and the text that says it. One that is not there is an empty one.
    pub(crate) fn read(path: &Path) -> Result<(Self, String), ConfigError> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?,
        };
        Ok((Self::parse(path, &text)?, text))
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let path = path.to_owned();
        // A file that is no TOML has no keys either: what follows says why.
        let table: toml::Table = toml::from_str(text).unwrap_or_default();
        if let Err(source) = known("", &table) {
            return Err(ConfigError::Unknown { path, source });
        }
        toml::from_str(text).map_err(|source| {
            let source = Box::new(source);
            ConfigError::Parse { path, source }
        })
    }

    pub(crate) fn log_level(&self) -> &str {
        self.log_level.as_deref().unwrap_or("info")
    }
}

/// What a file sets, by whole names. A file that is no TOML sets nothing.
pub(crate) fn settings(text: &str) -> Settings {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let mut settings = Settings::new();
    collect("", table, &mut settings);
    settings
}

/// Values by the names of their keys.
pub(crate) type Settings = BTreeMap<String, toml::Value>;

fn collect(above: &str, table: toml::Table, settings: &mut Settings) {
    for (name, value) in table {
        let name = format!("{above}{name}");
        match value {
            toml::Value::Table(table) if config::is_table(&name) => {
                collect(&format!("{name}."), table, settings);
            }
            value => drop(settings.insert(name, value)),
        }
    }
}

/// Whether all keys of a table are in the list that the command line has, too.
fn known(above: &str, table: &toml::Table) -> Result<(), config::UnknownKey> {
    for (name, value) in table {
        let name = format!("{above}{name}");
        match value {
            toml::Value::Table(table) if config::is_table(&name) => {
                known(&format!("{name}."), table)?;
            }
            _ => {
                config::find(&name)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_optional_and_unknown_ones_are_refused() {
        let cases = [
            ("", true),
            (
                "default_image = \"alpine\"\n[vm_defaults]\nmemory = \"1G\"\nvcpus = 3",
                true,
            ),
            ("[debian]\nmirror = \"http://mirror.example/debian\"", true),
            ("kernel_catalogs = [\"/srv/kernels\"]", true),
            ("kernel_catalogs = [\"kernels\"]", false),
            (
                "allow_emulated_kvm = true\n[firecracker]\ndisk_bandwidth = \"64M\"",
                true,
            ),
            (
                "[registries.mirrors]\n\"docker.io\" = \"mirror:5000\"",
                true,
            ),
            ("[firecracker]\nballoon = 1", false),
            ("fast_start = true\nfast_start_budget = \"1G\"", true),
            (
                "cache_budget = \"20G\"\n[limits]\nentries = 7\nfile_size = \"1G\"",
                true,
            ),
            ("[limits]\nentries = \"many\"", false),
            ("auto_stop_stale_after = \"2h\"", true),
            ("auto_stop_stale_after = \"soon\"", false),
            ("[limits]\nbombs = 1", false),
            ("defualt_image = \"alpine\"", false),
            ("[vm_defaults]\nmemory = \"much\"", false),
        ];
        for (text, valid) in cases {
            assert_eq!(toml::from_str::<Config>(text).is_ok(), valid, "{text:?}");
        }
    }

    /// A line that sets a key to something of its form.
    fn example(key: &config::Key) -> String {
        let value = match key.form {
            config::Form::Text | config::Form::Path => "\"x\"".to_owned(),
            config::Form::Word(words) => format!("{:?}", words[0]),
            config::Form::Size => "\"8G\"".to_owned(),
            config::Form::Time => "\"2h\"".to_owned(),
            config::Form::Count => "7".to_owned(),
            config::Form::Bool => "true".to_owned(),
            config::Form::Texts | config::Form::Paths => "[\"/x\"]".to_owned(),
            config::Form::TextOfName => "{ a = \"b\" }".to_owned(),
        };
        format!("{} = {value}", key.name)
    }

    #[test]
    fn every_key_that_is_listed_is_read() {
        for key in config::KEYS {
            let line = example(key);
            let read = Config::parse(Path::new("/c"), &line);
            let read = read.unwrap_or_else(|error| panic!("{line}: {error:?}"));
            assert_ne!(read, Config::default(), "{line}");
        }
    }

    #[test]
    fn every_key_that_is_read_is_listed() {
        for table in [
            "",
            "vm_defaults.",
            "firecracker.",
            "debian.",
            "registries.",
            "limits.",
        ] {
            let refused = toml::from_str::<Config>(&format!("{table}zzz = 1")).unwrap_err();
            let expected = refused
                .message()
                .split_once("expected")
                .unwrap()
                .1
                .to_owned();
            for name in expected.split('`').skip(1).step_by(2) {
                let name = format!("{table}{name}");
                let listed = config::find(&name).is_ok() || config::is_table(&name);
                assert!(listed, "{name}");
            }
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        let refused = Config::parse(Path::new("/c"), "[vm_defaults]\nmemroy = \"1G\"");
        let Err(ConfigError::Unknown { source, .. }) = refused else {
            panic!("{refused:?}");
        };
        let told = "there is no key vm_defaults.memroy; did you mean vm_defaults.memory?";
        assert_eq!(source.to_string(), told);
    }
}
