//! Rows of images. A row is written before its file: a name is taken, and a half-made image
//! is found again, from the first moment on.

use std::path::{Path, PathBuf};

use banger_image::{kernel::KernelName, manifest::ImageConfig};
use rusqlite::{OptionalExtension, Row, ffi, named_params};

use super::{
    Store, StoreError, breaches, query,
    vms::{column, parse, signed, unsigned},
};
use crate::{name::ImageName, record::Seconds};

/// Whether an image may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStage {
    /// Its file is being made; a restart removes it.
    Building,
    Ready,
}

/// What is recorded of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    pub name: ImageName,
    /// The directory below the image store that holds its file.
    pub directory: String,
    pub stage: ImageStage,
    pub source: String,
    pub digest: String,
    pub size_bytes: u64,
    pub content_bytes: u64,
    pub entries: u64,
    pub os: Option<String>,
    pub has_systemd: bool,
    pub has_shell: bool,
    pub created_at: Seconds,
    /// What it was pulled by, in full.
    pub reference: Option<String>,
    /// What it is for, where its source says so.
    pub platform: Option<String>,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// The file of the host that it is, where we do not manage it ourselves.
    pub rootfs: Option<PathBuf>,
    /// The kernel that it wants.
    pub kernel: Option<KernelName>,
}

const BUILDING: &str = "building";
const READY: &str = "ready";

impl Store {
    /// Takes a name for an image that is about to be made.
    pub fn reserve_image(
        &self,
        name: &ImageName,
        directory: &str,
        source: &str,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let inserted = self.lock().execute(
            "INSERT INTO images (name, directory, stage, source, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            (name.as_str(), directory, BUILDING, source, signed(now)),
        );
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if breaches(&error, ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => {
                Err(StoreError::ImageTaken(name.clone()))
            }
            Err(error) => Err(query("insert an image")(error)),
        }
    }

    /// Confirms an image whose file is complete and in its place.
    pub fn publish_image(&self, image: &ImageRow) -> Result<(), StoreError> {
        let changed = self
            .lock()
            .execute(
                "UPDATE images SET stage = :stage, digest = :digest, size_bytes = :size,
                        content_bytes = :content, entries = :entries, os = :os,
                        has_systemd = :systemd, has_shell = :shell,
                        reference = :reference, platform = :platform, config = :config,
                        rootfs = :rootfs, kernel = :kernel
                 WHERE name = :name AND directory = :directory",
                named_params! {
                    ":stage": READY,
                    ":digest": image.digest,
                    ":size": signed(image.size_bytes),
                    ":content": signed(image.content_bytes),
                    ":entries": signed(image.entries),
                    ":os": image.os,
                    ":systemd": image.has_systemd,
                    ":shell": image.has_shell,
                    ":reference": image.reference,
                    ":platform": image.platform,
                    ":config": image.config.to_json(),
                    ":rootfs": image.rootfs.as_deref().map(path_text),
                    ":kernel": image.kernel.as_ref().map(KernelName::as_str),
                    ":name": image.name.as_str(),
                    ":directory": image.directory,
                },
            )
            .map_err(query("publish an image"))?;
        if changed == 1 {
            Ok(())
        } else {
            Err(StoreError::NoImage(image.name.clone()))
        }
    }

    /// Forgets an image, unless a VM is made from it. Its file goes afterwards.
    pub fn delete_image(&self, name: &ImageName) -> Result<(), StoreError> {
        let deleted = self
            .lock()
            .execute("DELETE FROM images WHERE name = ?1", [name.as_str()]);
        match deleted {
            Ok(0) => Err(StoreError::NoImage(name.clone())),
            Ok(_) => Ok(()),
            Err(error)
                if breaches(&error, ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
                    || breaches(&error, ffi::SQLITE_CONSTRAINT_TRIGGER) =>
            {
                Err(StoreError::ImageUsed(name.clone()))
            }
            Err(error) => Err(query("delete an image")(error)),
        }
    }

    pub fn image(&self, name: &ImageName) -> Result<Option<ImageRow>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT * FROM images WHERE name = ?1")
            .map_err(query("read an image"))?;
        let found = statement
            .query_row([name.as_str()], |row| Ok(image_row(row)))
            .optional()
            .map_err(query("read an image"))?;
        found.transpose()
    }

    /// The finished image that was pulled by a reference for a platform, if there is one.
    pub fn image_by_reference(
        &self,
        reference: &str,
        platform: &str,
    ) -> Result<Option<ImageRow>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT * FROM images WHERE reference = ?1 AND stage = ?2
                 AND (platform IS NULL OR platform = ?3) ORDER BY created_at DESC, name LIMIT 1",
            )
            .map_err(query("look for an image"))?;
        let found = statement
            .query_row((reference, READY, platform), |row| Ok(image_row(row)))
            .optional()
            .map_err(query("look for an image"))?;
        found.transpose()
    }

    /// All images, by name, also those that are being made.
    pub fn images(&self) -> Result<Vec<ImageRow>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT * FROM images ORDER BY name")
            .map_err(query("list images"))?;
        let mut rows = statement.query([]).map_err(query("list images"))?;
        let mut images = Vec::new();
        while let Some(row) = rows.next().map_err(query("list images"))? {
            images.push(image_row(row)?);
        }
        Ok(images)
    }
}

pub(super) fn image_row(row: &Row<'_>) -> Result<ImageRow, StoreError> {
    let stage = |text: &str| match text {
        BUILDING => Some(ImageStage::Building),
        READY => Some(ImageStage::Ready),
        _ => None,
    };
    Ok(ImageRow {
        name: parse("image name", &column::<String>(row, "name")?, |text| {
            text.parse().ok()
        })?,
        directory: column(row, "directory")?,
        stage: parse("image stage", &column::<String>(row, "stage")?, stage)?,
        source: column(row, "source")?,
        digest: column(row, "digest")?,
        size_bytes: unsigned(row, "size_bytes")?,
        content_bytes: unsigned(row, "content_bytes")?,
        entries: unsigned(row, "entries")?,
        os: column(row, "os")?,
        has_systemd: column(row, "has_systemd")?,
        has_shell: column(row, "has_shell")?,
        created_at: unsigned(row, "created_at")?,
        reference: column(row, "reference")?,
        platform: column(row, "platform")?,
        config: parse(
            "image configuration",
            &column::<String>(row, "config")?,
            ImageConfig::from_json,
        )?,
        rootfs: column::<Option<String>>(row, "rootfs")?.map(PathBuf::from),
        kernel: match column::<Option<String>>(row, "kernel")? {
            None => None,
            Some(kernel) => Some(parse("kernel name", &kernel, |text| text.parse().ok())?),
        },
    })
}

/// Paths come in as JSON, so they are text.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
