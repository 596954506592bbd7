//! Owns which modules a boot needs and in which order they load. Decides from names; reads modules
//! only to ask for their dependencies. Loads nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::elf::{self, ElfError};
use super::manifest::BootModule;
use crate::decompress;
use crate::digest::Sha256;

/// The largest module that is unpacked.
pub(crate) const LARGEST_MODULE: u64 = 64 * 1024 * 1024;
const DEEPEST: usize = 32;
const SUFFIXES: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// What boot needs, in the order in which it is wished for. Dependencies come by themselves. What
/// may be left out comes last, so that nothing else relies on a dependency that it brought.
const WANTED: [Wanted; 7] = [
    Wanted::mandatory("virtio_mmio", Purpose::Bus),
    Wanted::mandatory("virtio_blk", Purpose::Root),
    Wanted::mandatory("overlay", Purpose::Root),
    Wanted::optional("virtio_console", Purpose::Other),
    Wanted::optional("virtio_net", Purpose::Other),
    Wanted::optional("virtio_rng", Purpose::Other),
    Wanted::optional("vmw_vsock_virtio_transport", Purpose::Vsock),
];

#[derive(Debug, Clone, Copy)]
struct Wanted {
    name: &'static str,
    purpose: Purpose,
    mandatory: bool,
}

impl Wanted {
    const fn mandatory(name: &'static str, purpose: Purpose) -> Self {
        Self {
            name,
            purpose,
            mandatory: true,
        }
    }

    const fn optional(name: &'static str, purpose: Purpose) -> Self {
        Self {
            name,
            purpose,
            mandatory: false,
        }
    }
}

/// What a boot loads a module for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Everything else needs it.
    Bus,
    /// The machine's root file system.
    Root,
    /// Whatever the machine has beside its root.
    Other,
    /// A channel to the host over vsock, which not every VMM offers.
    Vsock,
}

impl Purpose {
    /// The word in the initramfs's list of modules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Root => "root",
            Self::Other => "other",
            Self::Vsock => "vsock",
        }
    }
}

/// What each of these modules, in the order of [`index`], is for: a dependency stands right before
/// the module that brought it.
#[must_use]
pub fn purposes(modules: &[BootModule]) -> Vec<Purpose> {
    let mut purpose = Purpose::Other;
    let mut purposes: Vec<_> = modules
        .iter()
        .rev()
        .map(|module| {
            if let Some(wanted) = WANTED.iter().find(|wanted| wanted.name == module.name) {
                purpose = wanted.purpose;
            }
            purpose
        })
        .collect();
    purposes.reverse();
    purposes
}

/// Why a kernel's modules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootModulesError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the module {name} is needed to boot, but it is neither there nor built in")]
    Missing { name: String },
    #[error("the module {module} needs {name}, which is neither there nor built in")]
    MissingDependency { module: String, name: String },
    #[error("the modules {chain} depend on each other in a circle")]
    Circle { chain: String },
    #[error("cannot read the dependencies of {}", path.display())]
    Module { path: PathBuf, source: ElfError },
    #[error("{} is nested too deeply", path.display())]
    TooDeep { path: PathBuf },
}

impl BootModulesError {
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } | Self::MissingDependency { .. } => Some(
                "modules.builtin must list what is built in; a kernel without modules is \
                 imported without a modules directory",
            ),
            Self::Read { .. }
            | Self::Circle { .. }
            | Self::Module { .. }
            | Self::TooDeep { .. } => None,
        }
    }

    fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::MissingDependency { .. } => true,
            Self::Read { .. }
            | Self::Circle { .. }
            | Self::Module { .. }
            | Self::TooDeep { .. } => false,
        }
    }
}

/// A directory of modules, as it lies in `lib/modules/VERSION`.
#[derive(Debug)]
struct Tree {
    root: PathBuf,
    /// Paths below the root by normalised name.
    modules: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    /// What depmod wrote, where it was run; packages come without it.
    depmod: Option<BTreeMap<String, Vec<String>>>,
}

/// The modules that boot needs of those in `root`, in the order in which to load them.
pub fn index(root: &Path) -> Result<Vec<BootModule>, BootModulesError> {
    let tree = Tree::read(root)?;
    let names = order(&WANTED, |name| tree.find(name))?;
    names.into_iter().map(|name| tree.describe(name)).collect()
}

/// `virtio-rng` and `virtio_rng` are the same module.
fn normalise(name: &str) -> String {
    name.replace('-', "_")
}

/// The normalised name of a module's file, if it is one.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = SUFFIXES
        .iter()
        .find_map(|suffix| file.strip_suffix(suffix))?;
    (!stem.is_empty()).then(|| normalise(stem))
}

/// What is known of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// Loadable, after these.
    Loadable(Vec<String>),
    Builtin,
    Nowhere,
}

/// Puts the wanted modules and all that they need into an order in which each finds its
/// dependencies loaded.
fn order(
    wanted: &[Wanted],
    find: impl Fn(&str) -> Result<Found, BootModulesError>,
) -> Result<Vec<String>, BootModulesError> {
    let mut ordered = Vec::new();
    for Wanted {
        name, mandatory, ..
    } in wanted
    {
        let before = ordered.len();
        match visit(name, &find, &mut ordered, &mut Vec::new()) {
            Err(error) if error.is_missing() && !mandatory => ordered.truncate(before),
            other => other?,
        }
    }
    Ok(ordered)
}

fn visit(
    name: &str,
    find: &impl Fn(&str) -> Result<Found, BootModulesError>,
    ordered: &mut Vec<String>,
    parents: &mut Vec<String>,
) -> Result<(), BootModulesError> {
    if ordered.iter().any(|done| done == name) {
        return Ok(());
    }
    if parents.iter().any(|parent| parent == name) {
        return Err(BootModulesError::Circle {
            chain: parents.join(", "),
        });
    }
    match find(name)? {
        Found::Builtin => Ok(()),
        Found::Nowhere => Err(missing(name, parents.last())),
        Found::Loadable(dependencies) => {
            parents.push(name.to_owned());
            for dependency in dependencies {
                visit(&dependency, find, ordered, parents)?;
            }
            parents.pop();
            ordered.push(name.to_owned());
            Ok(())
        }
    }
}

fn missing(name: &str, needed_by: Option<&String>) -> BootModulesError {
    let name = name.to_owned();
    match needed_by {
        None => BootModulesError::Missing { name },
        Some(module) => BootModulesError::MissingDependency {
            module: module.clone(),
            name,
        },
    }
}

impl Tree {
    fn read(root: &Path) -> Result<Self, BootModulesError> {
        let mut modules = BTreeMap::new();
        collect(root, Path::new(""), DEEPEST, &mut modules)?;
        let builtin = read_list(&root.join("modules.builtin"))?.unwrap_or_default();
        Ok(Self {
            root: root.to_owned(),
            modules,
            builtin: builtin
                .lines()
                .filter_map(|line| name_of(Path::new(line.trim())))
                .collect(),
            depmod: read_list(&root.join("modules.dep"))?.map(|text| parse_depmod(&text)),
        })
    }

    fn find(&self, name: &str) -> Result<Found, BootModulesError> {
        if self.builtin.contains(name) {
            return Ok(Found::Builtin);
        }
        let Some(path) = self.modules.get(name) else {
            return Ok(Found::Nowhere);
        };
        if let Some(dependencies) = self.depmod.as_ref().and_then(|depmod| depmod.get(name)) {
            return Ok(Found::Loadable(dependencies.clone()));
        }
        let path = self.root.join(path);
        let module = read_module(&path).map_err(|source| BootModulesError::Read {
            path: path.clone(),
            source,
        })?;
        let dependencies = elf::module_depends(&module)
            .map_err(|source| BootModulesError::Module { path, source })?;
        Ok(Found::Loadable(
            dependencies.iter().map(|name| normalise(name)).collect(),
        ))
    }

    fn describe(&self, name: String) -> Result<BootModule, BootModulesError> {
        let path = self.modules[&name].clone();
        let full = self.root.join(&path);
        let sha256 = File::open(&full)
            .and_then(Sha256::of_reader)
            .map_err(|source| BootModulesError::Read { path: full, source })?;
        Ok(BootModule { name, path, sha256 })
    }
}

/// A module's contents, unpacked.
fn read_module(path: &Path) -> io::Result<Vec<u8>> {
    decompress::read_all(decompress::reader(File::open(path)?)?, LARGEST_MODULE)
}

/// Gathers the modules below `root`, not following links: `build` and `source` lead elsewhere.
fn collect(
    root: &Path,
    below: &Path,
    depth: usize,
    modules: &mut BTreeMap<String, PathBuf>,
) -> Result<(), BootModulesError> {
    let directory = root.join(below);
    if depth == 0 {
        return Err(BootModulesError::TooDeep { path: directory });
    }
    let read_error = |source| BootModulesError::Read {
        path: directory.clone(),
        source,
    };
    for entry in fs::read_dir(&directory).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let kind = entry.file_type().map_err(read_error)?;
        let path = below.join(entry.file_name());
        if kind.is_dir() {
            collect(root, &path, depth - 1, modules)?;
        } else if kind.is_file()
            && let Some(name) = name_of(&path)
        {
            modules.insert(name, path);
        }
    }
    Ok(())
}

fn read_list(path: &Path) -> Result<Option<String>, BootModulesError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BootModulesError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Parses `kernel/a.ko: kernel/b.ko kernel/c.ko`, one module a line.
fn parse_depmod(text: &str) -> BTreeMap<String, Vec<String>> {
    let names = |paths: &str| -> Vec<String> {
        paths
            .split_whitespace()
            .filter_map(|path| name_of(Path::new(path)))
            .collect()
    };
    text.lines()
        .filter_map(|line| {
            let (module, dependencies) = line.split_once(':')?;
            Some((name_of(Path::new(module.trim()))?, names(dependencies)))
        })
        .collect()
}
