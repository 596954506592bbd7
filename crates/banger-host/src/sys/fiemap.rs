//! Where on its device the blocks of a file are (fiemap of the kernel's documentation). System calls only.

use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd},
};

const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
const LAST: u32 = 0x1;
/// The kernel cannot say yet where it is.
const UNKNOWN: u32 = 0x2;
const SHARED: u32 = 0x2000;
/// So many are asked for at once.
const EXTENTS: usize = 256;

/// `struct fiemap_extent`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    more_reserved: [u32; 3],
}

/// `struct fiemap`, with room for the answer.
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

/// The blocks of a file that another file has, too.
pub(crate) fn shared_blocks(file: BorrowedFd<'_>) -> io::Result<Vec<Range<u64>>> {
    let mut shared = Vec::new();
    let mut start = 0;
    loop {
        let mut request = Request {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped: 0,
            count: u32::try_from(EXTENTS).expect("it is a small number"),
            reserved: 0,
            extents: [Extent::default(); EXTENTS],
        };
        // SAFETY: the kernel writes at most `count` extents behind the head, which has room for them.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as _, &raw mut request) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        let mapped = usize::try_from(request.mapped).unwrap_or(EXTENTS);
        let extents = &request.extents[..mapped.min(EXTENTS)];
        let is_shared = |extent: &&Extent| extent.flags & (SHARED | UNKNOWN) == SHARED;
        shared.extend(
            extents
                .iter()
                .filter(is_shared)
                .map(|extent| extent.physical..extent.physical.saturating_add(extent.length)),
        );
        match extents.last() {
            Some(last) if last.flags & LAST == 0 => {
                start = last.logical.saturating_add(last.length);
            }
            Some(_) | None => return Ok(shared),
        }
    }
}
