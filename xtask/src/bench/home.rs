//! A private home of banger's for the measurements, with a kernel and a busybox image.
//! Ends with its daemon; knows commands and times, not what they mean.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{BenchError, argv};

pub(super) const IMAGE: &str = "busybox";
pub(super) const DEBIAN: &str = "debian-bookworm";
pub(super) const KERNEL: &str = "debian-6.1";
const BUSYBOX: &str = "/bin/busybox";

/// The guests are small, so that neither side waits for memory, and boot, unless a measurement says
/// otherwise.
const CONFIG: &str = "\
default_image = \"busybox\"
fast_start = false

[vm_defaults]
vcpus = 1
memory = \"512M\"
disk_size = \"1G\"
";

/// Dropping it stops the daemon and removes everything.
#[derive(Debug)]
pub(super) struct Home {
    directory: TempDir,
    programs: PathBuf,
}

impl Home {
    /// Without a kernel and without images.
    pub(super) fn bare(programs: &Path) -> Result<Self, BenchError> {
        // Unix sockets have room for short paths only.
        let directory = tempfile::Builder::new()
            .prefix("bgb-")
            .rand_bytes(5)
            .tempdir_in("/tmp");
        let directory = directory.map_err(BenchError::file("make a directory in", "/tmp"))?;
        let home = Self {
            directory,
            programs: programs.to_owned(),
        };
        let config = home.path("config");
        fs::create_dir_all(&config)
            .and_then(|()| fs::write(config.join("config.toml"), CONFIG))
            .map_err(BenchError::file("write", config))?;
        Ok(home)
    }

    pub(super) fn make(programs: &Path, say: &mut dyn FnMut(&str)) -> Result<Self, BenchError> {
        let home = Self::bare(programs)?;
        say("kernel");
        home.banger(&["kernel", "pull", KERNEL])?;
        say("image");
        let tar = home.busybox_tar()?;
        home.banger(&["image", "import", IMAGE, &format!("tar:{}", tar.display())])?;
        Ok(home)
    }

    /// A path in the home.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// Runs banger to a good end and gives back what it printed.
    pub(super) fn banger(&self, args: &[&str]) -> Result<String, BenchError> {
        let output = run(self.command(args))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Seconds from the start of banger to its good end.
    pub(super) fn time(&self, args: &[&str]) -> Result<f64, BenchError> {
        let begin = Instant::now();
        let mut command = self.command(args);
        command.stdout(Stdio::null());
        run(command)?;
        Ok(begin.elapsed().as_secs_f64())
    }

    pub(super) fn json(&self, args: &[&str]) -> Result<Value, BenchError> {
        let text = self.banger(args)?;
        serde_json::from_str(&text).map_err(|_| output(args, "JSON"))
    }

    /// The daemon that runs now.
    pub(super) fn daemon(&self) -> Result<u64, BenchError> {
        let status = ["daemon", "status", "--json"];
        let pid = self.json(&status)?["pid"].as_u64();
        pid.ok_or_else(|| output(&status, "pid"))
    }

    /// The process of a VM that runs.
    pub(super) fn machine(&self, name: &str) -> Result<u64, BenchError> {
        let show = ["vm", "show", "--json", name];
        let pid = self.json(&show)?["pid"].as_u64();
        pid.ok_or_else(|| output(&show, "pid"))
    }

    /// The command line of a VM that runs.
    pub(super) fn command_line_of(&self, name: &str) -> Result<Vec<String>, BenchError> {
        let path = format!("/proc/{}/cmdline", self.machine(name)?);
        let words = fs::read(&path).map_err(BenchError::file("read", path))?;
        Ok(argv::split(&words))
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("banger"));
        command
            .args(args)
            .env("BANGER_HOME", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// A root file system of the host's static busybox, without an init.
    fn busybox_tar(&self) -> Result<PathBuf, BenchError> {
        let root = self.path("root");
        let make = |path: PathBuf| {
            fs::create_dir_all(&path).map_err(BenchError::file("make", path.clone()))
        };
        for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            make(root.join(directory))?;
        }
        let busybox = root.join("bin/busybox");
        fs::copy(BUSYBOX, &busybox).map_err(BenchError::file("copy", BUSYBOX))?;
        for applet in ["cat", "dd", "sh", "stat", "true"] {
            let link = root.join("bin").join(applet);
            symlink("busybox", &link).map_err(BenchError::file("make", link.clone()))?;
        }
        let tar = self.path("root.tar");
        let mut command = Command::new("tar");
        command.args(["--create", "--owner=0", "--group=0", "--directory"]);
        command.arg(&root).arg("--file").arg(&tar).arg(".");
        run(command)?;
        Ok(tar)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The machines first, then the daemon; a directory without them can go.
        if let Ok(names) = self.banger(&["ps", "-q"]) {
            let names: Vec<_> = names.lines().collect();
            if !names.is_empty() {
                let _ = self.banger(&[&["rm", "--force"], names.as_slice()].concat());
            }
        }
        let _ = self.banger(&["daemon", "stop"]);
    }
}

/// Runs a command to a good end.
pub(super) fn run(mut command: Command) -> Result<Output, BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|source| BenchError::Spawn { program, source })?;
    if output.status.success() {
        return Ok(output);
    }
    let words = command
        .get_args()
        .map(|arg| arg.to_string_lossy().into_owned());
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let command = [name.to_string_lossy().into_owned()]
        .into_iter()
        .chain(words);
    Err(BenchError::Failed {
        command: command.collect::<Vec<_>>().join(" "),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A command that printed something else than it should have.
pub(super) fn output(args: &[&str], wanted: &str) -> BenchError {
    BenchError::Output {
        command: format!("banger {}", args.join(" ")),
        wanted: wanted.to_owned(),
    }
}
