//! Both sides of the comparison: the same machine under banger, and by hand.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use banger_core::{
    host::{Accelerator, Host, LaunchPlan, Machine, VmPlaces, VmmKind},
    journal::Unrecorded,
    name::VmId,
    spec::{Init, Memory, Network},
};
use banger_host::{FirecrackerSettings, HostConfig, LinuxHost};

use crate::{Failure, guest};

const MIB: u64 = 1 << 20;
const GUEST_MIB: u64 = 64;
/// How often the console is looked at: a fraction of what is measured.
const LOOK: Duration = Duration::from_micros(50);

/// What stands around the VMM.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Confined {
    /// As well as this user can.
    Best,
    /// Without the jailer.
    Namespaces,
}

/// What was measured of one start under banger.
pub(crate) struct Start {
    pub(crate) milliseconds: f64,
    /// Of the VMM, in MiB.
    pub(crate) overhead: f64,
}

pub(crate) struct Bench {
    directory: tempfile::TempDir,
    best: LinuxHost,
    unjailed: LinuxHost,
    program: PathBuf,
}

impl Bench {
    pub(crate) fn new(program: PathBuf) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("bgr-bench-").tempdir()?;
        fs::write(directory.path().join("vmlinux"), guest::waiting())?;
        fs::write(directory.path().join("initramfs"), "nobody reads this")?;
        fs::write(directory.path().join("base.ext4"), vec![0; 1 << 20])?;
        let host = |jailer: Option<&str>| {
            LinuxHost::new(HostConfig {
                firecracker: FirecrackerSettings {
                    program: Some(program.clone()),
                    jailer: jailer.map(Into::into),
                    allow_emulated_kvm: true,
                    ..FirecrackerSettings::default()
                },
                cache: directory.path().join("cache"),
                ..HostConfig::default()
            })
        };
        Ok(Self {
            best: host(None),
            unjailed: host(Some("/nonexistent/jailer")),
            directory,
            program,
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The shortest way to the same machine that Firecracker has, a network left out.
    pub(crate) fn by_hand(&self) -> Result<f64, Failure> {
        let (config, disk, socket) = (
            self.path("config.json"),
            self.path("disk"),
            self.path("sock"),
        );
        fs::write(&disk, vec![0; 1 << 20])?;
        fs::write(&config, self.machine(&disk, &socket))?;
        let begun = Instant::now();
        let mut child = Command::new(&self.program)
            .args(["--no-api", "--level", "Off", "--config-file"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut said = String::new();
        let mut output = child.stdout.take().ok_or("its output is a pipe")?;
        let mut byte = [0];
        while !said.contains("up") && output.read(&mut byte)? > 0 {
            said.push(byte[0].into());
        }
        let took = begun.elapsed();
        child.kill()?;
        child.wait()?;
        fs::remove_file(&socket)?;
        if said.contains("up") {
            return Ok(took.as_secs_f64() * 1e3);
        }
        Err(format!("the guest by hand said {said:?}").into())
    }

    fn machine(&self, disk: &Path, socket: &Path) -> String {
        let drive = |id: &str, path: &Path, is_read_only: bool| {
            serde_json::json!({
                "drive_id": id, "path_on_host": path, "is_root_device": false,
                "is_read_only": is_read_only,
            })
        };
        let machine = serde_json::json!({
            "machine-config": {"vcpu_count": 1, "mem_size_mib": GUEST_MIB},
            "boot-source": {
                "kernel_image_path": self.path("vmlinux"),
                "initrd_path": self.path("initramfs"),
                "boot_args": "quiet",
            },
            "drives": [drive("base", &self.path("base.ext4"), true), drive("disk", disk, false)],
            "vsock": {"guest_cid": 3, "uds_path": socket},
            "entropy": {},
            "balloon": {"amount_mib": 0, "deflate_on_oom": true},
        });
        machine.to_string()
    }

    /// Starts a machine, times it, looks at its memory, and removes all of it.
    pub(crate) async fn banger(
        &self,
        confined: Confined,
        network: Network,
    ) -> Result<Start, Failure> {
        let host = match confined {
            Confined::Best => &self.best,
            Confined::Namespaces => &self.unjailed,
        };
        let plan = self.plan(network)?;
        let begun = Instant::now();
        let up = tokio::spawn(said_up(plan.places.console(), begun));
        let machine = host.launch(&plan, &Unrecorded).await?;
        let milliseconds = up.await??;
        let overhead = overhead(machine.process().pid)?;
        end(host, machine, &plan.places).await?;
        Ok(Start {
            milliseconds,
            overhead,
        })
    }

    fn plan(&self, network: Network) -> Result<LaunchPlan, Failure> {
        let id = VmId::random();
        let places = VmPlaces {
            id,
            state: self.path(&id.short()),
            runtime: self.path(&format!("{}.run", id.short())),
        };
        fs::create_dir(&places.state)?;
        fs::write(places.disk(), vec![0; 1 << 20])?;
        Ok(LaunchPlan {
            places,
            name: "bench".parse()?,
            vmm: VmmKind::Firecracker,
            accelerator: Accelerator::Kvm,
            kernel: self.path("vmlinux"),
            initramfs: self.path("initramfs"),
            timer_hz: None,
            kernel_args: Vec::new(),
            base: self.path("base.ext4"),
            vcpus: 1.try_into()?,
            memory: Memory::from_bytes(GUEST_MIB * MIB)?,
            network,
            init: Init::Auto,
            resume_from: None,
            yields: false,
        })
    }
}

/// Milliseconds until the guest has said its word.
async fn said_up(console: PathBuf, begun: Instant) -> io::Result<f64> {
    const PATIENCE: Duration = Duration::from_secs(10);
    while !fs::read_to_string(&console).is_ok_and(|said| said.contains("up")) {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other("the guest says nothing"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

async fn end(
    host: &LinuxHost,
    machine: Arc<dyn Machine>,
    places: &VmPlaces,
) -> Result<(), Failure> {
    machine.kill().await?;
    drop(machine);
    host.sweep(places, &Unrecorded).await?;
    Ok(fs::remove_dir_all(&places.state)?)
}

/// What a process has in memory, without the mapping that is its guest's memory, in MiB.
fn overhead(pid: u32) -> Result<f64, Failure> {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let (mut size, mut total) = (0, 0);
    for line in maps.lines() {
        if let Some(value) = kib(line, "Size:") {
            size = value;
        } else if let Some(value) = kib(line, "Pss:")
            && size < GUEST_MIB * 1024
        {
            total += value;
        }
    }
    Ok(total as f64 / 1024.0)
}

fn kib(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix(name)?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()
}
