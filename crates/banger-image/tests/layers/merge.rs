//! Sequences of layers that are hard to get right, each with what must come out; and the judge's
//! word on each.

use std::time::{SystemTime, UNIX_EPOCH};

use tar::EntryType;

use crate::support::{Tar, read_image};
use crate::umoci;
use crate::world::{Layer, World};

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(since.as_secs()).expect("in range")
}

/// The layers give exactly these names below the root, and umoci agrees in everything.
fn check(layers: &[Tar], expected: &[&str]) {
    let tars: Vec<Vec<u8>> = layers.iter().map(|tar| tar.clone().finish()).collect();
    let world = World::new();
    let sources: Vec<_> = tars.iter().map(|tar| Layer::plain(tar)).collect();
    world.build("image", &sources);
    let found = read_image(&world.image("image"));
    let names: Vec<_> = found
        .keys()
        .filter(|path| !path.is_empty())
        .map(|path| path.escape_ascii().to_string())
        .collect();
    assert_eq!(names, expected);
    if umoci::is_here() {
        let start = now();
        let judge = umoci::unpack(&tars).expect("umoci takes them");
        umoci::compare(&umoci::listing_of(&found), &judge, start).expect("umoci agrees");
    }
}

fn base() -> Tar {
    Tar::new()
        .entry(b"./", EntryType::Directory, |h| h.set_mode(0o750), b"")
        .entry(b"d/", EntryType::Directory, |h| h.set_mode(0o1777), b"")
        .file("d/old", b"old")
        .dir("d/sub/")
        .file("d/sub/old", b"old")
        .file("e", b"e")
        .hardlink("e2", "e")
        .symlink("l", "d")
}

#[test]
fn whiteouts_and_opaque_directories_work_in_any_order() {
    check(
        &[base(), Tar::new().file("d/.wh.old", b"")],
        &["d", "d/sub", "d/sub/old", "e", "e2", "l"],
    );
    check(
        &[base(), Tar::new().file(".wh.d", b"").file("d/new", b"n")],
        &["d", "d/new", "e", "e2", "l"],
    );
    check(
        &[base(), Tar::new().file("d/new", b"n").file(".wh.d", b"")],
        &["d", "d/new", "e", "e2", "l"],
    );
    for layer in [
        Tar::new().file("d/.wh..wh..opq", b"").file("d/new", b"n"),
        Tar::new().file("d/new", b"n").file("d/.wh..wh..opq", b""),
        Tar::new()
            .dir("d/")
            .file("d/.wh..wh..opq", b"")
            .file("d/new", b"n"),
    ] {
        check(&[base(), layer], &["d", "d/new", "e", "e2", "l"]);
    }
    let sub = Tar::new()
        .file("d/sub/new", b"n")
        .file("d/.wh..wh..opq", b"");
    check(&[base(), sub], &["d", "d/sub", "d/sub/new", "e", "e2", "l"]);
    check(
        &[base(), Tar::new().file(".wh..wh..opq", b"").file("x", b"")],
        &["x"],
    );
    check(
        &[
            base(),
            Tar::new().file(".wh.none", b"").file("none/.wh.x", b""),
        ],
        &["d", "d/old", "d/sub", "d/sub/old", "e", "e2", "l"],
    );
    check(
        &[
            base(),
            Tar::new().file(".wh.e", b""),
            Tar::new().file("e", b"new"),
        ],
        &["d", "d/old", "d/sub", "d/sub/old", "e", "e2", "l"],
    );
    // Only the link goes, and what it leads to stays.
    check(
        &[base(), Tar::new().file(".wh.l", b"")],
        &["d", "d/old", "d/sub", "d/sub/old", "e", "e2"],
    );
    // The marker's directory is reached through a link.
    check(
        &[base(), Tar::new().file("l/.wh.old", b"")],
        &["d", "d/sub", "d/sub/old", "e", "e2", "l"],
    );
}

#[test]
fn types_replace_each_other() {
    let all = |d: &[&'static str]| [d, &["e", "e2", "l"]].concat();
    check(&[base(), Tar::new().file("d", b"file")], &all(&["d"]));
    check(&[base(), Tar::new().symlink("d", "e")], &all(&["d"]));
    check(
        &[base(), Tar::new().dir("e/").file("e/x", b"")],
        &["d", "d/old", "d/sub", "d/sub/old", "e", "e/x", "e2", "l"],
    );
    check(
        &[base(), Tar::new().dir("l/").file("l/x", b"")],
        &["d", "d/old", "d/sub", "d/sub/old", "e", "e2", "l", "l/x"],
    );
    check(
        &[base(), Tar::new().entry(b"e", EntryType::Fifo, |_| {}, b"")],
        &["d", "d/old", "d/sub", "d/sub/old", "e", "e2", "l"],
    );
    check(&[base(), Tar::new().hardlink("d", "e2")], &all(&["d"]));
}

#[test]
fn directories_that_are_not_listed_keep_what_they_are() {
    check(
        &[base(), Tar::new().file("d/new", b"n")],
        &["d", "d/new", "d/old", "d/sub", "d/sub/old", "e", "e2", "l"],
    );
    check(
        &[base(), Tar::new().file("l/sub/new", b"n")],
        &[
            "d",
            "d/old",
            "d/sub",
            "d/sub/new",
            "d/sub/old",
            "e",
            "e2",
            "l",
        ],
    );
    check(
        &[base(), Tar::new().file("a/b/c", b"n")],
        &[
            "a",
            "a/b",
            "a/b/c",
            "d",
            "d/old",
            "d/sub",
            "d/sub/old",
            "e",
            "e2",
            "l",
        ],
    );
}

#[test]
fn paths_go_through_links_inside_of_the_image_only() {
    let links = Tar::new()
        .symlink("run", "/var/run")
        .symlink("up", "../../../d")
        .dir("d/")
        .symlink("d/deep", "../gone/./x");
    let through = Tar::new()
        .file("run/pid", b"1")
        .file("up/y", b"y")
        .file("d/deep/z", b"z");
    let expected = [
        "d",
        "d/deep",
        "d/y",
        "gone",
        "gone/x",
        "gone/x/z",
        "run",
        "up",
        "var",
        "var/run",
        "var/run/pid",
    ];
    check(&[links, through], &expected);
}

#[test]
fn hard_links_reach_into_lower_layers_and_to_links() {
    let upper = Tar::new()
        .hardlink("d/link", "e")
        .hardlink("l2", "l")
        .hardlink("through", "l/old");
    let expected = [
        "d",
        "d/link",
        "d/old",
        "d/sub",
        "d/sub/old",
        "e",
        "e2",
        "l",
        "l2",
        "through",
    ];
    check(&[base(), upper], &expected);
    // The lower name is replaced, its other names stay what they were.
    check(
        &[base(), Tar::new().file("e", b"other")],
        &["d", "d/old", "d/sub", "d/sub/old", "e", "e2", "l"],
    );
}

#[test]
fn attributes_are_those_of_the_last_entry() {
    const ACL: [u8; 44] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255,
        255, 255, 16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 1, 0, 255, 255, 255, 255,
    ];
    const MINIMAL: [u8; 28] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 1, 0, 255, 255, 255, 255, 32, 0, 2, 0,
        255, 255, 255, 255,
    ];
    const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let lower = Tar::new()
        .pax(&[
            ("mtime", b"1234567890.123456789"),
            ("SCHILY.xattr.user.old", b"1"),
        ])
        .dir("d/")
        .pax(&[
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.security.capability", &CAPABILITY),
        ])
        .entry(b"bin", EntryType::Regular, |h| h.set_mode(0o6755), b"bin")
        .pax(&[("SCHILY.xattr.trusted.t", b"\0\xff")])
        .symlink("link", "bin")
        .pax(&[("uid", b"4000000000"), ("gid", b"3000000000")])
        .entry(b"dev", EntryType::Char, |h| device(h, 10, 300), b"")
        .entry(b"\xff\xfe", EntryType::Block, |h| device(h, 8, 1), b"");
    let upper = Tar::new()
        .pax(&[
            ("mtime", b"1300000000.000000001"),
            ("SCHILY.xattr.system.posix_acl_default", &ACL),
            ("SCHILY.xattr.system.posix_acl_access", &ACL),
        ])
        .entry(b"d/", EntryType::Directory, |h| h.set_mode(0o2777), b"")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", &MINIMAL)])
        .file("minimal", b"")
        .pax(&[
            ("SCHILY.xattr.user.large", &[7; 3000]),
            ("SCHILY.xattr.user.empty", b""),
        ])
        .file("d/large", b"");
    let expected = [
        "bin",
        "d",
        "d/large",
        "dev",
        "link",
        "minimal",
        "\\xff\\xfe",
    ];
    check(&[lower, upper], &expected);
}

fn device(header: &mut tar::Header, major: u32, minor: u32) {
    header.set_device_major(major).expect("major");
    header.set_device_minor(minor).expect("minor");
}

#[test]
fn a_root_that_nobody_describes_is_as_old_as_time() {
    check(&[Tar::new().file("x", b"")], &["x"]);
    check(&[], &[]);
}
