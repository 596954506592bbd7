//! What is expensive to make and never changes: pulled kernels and built images. Made once for all
//! stories and processes, behind a lock, and then brought into each home by hard links.
//!
//! The product publishes kernels and images once and never writes to them again; that is what
//! makes links safe. Everything else, the database first of all, is copied.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::{
    home::{Home, target_directory},
    images::{busybox_tar, one_binary_tar},
    workbench,
    world::{BUSYBOX, DEBIAN, KERNEL, ONE_BINARY},
};

/// A mirror may be slow; the test runner's own limit comes later.
const FETCHING: Duration = Duration::from_secs(480);

/// Parts of a home that are published once and never written again.
const PUBLISHED: [&str; 3] = ["images", "kernels", "initramfs"];
/// Parts that belong to one daemon's life.
const OWN: [&str; 3] = ["vms", "scratch", "bangerd.log"];

/// What a home is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stock {
    /// A kernel and the two small images.
    Small,
    /// The default image, too.
    Debian,
    /// The image with tools in it, too.
    Workbench,
}

impl Stock {
    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Debian => "debian",
            Self::Workbench => "workbench",
        }
    }
}

/// Fills a home in which no daemon has run yet.
pub(crate) fn fill(home: &Home, stock: Stock) {
    let store = Store::open(home);
    store.forget_other_builds();
    store.bring(stock, home);
}

/// The directory of all stocks.
struct Store {
    directory: PathBuf,
    build: String,
}

impl Store {
    fn open(home: &Home) -> Self {
        let directory = target_directory().join("e2e-cache");
        must("make", &directory, fs::create_dir_all(&directory));
        Self {
            directory,
            build: digest(&home.program("bangerd")),
        }
    }

    /// Held while a stock is made or read: the first story makes, the others that need it wait. Whoever needs
    /// several takes the fullest first.
    fn lock(&self, what: &str) -> File {
        let path = self.directory.join(format!("{what}.lock"));
        let mut options = OpenOptions::new();
        let file = must(
            "open",
            &path,
            options.create(true).truncate(false).write(true).open(&path),
        );
        must(
            "lock",
            &path,
            flock(&file, FlockOperation::LockExclusive).map_err(io::Error::from),
        );
        file
    }

    /// Another build may write another schema or other bytes. `BANGER_E2E_KEEP_CACHE` takes the
    /// risk, for those who change something else.
    fn forget_other_builds(&self) {
        let _lock = self.lock("build");
        let stamp = self.directory.join("build");
        let made_by = fs::read_to_string(&stamp).unwrap_or_default();
        if made_by == self.build || env::var_os("BANGER_E2E_KEEP_CACHE").is_some() {
            return;
        }
        for stock in [Stock::Workbench, Stock::Debian, Stock::Small] {
            let _lock = self.lock(stock.name());
            remove(&self.directory.join(stock.name()));
        }
        must("write", &stamp, fs::write(&stamp, &self.build));
    }

    /// Fills a home, with a stock that is made if it is not there yet.
    fn bring(&self, stock: Stock, home: &Home) {
        let _lock = self.lock(stock.name());
        let path = self.directory.join(stock.name());
        if !path.exists() {
            self.make(stock, &path);
        }
        bring(&path, home.path());
    }

    /// Makes a stock in a home of its own, and moves it to its place when it is whole.
    fn make(&self, stock: Stock, path: &Path) {
        let home = Home::new();
        match stock {
            Stock::Small => make_small(&home),
            Stock::Debian => {
                self.bring(Stock::Small, &home);
                home.banger(&["image", "pull", DEBIAN])
                    .limit(FETCHING)
                    .run()
                    .ok();
            }
            Stock::Workbench => {
                self.bring(Stock::Debian, &home);
                home.shell(workbench::MAKE).limit(FETCHING).run().ok();
            }
        }
        home.banger(&["daemon", "stop"]).run().ok();
        let half_made = path.with_extension("half-made");
        remove(&half_made);
        bring(home.path(), &half_made);
        must("publish", path, fs::rename(&half_made, path));
    }
}

fn make_small(home: &Home) {
    home.banger(&["kernel", "pull", KERNEL])
        .limit(FETCHING)
        .run()
        .ok();
    for (name, tar) in [(BUSYBOX, busybox_tar()), (ONE_BINARY, one_binary_tar())] {
        home.banger(&["image", "import", name, "tar:-"])
            .stdin(tar)
            .run()
            .ok();
    }
}

fn digest(program: &Path) -> String {
    let bytes = must("read", program, fs::read(program));
    hex::encode(Sha256::digest(bytes))
}

/// Brings what one home has durably into another.
fn bring(from: &Path, to: &Path) {
    for part in ["state", "cache"] {
        if from.join(part).exists() {
            copy_tree(&from.join(part), &to.join(part), false);
        }
    }
}

fn copy_tree(from: &Path, to: &Path, published: bool) {
    must("make", to, fs::create_dir_all(to));
    let meta = must("look at", from, fs::metadata(from));
    must("protect", to, fs::set_permissions(to, meta.permissions()));
    for entry in must("list", from, fs::read_dir(from)) {
        let entry = must("list", from, entry);
        let (name, source) = (entry.file_name(), entry.path());
        let is = |names: &[&str]| names.iter().any(|other| name == *other);
        if is(&OWN) {
            continue;
        }
        let target = to.join(&name);
        let kind = must("look at", &source, entry.file_type());
        if kind.is_dir() {
            copy_tree(&source, &target, published || is(&PUBLISHED));
        } else if kind.is_symlink() {
            let link = must("read", &source, fs::read_link(&source));
            must("make", &target, symlink(link, &target));
        } else if !published || fs::hard_link(&source, &target).is_err() {
            // `/tmp` may be another file system, where links cannot lead.
            must("copy", &source, fs::copy(&source, &target));
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => must("remove", path, removed),
    }
}

#[track_caller]
fn must<T>(verb: &str, path: &Path, result: io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("cannot {verb} {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_published_is_linked_and_the_rest_copied() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        for file in [
            "state/state.db",
            "state/images/a/rootfs.ext4",
            "state/vms/b/disk",
            "cache/probe.json",
            "run/bangerd.sock",
        ] {
            let path = from.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        bring(&from, &to);
        let links = |file: &str| fs::metadata(to.join(file)).map(|meta| meta.nlink()).ok();
        assert_eq!(links("state/images/a/rootfs.ext4"), Some(2));
        assert_eq!(links("state/state.db"), Some(1));
        assert_eq!(links("cache/probe.json"), Some(1));
        assert_eq!(links("state/vms"), None);
        assert_eq!(links("run"), None);
    }
}
