//! Owns how much an archive from outside may ask for. Knows no archive.

use std::fmt;

use super::error::ImportError;

/// The bounds of one import; the defaults are far beyond any honest root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Headers that name something, skipped ones included, of all layers together.
    pub entries: u64,
    /// Bytes of one archive when it is unpacked.
    pub archive_bytes: u64,
    /// Bytes of all files as they are stored, without holes, of all layers together.
    pub content_bytes: u64,
    /// The apparent size of one file, holes included.
    pub file_bytes: u64,
    /// Bytes of one path or link's name.
    pub path_bytes: usize,
    /// Bytes of one extended header; attributes travel in these.
    pub extension_bytes: u64,
    /// Pieces of data in one sparse file.
    pub sparse_pieces: usize,
    /// How many bytes one packed byte may become, once an archive is larger than `ratio_free`.
    /// No gzip reaches 1033.
    pub ratio: u64,
    /// What an archive may unpack to whatever it is packed in.
    pub ratio_free: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            archive_bytes: 512 << 30,
            content_bytes: 256 << 30,
            file_bytes: 8 << 40,
            path_bytes: 4096,
            extension_bytes: 1 << 20,
            sparse_pieces: 100_000,
            ratio: 1100,
            ratio_free: 8 << 30,
        }
    }
}

/// Which bound an archive went beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Entries,
    ArchiveBytes,
    ContentBytes,
    FileBytes,
    Ratio,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::ArchiveBytes => "bytes of archive",
            Self::ContentBytes => "bytes of content",
            Self::FileBytes => "bytes in one file",
            Self::Ratio => "bytes for each packed byte",
        })
    }
}

impl Limits {
    pub(super) fn check_ratio(&self, packed: u64, unpacked: u64) -> Result<(), ImportError> {
        match unpacked > self.ratio_free && unpacked / self.ratio.max(1) > packed {
            true => Err(ImportError::Limit {
                limit: Limit::Ratio,
                most: self.ratio,
            }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_archives_must_be_dense() {
        let limits = Limits {
            ratio: 10,
            ratio_free: 1000,
            ..Limits::default()
        };
        let check = |packed, unpacked| limits.check_ratio(packed, unpacked).is_ok();
        assert!(check(1, 1000) && check(200, 2000));
        assert!(!check(1, 1001) && !check(199, 2000));
    }
}
