//! The judge: `umoci unpack`, run as root on the same layers, and what of its result we compare.
//!
//! Where umoci itself is wrong, and we do not follow: it leaves the present time on a directory
//! whose parent it had to make itself, or in which a whiteout left something of the same layer.
//! No layer says so, and a second run gives another time. So a directory's time is not compared
//! where umoci has made up one. `security.selinux` it drops; our layers have none.
#![allow(clippy::print_stderr, reason = "a test that skips says so")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::{fmt, fs};

use banger_image::digest::Sha256;

use crate::support::Found;

/// What both sides have to agree on, by path.
pub(crate) type Listing = BTreeMap<Vec<u8>, Facts>;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    data: Vec<u8>,
    device: Option<(u32, u32)>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same file.
    group: Vec<u8>,
}

/// Short, as both sides are printed where they differ.
impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mode,
            owner,
            mtime,
            device,
            ..
        } = self;
        write!(f, "{mode:o} {owner:?} {mtime:?} {device:?}")?;
        write!(f, " {} {}", self.data.len(), Sha256::of(&self.data))?;
        write!(f, " as {}", self.group.escape_ascii())?;
        for (name, value) in &self.xattrs {
            let value = hex::encode(&value[..value.len().min(60)]);
            write!(f, " {}={value}", name.escape_ascii())?;
        }
        Ok(())
    }
}

/// Whether the judge can be asked here; says so where it cannot.
pub(crate) fn is_here() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let is_installed = Command::new("umoci").arg("--version").output().is_ok();
    match (is_root, is_installed) {
        (true, true) => true,
        (false, _) => {
            eprintln!("skipped: umoci has to run as root");
            false
        }
        (true, false) => {
            eprintln!("skipped: umoci is not installed");
            false
        }
    }
}

/// What umoci makes of plain layers, or why it refuses them.
pub(crate) fn unpack(layers: &[Vec<u8>]) -> Result<Listing, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let (image, bundle) = (dir.path().join("image"), dir.path().join("bundle"));
    write_layout(&image, layers);
    let out = Command::new("umoci")
        .arg("unpack")
        .arg("--image")
        .arg(format!("{}:latest", image.display()))
        .arg(&bundle)
        .output()
        .expect("it is installed");
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    Ok(list(&bundle.join("rootfs")))
}

fn write_layout(dir: &Path, layers: &[Vec<u8>]) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("directories");
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        fs::write(blobs.join(digest.to_hex()), bytes).expect("written");
        serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": digest.to_string(),
            "size": bytes.len(),
        })
    };
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|tar| Sha256::of(tar).to_string())
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| serde_json::json!({"created_by": "test"})).collect::<Vec<_>>(),
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": blob("config.v1+json", config.to_string().as_bytes()),
        "layers": layers.iter().map(|tar| blob("layer.v1.tar", tar)).collect::<Vec<_>>(),
    });
    let mut named = blob("manifest.v1+json", manifest.to_string().as_bytes());
    named["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [named]});
    fs::write(dir.join("index.json"), index.to_string()).expect("written");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
}

/// Everything in a directory of the host.
fn list(root: &Path) -> Listing {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut pending = BTreeSet::from([Vec::new()]);
    while let Some(path) = pending.pop_first() {
        let here = root.join(OsStr::from_bytes(&path));
        let meta = fs::symlink_metadata(&here).expect("there");
        let kind = meta.file_type();
        if kind.is_dir() {
            for entry in fs::read_dir(&here).expect("readable") {
                let name = entry.expect("readable").file_name();
                pending.insert(joined(&path, name.as_bytes()));
            }
        }
        let data = match (kind.is_file(), kind.is_symlink()) {
            (true, _) => fs::read(&here).expect("readable"),
            (_, true) => fs::read_link(&here)
                .expect("a link")
                .into_os_string()
                .into_encoded_bytes(),
            (false, false) => Vec::new(),
        };
        let group = inodes
            .entry(meta.ino())
            .or_insert_with(|| path.clone())
            .clone();
        let is_device =
            meta.mode() & 0o170_000 == 0o020_000 || meta.mode() & 0o170_000 == 0o060_000;
        let device = (
            rustix::fs::major(meta.rdev()),
            rustix::fs::minor(meta.rdev()),
        );
        let facts = Facts {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (
                meta.mtime(),
                u32::try_from(meta.mtime_nsec()).expect("in range"),
            ),
            data,
            device: is_device.then_some(device),
            xattrs: xattrs(&here),
            group,
        };
        found.insert(path, facts);
    }
    found
}

fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, slash, name].concat()
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).expect("readable");
    names[..len]
        .split(|byte| *byte == 0)
        // XFS shows lists of access rights a second time, in a form of its own.
        .filter(|name| !name.is_empty() && !name.starts_with(b"trusted.SGI_ACL_"))
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("readable");
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect()
}

/// What an image holds, in the same terms.
pub(crate) fn listing_of(image: &BTreeMap<Vec<u8>, Found>) -> Listing {
    let mut inodes = BTreeMap::new();
    image
        .iter()
        .map(|(path, found)| {
            let group = inodes.entry(found.inode).or_insert_with(|| path.clone());
            let xattrs = found.xattrs.iter().map(|(name, value)| {
                let is_list = name.starts_with(b"system.posix_acl_");
                let value = if is_list {
                    as_in_the_call(value)
                } else {
                    value.clone()
                };
                (name.clone(), value)
            });
            let facts = Facts {
                mode: u32::from(found.mode),
                owner: found.owner,
                mtime: found.mtime,
                data: found.data.clone(),
                device: found.device,
                xattrs: xattrs.collect(),
                group: group.clone(),
            };
            (path.clone(), facts)
        })
        .collect()
}

/// A list of access rights from the form of the disk to that of the system call.
fn as_in_the_call(disk: &[u8]) -> Vec<u8> {
    let mut out = 2_u32.to_le_bytes().to_vec();
    let mut rest = &disk[4..];
    while let [tag, 0, rights, 0, behind @ ..] = rest {
        out.extend_from_slice(&[*tag, 0, *rights, 0]);
        let named = matches!(tag, 2 | 8);
        let (id, behind) = behind.split_at(if named { 4 } else { 0 });
        out.extend_from_slice(if named { id } else { &[255; 4] });
        rest = behind;
    }
    out
}

/// Ours is the judge's, but for times that the judge has made up since `start`.
pub(crate) fn compare(ours: &Listing, judge: &Listing, start: i64) -> Result<(), String> {
    let names = |listing: &Listing| -> Vec<String> {
        let paths = listing.keys();
        paths.map(|path| path.escape_ascii().to_string()).collect()
    };
    if names(ours) != names(judge) {
        return Err(format!(
            "names: {:?}\nof umoci: {:?}",
            names(ours),
            names(judge)
        ));
    }
    for (path, expected) in judge {
        let mut found = ours[path].clone();
        if expected.mode & 0o170_000 == 0o040_000 && expected.mtime.0 >= start {
            found.mtime = expected.mtime;
        }
        if found != *expected {
            let path = path.escape_ascii();
            return Err(format!("{path}: {found:?}\nof umoci: {expected:?}"));
        }
    }
    Ok(())
}
