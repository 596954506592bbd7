//! Owns the form of one layer in the cache: its data blocks as images have them, then the headers
//! of its archive, then what finds them. Knows no directory and no digest of a layer.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::{Arc, Mutex};

use crate::digest::{Hashing, Sha256};
use crate::ext4::BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"bngrlyr1";
const FOOTER: usize = 8 + 8 + 8 + 32 + 36;
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

/// What stands at the end of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) data_blocks: u64,
    /// Bytes of the packed headers, and their digest.
    pub(super) headers: u64,
    pub(super) digest: Sha256,
    boot: BootId,
}

impl Footer {
    fn encode(&self) -> [u8; FOOTER] {
        let mut raw = [0; FOOTER];
        raw[..8].copy_from_slice(&MAGIC);
        raw[8..16].copy_from_slice(&self.data_blocks.to_le_bytes());
        raw[16..24].copy_from_slice(&self.headers.to_le_bytes());
        raw[24..56].copy_from_slice(self.digest.as_bytes());
        raw[56..].copy_from_slice(&self.boot.0);
        raw
    }

    fn decode(raw: &[u8; FOOTER]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = raw[at..].first_chunk().expect("inside of the footer");
            u64::from_le_bytes(*bytes)
        };
        let digest = raw[24..].first_chunk().expect("inside of the footer");
        let boot = raw[56..].first_chunk().expect("inside of the footer");
        (raw[..8] == MAGIC).then_some(Self {
            data_blocks: number(8),
            headers: number(16),
            digest: Sha256::from_bytes(*digest),
            boot: BootId(*boot),
        })
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

/// Completes a file that holds a layer's data blocks.
pub(super) fn complete(
    file: &File,
    data_blocks: u64,
    headers: &[u8],
    boot: BootId,
) -> io::Result<()> {
    let at = data_blocks * BLOCK_BYTES;
    file.write_all_at(headers, at)?;
    let footer = Footer {
        data_blocks,
        headers: headers.len() as u64,
        digest: Sha256::of(headers),
        boot,
    };
    file.write_all_at(&footer.encode(), at + footer.headers)
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
        let parts = footer
            .data_blocks
            .checked_mul(BLOCK_BYTES)
            .and_then(|data| data.checked_add(footer.headers));
        parts == Some(at) && (footer.boot == now || is_durable)
    }))
}

/// The headers of a layer's archive; nothing if they are not what was written.
pub(super) fn headers(file: &File, footer: &Footer) -> io::Result<Option<Box<dyn Read>>> {
    let packed = Section {
        file: file.try_clone()?,
        at: footer.data_blocks * BLOCK_BYTES,
        left: footer.headers,
    };
    let mut hashing = Hashing::new(packed);
    let mut bytes = Vec::new();
    hashing.read_to_end(&mut bytes)?;
    if hashing.finish().1 != footer.digest {
        return Ok(None);
    }
    let decoder = zstd::stream::read::Decoder::with_buffer(io::Cursor::new(bytes))?;
    Ok(Some(Box::new(decoder)))
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

    #[test]
    fn an_entry_is_found_while_its_kernel_runs_or_once_it_is_durable() {
        let file = tempfile::tempfile().unwrap();
        let (now, later) = (BootId([b'1'; 36]), BootId([b'2'; 36]));
        let mut recorder = Recorder::new().unwrap();
        recorder.clone().write_all(b"headers").unwrap();
        recorder.flush().unwrap();
        let packed = recorder.finish().unwrap();
        assert_eq!(read_footer(&file, now).unwrap(), None);
        complete(&file, 3, &packed, now).unwrap();
        let footer = read_footer(&file, now).unwrap().unwrap();
        let mut found = Vec::new();
        let mut headers = headers(&file, &footer).unwrap().unwrap();
        headers.read_to_end(&mut found).unwrap();
        assert_eq!((footer.data_blocks, &found[..]), (3, &b"headers"[..]));
        assert_eq!(read_footer(&file, later).unwrap(), None);
        make_durable(&file).unwrap();
        assert!(read_footer(&file, later).unwrap().is_some());
    }

    #[test]
    fn damaged_entries_are_none() {
        let file = tempfile::tempfile().unwrap();
        let now = BootId([b'1'; 36]);
        complete(&file, 0, &Recorder::new().unwrap().finish().unwrap(), now).unwrap();
        let footer = read_footer(&file, now).unwrap().unwrap();
        file.write_all_at(b"x", 2).unwrap();
        assert!(headers(&file, &footer).unwrap().is_none());
        let len = file.metadata().unwrap().len();
        file.set_len(len - 1).unwrap();
        assert_eq!(read_footer(&file, now).unwrap(), None);
    }
}
