//! Writing a guest's memory down before it stands still to be saved. All of it is written again then, into a file
//! whose pages the host need not find any more, which takes longer than to fill them. Changes nothing in the
//! machine, and promises nothing: what cannot be seen is written when it stands still.
//!
//! QEMU itself could do this, as it does when it moves a guest that runs. Under TCG it forgets pages then (7.2: a guest
//! that writes goes on with a corrupted stack).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

use super::{pages::Pages, stream::PAGE};

const PIECE: usize = 1 << 20;

/// Writes what is not zero in the guest memory of a VMM.
pub(super) fn write(pid: u32, pages: &mut Pages) -> io::Result<()> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let Some(memory) = guest_memory(&maps, pages.length()) else {
        return Ok(());
    };
    copy(&File::open(format!("/proc/{pid}/mem"))?, memory, pages)
}

/// Copies the pages that begin at `begin` in a process's memory, but those that are zero.
fn copy(process: &File, begin: u64, pages: &mut Pages) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut place = 0;
    while place < pages.length() {
        let left = usize::try_from(pages.length() - place).unwrap_or(PIECE);
        let piece = &mut piece[..left.min(PIECE)];
        process.read_exact_at(piece, begin + place)?;
        for page in piece.chunks_exact(PAGE) {
            if page != [0; PAGE] {
                pages.room(place)?.copy_from_slice(page);
                pages.filled();
            }
            place += PAGE as u64;
        }
    }
    pages.finish()
}

/// Where a process has so many bytes that it may write to for itself alone (proc(5)): QEMU's guest memory is a mapping
/// of its own, with a file behind it or without.
fn guest_memory(maps: &str, length: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let private = words.next()? == "rw-p";
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (from, to) = (hex(from)?, hex(to)?);
        (private && to.checked_sub(from) == Some(length)).then_some(from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0000000-55d0e0000000 r-xp 00000000 fe:00 11   /usr/bin/qemu-system-x86_64
55d0f0900000-55d0f0a00000 rw-p 00900000 fe:00 11   /usr/bin/qemu-system-x86_64
7f0000000000-7f0020000000 rw-p 00000000 fe:00 4711 /state/snapshots/ab/memory (deleted)
7f0040000000-7f0080000000 rw-p 00000000 00:00 0
7f0090000000-7f00b0000000 rw-s 00000000 fe:00 12   /dev/shm/x
";

    #[test]
    fn the_guests_memory_is_what_is_as_large_as_it() {
        let check = |megabytes: u64, expected| {
            assert_eq!(guest_memory(MAPS, megabytes << 20), expected, "{megabytes}");
        };
        check(512, Some(0x7f00_0000_0000));
        check(1024, Some(0x7f00_4000_0000));
        check(256, None);
        assert_eq!(guest_memory("nonsense\n\n-\n", 1), None);
    }

    #[test]
    fn memory_is_written_without_its_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let (begin, length) = (3 * PAGE, PIECE + 5 * PAGE);
        let process = tempfile::tempfile().unwrap();
        process.set_len((begin + length) as u64).unwrap();
        process.write_all_at(b"elsewhere", 0).unwrap();
        process.write_all_at(b"begin", begin as u64).unwrap();
        let end = begin + length - 3;
        process.write_all_at(b"end", end as u64).unwrap();
        let path = dir.path().join("memory");
        let mut pages = Pages::create(&path, length as u64).unwrap();
        copy(&process, begin as u64, &mut pages).unwrap();
        let mut expected = vec![0; length];
        process.read_exact_at(&mut expected, begin as u64).unwrap();
        assert!(fs::read(&path).unwrap() == expected);
        assert_eq!(pages.taken().unwrap(), 2 * PAGE as u64);
    }
}
