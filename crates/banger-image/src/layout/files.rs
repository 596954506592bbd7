//! Owns access to a layout's files, in a directory or in a tar. Knows no manifest.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::LayoutError;
use super::tar_index::TarIndex;
use crate::blobs::Verified;
use crate::decompress::{Packing, unpack};
use crate::digest::Sha256;
use crate::layers::{LayerDescriptor, LayerSource};

/// The files of one layout.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory,
    Archive { file: Arc<File>, index: TarIndex },
}

/// The bytes of one file.
#[derive(Debug, Clone)]
pub(super) enum Section {
    File(PathBuf),
    Range {
        file: Arc<File>,
        begin: u64,
        end: u64,
    },
}

impl Section {
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::File(path) => Box::new(File::open(path)?),
            Self::Range { file, begin, end } => Box::new(Range {
                file: Arc::clone(file),
                position: *begin,
                end: *end,
            }),
        })
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(path) => Ok(path.metadata()?.len()),
            Self::Range { begin, end, .. } => Ok(end - begin),
        }
    }
}

struct Range {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for Range {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Files {
    pub(super) fn directory(path: &Path) -> Result<Self, LayoutError> {
        let failed = failed("open", path);
        // Opened only to say at once if it cannot be.
        std::fs::read_dir(path).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            kind: Kind::Directory,
        })
    }

    /// A tar, plain or compressed; one that is compressed is unpacked into a file without a name.
    pub(super) fn archive(path: &Path, scratch: &Path) -> Result<Self, LayoutError> {
        let file = File::open(path).map_err(failed("open", path))?;
        let mut start = [0; 6];
        let length = file.read_at(&mut start, 0).map_err(failed("read", path))?;
        let file = match Packing::of(&start[..length]) {
            Packing::Plain => file,
            packing @ (Packing::Gzip | Packing::Xz | Packing::Zstd) => {
                spool(&file, packing, scratch).map_err(failed("unpack", path))?
            }
        };
        let index = TarIndex::read(&file, path)?;
        Ok(Self {
            path: path.to_owned(),
            kind: Kind::Archive {
                file: Arc::new(file),
                index,
            },
        })
    }

    /// A file by its name; `None` where there is none.
    pub(super) fn find(&self, name: &str) -> Option<Section> {
        match &self.kind {
            Kind::Directory => {
                let path = self.path.join(name);
                path.is_file().then_some(Section::File(path))
            }
            Kind::Archive { file, index } => {
                let (begin, length) = index.find(name)?;
                Some(Section::Range {
                    file: Arc::clone(file),
                    begin,
                    end: begin.saturating_add(length),
                })
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Result<Section, LayoutError> {
        self.find(name).ok_or_else(|| LayoutError::Lacks {
            path: self.path.clone(),
            file: name.chars().take(120).collect(),
        })
    }

    /// A small file; one that is named by its digest must have it.
    pub(super) fn read(
        &self,
        name: &str,
        digest: Option<Sha256>,
        limit: u64,
    ) -> Result<Vec<u8>, LayoutError> {
        let section = self.get(name)?;
        let mut bytes = Vec::new();
        let read = section
            .open()
            .and_then(|reader| reader.take(limit + 1).read_to_end(&mut bytes));
        read.map_err(failed("read", &self.path))?;
        if bytes.len() as u64 > limit {
            return Err(LayoutError::TooLarge {
                path: self.path.clone(),
                file: name.to_owned(),
                limit,
            });
        }
        let found = Sha256::of(&bytes);
        if digest.is_some_and(|digest| digest != found) {
            return Err(LayoutError::Corrupt {
                path: self.path.clone(),
                file: name.to_owned(),
                found,
            });
        }
        Ok(bytes)
    }
}

fn spool(file: &File, packing: Packing, scratch: &Path) -> io::Result<File> {
    std::fs::create_dir_all(scratch)?;
    let mut plain = tempfile::tempfile_in(scratch)?;
    let mut reader = unpack(packing, BufReader::with_capacity(1 << 18, file))?;
    io::copy(&mut reader, &mut plain)?;
    plain.seek(SeekFrom::Start(0))?;
    Ok(plain)
}

pub(super) fn failed(
    operation: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> LayoutError + use<> {
    let path = path.to_owned();
    move |source| LayoutError::File {
        operation,
        path: path.clone(),
        source,
    }
}

/// A layer of a layout.
#[derive(Debug)]
pub(super) struct FileLayer {
    pub(super) descriptor: LayerDescriptor,
    pub(super) section: Section,
}

impl LayerSource for FileLayer {
    fn descriptor(&self) -> &LayerDescriptor {
        &self.descriptor
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let reader = self.section.open()?;
        Ok(Box::new(Verified::new(reader, self.descriptor.digest)))
    }
}
