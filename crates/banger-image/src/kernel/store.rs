//! Owns the directory of kernels: what is in it, and that each kernel in it is whole.
//! One process at a time uses a store. Knows no VM that uses its kernels.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::OwnedMutexGuard;

use super::assemble::{self, Assembled, CONFIG, MODULES, Transfer, VMLINUX};
use super::config;
use super::error::KernelError;
use super::manifest::{Arch, CommandLine, FORMAT, KernelName, Manifest, Origin};
use super::staging::{self, Staging};
use crate::digest::Sha256;

const MANIFEST: &str = "manifest.json";

type NameLock = Arc<tokio::sync::Mutex<()>>;

/// What to do where a kernel of that name is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfTaken {
    Refuse,
    Replace,
    /// Be content with what is there.
    Keep,
}

/// A kernel that is ready to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub manifest: Manifest,
    pub vmlinux: PathBuf,
    /// What is `lib/modules/VERSION` elsewhere.
    pub modules: Option<PathBuf>,
    pub config: Option<PathBuf>,
}

impl Kernel {
    /// How many times a second its timer ticks, where its configuration is known.
    #[must_use]
    pub fn timer_hz(&self) -> Option<u32> {
        config::timer_hz(self.config.as_deref()?)
    }
}

/// Kernels in a directory. Clones share their locks.
#[derive(Debug, Clone)]
pub struct KernelStore {
    directory: PathBuf,
    locks: Arc<Mutex<HashMap<KernelName, NameLock>>>,
}

impl KernelStore {
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            locks: Arc::default(),
        }
    }

    /// All kernels, by name.
    pub fn list(&self) -> Result<Vec<Manifest>, KernelError> {
        self.names()?
            .iter()
            .map(|name| self.manifest(name))
            .collect()
    }

    pub fn get(&self, name: &KernelName) -> Result<Kernel, KernelError> {
        let manifest = self.manifest(name)?;
        let path = self.path(name);
        let present = |part: &str| Some(path.join(part)).filter(|part| part.exists());
        Ok(Kernel {
            vmlinux: path.join(VMLINUX),
            modules: present(MODULES),
            config: present(CONFIG),
            manifest,
        })
    }

    pub fn remove(&self, name: &KernelName) -> Result<(), KernelError> {
        let path = self.path(name);
        match staging::remove(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(self.not_found(name)),
            done => done.map_err(KernelError::io("remove", &path)),
        }
    }

    /// Copies a kernel out of a directory: `vmlinux` or `vmlinuz*`, optionally `modules` or
    /// `lib/modules/VERSION`, optionally `config`. The tree of an unpacked package will do.
    pub fn import(
        &self,
        name: &KernelName,
        from: &Path,
        if_taken: IfTaken,
    ) -> Result<Manifest, KernelError> {
        self.import_told(name, from, CommandLine::default(), if_taken)
    }

    /// As [`Self::import`], for a kernel that must be told something.
    pub fn import_told(
        &self,
        name: &KernelName,
        from: &Path,
        cmdline: CommandLine,
        if_taken: IfTaken,
    ) -> Result<Manifest, KernelError> {
        if let Some(present) = self.check_taken(name, if_taken)? {
            return Ok(present);
        }
        let from = fs::canonicalize(from).map_err(KernelError::io("open", from))?;
        let staging = self.stage(name)?;
        let assembled = assemble::assemble(&from, staging.path(), Transfer::Copy)?;
        let assembled = Assembled {
            cmdline,
            ..assembled
        };
        self.publish(
            name,
            &staging,
            assembled,
            Origin::Import { directory: from },
            if_taken,
        )
    }

    /// Hashes all that a boot uses anew and compares.
    pub fn verify(&self, name: &KernelName) -> Result<(), KernelError> {
        let kernel = self.get(name)?;
        let modules = self.path(name).join(MODULES);
        let boot = kernel
            .manifest
            .boot_modules
            .iter()
            .map(|m| (modules.join(&m.path), m.sha256));
        for (path, expected) in boot.chain([(kernel.vmlinux, kernel.manifest.sha256)]) {
            let found = File::open(&path)
                .and_then(Sha256::of_reader)
                .map_err(KernelError::io("read", &path))?;
            if found != expected {
                return Err(KernelError::Damaged {
                    name: name.clone(),
                    path,
                });
            }
        }
        Ok(())
    }

    /// Removes what work that was killed has left behind; for the start, before anything else.
    pub fn sweep(&self) -> Result<Vec<PathBuf>, KernelError> {
        staging::sweep(&self.directory).map_err(KernelError::io("sweep", &self.directory))
    }

    /// Waits until nobody else works on this name.
    pub(super) async fn lock(&self, name: &KernelName) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(name.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// The kernel that is there and may stay, or nothing where one may be made.
    pub(super) fn check_taken(
        &self,
        name: &KernelName,
        if_taken: IfTaken,
    ) -> Result<Option<Manifest>, KernelError> {
        match if_taken {
            IfTaken::Replace => Ok(None),
            IfTaken::Refuse if self.path(name).exists() => {
                Err(KernelError::Taken { name: name.clone() })
            }
            IfTaken::Keep if self.path(name).exists() => self.manifest(name).map(Some),
            IfTaken::Refuse | IfTaken::Keep => Ok(None),
        }
    }

    pub(super) fn stage(&self, name: &KernelName) -> Result<Staging, KernelError> {
        Staging::create(&self.directory, name)
            .map_err(KernelError::io("create a directory in", &self.directory))
    }

    /// Writes the manifest and makes the kernel appear under its name.
    pub(super) fn publish(
        &self,
        name: &KernelName,
        staging: &Staging,
        assembled: Assembled,
        source: Origin,
        if_taken: IfTaken,
    ) -> Result<Manifest, KernelError> {
        let manifest = Manifest {
            format: FORMAT,
            name: name.clone(),
            version: assembled.version,
            arch: Arch::X86_64,
            source,
            sha256: assembled.sha256,
            imported_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            size_bytes: assembled.size_bytes,
            boot_modules: assembled.boot_modules,
            cmdline: assembled.cmdline,
        };
        let json = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        assemble::write_synced(&staging.path().join(MANIFEST), &json)?;
        let target = self.path(name);
        let published = match if_taken {
            IfTaken::Replace => staging.replace(&target),
            IfTaken::Refuse | IfTaken::Keep => staging.publish(&target),
        };
        match published {
            Ok(()) => Ok(manifest),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(KernelError::Taken { name: name.clone() })
            }
            Err(source) => Err(KernelError::io("publish", &target)(source)),
        }
    }

    /// Where a kernel is, or would be.
    #[must_use]
    pub fn path(&self, name: &KernelName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    /// The names of all directories that hold a manifest.
    fn names(&self) -> Result<Vec<KernelName>, KernelError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(KernelError::io("read", &self.directory)(source)),
        };
        let named = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<KernelName>().ok();
        let mut names: Vec<KernelName> = entries
            .flatten()
            .filter_map(named)
            .filter(|name| self.path(name).join(MANIFEST).is_file())
            .collect();
        names.sort();
        Ok(names)
    }

    fn manifest(&self, name: &KernelName) -> Result<Manifest, KernelError> {
        let path = self.path(name).join(MANIFEST);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(self.not_found(name)),
            Err(source) => return Err(KernelError::io("read", &path)(source)),
        };
        let manifest: Manifest =
            serde_json::from_slice(&json).map_err(|source| KernelError::Manifest {
                path: path.clone(),
                source,
            })?;
        if manifest.format != FORMAT {
            return Err(KernelError::ManifestFormat {
                path,
                found: manifest.format,
            });
        }
        Ok(manifest)
    }

    fn not_found(&self, name: &KernelName) -> KernelError {
        let names = self.names().unwrap_or_default();
        let present = names.iter().map(ToString::to_string).collect();
        KernelError::NotFound {
            name: name.clone(),
            present,
        }
    }
}
