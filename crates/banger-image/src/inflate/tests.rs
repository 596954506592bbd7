//! Against the crate that others use: the same bytes out, and refusals where it refuses.

use std::io::{BufReader, Cursor, Read as _, Write as _};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

fn pack(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(level));
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn unpack(packed: &[u8], buffer: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let input = BufReader::with_capacity(buffer, Cursor::new(packed));
    Gunzip::new(input).read_to_end(&mut out).map(|_| out)
}

fn theirs(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    MultiGzDecoder::new(packed)
        .read_to_end(&mut out)
        .map(|_| out)
}

fn check(bytes: &[u8]) {
    for level in [0, 1, 6, 9] {
        let packed = pack(bytes, level);
        for buffer in [1, 7, 100, 1 << 16] {
            assert!(
                unpack(&packed, buffer).unwrap() == bytes,
                "level {level}, {buffer}"
            );
        }
    }
}

/// Text-like, with matches of all lengths and distances, and long codes.
fn mixed(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut out: Vec<u8> = Vec::with_capacity(len);
    while out.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        let random = (state >> 33) as usize;
        match random % 4 {
            0 if out.len() > 10 => {
                let distance = 1 + random % out.len().min(40_000);
                let count = 3 + random / 7 % 300;
                (0..count).for_each(|_| out.push(out[out.len() - distance]));
            }
            1 => out.push((random >> 8) as u8),
            _ => out.push(b'a' + (random.trailing_zeros() % 26) as u8),
        }
    }
    out.truncate(len);
    out
}

#[test]
fn what_was_packed_comes_out() {
    check(b"");
    check(b"a");
    check(&[0; 100_000]);
    check(&b"abcabcabcabd".repeat(5000));
    check(&mixed(700_000));
    check(&(0..=255_u8).collect::<Vec<_>>().repeat(600));
}

#[test]
fn members_and_zeros_follow_each_other() {
    let both = [pack(b"one, ", 6), pack(b"two", 0), vec![0; 700]].concat();
    assert_eq!(unpack(&both, 64).unwrap(), b"one, two");
    let junk = [pack(b"one", 6), b"junk".to_vec()].concat();
    assert!(unpack(&junk, 64).is_err());
}

#[test]
fn headers_may_have_everything() {
    let builder = flate2::GzBuilder::new()
        .filename("name")
        .comment("words")
        .extra([1, 2, 3]);
    let mut gzip = builder.write(Vec::new(), Compression::fast());
    gzip.write_all(b"text").unwrap();
    assert_eq!(unpack(&gzip.finish().unwrap(), 3).unwrap(), b"text");
}

#[test]
fn a_stream_cut_anywhere_is_refused() {
    let packed = pack(&mixed(30_000), 6);
    for len in (0..packed.len())
        .step_by(37)
        .chain(packed.len() - 9..packed.len())
    {
        let error = unpack(&packed[..len], 64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_found_as_others_find_it(
        seed in 0..20_000_usize,
        level in 0..10_u32,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        buffer in 1..5000_usize,
    ) {
        let mut packed = pack(&mixed(seed), level);
        for (at, byte) in damage {
            // Beyond the header, of which others check more than we do.
            let at = 10 + at.index(packed.len() - 10);
            packed[at] ^= byte;
        }
        match (unpack(&packed, buffer), theirs(&packed)) {
            (Ok(ours), Ok(theirs)) => prop_assert!(ours == theirs),
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{:?} {:?}", ours.is_ok(), theirs.is_ok()),
        }
    }

    #[test]
    fn any_bytes_are_unpacked_or_refused(body in prop::collection::vec(any::<u8>(), 0..600)) {
        let packed = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &body].concat();
        prop_assert_eq!(unpack(&packed, 64).ok(), theirs(&packed).ok());
    }
}
