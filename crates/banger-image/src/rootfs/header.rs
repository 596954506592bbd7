//! Owns one header block of a tar: its checksum, its fields, its type. Knows nothing of what
//! comes before or after it.

use tar::Header;

use super::error::HeaderError;

pub(super) const BLOCK: usize = 512;

/// A header whose checksum is right.
#[derive(Debug)]
pub(super) struct RawHeader {
    header: Header,
}

/// A file's length, its first pieces, and whether further blocks of pieces follow.
pub(super) type GnuSparse = (u64, Vec<(u64, u64)>, bool);

/// What a header's type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Regular,
    /// As the oldest archives spell it; there, a slash at the end makes a directory.
    OldRegular,
    HardLink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
    LongName,
    LongLink,
    Pax,
    PaxGlobal,
    GnuSparse,
    /// A directory with the list of its members as data.
    GnuDumpDir,
    GnuVolumeLabel,
    GnuMultiVolume,
    Unknown,
}

impl Flag {
    /// Whether data follows. The others have none, whatever some archives write as their size.
    pub(super) fn has_data(self) -> bool {
        match self {
            Self::Regular | Self::OldRegular | Self::Pax | Self::PaxGlobal => true,
            Self::LongName | Self::LongLink => true,
            Self::GnuSparse | Self::GnuDumpDir | Self::GnuVolumeLabel => true,
            Self::GnuMultiVolume | Self::Unknown => true,
            Self::HardLink | Self::Symlink | Self::Char | Self::Block => false,
            Self::Directory | Self::Fifo => false,
        }
    }
}

impl RawHeader {
    /// Reads a block; a block of zeros is no header.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Self>, HeaderError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        let stated = octal(&header.as_old().cksum).ok_or(HeaderError::Checksum)?;
        if stated != u64::from(checksum(block)) {
            return Err(HeaderError::Checksum);
        }
        Ok(Some(Self { header }))
    }

    pub(super) fn flag(&self) -> Flag {
        match self.header.as_old().linkflag[0] {
            0 => Flag::OldRegular,
            b'0' | b'7' => Flag::Regular,
            b'1' => Flag::HardLink,
            b'2' => Flag::Symlink,
            b'3' => Flag::Char,
            b'4' => Flag::Block,
            b'5' => Flag::Directory,
            b'6' => Flag::Fifo,
            b'L' => Flag::LongName,
            b'K' => Flag::LongLink,
            b'x' | b'X' => Flag::Pax,
            b'g' => Flag::PaxGlobal,
            b'S' => Flag::GnuSparse,
            b'D' => Flag::GnuDumpDir,
            b'V' => Flag::GnuVolumeLabel,
            b'M' => Flag::GnuMultiVolume,
            _ => Flag::Unknown,
        }
    }

    pub(super) fn path(&self) -> Vec<u8> {
        self.header.path_bytes().into_owned()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.header
            .link_name_bytes()
            .unwrap_or_default()
            .into_owned()
    }

    pub(super) fn size(&self) -> Result<u64, HeaderError> {
        unsigned(&self.header.as_old().size, "size")
    }

    pub(super) fn mode(&self) -> Result<u64, HeaderError> {
        unsigned(&self.header.as_old().mode, "mode")
    }

    pub(super) fn uid(&self) -> Result<u64, HeaderError> {
        unsigned(&self.header.as_old().uid, "uid")
    }

    pub(super) fn gid(&self) -> Result<u64, HeaderError> {
        unsigned(&self.header.as_old().gid, "gid")
    }

    pub(super) fn mtime(&self) -> Result<i64, HeaderError> {
        number(&self.header.as_old().mtime).ok_or(HeaderError::Number { field: "mtime" })
    }

    /// Major and minor number; both formats keep them in the same place.
    pub(super) fn device(&self) -> Result<(u64, u64), HeaderError> {
        let (major, minor) = match (self.header.as_ustar(), self.header.as_gnu()) {
            (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
            (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
            (None, None) => return Err(HeaderError::Number { field: "device" }),
        };
        Ok((unsigned(major, "device")?, unsigned(minor, "device")?))
    }

    /// GNU's old sparse form: the file's length, the first pieces, whether more blocks follow.
    pub(super) fn gnu_sparse(&self) -> Result<GnuSparse, HeaderError> {
        let gnu = self.header.as_gnu().ok_or(HeaderError::Number {
            field: "sparse map",
        })?;
        let pieces = gnu.sparse.iter().map(|p| (&p.offset, &p.numbytes));
        Ok((
            unsigned(&gnu.realsize, "sparse size")?,
            sparse_pieces(pieces)?,
            gnu.isextended[0] != 0,
        ))
    }
}

/// A block of further pieces after a header in GNU's old sparse form.
pub(super) fn gnu_sparse_block(
    block: &[u8; BLOCK],
) -> Result<(Vec<(u64, u64)>, bool), HeaderError> {
    let (fields, _) = block[..504].as_chunks::<12>();
    let pieces = fields
        .as_chunks::<2>()
        .0
        .iter()
        .map(|[offset, len]| (offset, len));
    Ok((sparse_pieces(pieces)?, block[504] != 0))
}

/// Pieces up to the first that is not filled in.
fn sparse_pieces<'a>(
    raw: impl Iterator<Item = (&'a [u8; 12], &'a [u8; 12])>,
) -> Result<Vec<(u64, u64)>, HeaderError> {
    raw.take_while(|(_, len)| len[0] != 0)
        .map(|(offset, len)| {
            Ok((
                unsigned(offset, "sparse map")?,
                unsigned(len, "sparse map")?,
            ))
        })
        .collect()
}

/// The sum of all bytes, those of the sum itself taken as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
    sum - own + 8 * u32::from(b' ')
}

fn unsigned(field: &[u8], name: &'static str) -> Result<u64, HeaderError> {
    let value = number(field).and_then(|value| u64::try_from(value).ok());
    value.ok_or(HeaderError::Number { field: name })
}

/// Octal digits, or two's complement in base 256 where the first byte says so.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return i64::try_from(octal(field)?).ok();
    }
    // The marker's own bit is no part of the number, the bit below it is the sign.
    let start = if first & 0x40 == 0 {
        i128::from(first & 0x3f)
    } else {
        i128::from(first) - 256
    };
    let value = field[1..].iter().try_fold(start, |value, byte| {
        value
            .checked_mul(256)
            .map(|value| value + i128::from(*byte))
    })?;
    i64::try_from(value).ok()
}

/// Digits between spaces and zero bytes; an empty field is nought.
fn octal(field: &[u8]) -> Option<u64> {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    let digits = field[..end].trim_ascii();
    digits.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'7' => value
            .checked_mul(8)
            .map(|value| value + u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let check = |field: &[u8], expected: Option<i64>| assert_eq!(number(field), expected);
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"\0\0\0\0", Some(0));
        check(b"12345670123", Some(0o12_345_670_123));
        check(b"\x80\0\0\0\0\0\x01\0", Some(256));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1));
        check(b"\xff\xff\xff\xff\xff\xff\xff\0", Some(-256));
        check(b"99", None);
        check(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None);
    }

    #[test]
    fn a_wrong_sum_is_no_header() {
        let mut header = Header::new_gnu();
        header.set_size(5);
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert!(RawHeader::parse(&block).expect("a header").is_some());
        block[0] ^= 1;
        assert_eq!(RawHeader::parse(&block).err(), Some(HeaderError::Checksum));
        assert!(RawHeader::parse(&[0; BLOCK]).expect("zeros").is_none());
    }
}
