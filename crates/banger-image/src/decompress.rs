//! Owns the choice of a decompressor by what the bytes begin with, and the bounds on what comes
//! out. Knows no file names.

use std::io::{self, BufRead, BufReader, Read};

use liblzma::stream::{CONCATENATED, Stream};

use crate::inflate::Gunzip;

/// Enough for any preset of xz; a stream that asks for more is hostile.
const XZ_MEMORY: u64 = 128 * 1024 * 1024;
/// Windows of up to 128 MiB, zstd's own default bound.
const ZSTD_WINDOW_LOG: u32 = 27;
const LONGEST_MAGIC: usize = 6;

/// How bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

impl Packing {
    /// Tells the packing by the magic at the start.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A reader of the unpacked bytes, whatever the packing.
pub(crate) fn reader<'a>(packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut packed = BufReader::with_capacity(64 * 1024, packed);
    let mut start = [0; LONGEST_MAGIC];
    let length = peek(&mut packed, &mut start)?;
    unpack(
        Packing::of(&start[..length]),
        io::Cursor::new(start).take(length as u64).chain(packed),
    )
}

/// A reader of the unpacked bytes where the packing is known.
pub(crate) fn unpack<'a>(
    packing: Packing,
    packed: impl BufRead + 'a,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match packing {
        Packing::Plain => Box::new(packed),
        Packing::Gzip => Box::new(Gunzip::new(packed)),
        Packing::Xz => {
            // Several streams may follow each other, as with gzip and zstd.
            let stream =
                Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(io::Error::from)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

fn peek(reader: &mut impl Read, start: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < start.len() {
        match reader.read(&mut start[length..])? {
            0 => break,
            n => length += n,
        }
    }
    Ok(length)
}

/// Yields at most `limit` bytes and then fails, where [`Read::take`] would silently end.
#[derive(Debug)]
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "unpacks to too much",
                ));
            }
        }
        Ok(n)
    }
}

/// All that a reader yields, if that is at most `limit` bytes.
pub(crate) fn read_all(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Bounded::new(reader, limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn check(packed: &[u8], expected: &[u8]) {
        let unpacked = read_all(reader(packed).unwrap(), 1 << 20).unwrap();
        assert_eq!(unpacked, expected);
    }

    #[test]
    fn every_packing_is_told_by_its_magic() {
        let text = b"a module, twice a module".repeat(50);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        check(&text, &text);
        check(&gzip.finish().unwrap(), &text);
        check(&xz.finish().unwrap(), &text);
        check(&zstd::encode_all(&text[..], 1).unwrap(), &text);
        check(b"", b"");
        check(b"\x1f", b"\x1f");
    }

    #[test]
    fn streams_that_follow_each_other_are_one() {
        let gzip = |bytes: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(bytes).unwrap();
            gzip.finish().unwrap()
        };
        let xz = |bytes: &[u8]| {
            let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
            xz.write_all(bytes).unwrap();
            xz.finish().unwrap()
        };
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        for pack in [&gzip as &dyn Fn(&[u8]) -> Vec<u8>, &xz, &zstd] {
            check(&[pack(b"one, "), pack(b"two")].concat(), b"one, two");
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_bound() {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&vec![0; 1 << 20]).unwrap();
        let bomb = xz.finish().unwrap();
        assert!(read_all(reader(&bomb[..]).unwrap(), (1 << 20) - 1).is_err());
        assert!(read_all(reader(&bomb[..]).unwrap(), 1 << 20).is_ok());
    }

    #[test]
    fn truncated_streams_are_errors() {
        let packed = zstd::encode_all(&[7u8; 4096][..], 1).unwrap();
        assert!(read_all(reader(&packed[..packed.len() - 3]).unwrap(), 1 << 20).is_err());
    }
}
