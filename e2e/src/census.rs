//! Counts the processes that belong to a home: those that were told of it, in their environment
//! or on their command line. Reads `/proc`; ends nothing.

use std::{fs, path::Path};

/// A process of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) pid: u32,
    /// Its command line for people.
    pub(crate) line: String,
}

impl Resident {
    /// Whether it is a virtual machine.
    pub(crate) fn is_vmm(&self) -> bool {
        let is = |program: &str| self.line.split(' ').next() == Some(program);
        self.line.contains("qemu-system")
            || is("/firecracker")
            || self.line.contains("/firecracker --id")
    }
}

/// Everything that lives in `home` now, this process excepted.
pub(crate) fn residents(home: &Path) -> Vec<Resident> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| resident(pid, home))
        .collect()
}

fn resident(pid: u32, home: &Path) -> Option<Resident> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}"));
    // A process that has ended, or is not ours to look at, has neither.
    let line = read("cmdline").ok().filter(|line| !line.is_empty())?;
    let environment = read("environ").unwrap_or_default();
    // A confined VMM has neither words nor environment that name the home, but its lock.
    let input = fs::read_link(format!("/proc/{pid}/fd/0")).unwrap_or_default();
    let belongs = belongs(&line, &environment, home) || input.starts_with(home);
    belongs.then(|| Resident {
        pid,
        line: words(&line),
    })
}

fn belongs(line: &[u8], environment: &[u8], home: &Path) -> bool {
    let home = home.as_os_str().as_encoded_bytes();
    let variable = [b"BANGER_HOME=", home].concat();
    let below = [home, b"/"].concat();
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == variable)
        || line.windows(below.len()).any(|window| window == below)
}

fn words(line: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(line).replace('\0', " ");
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resident_names_its_home() {
        let check = |line: &str, environment: &str, wanted: bool| {
            let home = Path::new("/tmp/bgr-1");
            let got = belongs(line.as_bytes(), environment.as_bytes(), home);
            assert_eq!(got, wanted, "{line:?} {environment:?}");
        };
        check("bangerd\0", "A=b\0BANGER_HOME=/tmp/bgr-1\0", true);
        check("qemu\0-drive\0file=/tmp/bgr-1/disk\0", "", true);
        check("bangerd\0", "BANGER_HOME=/tmp/bgr-12\0", false);
        check("qemu\0/tmp/bgr-12/disk\0", "", false);
        check("sh\0", "", false);
    }
}
