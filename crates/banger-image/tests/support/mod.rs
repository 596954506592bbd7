//! What the tests of images share: making tars by hand, importing them, reading images back.
#![allow(clippy::print_stderr, reason = "a test that skips says so")]
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use banger_image::progress::{SharedProgress, Silent};
use banger_image::rootfs::{self, ImportError, ImportOptions, ImportReport, Source};
use mkext4::reader::Fs;
use tar::{EntryType, Header};

pub(crate) fn silent() -> SharedProgress {
    Arc::new(Silent)
}

/// A tar under construction; entries get odd attributes so that defaults do not pass for them.
#[derive(Debug, Clone)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// An entry as its header says, whatever that is.
    pub(crate) fn entry(
        mut self,
        path: &[u8],
        kind: EntryType,
        change: impl FnOnce(&mut Header),
        data: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        assert!(path.len() <= 100, "use pax for long names");
        header.as_gnu_mut().expect("gnu").name[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(1000);
        header.set_gid(2000);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(path.as_bytes(), EntryType::Regular, |_| {}, data)
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(path.as_bytes(), EntryType::Directory, |_| {}, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(path, EntryType::Symlink, target)
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.link(path, EntryType::Link, target)
    }

    fn link(self, path: &str, kind: EntryType, target: &str) -> Self {
        let target = target.as_bytes().to_vec();
        self.entry(
            path.as_bytes(),
            kind,
            |header| header.set_link_name_literal(target).expect("short"),
            b"",
        )
    }

    /// An extended header for the entry that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.entry(b"pax", EntryType::XHeader, |_| {}, &pax_records(records))
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while rest + len.to_string().len() != len {
            len = rest + len.to_string().len();
        }
        out.extend_from_slice(format!("{len} {key}=").as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// A directory with an image that was imported into it.
pub(crate) struct Imported {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) report: ImportReport,
}

impl Imported {
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("image.ext4")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.image()).expect("readable")
    }
}

pub(crate) fn import(tar: &[u8]) -> Imported {
    import_with(tar, &ImportOptions::default()).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub(crate) fn import_with(tar: &[u8], options: &ImportOptions) -> Result<Imported, ImportError> {
    let dir = tempfile::tempdir().expect("a directory");
    let source = Source::Stream(Box::new(std::io::Cursor::new(tar.to_vec())));
    let result = rootfs::import(source, &dir.path().join("image.ext4"), options, &silent());
    let left = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(
        left,
        usize::from(result.is_ok()),
        "only the image is left behind"
    );
    result.map(|report| Imported { dir, report })
}

/// An error with all its causes, as people see it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Asks the judge; says so where it is missing.
pub(crate) fn fsck(image: &Path) {
    match Command::new("e2fsck").arg("-fn").arg(image).output() {
        Err(_) => eprintln!("skipped: e2fsck is not installed"),
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stdout);
            assert!(out.status.success(), "e2fsck: {said}");
        }
    }
}

/// What debugfs prints for a request; nothing where it is not installed.
pub(crate) fn debugfs(image: &Path, request: &str) -> Option<String> {
    let Ok(out) = Command::new("debugfs")
        .args(["-R", request])
        .arg(image)
        .output()
    else {
        eprintln!("skipped: debugfs is not installed");
        return None;
    };
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// What an image holds under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Type and permissions.
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    /// A file's data or a link's target.
    pub(crate) data: Vec<u8>,
    pub(crate) device: Option<(u32, u32)>,
    pub(crate) links: u16,
    pub(crate) inode: u32,
    /// Blocks of 512 bytes.
    pub(crate) blocks: u64,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Every name in an image but the root, with `""` for that.
pub(crate) fn read_image(image: &Path) -> BTreeMap<Vec<u8>, Found> {
    let fs = Fs::open(File::open(image).expect("open")).expect("an ext4 image");
    assert_eq!(fs.verify().expect("readable"), []);
    let mut found = BTreeMap::new();
    let mut stack = vec![(Vec::new(), 2)];
    while let Some((path, inode)) = stack.pop() {
        let here = read_inode(&fs, inode);
        if here.mode >> 12 == 4 {
            for entry in fs.read_dir(inode).expect("a directory") {
                if entry.name != b"." && entry.name != b".." {
                    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    stack.push(([&path[..], slash, &entry.name].concat(), entry.inode));
                }
            }
        }
        assert!(found.insert(path, here).is_none(), "a name is there twice");
    }
    found
}

fn read_inode(fs: &Fs<File>, number: u32) -> Found {
    let inode = fs.inode(number).expect("an inode");
    let data = match inode.mode >> 12 {
        0o10 => fs.read_file(number).expect("a file"),
        0o12 => fs.symlink_target(number).expect("a link"),
        _ => Vec::new(),
    };
    let xattrs = fs.xattrs(number).expect("attributes");
    let xattrs = xattrs
        .into_iter()
        .map(|x| (x.full_name().expect("a name"), x.value))
        .collect();
    Found {
        mode: inode.mode,
        owner: (inode.uid, inode.gid),
        mtime: mkext4::spec::Inode::timestamp(inode.mtime, inode.mtime_extra),
        data,
        device: inode.dev_numbers(),
        links: inode.links_count,
        inode: number,
        blocks: inode.blocks,
        xattrs,
    }
}
