//! Importing root file systems: what a tar holds is what the image holds, and nothing else.

mod support;

use std::fs;
use std::io::Write;
use std::process::Command;

use banger_image::rootfs::{
    self, ImportError, ImportOptions, Init, Machine, Scrub, Skipped, Source,
};
use support::{Imported, Tar, debugfs, fsck, import, import_with, read_image, silent};
use tar::EntryType;

/// A list as the system call has it: `user::rw-,user:1000:r--,group::r--,mask::r--,other::r--`.
const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255,
    255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn everything() -> Vec<u8> {
    let long = format!("very/long/{}", "n".repeat(200));
    Tar::new()
        .pax(&[("mtime", b"1234567890.123456789")])
        .entry(b"./", EntryType::Directory, |h| h.set_mode(0o1711), b"")
        .entry(
            b"./bin/su",
            EntryType::Regular,
            |h| h.set_mode(0o6755),
            b"su",
        )
        .pax(&[
            ("SCHILY.xattr.security.capability", &CAPABILITY),
            ("SCHILY.xattr.user.binary", b"\0\n=\xff"),
            ("SCHILY.xattr.user.large", &[7; 3000]),
            ("SCHILY.xattr.system.posix_acl_access", &ACL),
            ("mtime", b"-1.25"),
            ("uid", b"4000000000"),
        ])
        .file("bin/ping", &[1; 5000])
        .entry(b"dev/null", EntryType::Char, |h| device(h, 1, 3), b"")
        .entry(
            b"dev/big",
            EntryType::Block,
            |h| device(h, 259, 70_000),
            b"",
        )
        .entry(b"run/fifo", EntryType::Fifo, |_| {}, b"")
        .symlink("bin/sh", "dash")
        .pax(&[("linkpath", "t".repeat(4000).as_bytes())])
        .symlink("long-target", "")
        .hardlink("bin/ping6", "./bin/ping")
        .hardlink("bin/sh2", "bin/sh")
        .pax(&[("path", long.as_bytes())])
        .file("x", b"long")
        .entry(
            b"././@LongLink",
            EntryType::GNULongName,
            |_| {},
            &[&[b'g'; 150][..], b"\0"].concat(),
        )
        .file("cut", b"gnu")
        .finish()
}

fn device(header: &mut tar::Header, major: u32, minor: u32) {
    header.set_device_major(major).expect("major");
    header.set_device_minor(minor).expect("minor");
}

#[test]
fn all_that_a_tar_can_say_arrives() {
    let imported = import(&everything());
    fsck(&imported.image());
    let found = read_image(&imported.image());
    let at = |path: &str| {
        found
            .get(path.as_bytes())
            .unwrap_or_else(|| panic!("{path} is missing"))
    };
    assert_eq!(
        (at("").mode, at("").mtime),
        (0o041_711, (1_234_567_890, 123_456_789))
    );
    assert_eq!(
        (at("bin/su").mode, at("bin/su").owner),
        (0o106_755, (1000, 2000))
    );
    assert_eq!(at("bin/su").mtime, (1_600_000_000, 0));
    let ping = at("bin/ping");
    assert_eq!(
        (ping.owner.0, ping.mtime, ping.links),
        (4_000_000_000, (-2, 750_000_000), 2)
    );
    assert_eq!(ping.data, [1; 5000]);
    assert_eq!(ping.xattrs[&b"security.capability"[..]], CAPABILITY);
    assert_eq!(ping.xattrs[&b"user.binary"[..]], b"\0\n=\xff");
    assert_eq!(ping.xattrs[&b"user.large"[..]], [7; 3000]);
    assert_eq!(
        ping.xattrs[&b"system.posix_acl_access"[..]].len(),
        28,
        "in the disk's own form"
    );
    assert_eq!(at("bin/ping6").inode, ping.inode);
    assert_eq!(
        (at("bin/sh2").inode, &at("bin/sh2").data[..]),
        (at("bin/sh").inode, &b"dash"[..])
    );
    assert_eq!(
        (at("dev/null").mode, at("dev/null").device),
        (0o020_755, Some((1, 3)))
    );
    assert_eq!(
        (at("dev/big").mode, at("dev/big").device),
        (0o060_755, Some((259, 70_000)))
    );
    assert_eq!(at("run/fifo").mode, 0o010_755);
    assert_eq!(at("bin/sh").mode, 0o120_777);
    assert_eq!(at("long-target").data, "t".repeat(4000).into_bytes());
    assert_eq!(at(&format!("very/long/{}", "n".repeat(200))).data, b"long");
    assert_eq!(at(&"g".repeat(150)).data, b"gnu");
    let implied = at("very/long");
    assert_eq!(
        (implied.mode, implied.owner, implied.mtime),
        (0o040_755, (0, 0), (946_684_800, 0))
    );
    assert_eq!(found.len(), 17, "and nothing else");
    assert_eq!(imported.report.entries, 12);
    assert_eq!(imported.report.content_bytes, 5009);
}

#[test]
fn a_foreign_reader_agrees() {
    let imported = import(&everything());
    let check = |request: &str, expected: &[&str]| {
        let Some(said) = debugfs(&imported.image(), request) else {
            return;
        };
        for part in expected {
            assert!(said.contains(part), "{request}: {part:?} in {said}");
        }
    };
    check(
        "stat bin/su",
        &[
            "Type: regular",
            "Mode:  06755",
            "User:  1000",
            "Group:  2000",
        ],
    );
    check(
        "stat bin/ping",
        &["User: -294967296", "Links: 2", "Size: 5000"],
    );
    check(
        "ea_list bin/ping",
        &[
            "security.capability (20)",
            "user.large (3000)",
            "posix_acl_access",
        ],
    );
    check(
        "stat dev/null",
        &["Type: character special", "number: 01:03"],
    );
    check("stat bin/sh", &["Fast link dest: \"dash\"", "Links: 2"]);
    check("stat <2>", &["Mode:  01711"]);
}

#[test]
fn later_entries_win_and_lead_through_links() {
    let tar = Tar::new()
        .file("a", b"first")
        .file("a", b"second")
        .dir("lib")
        .file("lib/old", b"gone")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/x", b"in usr")
        .symlink("up", "../../../usr/./lib")
        .file("up/y", b"confined")
        .hardlink("z", "up/y")
        .symlink("was-link", "a")
        .dir("was-link")
        .file("was-link/in", b"in")
        .file("/absolute", b"below the root")
        .finish();
    let imported = import(&tar);
    fsck(&imported.image());
    let found = read_image(&imported.image());
    let data = |path: &str| found.get(path.as_bytes()).map(|found| &found.data[..]);
    assert_eq!(data("a"), Some(&b"second"[..]));
    assert_eq!(data("lib"), Some(&b"usr/lib"[..]));
    assert_eq!(data("usr/lib/x"), Some(&b"in usr"[..]));
    assert_eq!(data("usr/lib/y"), Some(&b"confined"[..]));
    assert_eq!(found[&b"z"[..]].inode, found[&b"usr/lib/y"[..]].inode);
    assert_eq!(data("was-link/in"), Some(&b"in"[..]));
    assert_eq!(data("absolute"), Some(&b"below the root"[..]));
    assert_eq!(data("lib/old"), None);
}

#[test]
fn names_are_bytes_and_lost_found_is_a_name_like_others() {
    let mut tar = Tar::new()
        .entry(b"plain\xff", EntryType::Regular, |_| {}, b"plain")
        .entry(b"\xfe", EntryType::Regular, |_| {}, b"one byte")
        .entry(
            b"0000",
            EntryType::Regular,
            |_| {},
            b"looks like a stand-in",
        )
        .entry(b"0001", EntryType::Regular, |_| {}, b"this too")
        .entry(
            b"to\xff",
            EntryType::Symlink,
            |h| h.set_link_name_literal(b"\xff\xfe").expect("short"),
            b"",
        )
        .pax(&[("linkpath", &[0xfd; 300])])
        .symlink("to-long", "")
        .entry(
            b"lost+found",
            EntryType::Directory,
            |h| h.set_mode(0o700),
            b"",
        )
        .file("lost+found/mine", b"mine");
    for i in 0..3000 {
        let name = [
            format!("many/{i:04}-{}", "p".repeat(i % 60)).as_bytes(),
            b"\xf0",
        ]
        .concat();
        tar = tar.entry(&name, EntryType::Regular, |_| {}, b"");
    }
    let imported = import(&tar.finish());
    fsck(&imported.image());
    let found = read_image(&imported.image());
    let data = |path: &[u8]| found.get(path).map(|found| &found.data[..]);
    assert_eq!(data(b"plain\xff"), Some(&b"plain"[..]));
    assert_eq!(data(b"\xfe"), Some(&b"one byte"[..]));
    assert_eq!(data(b"0000"), Some(&b"looks like a stand-in"[..]));
    assert_eq!(data(b"0001"), Some(&b"this too"[..]));
    assert_eq!(data(b"to\xff"), Some(&b"\xff\xfe"[..]));
    assert_eq!(data(b"to-long"), Some(&[0xfd; 300][..]));
    assert_eq!(data(b"lost+found/mine"), Some(&b"mine"[..]));
    assert_eq!(found[&b"lost+found"[..]].owner, (1000, 2000));
    assert_eq!(
        found
            .keys()
            .filter(|path| path.starts_with(b"many/"))
            .count(),
        3000
    );
    assert!(found.contains_key(&b"many/0000-\xf0"[..]));
}

#[test]
fn many_names_and_large_files_are_laid_out() {
    let mut tar = Tar::new().file("large", &[9; 40 << 20]);
    for i in 0..20_000 {
        tar = tar.file(&format!("flat/some-longer-file-name-{i}"), b"");
    }
    let imported = import(&tar.finish());
    fsck(&imported.image());
    let fs =
        mkext4::reader::Fs::open(fs::File::open(imported.image()).expect("open")).expect("ext4");
    let flat = fs.resolve("/flat").expect("a directory");
    assert_eq!(fs.read_dir(flat).expect("readable").len(), 20_002);
}

#[test]
fn the_same_archive_gives_the_same_bytes_however_packed() {
    let tar = everything();
    let plain = import(&tar);
    let gzip = {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&tar).expect("packed");
        gz.finish().expect("packed")
    };
    let xz = {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&tar).expect("packed");
        xz.finish().expect("packed")
    };
    let zstd = zstd::encode_all(&tar[..], 1).expect("packed");
    for packed in [&tar, &gzip, &xz, &zstd] {
        let again = import(packed);
        assert_eq!(again.report, plain.report);
        assert!(again.bytes() == plain.bytes());
        // The same from a file, where a plain one is its own store.
        let dir = tempfile::tempdir().expect("a directory");
        let (file, dest) = (dir.path().join("tar"), dir.path().join("image"));
        fs::write(&file, packed).expect("written");
        let options = ImportOptions::default();
        rootfs::import(Source::File(file), &dest, &options, &silent()).expect("imported");
        assert!(fs::read(&dest).expect("readable") == plain.bytes());
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&dest.metadata().expect("there").permissions());
        assert_eq!(mode & 0o7777, 0o444);
    }
    let scrubbed = ImportOptions {
        scrub: Scrub::BuilderTraces,
        ..ImportOptions::default()
    };
    let other = import_with(&tar, &scrubbed).expect("imported");
    assert_ne!(
        other.report.uuid, plain.report.uuid,
        "other bytes, another identity"
    );
}

#[test]
fn holes_of_sparse_files_take_no_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = fs::File::create(dir.path().join("sparse")).expect("created");
    file.set_len((10 << 20) + 5).expect("a hole");
    for offset in [4096 * 10, 4096 * 700 + 100] {
        std::os::unix::fs::FileExt::write_all_at(&file, &[3; 9000], offset).expect("data");
    }
    fs::File::create(dir.path().join("hole"))
        .and_then(|f| f.set_len(1 << 20))
        .expect("a hole");
    let expected = fs::read(dir.path().join("sparse")).expect("readable");
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for format in formats {
        let out = Command::new("tar")
            .args(["--sparse", "-cf", "-"])
            .args(format)
            .args(["sparse", "hole"])
            .current_dir(dir.path())
            .output();
        let Some(out) = out.ok().filter(|out| out.status.success()) else {
            eprintln!("skipped: no GNU tar here");
            return;
        };
        assert!(out.stdout.len() < 1 << 20, "the archive itself is sparse");
        let imported = import(&out.stdout);
        fsck(&imported.image());
        let found = read_image(&imported.image());
        assert!(found[&b"sparse"[..]].data == expected, "{format:?}");
        assert!(found[&b"sparse"[..]].blocks <= 6 * 8, "{format:?}");
        assert_eq!(
            (found[&b"hole"[..]].data.len(), found[&b"hole"[..]].blocks),
            (1 << 20, 0)
        );
    }
}

#[test]
fn facts_are_those_of_the_tree() {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    elf[18] = 62;
    let tar = Tar::new()
        .file("usr/bin/dash", &elf)
        .symlink("usr/bin/sh", "dash")
        .symlink("bin", "usr/bin")
        .file("usr/lib/systemd/systemd", &elf)
        .symlink("sbin", "usr/sbin")
        .symlink("usr/sbin/init", "/lib/systemd/systemd")
        .file(
            "usr/lib/os-release",
            b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n",
        )
        .symlink("etc/os-release", "../usr/lib/os-release")
        .entry(b"odd", EntryType::new(b'Z'), |_| {}, b"skipped data")
        .finish();
    let report = import(&tar).report;
    let facts = report.facts;
    assert_eq!(facts.systemd, Some("/usr/lib/systemd/systemd"));
    assert_eq!(facts.init, Some(Init::Link("/lib/systemd/systemd".into())));
    assert!(facts.has_shell);
    assert_eq!(facts.machine, Some(Machine::X86_64));
    assert_eq!(facts.os_release.id.as_deref(), Some("debian"));
    assert_eq!(facts.os_release.version_id.as_deref(), Some("12"));
    assert_eq!(
        report.skipped.into_iter().collect::<Vec<_>>(),
        [(Skipped::UnknownType, 1)]
    );
    let single = import(&Tar::new().file("app", &elf).finish()).report.facts;
    assert_eq!(
        (single.machine, single.has_shell, single.init),
        (Some(Machine::X86_64), false, None)
    );
}

#[test]
fn scrubbed_images_lack_the_builders_traces() {
    let tar = Tar::new()
        .file("etc/hostname", b"builder")
        .file("etc/machine-id", b"0123456789abcdef")
        .file("etc/ssh/ssh_host_rsa_key", b"secret")
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh")
        .finish();
    let options = ImportOptions {
        scrub: Scrub::BuilderTraces,
        ..ImportOptions::default()
    };
    let imported = import_with(&tar, &options).expect("imported");
    fsck(&imported.image());
    let found = read_image(&imported.image());
    assert_eq!(found[&b"etc/machine-id"[..]].data, b"");
    assert_eq!(found.len(), 5, "{:?}", found.keys());
    assert_eq!(imported.report.scrubbed, 3);
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let tar = everything();
    for len in (0..tar.len() - 512).step_by(256) {
        let error = import_with(&tar[..len], &ImportOptions::default()).err();
        let cut = matches!(error, Some(ImportError::Truncated { .. }));
        assert!(cut, "{len} of {}: {error:?}", tar.len());
    }
    let zstd = zstd::encode_all(&tar[..], 1).expect("packed");
    assert!(import_with(&zstd[..zstd.len() - 4], &ImportOptions::default()).is_err());
}

#[test]
fn the_destination_is_never_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let dest = dir.path().join("image");
    fs::write(&dest, "mine").expect("written");
    let source = Source::Stream(Box::new(std::io::empty()));
    let result = rootfs::import(source, &dest, &ImportOptions::default(), &silent());
    assert!(matches!(result, Err(ImportError::Exists { .. })));
    assert_eq!(fs::read(&dest).expect("readable"), b"mine");
}

#[test]
fn a_cancelled_import_leaves_nothing() {
    let options = ImportOptions::default();
    options.cancel.cancel();
    let result = import_with(&everything(), &options);
    assert!(matches!(
        result.map(|_: Imported| ()),
        Err(ImportError::Cancelled)
    ));
}
