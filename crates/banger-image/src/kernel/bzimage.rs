//! Owns getting the ELF kernel out of a bzImage. Knows the boot protocol's header and the packings
//! that kernels are built with; treats every length as hostile.

use std::io::{self, Read, Write};

use crate::decompress::{self, Bounded, Packing};

/// The largest bzImage that is read.
pub const LARGEST_IMAGE: u64 = 256 * 1024 * 1024;
/// The largest kernel that comes out.
pub const LARGEST_KERNEL: u64 = 1024 * 1024 * 1024;

const SETUP_SECTORS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const HEADER_MAGIC: usize = 0x202;
const PROTOCOL: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first protocol version that tells where the payload is.
const PROTOCOL_WITH_PAYLOAD: u16 = 0x0208;
const SECTOR: usize = 512;

const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const LZ4_BLOCK: usize = 8 * 1024 * 1024;

/// Why nothing came out of an image.
#[derive(Debug, thiserror::Error)]
pub enum BzImageError {
    #[error("it is not a bzImage")]
    NotBzImage,
    #[error("its boot protocol {version:#06x} is too old to tell where the kernel is")]
    OldProtocol { version: u16 },
    #[error("its payload lies outside of it")]
    Truncated,
    #[error("its payload is packed in an unknown way (it begins with {start})")]
    UnknownPacking { start: String },
    #[error("its payload is damaged")]
    Damaged { source: io::Error },
    #[error("its payload unpacks to {found} bytes where it promises {promised}")]
    Size { promised: u64, found: u64 },
    #[error("cannot write the kernel")]
    Write { source: io::Error },
}

/// Whether bytes begin as a bzImage does.
#[must_use]
pub fn is_bzimage(image: &[u8]) -> bool {
    image.get(BOOT_FLAG..BOOT_FLAG + 2) == Some(&[0x55, 0xaa])
        && image.get(HEADER_MAGIC..HEADER_MAGIC + 4) == Some(b"HdrS")
}

/// Writes the kernel that is packed in `image`; returns its size.
pub fn extract(image: &[u8], kernel: &mut impl Write) -> Result<u64, BzImageError> {
    let payload = payload(image)?;
    if payload.starts_with(&LZ4_LEGACY) {
        let (packed, promised) = split_trailer(payload)?;
        return hold_to(promised, unpack_lz4(&packed[LZ4_LEGACY.len()..], kernel)?);
    }
    match Packing::of(payload) {
        Packing::Gzip => unpack_stream(Packing::Gzip, payload, kernel),
        packing @ (Packing::Xz | Packing::Zstd) => {
            let (packed, promised) = split_trailer(payload)?;
            hold_to(promised, unpack_stream(packing, packed, kernel)?)
        }
        Packing::Plain => {
            let start = hex::encode(&payload[..payload.len().min(8)]);
            Err(BzImageError::UnknownPacking { start })
        }
    }
}

fn payload(image: &[u8]) -> Result<&[u8], BzImageError> {
    if !is_bzimage(image) {
        return Err(BzImageError::NotBzImage);
    }
    let u32_at = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let version = image
        .get(PROTOCOL..PROTOCOL + 2)
        .ok_or(BzImageError::Truncated)?;
    let version = u16::from_le_bytes([version[0], version[1]]);
    if version < PROTOCOL_WITH_PAYLOAD {
        return Err(BzImageError::OldProtocol { version });
    }
    let sectors = match usize::from(image[SETUP_SECTORS]) {
        // The protocol's own default, from times when the field did not exist.
        0 => 4,
        sectors => sectors,
    };
    let offset = u32_at(PAYLOAD_OFFSET).ok_or(BzImageError::Truncated)?;
    let length = u32_at(PAYLOAD_LENGTH).ok_or(BzImageError::Truncated)?;
    let start = (sectors + 1) * SECTOR + offset;
    image
        .get(start..start.saturating_add(length))
        .ok_or(BzImageError::Truncated)
}

/// Every packing but gzip's is followed by the unpacked size, in four bytes.
fn split_trailer(payload: &[u8]) -> Result<(&[u8], u64), BzImageError> {
    let (packed, trailer) = payload
        .split_last_chunk::<4>()
        .ok_or(BzImageError::Truncated)?;
    Ok((packed, u64::from(u32::from_le_bytes(*trailer))))
}

fn hold_to(promised: u64, found: u64) -> Result<u64, BzImageError> {
    if promised == found {
        Ok(found)
    } else {
        Err(BzImageError::Size { promised, found })
    }
}

fn damaged(source: io::Error) -> BzImageError {
    BzImageError::Damaged { source }
}

fn unpack_stream(
    packing: Packing,
    packed: &[u8],
    kernel: &mut impl Write,
) -> Result<u64, BzImageError> {
    let unpacked = decompress::unpack(packing, packed).map_err(damaged)?;
    let mut unpacked = Bounded::new(unpacked, LARGEST_KERNEL);
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let n = unpacked.read(&mut buffer).map_err(damaged)?;
        if n == 0 {
            return Ok(total);
        }
        kernel
            .write_all(&buffer[..n])
            .map_err(|source| BzImageError::Write { source })?;
        total += n as u64;
    }
}

/// Unpacks the blocks of LZ4's legacy frame: a length and that many bytes, up to 8 MiB unpacked.
fn unpack_lz4(mut packed: &[u8], kernel: &mut impl Write) -> Result<u64, BzImageError> {
    let mut block = vec![0; LZ4_BLOCK];
    let mut total = 0;
    while let Some((length, rest)) = packed.split_first_chunk::<4>() {
        // Frames may simply follow one another.
        if *length == LZ4_LEGACY {
            packed = rest;
            continue;
        }
        let length = u32::from_le_bytes(*length) as usize;
        let (body, rest) = rest
            .split_at_checked(length)
            .ok_or(BzImageError::Truncated)?;
        let n = lz4_flex::block::decompress_into(body, &mut block)
            .map_err(|e| damaged(io::Error::new(io::ErrorKind::InvalidData, e)))?;
        total += n as u64;
        if total > LARGEST_KERNEL {
            return Err(damaged(io::ErrorKind::FileTooLarge.into()));
        }
        kernel
            .write_all(&block[..n])
            .map_err(|source| BzImageError::Write { source })?;
        packed = rest;
    }
    if packed.is_empty() {
        Ok(total)
    } else {
        Err(BzImageError::Truncated)
    }
}
