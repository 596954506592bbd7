//! Reading a machine's memory before it stands still to be saved: one that went on from a snapshot maps
//! that snapshot's file, and what nobody has touched yet would be read while it stands still. Changes
//! nothing; whatever it cannot see is read then.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
};

/// Large enough for the kernel to read on, small enough to be thrown away.
const PIECE: usize = 1 << 20;

/// Has the kernel read all of the file that is a VMM's guest memory, if it is one.
pub(super) fn read(pid: u32) -> io::Result<()> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let Some(mapped) = largest_private(&maps) else {
        return Ok(());
    };
    let Some(path) = opened(pid, mapped.inode)? else {
        return Ok(());
    };
    // Through the link also where the file's name is gone.
    let file = File::open(path)?;
    let (mut piece, mut place) = (vec![0; PIECE], 0);
    loop {
        match file.read_at(&mut piece, place)? {
            0 => return Ok(()),
            read => place += read as u64,
        }
    }
}

/// The descriptor through which a process has a file.
fn opened(pid: u32, inode: u64) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        // Sockets and pipes have inodes, too, which are no file's.
        let is_it = |meta: fs::Metadata| meta.is_file() && meta.ino() == inode;
        if fs::metadata(&path).is_ok_and(is_it) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A stretch of a file in a process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapped {
    bytes: u64,
    inode: u64,
}

/// The largest stretch of a file that the process may write to for itself alone (proc(5)): that is its
/// guest's memory, or there is none.
fn largest_private(maps: &str) -> Option<Mapped> {
    let stretches = maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let private = words.next()?.starts_with("rw-p");
        let mut words = words.skip(2);
        let inode: u64 = words.next()?.parse().ok()?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let bytes = hex(to)?.checked_sub(hex(from)?)?;
        (private && inode != 0).then_some(Mapped { bytes, inode })
    });
    stretches.max_by_key(|mapped| mapped.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0000000-55d0c0800000 r-xp 00000000 fe:00 11   /usr/bin/qemu-system-x86_64
55d0c0900000-55d0c0a00000 rw-p 00900000 fe:00 11   /usr/bin/qemu-system-x86_64
7f0000000000-7f0020000000 rw-p 00000000 fe:00 4711 /state/snapshots/ab/memory (deleted)
7f0040000000-7f0080000000 rw-p 00000000 00:00 0
7f0090000000-7f00f0000000 rw-s 00000000 fe:00 12   /dev/shm/x
";

    #[test]
    fn the_guests_memory_is_the_largest_file_that_is_mapped_for_the_vmm_alone() {
        let found = largest_private(MAPS);
        let (bytes, inode) = (512 << 20, 4711);
        assert_eq!(found, Some(Mapped { bytes, inode }));
        let anonymous = "7f0040000000-7f0080000000 rw-p 00000000 00:00 0\n";
        assert_eq!(largest_private(anonymous), None);
        assert_eq!(largest_private("nonsense\n\n-\n"), None);
    }

    #[test]
    fn a_file_is_found_by_whoever_has_it_open() {
        let file = tempfile::tempfile().unwrap();
        let inode = file.metadata().unwrap().ino();
        let found = opened(std::process::id(), inode).unwrap();
        let path = found.expect("it is open");
        assert_eq!(fs::metadata(path).unwrap().ino(), inode);
        read(std::process::id()).unwrap();
    }
}
