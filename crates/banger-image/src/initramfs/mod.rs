//! Owns the archive that the kernel unpacks before its first process: the agent as `/init`, and
//! the modules that boot needs with what for and in which order. Cached by content.
//! Knows nothing of what the agent does with it.

pub mod newc;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::decompress;
use crate::digest::{Hasher, Sha256};
use crate::kernel::boot_modules::{LARGEST_MODULE, Purpose, purposes};
use crate::kernel::{BootModule, Kernel, Manifest};
use newc::Writer;

/// Changes with what this module writes, so that older archives are not taken for new ones.
const FORMAT: &str = "banger-initramfs-2";
const PREFIX: &str = "initramfs-";
const SUFFIX: &str = ".cpio";
const PARTIAL: &str = ".partial";

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    #[error("cannot create an initramfs in {}", directory.display())]
    Create {
        directory: PathBuf,
        source: io::Error,
    },
    #[error("cannot read the module {}", path.display())]
    ReadModule { path: PathBuf, source: io::Error },
    #[error("the module {} has changed since the kernel was imported", path.display())]
    ChangedModule { path: PathBuf },
    #[error("the kernel {kernel} lists modules, but has no modules directory")]
    NoModules { kernel: String },
    #[error("cannot write the initramfs {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl InitramfsError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Create { source, .. } | Self::Write { source, .. }
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                Some("free some space on that file system and try again")
            }
            Self::Create { .. } | Self::Write { .. } => {
                Some("check that the cache directory can be written")
            }
            Self::ReadModule { .. } | Self::ChangedModule { .. } | Self::NoModules { .. } => {
                Some("pull or import the kernel again with --force")
            }
        }
    }
}

/// The archive for this kernel and this agent, made if it is not there yet. A hit reads nothing:
/// the name is made of digests that are known. Blocks while it makes one.
pub fn ensure(
    kernel: &Kernel,
    agent: &[u8],
    agent_digest: Sha256,
    cache: &Path,
) -> Result<PathBuf, InitramfsError> {
    let path = path(kernel, agent_digest, cache);
    if !path.is_file() {
        make(kernel, agent, cache, &path)?;
    }
    Ok(path)
}

/// Where the archive for this kernel and this agent is, or will be.
#[must_use]
pub fn path(kernel: &Kernel, agent_digest: Sha256, cache: &Path) -> PathBuf {
    cache.join(file_name(&kernel.manifest, agent_digest))
}

/// Removes from the cache what no start with one of these kernels and this agent would use:
/// archives of other kernels and agents, and what a process that was killed has left half-made.
/// A machine that runs has read its archive.
pub fn sweep(cache: &Path, kernels: &[Manifest], agent_digest: Sha256) -> io::Result<()> {
    let names = kernels.iter().map(|kernel| file_name(kernel, agent_digest));
    let kept: HashSet<String> = names.collect();
    let entries = match fs::read_dir(cache) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let half_made = name.starts_with(&format!(".{PREFIX}")) && name.ends_with(PARTIAL);
        let archive = name.starts_with(PREFIX) && name.ends_with(SUFFIX);
        if half_made || (archive && !kept.contains(&*name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn file_name(kernel: &Manifest, agent: Sha256) -> String {
    format!("{PREFIX}{}{SUFFIX}", key(kernel, agent).to_hex())
}

/// What the archive's contents follow from.
fn key(kernel: &Manifest, agent: Sha256) -> Sha256 {
    let mut hasher = Hasher::default();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(FORMAT.as_bytes());
    add(kernel.sha256.as_bytes());
    add(agent.as_bytes());
    for module in &kernel.boot_modules {
        add(module.name.as_bytes());
        add(module.sha256.as_bytes());
    }
    hasher.finish()
}

/// Writes the archive beside its place and moves it there when it is whole.
fn make(kernel: &Kernel, agent: &[u8], cache: &Path, path: &Path) -> Result<(), InitramfsError> {
    let create_error = |source| InitramfsError::Create {
        directory: cache.to_owned(),
        source,
    };
    let write_error = |source| InitramfsError::Write {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(cache).map_err(create_error)?;
    let partial = tempfile::Builder::new()
        .prefix(&format!(".{PREFIX}"))
        .suffix(PARTIAL)
        .tempfile_in(cache)
        .map_err(create_error)?;
    let modules = load_modules(kernel)?;
    let out = BufWriter::with_capacity(256 * 1024, partial.as_file());
    write_archive(out, agent, &modules).map_err(write_error)?;
    partial.as_file().sync_all().map_err(write_error)?;
    partial
        .persist(path)
        .map_err(|error| write_error(error.error))?;
    Ok(())
}

/// A module as the archive has it.
struct Loaded {
    purpose: Purpose,
    file: String,
    contents: Vec<u8>,
}

fn load_modules(kernel: &Kernel) -> Result<Vec<Loaded>, InitramfsError> {
    let listed = &kernel.manifest.boot_modules;
    let root = match &kernel.modules {
        Some(root) => root,
        None if listed.is_empty() => return Ok(Vec::new()),
        None => {
            let kernel = kernel.manifest.name.to_string();
            return Err(InitramfsError::NoModules { kernel });
        }
    };
    let purposed = listed.iter().zip(purposes(listed));
    purposed
        .enumerate()
        .map(|(at, (module, purpose))| load(root, at, module, purpose))
        .collect()
}

fn load(
    root: &Path,
    at: usize,
    module: &BootModule,
    purpose: Purpose,
) -> Result<Loaded, InitramfsError> {
    let path = root.join(&module.path);
    let read =
        || -> io::Result<Vec<u8>> { decompress::read_all(File::open(&path)?, LARGEST_MODULE) };
    let stored = match read() {
        Ok(stored) => stored,
        Err(source) => return Err(InitramfsError::ReadModule { path, source }),
    };
    if Sha256::of(&stored) != module.sha256 {
        return Err(InitramfsError::ChangedModule { path });
    }
    let contents = decompress::reader(&stored[..])
        .and_then(|unpacked| decompress::read_all(unpacked, LARGEST_MODULE))
        .map_err(|source| InitramfsError::ReadModule { path, source })?;
    Ok(Loaded {
        purpose,
        file: format!("{at:02}-{}.ko", module.name),
        contents,
    })
}

fn write_archive(out: impl io::Write, agent: &[u8], modules: &[Loaded]) -> io::Result<()> {
    let mut archive = Writer::new(out);
    for directory in ["dev", "proc", "sys"] {
        archive.directory(directory, 0o755)?;
    }
    archive.character_device("dev/console", 0o600, 5, 1)?;
    archive.character_device("dev/null", 0o666, 1, 3)?;
    archive.file("init", 0o755, agent)?;
    if !modules.is_empty() {
        archive.directory("modules", 0o755)?;
        let mut order = String::new();
        for module in modules {
            archive.file(&format!("modules/{}", module.file), 0o644, &module.contents)?;
            order.push_str(&format!("{} {}\n", module.purpose.as_str(), module.file));
        }
        archive.file("modules/order", 0o644, order.as_bytes())?;
    }
    archive.finish().map(drop)
}
