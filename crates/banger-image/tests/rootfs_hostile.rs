//! Archives that no honest tool makes: each is refused by name, and nothing is left behind.

mod support;

use banger_image::rootfs::{ImportError, ImportOptions, Limits};
use support::{Tar, chain, import_with};
use tar::EntryType;

/// The archive is refused, and the message says what of it and why.
fn check(tar: Tar, expected: &[&str]) {
    check_with(tar, Limits::default(), expected);
}

fn check_with(tar: Tar, limits: Limits, expected: &[&str]) {
    let options = ImportOptions {
        limits,
        ..ImportOptions::default()
    };
    let error = import_with(&tar.finish(), &options).err().expect("refused");
    let said = chain(&error);
    for part in expected {
        assert!(said.contains(part), "{part:?} in {said:?}");
    }
}

#[test]
fn paths_that_climb_are_refused() {
    check(
        Tar::new().file("a/../../etc/passwd", b""),
        &["a/../../etc/passwd", "\"..\""],
    );
    check(Tar::new().file("..", b""), &["\"..\""]);
    check(
        Tar::new().file("a", b"").hardlink("b", "../a"),
        &["\"b\"", "\"..\""],
    );
    check(
        Tar::new().pax(&[("path", b"a\0b")]).file("x", b""),
        &["zero byte"],
    );
}

#[test]
fn links_that_lead_in_circles_are_refused_as_ways() {
    check(
        Tar::new()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", b""),
        &["255 symbolic links"],
    );
    check(
        Tar::new().file("f", b"").file("f/x", b""),
        &["\"f/x\"", "no directory"],
    );
    check(
        Tar::new().hardlink("h", "gone"),
        &["\"h\"", "\"gone\"", "does not exist"],
    );
    check(
        Tar::new().dir("d").hardlink("h", "d"),
        &["hard link to the directory \"d\""],
    );
    check(Tar::new().symlink("empty", ""), &["\"empty\"", "0 bytes"]);
    check(
        Tar::new().file("./", b"").symlink(".", "x"),
        &["only a directory can be the root"],
    );
}

#[test]
fn fields_beyond_an_inode_are_refused() {
    check(
        Tar::new().pax(&[("uid", b"4294967296")]).file("f", b""),
        &["\"f\"", "owner"],
    );
    check(
        Tar::new().pax(&[("mtime", b"99999999999")]).file("f", b""),
        &["\"f\"", "time"],
    );
    check(
        Tar::new()
            .pax(&[("SCHILY.xattr.odd.x", b"1")])
            .file("f", b""),
        &["\"f\"", "odd.x"],
    );
    check(
        Tar::new()
            .pax(&[("SCHILY.xattr.user.x", &[0; 5000])])
            .file("f", b""),
        &["do not fit"],
    );
    check(
        Tar::new()
            .pax(&[("SCHILY.xattr.system.posix_acl_access", b"x")])
            .file("f", b""),
        &["access control list"],
    );
    check(
        Tar::new().entry(
            b"c",
            EntryType::Char,
            |h| h.set_device_major(70_000).expect("fits"),
            b"",
        ),
        &["\"c\"", "device number"],
    );
    check(
        Tar::new().pax(&[("path", &[b'n'; 256])]).file("f", b""),
        &["256 bytes"],
    );
    let deep = "d/".repeat(3000);
    check(
        Tar::new().pax(&[("path", deep.as_bytes())]).file("f", b""),
        &["the most is 4096"],
    );
}

#[test]
fn damaged_structure_is_refused() {
    check(Tar::new().raw(&[b'x'; 512]), &["byte 0", "checksum"]);
    check(
        Tar::new().raw(&[0; 512]).file("f", b""),
        &["lone block of zeros"],
    );
    check(Tar::new().pax(&[("path", b"f")]), &["describe no entry"]);
    check(
        Tar::new()
            .entry(b"x", EntryType::XHeader, |_| {}, b"999 path=f\n")
            .file("f", b""),
        &["malformed"],
    );
    check(
        Tar::new().entry(b"f", EntryType::new(b'M'), |_| {}, b""),
        &["several volumes"],
    );
    let map = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.realsize", b"10"),
    ];
    check(
        Tar::new().pax(&map).file("f", &[b'9'; 512]),
        &["\"f\"", "map of holes"],
    );
    check(
        Tar::new().pax(&[("GNU.sparse.major", b"7")]).file("f", b""),
        &["sparse format"],
    );
}

#[test]
fn limits_hold() {
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let two = || Tar::new().file("a", &[1; 600]).file("b", &[1; 600]);
    check_with(two(), limits(|l| l.entries = 1), &["limit of 1 entries"]);
    check_with(
        two(),
        limits(|l| l.content_bytes = 1000),
        &["1000 bytes of content"],
    );
    check_with(
        two(),
        limits(|l| l.file_bytes = 500),
        &["500 bytes in one file"],
    );
    check_with(
        two(),
        limits(|l| l.archive_bytes = 2000),
        &["2000 bytes of archive"],
    );
    let pax = || Tar::new().pax(&[("comment", &[b'c'; 2000])]).file("f", b"");
    check_with(
        pax(),
        limits(|l| l.extension_bytes = 1000),
        &["limit of 1000"],
    );
    let sparse = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", b"100000"),
            ("GNU.sparse.map", b"0,1,5000,1,90000,1"),
        ])
        .file("f", &[4; 3]);
    check_with(
        sparse,
        limits(|l| l.sparse_pieces = 2),
        &["\"f\"", "more than 2 pieces"],
    );
    // A size that only a field can hold is no reason to reserve anything.
    let huge = Tar::new().entry(b"f", EntryType::Regular, |h| h.set_size(1 << 62), b"");
    check(huge, &["bytes in one file"]);
}

#[test]
fn garbage_never_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good = Tar::new()
        .pax(&[("SCHILY.xattr.user.a", b"1"), ("mtime", b"1.5")])
        .file("a", &[5; 700])
        .symlink("l", "a")
        .hardlink("h", "a")
        .dir("d")
        .finish();
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..=random() % 3 {
            let at = usize::try_from(random()).expect("64 bits") % bad.len();
            bad[at] = (random() & 0xff) as u8;
        }
        match import_with(&bad, &ImportOptions::default()) {
            Ok(imported) => support::fsck(&imported.image()),
            Err(ImportError::Image(error)) => panic!("{}", chain(&error)),
            Err(_) => {}
        }
    }
}
