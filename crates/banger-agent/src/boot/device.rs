//! Owns finding block devices by their serial numbers, and waiting for them. Knows no file systems.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use banger_guest_proto::boot::DeviceRef;

const BLOCK_DIR: &str = "/sys/class/block";
/// A device that the VMM has shows up within milliseconds of its driver.
const PATIENCE: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(2);

/// A block device that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockDevice {
    name: String,
}

impl BlockDevice {
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        let text = fs::read_to_string(Path::new(BLOCK_DIR).join(&self.name).join("size"))?;
        let sectors: u64 = text.trim().parse().map_err(io::Error::other)?;
        Ok(sectors * 512)
    }
}

/// A device that did not appear.
#[derive(Debug, thiserror::Error)]
#[error("{wanted} did not appear within {} s; there are: {}", PATIENCE.as_secs(), present.join(", "))]
pub(super) struct NotFound {
    wanted: DeviceRef,
    present: Vec<String>,
}

/// Waits until the device is there. Nothing announces itself this early other than through a socket that costs more
/// than looking again.
pub(super) fn find(wanted: &DeviceRef) -> Result<BlockDevice, NotFound> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let devices = list(Path::new(BLOCK_DIR));
        if let Some((name, _)) = devices
            .iter()
            .find(|(name, serial)| is(wanted, name, serial))
        {
            let device = BlockDevice { name: name.clone() };
            // The node in /dev follows its entry in sysfs by an instant.
            if device.path().exists() {
                return Ok(device);
            }
        }
        if Instant::now() > deadline {
            return Err(NotFound {
                wanted: wanted.clone(),
                present: describe(&devices),
            });
        }
        thread::sleep(INTERVAL);
    }
}

fn is(wanted: &DeviceRef, name: &str, serial: &str) -> bool {
    match wanted {
        DeviceRef::Serial(wanted) => wanted.as_str() == serial,
        DeviceRef::Dev(wanted) => wanted.as_str() == name,
    }
}

/// All block devices: (name, serial number or nothing).
fn list(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut devices: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let serial = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
            Some((name, serial.trim().to_owned()))
        })
        .collect();
    devices.sort();
    devices
}

fn describe(devices: &[(String, String)]) -> Vec<String> {
    let real = devices
        .iter()
        .filter(|(name, _)| !name.starts_with("loop") && !name.starts_with("ram"));
    real.take(20)
        .map(|(name, serial)| match serial.as_str() {
            "" => name.clone(),
            serial => format!("{name} (serial {})", serial.escape_debug()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_serial_or_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for (name, serial) in [("vda", "base\n"), ("vdb", "disk")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("serial"), serial).unwrap();
        }
        fs::create_dir(dir.path().join("loop0")).unwrap();
        let devices = list(dir.path());
        let find = |text: &str| {
            let wanted = text.parse().unwrap();
            let found = devices
                .iter()
                .find(|(name, serial)| is(&wanted, name, serial));
            found.map(|(name, _)| name.as_str())
        };
        assert_eq!(find("serial:base"), Some("vda"));
        assert_eq!(find("serial:disk"), Some("vdb"));
        assert_eq!(find("/dev/vdb"), Some("vdb"));
        assert_eq!(find("serial:vda"), None);
        assert_eq!(
            describe(&devices),
            ["vda (serial base)", "vdb (serial disk)"]
        );
    }
}
