//! Measures Firecracker under banger beside Firecracker started by hand: the time to a guest's
//! first instructions, the VMM's own memory, and what many starts and kills leave behind.
//! `cargo xtask bench vmm` runs it. Owns the measurement; judges nothing.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "printing is its output")]

#[path = "../src/firecracker/contract/guest.rs"]
#[allow(dead_code, reason = "the stories need more guests than the bench")]
mod guest;

use std::{
    error::Error,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use banger_core::{
    host::{Accelerator, Host, LaunchPlan, Machine, VmPlaces, VmmKind},
    name::VmId,
    spec::{Init, Memory, Network},
};
use banger_host::{FirecrackerSettings, HostConfig, LinuxHost};

const MIB: u64 = 1 << 20;
const GUEST_MIB: u64 = 64;
/// How often the console is looked at: a fraction of what is measured.
const LOOK: Duration = Duration::from_micros(50);

type Failure = Box<dyn Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().ok_or("usage: bench_vmm FIRECRACKER [PAIRS]")?);
    let pairs: usize = args.next().map_or(Ok(40), |text| text.parse())?;
    let bench = Bench::new(program)?;
    let before = Census::take();
    let figures = bench.pairs(pairs).await?;
    figures.print();
    let starts = 200_usize.saturating_sub(pairs);
    for _ in 0..starts {
        let (machine, places) = bench.launch().await?;
        bench.end(machine, &places).await?;
    }
    let after = Census::take();
    println!("left behind by {} starts and kills:", starts + pairs);
    for (name, before, after) in before.beside(&after) {
        println!("  {name:<12} {before} before, {after} after");
    }
    Ok(())
}

struct Bench {
    directory: tempfile::TempDir,
    host: LinuxHost,
    program: PathBuf,
}

/// Milliseconds and bytes, one for each pair.
#[derive(Default)]
struct Figures {
    banger: Vec<f64>,
    by_hand: Vec<f64>,
    overhead: Vec<f64>,
}

impl Bench {
    fn new(program: PathBuf) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("bgr-bench-").tempdir()?;
        fs::write(directory.path().join("vmlinux"), guest::waiting())?;
        fs::write(directory.path().join("initramfs"), "nobody reads this")?;
        fs::write(directory.path().join("base.ext4"), vec![0; 1 << 20])?;
        let host = LinuxHost::new(HostConfig {
            firecracker: FirecrackerSettings {
                program: Some(program.clone()),
                allow_emulated_kvm: true,
                ..FirecrackerSettings::default()
            },
            cache: directory.path().join("cache"),
            ..HostConfig::default()
        });
        Ok(Self {
            directory,
            host,
            program,
        })
    }

    /// Both sides alternate, as shared cores change their speed.
    async fn pairs(&self, count: usize) -> Result<Figures, Failure> {
        let mut figures = Figures::default();
        // The first start reads the programs from the disk.
        self.by_hand()?;
        for _ in 0..count {
            figures.by_hand.push(self.by_hand()?);
            let (took, overhead) = self.banger().await?;
            figures.banger.push(took);
            figures.overhead.push(overhead);
        }
        Ok(figures)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The shortest way to a guest that Firecracker has.
    fn by_hand(&self) -> Result<f64, Failure> {
        let config = self.path("config.json");
        let kernel = self.path("vmlinux");
        let text = format!(
            r#"{{"boot-source":{{"kernel_image_path":"{}","boot_args":"quiet"}},"drives":[],
            "machine-config":{{"vcpu_count":1,"mem_size_mib":{GUEST_MIB}}}}}"#,
            kernel.display()
        );
        fs::write(&config, text)?;
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
        if said.contains("up") {
            return Ok(took.as_secs_f64() * 1e3);
        }
        Err(format!("the guest by hand said {said:?}").into())
    }

    async fn banger(&self) -> Result<(f64, f64), Failure> {
        let begun = Instant::now();
        let (machine, places) = self.launch().await?;
        while !fs::read_to_string(places.console())?.contains("up") {
            tokio::time::sleep(LOOK).await;
        }
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let overhead = overhead(machine.process().pid)?;
        self.end(machine, &places).await?;
        Ok((took, overhead))
    }

    async fn launch(&self) -> Result<(Arc<dyn Machine>, VmPlaces), Failure> {
        let id = VmId::random();
        let places = VmPlaces {
            id,
            state: self.path(&id.short()),
            runtime: self.path(&format!("{}.run", id.short())),
        };
        fs::create_dir(&places.state)?;
        fs::write(places.disk(), vec![0; 1 << 20])?;
        let plan = LaunchPlan {
            places: places.clone(),
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
            network: Network::None,
            init: Init::Auto,
        };
        Ok((self.host.launch(&plan).await?, places))
    }

    async fn end(&self, machine: Arc<dyn Machine>, places: &VmPlaces) -> Result<(), Failure> {
        machine.kill().await?;
        drop(machine);
        // A group stays for as long as the kernel takes to forget its last process.
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Err(error) = self.host.sweep(places).await {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            tokio::time::sleep(LOOK).await;
        }
        fs::remove_dir_all(&places.state)?;
        Ok(())
    }
}

impl Figures {
    fn print(&self) {
        let (banger, by_hand) = (median(&self.banger), median(&self.by_hand));
        let overhead = median(&self.overhead);
        println!(
            "start to the guest's first instructions, median of {}:",
            self.banger.len()
        );
        println!("  banger       {banger:.1} ms");
        println!("  by hand      {by_hand:.1} ms");
        println!(
            "  difference   {:.1} ms (goal: at most 20 ms)",
            banger - by_hand
        );
        println!("memory of the VMM beside its guest's: {overhead:.1} MiB (goal: at most 5 MiB)");
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
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

/// What a start makes of the host's things, counted.
struct Census([(&'static str, usize); 5]);

impl Census {
    fn take() -> Self {
        let lines = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let groups = lines("/proc/self/mounts");
        let groups = groups.lines().filter(|line| line.contains(" cgroup"));
        let own = groups
            .filter_map(|line| line.split(' ').nth(1))
            .filter_map(|mount| fs::read_dir(Path::new(mount)).ok())
            .flat_map(Iterator::flatten)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("banger-"));
        Self([
            ("processes", processes()),
            ("namespaces", namespaces()),
            ("mounts", lines("/proc/self/mounts").lines().count()),
            ("groups", own.count()),
            (
                "descriptors",
                fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            ),
        ])
    }

    fn beside<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = (&'static str, usize, usize)> + 'a {
        let both = self.0.iter().zip(&after.0);
        both.map(|((name, before), (_, after))| (*name, *before, *after))
    }
}

fn all_processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .map(|entry| entry.path())
}

/// Firecrackers and uplinks.
fn processes() -> usize {
    let name = |process: PathBuf| fs::read_to_string(process.join("comm")).unwrap_or_default();
    let ours = ["firecracker", "jailer", "slirp4netns"];
    all_processes()
        .filter(|process| ours.contains(&name(process.clone()).trim()))
        .count()
}

/// Network and PID namespaces that processes live in.
fn namespaces() -> usize {
    let spaces: std::collections::BTreeSet<_> = all_processes()
        .flat_map(|process| ["net", "pid"].map(|kind| process.join("ns").join(kind)))
        .filter_map(|link| fs::read_link(link).ok())
        .collect();
    spaces.len()
}
