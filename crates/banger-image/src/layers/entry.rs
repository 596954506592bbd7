//! Owns the form of one layer in the cache: the data blocks that its image does not keep for it,
//! then the headers of its archive, then what finds them. Knows no directory and no digest of a
//! layer.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::{Arc, Mutex};

use crate::digest::{Hashing, Sha256};
use crate::ext4::{BLOCK_BYTES, FsUuid};

const MAGIC: [u8; 8] = *b"bngrlyr2";
const FOOTER: usize = 5 * 8 + 32 + 16 + 36;
/// Headers are alike: even the fastest level makes a twentieth of them.
const LEVEL: i32 = 1;

/// Which run of the host's kernel we are in. What is written and not synced is whole for as long
/// as that lasts, and nobody knows afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BootId([u8; 36]);

impl BootId {
    pub(super) fn current() -> io::Result<Self> {
        let raw = std::fs::read("/proc/sys/kernel/random/boot_id")?;
        let id = raw.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self(*id))
    }
}

/// Where a layer's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placing {
    pub(super) data_blocks: u64,
    /// The image that has the data, and the number of the layer's first data block in it.
    pub(super) origin: FsUuid,
    pub(super) first: u64,
    /// Runs of the layer's blocks, start and end, that the entry has itself.
    pub(super) local: Vec<(u64, u64)>,
}

/// What stands at the end of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    data_blocks: u64,
    first: u64,
    /// Bytes of the packed headers, and how many runs follow them; the digest of both.
    headers: u64,
    runs: u64,
    digest: Sha256,
    origin: FsUuid,
    boot: BootId,
}

impl Footer {
    fn encode(&self) -> [u8; FOOTER] {
        let mut raw = [0; FOOTER];
        raw[..8].copy_from_slice(&MAGIC);
        let numbers = [self.data_blocks, self.first, self.headers, self.runs];
        for (number, out) in numbers.iter().zip(raw[8..].as_chunks_mut::<8>().0) {
            *out = number.to_le_bytes();
        }
        raw[40..72].copy_from_slice(self.digest.as_bytes());
        raw[72..88].copy_from_slice(self.origin.as_bytes());
        raw[88..].copy_from_slice(&self.boot.0);
        raw
    }

    fn decode(raw: &[u8; FOOTER]) -> Option<Self> {
        let numbers = raw[8..].as_chunks::<8>().0;
        let number = |index: usize| u64::from_le_bytes(numbers[index]);
        let digest = raw[40..].first_chunk().expect("inside of the footer");
        let origin = raw[72..].first_chunk().expect("inside of the footer");
        let boot = raw[88..].first_chunk().expect("inside of the footer");
        (raw[..8] == MAGIC).then_some(Self {
            data_blocks: number(0),
            first: number(1),
            headers: number(2),
            runs: number(3),
            digest: Sha256::from_bytes(*digest),
            origin: FsUuid::from_bytes(*origin),
            boot: BootId(*boot),
        })
    }

    pub(super) fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    pub(super) fn origin(&self) -> FsUuid {
        self.origin
    }

    /// Bytes between the data and the footer.
    fn middle(&self) -> Option<u64> {
        self.headers.checked_add(self.runs.checked_mul(16)?)
    }
}

/// Packs headers behind the data while an archive is read.
#[derive(Clone)]
pub(super) struct Recorder(Arc<Mutex<zstd::stream::write::Encoder<'static, Vec<u8>>>>);

impl Recorder {
    pub(super) fn new() -> io::Result<Self> {
        let encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        Ok(Self(Arc::new(Mutex::new(encoder))))
    }

    /// The packed headers; what is written to other handles afterwards is lost.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        let fresh = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        let mut encoder = self.0.lock().expect("writing does not panic");
        std::mem::replace(&mut *encoder, fresh).finish()
    }
}

impl Write for Recorder {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("writing does not panic").write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Completes a file that holds those of a layer's data blocks that are its own.
pub(super) fn complete(
    file: &File,
    placing: &Placing,
    headers: &[u8],
    boot: BootId,
) -> io::Result<()> {
    let mut middle = headers.to_vec();
    for (start, end) in &placing.local {
        middle.extend_from_slice(&start.to_le_bytes());
        middle.extend_from_slice(&end.to_le_bytes());
    }
    let footer = Footer {
        data_blocks: placing.data_blocks,
        first: placing.first,
        headers: headers.len() as u64,
        runs: placing.local.len() as u64,
        digest: Sha256::of(&middle),
        origin: placing.origin,
        boot,
    };
    middle.extend_from_slice(&footer.encode());
    file.write_all_at(&middle, placing.data_blocks * BLOCK_BYTES)
}

/// Makes an entry durable, and then says so: one that nobody may write to was synced. Its mode
/// says it, since that changes at once and leaves the time of the last use alone.
pub(super) fn make_durable(file: &File) -> io::Result<()> {
    file.sync_data()?;
    file.set_permissions(Permissions::from_mode(0o400))
}

/// What a file says at its end, if that is whole and of this run of the kernel or durable.
pub(super) fn read_footer(file: &File, now: BootId) -> io::Result<Option<Footer>> {
    let meta = file.metadata()?;
    let is_durable = meta.permissions().mode() & 0o200 == 0;
    let len = meta.len();
    let mut raw = [0; FOOTER];
    let Some(at) = len.checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    file.read_exact_at(&mut raw, at)?;
    Ok(Footer::decode(&raw).filter(|footer| {
        let data = footer.data_blocks.checked_mul(BLOCK_BYTES);
        let parts = data.and_then(|data| data.checked_add(footer.middle()?));
        parts == Some(at) && (footer.boot == now || is_durable)
    }))
}

/// The headers of a layer's archive and the place of its data; nothing if they are not what was
/// written.
pub(super) fn read(file: &File, footer: &Footer) -> io::Result<Option<(Placing, Box<dyn Read>)>> {
    let middle = Section {
        file: file.try_clone()?,
        at: footer.data_blocks * BLOCK_BYTES,
        left: footer.middle().ok_or(io::ErrorKind::InvalidData)?,
    };
    let mut hashing = Hashing::new(middle);
    let mut headers = Vec::new();
    hashing.read_to_end(&mut headers)?;
    if hashing.finish().1 != footer.digest {
        return Ok(None);
    }
    let at = usize::try_from(footer.headers).map_err(|_| io::ErrorKind::InvalidData)?;
    let runs = headers.split_off(at);
    let (runs, _) = runs.as_chunks::<16>();
    let local = runs.iter().map(|run| {
        let (start, end) = run.split_at(8);
        let number = |raw: &[u8]| raw.try_into().map_or(0, u64::from_le_bytes);
        (number(start), number(end))
    });
    let placing = Placing {
        data_blocks: footer.data_blocks,
        origin: footer.origin,
        first: footer.first,
        local: local.collect(),
    };
    Ok(Some((placing, unpack_headers(headers)?)))
}

/// The headers as they were read of the archive.
pub(super) fn unpack_headers(packed: Vec<u8>) -> io::Result<Box<dyn Read>> {
    let decoder = zstd::stream::read::Decoder::with_buffer(io::Cursor::new(packed))?;
    Ok(Box::new(decoder))
}

/// A part of a file.
struct Section {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let n = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placing(data_blocks: u64) -> Placing {
        Placing {
            data_blocks,
            origin: FsUuid::from_bytes([7; 16]),
            first: 4096,
            local: vec![(0, 1), (2, 3)],
        }
    }

    #[test]
    fn an_entry_is_found_while_its_kernel_runs_or_once_it_is_durable() {
        let file = tempfile::tempfile().unwrap();
        let (now, later) = (BootId([b'1'; 36]), BootId([b'2'; 36]));
        let mut recorder = Recorder::new().unwrap();
        recorder.clone().write_all(b"headers").unwrap();
        recorder.flush().unwrap();
        let packed = recorder.finish().unwrap();
        assert_eq!(read_footer(&file, now).unwrap(), None);
        complete(&file, &placing(3), &packed, now).unwrap();
        let footer = read_footer(&file, now).unwrap().unwrap();
        let (found, mut headers) = read(&file, &footer).unwrap().unwrap();
        let mut text = Vec::new();
        headers.read_to_end(&mut text).unwrap();
        assert_eq!((found, &text[..]), (placing(3), &b"headers"[..]));
        assert_eq!(read_footer(&file, later).unwrap(), None);
        make_durable(&file).unwrap();
        assert!(read_footer(&file, later).unwrap().is_some());
    }

    #[test]
    fn damaged_entries_are_none() {
        let file = tempfile::tempfile().unwrap();
        let now = BootId([b'1'; 36]);
        let headers = Recorder::new().unwrap().finish().unwrap();
        complete(&file, &placing(0), &headers, now).unwrap();
        let footer = read_footer(&file, now).unwrap().unwrap();
        file.write_all_at(b"x", 2).unwrap();
        assert!(read(&file, &footer).unwrap().is_none());
        let len = file.metadata().unwrap().len();
        file.set_len(len - 1).unwrap();
        assert_eq!(read_footer(&file, now).unwrap(), None);
    }
}
