//! Remembers a verdict until the host boots again or the device changes. Everything that
//! goes wrong here only means that the probe runs once more.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{KvmVerdict, cache_file};

/// Where one device's verdict is kept, and what it must match to be believed.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    key: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    verdict: KvmVerdict,
}

impl Cache {
    pub(super) fn of_device(dir: &Path, device: &Path) -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let meta = fs::metadata(device).ok()?;
        let numbers = [
            meta.dev(),
            meta.ino(),
            meta.rdev(),
            meta.mode().into(),
            meta.uid().into(),
            meta.gid().into(),
            rustix::process::geteuid().as_raw().into(),
        ];
        let numbers = numbers.map(|number| format!("{number:x}")).join("-");
        let version = env!("CARGO_PKG_VERSION");
        Some(Self {
            path: cache_file(dir),
            key: format!("{version} {} {numbers}", boot.trim()),
        })
    }

    pub(super) fn read(&self) -> Option<KvmVerdict> {
        let entry: Entry = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        (entry.key == self.key).then_some(entry.verdict)
    }

    pub(super) fn write(&self, verdict: &KvmVerdict) {
        let entry = Entry {
            key: self.key.clone(),
            verdict: verdict.clone(),
        };
        if let Err(error) = self.publish(&entry) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remember the KVM verdict");
        }
    }

    /// Two processes may do this at once: the last one wins, and both wrote a whole file.
    fn publish(&self, entry: &Entry) -> std::io::Result<()> {
        let text = serde_json::to_vec(entry)?;
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let draft = self
            .path
            .with_extension(format!("{}.draft", std::process::id()));
        fs::write(&draft, text)?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_believed_only_for_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::of_device(dir.path(), Path::new("/dev/null")).unwrap();
        assert_eq!(cache.read(), None);
        cache.write(&KvmVerdict::Real);
        assert_eq!(cache.read(), Some(KvmVerdict::Real));
        let other = Cache::of_device(dir.path(), Path::new("/dev/zero")).unwrap();
        assert_eq!(other.read(), None);
        fs::write(&cache.path, "{").unwrap();
        assert_eq!(cache.read(), None);
    }
}
