//! Owns images that travel as one file: a description, and after it the disk image, whose holes are
//! holes again when it is unpacked. Takes exactly these two and nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Bundle, BundleError, OpenBundle, Packer};
use crate::catalog::{Arch, EntryName};
use crate::decompress::{self, Bounded};
use crate::digest::Sha256;
use crate::kernel::KernelName;
use crate::manifest::ImageConfig;
use crate::progress::{SharedProgress, Step};
use crate::unpublished::Unpublished;

const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const ROOTFS: &str = "rootfs.ext4";
/// Configurations of images are a hundredth of that.
const LARGEST_MANIFEST: u64 = 1 << 20;
/// Headers and padding around the two members.
const AROUND: u64 = 1 << 20;
/// Bytes that are zeros or not as a whole.
const PIECE: usize = 64 << 10;
/// Where an ext4 superblock has its magic number, and what that is.
const MAGIC_AT: u64 = 1024 + 0x38;
const MAGIC: [u8; 2] = [0x53, 0xef];
/// Progress is told at most once per this many bytes.
const REPORT_EVERY: u64 = 8 << 20;

/// What is known of an image beside its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    pub format: u32,
    pub name: EntryName,
    pub arch: Arch,
    /// Of the disk image.
    pub size_bytes: u64,
    pub content_bytes: u64,
    pub entries: u64,
    /// Of what it was made from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    pub has_systemd: bool,
    pub has_shell: bool,
    /// The kernel that its machines boot unless they ask for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelName>,
    #[serde(default)]
    pub config: ImageConfig,
}

impl ImageManifest {
    /// Of an image of which nothing is known but its name and size.
    #[must_use]
    pub fn new(name: EntryName, size_bytes: u64) -> Self {
        Self {
            format: FORMAT,
            name,
            arch: Arch::host(),
            size_bytes,
            content_bytes: 0,
            entries: 0,
            digest: None,
            os: None,
            has_systemd: false,
            has_shell: false,
            kernel: None,
            config: ImageConfig::default(),
        }
    }

    /// Makes a bundle in `directory` of this and of a disk image.
    pub fn pack(
        &self,
        rootfs: &Path,
        directory: &Path,
        cancel: &CancellationToken,
        progress: &SharedProgress,
    ) -> Result<Bundle, BundleError> {
        let watch = Watch {
            stage: "pack",
            name: self.name.as_str(),
            total: self.size_bytes,
            cancel,
            progress,
        };
        let pack = || -> io::Result<Bundle> {
            let manifest = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
            let mut packer = Packer::create(directory)?;
            packer.add(MANIFEST, manifest.len() as u64, &manifest[..])?;
            let rootfs = watch.over(File::open(rootfs)?);
            packer.add(ROOTFS, self.size_bytes, rootfs)?;
            packer.finish(&format!("{}-{}", self.name, self.arch))
        };
        pack().map_err(|source| match cancel.is_cancelled() {
            true => BundleError::GivenUp,
            false => BundleError::Pack {
                what: format!("the image {}", self.name),
                source,
            },
        })
    }
}

/// Unpacks a disk image of `size` bytes to `to`, where it appears when it is whole.
pub fn unpack_image(
    bundle: OpenBundle,
    size: u64,
    to: &Path,
    cancel: &CancellationToken,
    progress: &SharedProgress,
) -> Result<ImageManifest, BundleError> {
    let write_failed = |source| BundleError::Write {
        path: to.to_owned(),
        source,
    };
    let directory = to.parent().unwrap_or(Path::new("."));
    let made = Unpublished::create(directory).map_err(write_failed)?;
    let manifest = bundle.read(|content, bundle| {
        let watch = Watch {
            stage: "unpack",
            name: bundle.file.as_str(),
            total: size,
            cancel,
            progress,
        };
        let content = Bounded::new(content, size.saturating_add(LARGEST_MANIFEST + AROUND));
        let unpacked = unpack(watch.over(content), bundle, size, made.file(), to);
        match cancel.is_cancelled() {
            true => Err(BundleError::GivenUp),
            false => unpacked,
        }
    })?;
    made.publish(to, 0o444).map_err(write_failed)?;
    Ok(manifest)
}

fn unpack(
    content: impl Read,
    bundle: &Bundle,
    size: u64,
    rootfs: &File,
    to: &Path,
) -> Result<ImageManifest, BundleError> {
    let broken = |source| BundleError::Packing {
        file: bundle.file.clone(),
        source,
    };
    let no_image = |why| BundleError::NoImage {
        file: bundle.file.clone(),
        why,
    };
    let mut archive = tar::Archive::new(content);
    // Raw, because extensions have no place in it and are not to be read at all.
    let mut members = archive.entries().map_err(broken)?.raw(true);
    let mut next = |name: &str, why| match members.next() {
        Some(Ok(member)) if is(&member, name) => Ok(member),
        Some(Ok(_)) | None => Err(no_image(why)),
        Some(Err(source)) => Err(broken(source)),
    };
    let manifest = next(MANIFEST, "it does not begin with a manifest.json")?;
    let manifest = decompress::read_all(manifest, LARGEST_MANIFEST).map_err(broken)?;
    let manifest: ImageManifest =
        serde_json::from_slice(&manifest).map_err(|source| BundleError::Manifest {
            file: bundle.file.clone(),
            source,
        })?;
    if manifest.format != FORMAT {
        return Err(no_image("this version does not know its format"));
    }
    let mut disk = next(ROOTFS, "no rootfs.ext4 follows its manifest.json")?;
    if disk.size() != size || manifest.size_bytes != size {
        return Err(no_image(
            "its disk image has another size than the catalog says",
        ));
    }
    write_sparse(&mut disk, rootfs, size, broken, |source| {
        BundleError::Write {
            path: to.to_owned(),
            source,
        }
    })?;
    let mut magic = [0; 2];
    let read = rootfs.read_exact_at(&mut magic, MAGIC_AT);
    if read.is_err() || magic != MAGIC {
        return Err(no_image("its disk image has no ext4 file system"));
    }
    match members.next() {
        None => Ok(manifest),
        Some(_) => Err(no_image("there is more in it than an image")),
    }
}

fn is(member: &tar::Entry<'_, impl Read>, name: &str) -> bool {
    member.header().entry_type().is_file() && *member.path_bytes() == *name.as_bytes()
}

/// Writes what is not zeros.
fn write_sparse(
    from: &mut impl Read,
    to: &File,
    size: u64,
    read_failed: impl Fn(io::Error) -> BundleError,
    write_failed: impl Fn(io::Error) -> BundleError,
) -> Result<(), BundleError> {
    to.set_len(size).map_err(&write_failed)?;
    let (mut piece, mut position) = (vec![0; PIECE], 0);
    while position < size {
        let left = usize::try_from(size - position).unwrap_or(usize::MAX);
        let piece = &mut piece[..left.min(PIECE)];
        from.read_exact(piece).map_err(&read_failed)?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, position).map_err(&write_failed)?;
        }
        position += piece.len() as u64;
    }
    Ok(())
}

/// What a stage shows of itself, and how it is ended.
struct Watch<'a> {
    stage: &'static str,
    name: &'a str,
    total: u64,
    cancel: &'a CancellationToken,
    progress: &'a SharedProgress,
}

impl<'a> Watch<'a> {
    fn over<R>(&'a self, inner: R) -> Watched<'a, R> {
        Watched {
            inner,
            watch: self,
            done: 0,
            told: 0,
        }
    }
}

struct Watched<'a, R> {
    inner: R,
    watch: &'a Watch<'a>,
    done: u64,
    told: u64,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Watch {
            stage,
            name,
            total,
            cancel,
            progress,
        } = self.watch;
        if cancel.is_cancelled() {
            return Err(io::Error::other("given up"));
        }
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        if self.done - self.told >= REPORT_EVERY || (count == 0 && self.told < self.done) {
            self.told = self.done;
            progress.report(Step {
                stage,
                detail: (*name).to_owned(),
                done: self.done.min(*total),
                total: Some(*total),
            });
        }
        Ok(count)
    }
}
