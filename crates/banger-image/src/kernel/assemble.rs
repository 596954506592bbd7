//! Owns making the store's layout of a kernel out of a directory that holds one in the layouts that
//! people and packages use. Works in a staging directory; publishes nothing.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use super::error::KernelError;
use super::manifest::{BootModule, CommandLine};
use super::{boot_modules, bzimage, elf};
use crate::decompress;
use crate::digest::{Hashing, Sha256};

pub(super) const VMLINUX: &str = "vmlinux";
pub(super) const MODULES: &str = "modules";
pub(super) const CONFIG: &str = "config";
/// What a bundled kernel must be told.
pub(super) const CMDLINE: &str = "cmdline";
/// The licence, and where the source is: whoever passes a kernel on passes these on, too.
pub(super) const NOTICES: [&str; 2] = ["COPYING", "SOURCE"];
const DEEPEST: usize = 32;

/// Whether the source is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    Copy,
    Move,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assembled {
    pub(super) version: String,
    pub(super) sha256: Sha256,
    pub(super) boot_modules: Vec<BootModule>,
    pub(super) size_bytes: u64,
    pub(super) cmdline: CommandLine,
}

/// Makes `vmlinux`, `modules` and `config` in `into` of what is found in `from`.
pub(super) fn assemble(
    from: &Path,
    into: &Path,
    transfer: Transfer,
) -> Result<Assembled, KernelError> {
    let vmlinux = into.join(VMLINUX);
    let sha256 = place_kernel(&find_kernel(from)?, &vmlinux)?;
    let version = elf::inspect_kernel(&vmlinux).map_err(|source| KernelError::NotBootable {
        path: vmlinux,
        source,
    })?;
    if let Some(config) = find_config(from, &version) {
        copy_file(&config, &into.join(CONFIG))?;
    }
    for notice in NOTICES.map(|notice| from.join(notice)) {
        if let Some(name) = notice.file_name().filter(|_| notice.is_file()) {
            copy_file(&notice, &into.join(name))?;
        }
    }
    let mut boot_modules = Vec::new();
    if let Some(modules) = find_modules(from, &version)? {
        let target = into.join(MODULES);
        transfer.tree(&modules, &target)?;
        boot_modules = boot_modules::index(&target).map_err(|source| KernelError::Modules {
            path: modules,
            source,
        })?;
    }
    let mut size_bytes = 0;
    // What else lies there, the unpacked package, goes away.
    for part in [VMLINUX, CONFIG, MODULES] {
        size_bytes += size_of(&into.join(part), DEEPEST)?;
    }
    Ok(Assembled {
        version,
        sha256,
        boot_modules,
        size_bytes,
        cmdline: CommandLine::default(),
    })
}

/// The one kernel in a directory or its `boot`: an ELF `vmlinux` before a packed `vmlinuz`.
fn find_kernel(from: &Path) -> Result<PathBuf, KernelError> {
    let mut found = Vec::new();
    for directory in [from.to_owned(), from.join("boot")] {
        let plain = directory.join(VMLINUX);
        if plain.is_file() {
            return Ok(plain);
        }
        found.extend(
            files(&directory)?
                .into_iter()
                .filter(|path| is_kernel_name(path)),
        );
    }
    match &found[..] {
        [] => Err(KernelError::NoKernel {
            directory: from.to_owned(),
        }),
        [kernel] => Ok(kernel.clone()),
        many => Err(KernelError::ManyKernels {
            directory: from.to_owned(),
            found: many.iter().map(|path| path.display().to_string()).collect(),
        }),
    }
}

fn is_kernel_name(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name == "bzImage" || name.starts_with("vmlinuz") || name.starts_with("vmlinux-")
}

/// The plain files of a directory, in order; none where there is no such directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(KernelError::io("read", directory)(source)),
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    Ok(paths)
}

/// Writes an ELF kernel, unpacked where it was packed; returns its digest.
fn place_kernel(from: &Path, to: &Path) -> Result<Sha256, KernelError> {
    let source = File::open(from).map_err(KernelError::io("open", from))?;
    let target = File::create(to).map_err(KernelError::io("create", to))?;
    let mut target = Hashing::new(target);
    let mut start = Vec::new();
    (&source)
        .take(4)
        .read_to_end(&mut start)
        .map_err(KernelError::io("read", from))?;
    if elf::is_elf(&start) {
        let mut all = start.chain(source.take(bzimage::LARGEST_KERNEL));
        io::copy(&mut all, &mut target).map_err(KernelError::io("copy", from))?;
    } else {
        let image = decompress::read_all(start.chain(source), bzimage::LARGEST_IMAGE);
        let image = image.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => KernelError::TooLarge {
                path: from.to_owned(),
            },
            _ => KernelError::io("read", from)(error),
        })?;
        bzimage::extract(&image, &mut target).map_err(|source| match source {
            bzimage::BzImageError::Write { source } => KernelError::io("write", to)(source),
            source => KernelError::Extract {
                path: from.to_owned(),
                source,
            },
        })?;
    }
    let (file, digest, _) = target.finish();
    file.sync_all().map_err(KernelError::io("write", to))?;
    Ok(digest)
}

/// The modules of this kernel: `modules`, or `modules`, `lib/modules`, `usr/lib/modules` with a
/// directory of the kernel's version in it.
fn find_modules(from: &Path, version: &str) -> Result<Option<PathBuf>, KernelError> {
    let flat = from.join(MODULES);
    let parents = [
        flat.clone(),
        from.join("lib/modules"),
        from.join("usr/lib/modules"),
    ];
    if let Some(own) = parents
        .iter()
        .map(|p| p.join(version))
        .find(|own| own.is_dir())
    {
        return Ok(Some(own));
    }
    if flat.is_dir() {
        return Ok(Some(flat));
    }
    match parents.iter().find(|parent| parent.is_dir()) {
        None => Ok(None),
        Some(parent) => Err(KernelError::ForeignModules {
            version: version.to_owned(),
            modules: parent.join(version),
        }),
    }
}

fn find_config(from: &Path, version: &str) -> Option<PathBuf> {
    let versioned = format!("{CONFIG}-{version}");
    let candidates = [
        from.join(CONFIG),
        from.join(&versioned),
        from.join("boot").join(&versioned),
        from.join(".config"),
    ];
    candidates.into_iter().find(|path| path.is_file())
}

impl Transfer {
    fn tree(self, from: &Path, to: &Path) -> Result<(), KernelError> {
        match self {
            Self::Move => fs::rename(from, to).map_err(KernelError::io("move", from)),
            Self::Copy => copy_tree(from, to, DEEPEST),
        }
    }
}

/// Copies directories and plain files; links lead out of the tree (`build`, `source`) and stay out.
fn copy_tree(from: &Path, to: &Path, depth: usize) -> Result<(), KernelError> {
    if depth == 0 {
        return Err(KernelError::io("copy", from)(
            io::ErrorKind::InvalidInput.into(),
        ));
    }
    fs::create_dir(to).map_err(KernelError::io("create", to))?;
    for entry in fs::read_dir(from).map_err(KernelError::io("read", from))? {
        let entry = entry.map_err(KernelError::io("read", from))?;
        let kind = entry.file_type().map_err(KernelError::io("read", from))?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_tree(&entry.path(), &target, depth - 1)?;
        } else if kind.is_file() {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), KernelError> {
    fs::copy(from, to)
        .map(drop)
        .map_err(KernelError::io("copy", from))
}

/// The bytes of a file, or of all files in a directory; none where there is neither.
fn size_of(path: &Path, depth: usize) -> Result<u64, KernelError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(KernelError::io("read", path)(source)),
    };
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    if !metadata.is_dir() || depth == 0 {
        return Ok(0);
    }
    let mut total = 0;
    for entry in fs::read_dir(path).map_err(KernelError::io("read", path))? {
        let entry = entry.map_err(KernelError::io("read", path))?;
        total += size_of(&entry.path(), depth - 1)?;
    }
    Ok(total)
}

/// Writes a file and waits until the disk has it.
pub(super) fn write_synced(path: &Path, contents: &[u8]) -> Result<(), KernelError> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().map_err(KernelError::io("write", path))
}
