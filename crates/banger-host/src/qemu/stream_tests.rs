//! Streams as QEMU writes them, put together by hand.

use super::*;

const RAM: &str = "ram";
const SIZE: u64 = 16 * PAGE as u64;
const SECTION: u32 = 2;

/// Builds a stream piece by piece.
#[derive(Default)]
struct Stream(Vec<u8>);

impl Stream {
    fn new() -> Self {
        let mut stream = Self::default();
        stream.0.extend(MAGIC.to_be_bytes());
        stream.0.extend(VERSION.to_be_bytes());
        stream.0.push(CONFIGURATION);
        stream.0.extend(7_u32.to_be_bytes());
        stream.0.extend(b"microvm");
        stream
    }

    fn text(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap());
        self.0.extend(text.as_bytes());
    }

    fn section(mut self, kind: u8) -> Self {
        self.0.push(kind);
        self.0.extend(SECTION.to_be_bytes());
        self
    }

    fn start(self) -> Self {
        let mut stream = self.section(SECTION_START);
        stream.text("ram");
        stream.0.extend(0_u32.to_be_bytes());
        stream.0.extend(4_u32.to_be_bytes());
        let total = SIZE + 2 * PAGE as u64;
        stream.0.extend((total | flag::MEM_SIZE).to_be_bytes());
        for (name, length) in [(RAM, SIZE), ("bios", 2 * PAGE as u64)] {
            stream.text(name);
            stream.0.extend(length.to_be_bytes());
        }
        stream.close()
    }

    fn close(mut self) -> Self {
        self.0.extend(flag::END.to_be_bytes());
        self.0.push(FOOTER);
        self.0.extend(SECTION.to_be_bytes());
        self
    }

    /// A page of a memory, or of the same memory as the one before.
    fn page(mut self, page: u64, of: Option<&str>, byte: u8) -> Self {
        let kind = if byte == 0 { flag::ZERO } else { flag::PAGE };
        let same = of.map_or(flag::CONTINUE, |_| 0);
        self.0
            .extend(((page * PAGE as u64) | kind | same).to_be_bytes());
        if let Some(name) = of {
            self.text(name);
        }
        match byte {
            0 => self.0.push(0),
            byte => self.0.extend([byte; PAGE]),
        }
        self
    }

    fn rest(mut self) -> Vec<u8> {
        self.0.extend(b"\x04devices\x00");
        self.0
    }
}

fn split_up(stream: &[u8]) -> Result<(Vec<u8>, Vec<u8>), StreamError> {
    split_onto(&[], stream)
}

/// Some pages of the file are full already.
fn split_onto(full: &[u64], stream: &[u8]) -> Result<(Vec<u8>, Vec<u8>), StreamError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    let mut pages = Pages::create(&path, SIZE).unwrap();
    for page in full {
        pages.room(page * PAGE as u64).unwrap().fill(9);
        pages.filled();
    }
    pages.finish().unwrap();
    let mut devices = Vec::new();
    split(stream, RAM, &mut pages, &mut devices)?;
    Ok((std::fs::read(path).unwrap(), devices))
}

fn whole() -> Vec<u8> {
    Stream::new()
        .start()
        .section(SECTION_PART)
        .page(0, Some(RAM), 1)
        .page(1, None, 2)
        .page(2, None, 0)
        .page(9, None, 3)
        .page(0, Some("bios"), 4)
        .close()
        .section(SECTION_END)
        .page(1, None, 0)
        .page(15, Some(RAM), 5)
        .page(9, None, 0)
        .close()
        .rest()
}

#[test]
fn the_guests_pages_go_to_the_file_and_all_else_stays_a_stream() {
    let (memory, devices) = split_up(&whole()).unwrap();
    let mut wanted = vec![0; SIZE as usize];
    for (page, byte) in [(0, 1), (1, 2), (15, 5)] {
        wanted[page * PAGE..][..PAGE].fill(byte);
    }
    // A page that was something once and is zero in the end is zero.
    assert!(memory == wanted);
    let same_without_memory = Stream::new()
        .start()
        .section(SECTION_END)
        .page(0, Some("bios"), 4)
        .page(1, Some("bios"), 0)
        .close()
        .rest();
    assert!(devices == same_without_memory);
}

#[test]
fn what_was_written_ahead_counts_for_nothing() {
    let all = Stream::new().start().section(SECTION_PART);
    let all = all.page(0, Some(RAM), 0).page(1, None, 7);
    let all = (2..16).fold(all, |stream, page| stream.page(page, None, 0));
    let all = all.close().section(SECTION_END).close().rest();
    let expected = split_up(&all).unwrap();
    let everything: Vec<u64> = (0..16).collect();
    for full in [&[0, 1][..], &[3, 4, 15], &everything] {
        assert!(split_onto(full, &all).unwrap() == expected, "{full:?}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_no_snapshot() {
    let stream = whole();
    for length in [0, 3, 20, 60, 90, 5000, stream.len() - 20] {
        let split = split_up(&stream[..length]);
        assert!(split.is_err(), "{length}");
    }
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let check = |stream: Vec<u8>, told: &str| {
        let error = split_up(&stream).unwrap_err();
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text.push_str(&source.to_string());
        }
        assert!(text.contains(told), "{text}");
    };
    check(b"GARBAGE!".to_vec(), "magic number");
    let other = Stream::new().start().section(SECTION_PART);
    check(other.page(16, Some(RAM), 1).rest(), "outside");
    let mut compressed = Stream::new().start().section(SECTION_PART);
    compressed.0.extend(0x100_u64.to_be_bytes());
    check(compressed.rest(), "kind of page");
}
