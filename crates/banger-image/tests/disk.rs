//! Empty disks: what they cost, that `e2fsck` finds nothing wrong, that they can grow while mounted.
#![allow(clippy::print_stderr, reason = "a test that skips says so")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use banger_image::ext4::{self, DiskError, FsUuid};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn make(dir: &Path, size: u64) -> std::path::PathBuf {
    let path = dir.join(format!("{size}.ext4"));
    let label = "banger-disk".parse().expect("a label");
    ext4::create_empty(&path, size, &label, FsUuid::from_bytes([7; 16])).expect("a disk");
    path
}

/// Runs the judge and panics with what it says; false where it is not installed.
fn fsck(path: &Path) -> bool {
    let Ok(out) = Command::new("e2fsck").arg("-fn").arg(path).output() else {
        eprintln!("skipped: e2fsck is not installed");
        return false;
    };
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "e2fsck of {}: {said}", path.display());
    true
}

#[test]
fn disks_of_every_size_are_clean_and_nearly_free() {
    let dir = tempfile::tempdir().expect("a directory");
    let sizes = [
        16 * MIB,
        20 * MIB + 1,
        128 * MIB,
        128 * MIB + 4096,
        200 * MIB,
        256 * MIB,
        257 * MIB,
        2 * GIB + MIB,
        8 * GIB,
        10_000_000_000,
        16 * GIB,
        17 * GIB,
        100 * GIB,
        1024 * GIB,
    ];
    for size in sizes {
        let path = make(dir.path(), size);
        let meta = fs::metadata(&path).expect("metadata");
        assert_eq!(meta.len(), size);
        let costs = meta.blocks() * 512;
        assert!(costs < 2 * MIB, "a disk of {size} bytes costs {costs}");
        if !fsck(&path) {
            return;
        }
        fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn the_same_disk_is_made_of_the_same_bytes() {
    let (one, two) = (
        tempfile::tempdir().expect("one"),
        tempfile::tempdir().expect("two"),
    );
    let read = |dir: &Path| fs::read(make(dir, 300 * MIB)).expect("readable");
    assert!(read(one.path()) == read(two.path()));
}

#[test]
fn time_does_not_depend_on_the_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let best = |size: u64| -> Duration {
        (0..5)
            .map(|_| {
                let start = Instant::now();
                let path = make(dir.path(), size);
                let took = start.elapsed();
                fs::remove_file(path).expect("removed");
                took
            })
            .min()
            .expect("five runs")
    };
    let (small, large) = (best(8 * GIB), best(1024 * GIB));
    eprintln!("8 GiB {small:?}, 1 TiB {large:?}");
    // Far more than it takes, so that a busy machine does not fail; linear work would not pass.
    assert!(
        large < small * 20 + Duration::from_millis(200),
        "{small:?} and {large:?}"
    );
}

#[test]
fn what_exists_is_not_touched_and_odd_sizes_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk");
    fs::write(&path, "mine").expect("written");
    let label = "x".parse().expect("a label");
    let check = |size| ext4::create_empty(&path, size, &label, FsUuid::from_bytes([0; 16]));
    assert!(matches!(check(GIB), Err(DiskError::Create { .. })));
    assert!(matches!(check(MIB), Err(DiskError::Size { .. })));
    assert!(matches!(check(u64::MAX), Err(DiskError::Size { .. })));
    assert_eq!(fs::read(&path).expect("readable"), b"mine");
}

/// A loop device with a file system mounted on it; undone when it goes.
struct Mounted {
    device: String,
    at: tempfile::TempDir,
}

impl Mounted {
    /// Nothing where this machine or user cannot do it.
    fn new(path: &Path) -> Option<Self> {
        let out = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(path)
            .output()
            .ok()?;
        if !out.status.success() {
            return None;
        }
        let device = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        let at = tempfile::tempdir().expect("a directory");
        let this = Self { device, at };
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", &this.device]).arg(this.at.path());
        succeeds(&mut mount).then_some(this)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        succeeds(Command::new("umount").arg(self.at.path()));
        succeeds(Command::new("losetup").args(["-d", &self.device]));
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|out| out.status.success())
}

/// Grows by the ioctl that the agent uses; false where this machine does not let even root.
fn grow(device: &str) -> bool {
    let out = Command::new("resize2fs")
        .arg(device)
        .output()
        .expect("resize2fs");
    let said = String::from_utf8_lossy(&out.stderr);
    if said.contains("Permission denied") {
        eprintln!("skipped: growing a mounted file system is forbidden here");
        return false;
    }
    assert!(out.status.success(), "{said}");
    true
}

#[test]
fn disks_grow_while_mounted_and_keep_what_they_hold() {
    let dir = tempfile::tempdir().expect("a directory");
    let sizes = [
        (16 * MIB, GIB),
        (200 * MIB, 300 * MIB),
        (8 * GIB, 100 * GIB),
        (17 * GIB + 5 * MIB, 40 * GIB),
        (1024 * GIB, 1100 * GIB),
    ];
    for (from, to) in sizes {
        let path = make(dir.path(), from);
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("open");
        file.set_len(to).expect("longer");
        let Some(mounted) = Mounted::new(&path) else {
            eprintln!("skipped: needs root and loop devices");
            return;
        };
        let data = vec![0x5a; 3 << 20];
        fs::write(mounted.at.path().join("before"), &data).expect("written");
        if !grow(&mounted.device) {
            return;
        }
        for i in 0..50 {
            let dir = mounted.at.path().join(format!("d{i}"));
            fs::create_dir(&dir).expect("a directory");
            fs::write(dir.join("after"), &data).ok();
        }
        assert!(fs::read(mounted.at.path().join("before")).expect("readable") == data);
        let stat = Command::new("stat")
            .args(["-f", "-c", "%b"])
            .arg(mounted.at.path())
            .output();
        let blocks: u64 = String::from_utf8_lossy(&stat.expect("stat").stdout)
            .trim()
            .parse()
            .expect("a number");
        assert!(
            blocks * 4096 > to / 10 * 9,
            "{from} to {to}: {blocks} blocks"
        );
        drop(mounted);
        fsck(&path);
        fs::remove_file(&path).expect("removed");
    }
}
