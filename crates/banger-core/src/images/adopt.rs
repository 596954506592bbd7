//! Images that are files of the host: registered as they are, promoted to copies of our own.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use banger_image::{
    digest::Sha256,
    kernel::KernelName,
    progress::{SharedProgress, Step},
    rootfs::Facts,
};
use tokio_util::sync::CancellationToken;

use super::{
    Images,
    workshop::{self, Job, Made, Workshop},
};
use crate::{
    error::{Error, RegisterError},
    name::ImageName,
    store::{ImageRow, ImageStage},
};

/// Where an ext4 superblock has its magic number, and what that is.
const MAGIC_AT: u64 = 1024 + 0x38;
const MAGIC: [u8; 2] = [0x53, 0xef];
const COPY: usize = 1 << 20;
const TELL_EVERY: u64 = 32 << 20;

/// A file of the host that is to be an image.
#[derive(Debug, Clone)]
pub struct Registration {
    pub name: ImageName,
    /// An ext4 file system.
    pub rootfs: PathBuf,
    /// The kernel that VMs of it boot unless they ask for another.
    pub kernel: Option<KernelName>,
}

impl Images {
    /// Makes a file of the host an image, without touching it.
    pub async fn register(&self, registration: Registration) -> Result<ImageRow, Error> {
        let Registration {
            name,
            rootfs,
            kernel,
        } = registration;
        self.refuse_taken(&name)?;
        let lock = self.locks.lock(name.as_str(), || {}).await;
        let job = Job {
            kernel,
            rootfs: Some(rootfs.clone()),
            ..Job::new(&name, format!("file:{}", rootfs.display()))
        };
        let work = move |_: &Path, _: &CancellationToken| {
            let size_bytes = check_ext4(&rootfs)?;
            Ok(Made {
                // The file may change behind our back: what it is now says nothing.
                digest: String::new(),
                size_bytes,
                content_bytes: 0,
                entries: 0,
                facts: Facts::default(),
                wants: None,
            })
        };
        workshop::make(&self.work, job, Arc::new(lock), work).await
    }

    /// Copies a registered image's file into our own store, under the same name.
    pub async fn promote(
        &self,
        name: &ImageName,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
        let row = self.get(name)?;
        let lock = self.lock(name, &progress).await;
        let Some(from) = row.rootfs.clone() else {
            return Err(RegisterError::Managed { name: name.clone() }.into());
        };
        let cancel = CancellationToken::new();
        let _given_up = cancel.clone().drop_guard();
        let work = self.work.clone();
        let promoted = tokio::task::spawn_blocking(move || {
            let _lock = lock;
            let copy = || copy_into(&work, &row, &from, &progress, &cancel);
            let promoted = work.recorded(&row, copy);
            if promoted.is_err() {
                work.drop_copy(&row);
            }
            promoted
        });
        promoted.await.map_err(|_| Error::Ending)?
    }
}

/// Copies, then confirms; until then the row names the file of the host.
fn copy_into(
    work: &Workshop,
    row: &ImageRow,
    from: &Path,
    progress: &SharedProgress,
    cancel: &CancellationToken,
) -> Result<ImageRow, Error> {
    let to = work.own_rootfs(row)?;
    let total = check_ext4(from)?;
    let on_copied = |done| {
        progress.report(Step {
            stage: "copy",
            detail: from.display().to_string(),
            done,
            total: Some(total),
        });
        match cancel.is_cancelled() {
            true => Err(Error::Ending),
            false => Ok(()),
        }
    };
    let (digest, size_bytes) = copy(from, &to, on_copied)?;
    let row = ImageRow {
        stage: ImageStage::Ready,
        rootfs: None,
        digest: digest.to_string(),
        size_bytes,
        ..row.clone()
    };
    work.store().publish_image(&row)?;
    work.write_card(&row);
    Ok(row)
}

/// The size of an ext4 file system in a file.
fn check_ext4(path: &Path) -> Result<u64, Error> {
    let failed = |operation| {
        move |source| Error::File {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    let file = File::open(path).map_err(failed("open"))?;
    let metadata = file.metadata().map_err(failed("look at"))?;
    let mut magic = [0; 2];
    let read = file.read_exact_at(&mut magic, MAGIC_AT);
    if !metadata.is_file() || read.is_err() || magic != MAGIC {
        let path = path.to_owned();
        return Err(RegisterError::NotExt4 { path }.into());
    }
    Ok(metadata.len())
}

/// Copies a file with its holes, and gives the digest of its bytes. `on_copied` is told how far
/// it is, and may stop it.
fn copy(
    from: &Path,
    to: &Path,
    on_copied: impl Fn(u64) -> Result<(), Error>,
) -> Result<(Sha256, u64), Error> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File {
            operation,
            path,
            source,
        }
    };
    let mut source = File::open(from).map_err(failed("open", from))?;
    let directory = to.parent().unwrap_or(Path::new("."));
    let staged = directory.join("rootfs.ext4.partial");
    let target = File::create(&staged).map_err(failed("create", &staged))?;
    let mut hasher = banger_image::digest::Hasher::default();
    let (mut buffer, mut position, mut next) = (vec![0; COPY], 0, 0);
    loop {
        if position >= next {
            on_copied(position)?;
            next = position + TELL_EVERY;
        }
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("read", from)(error)),
        };
        let piece = &buffer[..count];
        hasher.update(piece);
        if piece.iter().any(|byte| *byte != 0) {
            let written = target.write_all_at(piece, position);
            written.map_err(failed("write", &staged))?;
        }
        position += count as u64;
    }
    let read_only = fs::Permissions::from_mode(0o444);
    let done = target
        .set_len(position)
        .and_then(|()| target.set_permissions(read_only))
        .and_then(|()| target.sync_all())
        .and_then(|()| fs::rename(&staged, to))
        .and_then(|()| File::open(directory)?.sync_all());
    done.map_err(failed("write", to))?;
    Ok((hasher.finish(), position))
}
