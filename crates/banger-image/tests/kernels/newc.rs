//! The archive format, read back by a reader of the tests' own.

use banger_image::initramfs::newc::Writer;
use proptest::prelude::*;

/// An entry as the reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) mode: u32,
    pub(crate) device: (u32, u32),
    pub(crate) contents: Vec<u8>,
}

/// Reads an archive; checks what must hold for every header.
pub(crate) fn read(archive: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    let aligned = |at: usize| at.next_multiple_of(4);
    loop {
        let field = |index: usize| {
            let start = at + 6 + index * 8;
            let text = std::str::from_utf8(&archive[start..start + 8]).unwrap();
            u32::from_str_radix(text, 16).unwrap()
        };
        assert_eq!(&archive[at..at + 6], b"070701");
        let [
            _inode,
            mode,
            uid,
            gid,
            _links,
            time,
            size,
            major,
            minor,
            device_major,
            device_minor,
            name_size,
            sum,
        ] = std::array::from_fn(field);
        assert_eq!([uid, gid, time, major, minor, sum], [0; 6]);
        let name_end = at + 110 + name_size as usize;
        assert_eq!(archive[name_end - 1], 0);
        let name = std::str::from_utf8(&archive[at + 110..name_end - 1])
            .unwrap()
            .to_owned();
        let start = aligned(name_end);
        let end = start + size as usize;
        at = aligned(end);
        if name == "TRAILER!!!" {
            assert_eq!(at, archive.len());
            return entries;
        }
        let contents = archive[start..end].to_vec();
        entries.push(Entry {
            name,
            mode,
            device: (device_major, device_minor),
            contents,
        });
    }
}

#[test]
fn every_kind_of_entry_is_written() {
    let mut writer = Writer::new(Vec::new());
    writer.directory("dev", 0o755).unwrap();
    writer.character_device("dev/console", 0o600, 5, 1).unwrap();
    writer.file("init", 0o755, b"hello").unwrap();
    let entries = read(&writer.finish().unwrap());
    let seen: Vec<_> = entries
        .iter()
        .map(|e| (e.name.as_str(), e.mode, e.device))
        .collect();
    assert_eq!(
        seen,
        [
            ("dev", 0o40755, (0, 0)),
            ("dev/console", 0o20600, (5, 1)),
            ("init", 0o100755, (0, 0))
        ]
    );
}

#[test]
fn names_that_would_end_the_archive_are_refused() {
    for name in ["", "a\0b", "TRAILER!!!"] {
        assert!(
            Writer::new(Vec::new()).file(name, 0o644, b"").is_err(),
            "{name:?}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        files in proptest::collection::vec(
            ("[a-z/._-]{1,40}", 0u32..0o7777, proptest::collection::vec(any::<u8>(), 0..70)),
            0..8,
        )
    ) {
        let write = || {
            let mut writer = Writer::new(Vec::new());
            for (name, mode, contents) in &files {
                writer.file(name, *mode, contents).unwrap();
            }
            writer.finish().unwrap()
        };
        let archive = write();
        prop_assert_eq!(&archive, &write());
        let read: Vec<_> = read(&archive)
            .into_iter()
            .map(|e| (e.name, e.mode & 0o7777, e.contents))
            .collect();
        prop_assert_eq!(read, files);
    }
}
