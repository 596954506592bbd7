//! Owns the writing of little-endian fields into blocks, and the padding of bytes to blocks.

use super::BLOCK_BYTES;

pub(super) const BLOCK: usize = BLOCK_BYTES as usize;

pub(super) fn put_u16(out: &mut [u8], at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u32(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A count or length that is known to fit the field it goes to.
pub(super) fn u16_of(value: usize) -> u16 {
    u16::try_from(value).expect("a length inside of one block")
}
