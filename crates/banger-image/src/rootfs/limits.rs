//! Owns how much an archive from outside may ask for. Knows no archive.

/// The bounds of one import; the defaults are far beyond any honest root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Headers that name something, skipped ones included.
    pub entries: u64,
    /// Bytes of the archive when it is unpacked.
    pub archive_bytes: u64,
    /// Bytes of all files as they are stored, without holes.
    pub content_bytes: u64,
    /// The apparent size of one file, holes included.
    pub file_bytes: u64,
    /// Bytes of one path or link's name.
    pub path_bytes: usize,
    /// Bytes of one extended header; attributes travel in these.
    pub extension_bytes: u64,
    /// Pieces of data in one sparse file.
    pub sparse_pieces: usize,
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
        }
    }
}
