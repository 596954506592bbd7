//! The world of one story: a home with a kernel and images, and what a story asks of it.
//! Knows what banger prints; never how it does what it does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use banger_api::{
    daemon::DaemonStatus,
    image::{Image, PulledImage},
    vm::{Vm, VmState},
};

use crate::{
    command::Call,
    home::Home,
    outcome::Outcome,
    shared::{self, Stock},
    terminal::Terminal,
    workbench::KernelUnderTest,
};

/// The kernel of every world but an empty one.
pub const KERNEL: &str = "debian-6.1";
/// The image of these worlds that a VM gets unless it asks for another.
pub const BUSYBOX: &str = "busybox";
/// An image that has one program.
pub const ONE_BINARY: &str = "one-binary";
/// The image that a user gets who asks for none.
pub const DEBIAN: &str = "debian-bookworm";

/// Small guests: two stories at a time share two cores and little memory. Each boots: what goes on from
/// another's boot is a story of its own.
const SMALL_GUESTS: &str = "\
default_image = \"busybox\"
vm_defaults.vcpus = 1
vm_defaults.memory = \"256M\"
vm_defaults.disk_size = \"1G\"
fast_start = false
";

/// A private home with a daemon of its own, which starts with the first command.
#[derive(Debug)]
pub struct World {
    home: Home,
}

impl World {
    /// A world with a kernel and the two small images.
    #[must_use]
    pub fn new() -> Self {
        Self::stocked(Stock::Small)
    }

    /// A world that has the default image, too. The first one takes a while.
    #[must_use]
    pub fn with_debian() -> Self {
        Self::stocked(Stock::Debian)
    }

    /// A world that has the image with tools in it, and the kernel that is to be tried.
    #[must_use]
    pub fn with_workbench() -> Self {
        let world = Self::stocked(Stock::Workbench);
        KernelUnderTest::bring(&world);
        world
    }

    /// A world with the small images, and the kernel that is to be tried.
    #[must_use]
    pub fn with_kernel_under_test() -> Self {
        let world = Self::new();
        KernelUnderTest::bring(&world);
        world
    }

    /// A world in which nothing is there.
    #[must_use]
    pub fn empty() -> Self {
        let world = Self { home: Home::new() };
        world.configure(SMALL_GUESTS);
        world
    }

    fn stocked(stock: Stock) -> Self {
        let world = Self::empty();
        shared::fill(&world.home, stock);
        world
    }

    /// Writes the whole configuration file; the next daemon reads it.
    pub fn configure(&self, text: &str) {
        let directory = self.home().join("config");
        let written = fs::create_dir_all(&directory)
            .and_then(|()| fs::write(directory.join("config.toml"), text));
        written.expect("the home is writable");
    }

    /// Adds to the configuration file.
    pub fn configure_also(&self, text: &str) {
        self.configure(&format!("{SMALL_GUESTS}{text}\n"));
    }

    /// What `BANGER_HOME` is.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A path in the state directory.
    #[must_use]
    pub fn state(&self, path: &str) -> PathBuf {
        self.home().join("state").join(path)
    }

    /// Runs `banger` with these arguments to its end.
    #[track_caller]
    #[must_use]
    pub fn banger<const N: usize>(&self, args: [&str; N]) -> Outcome {
        self.call(args).run()
    }

    /// `banger` with these arguments, not started yet.
    #[must_use]
    pub fn call<const N: usize>(&self, args: [&str; N]) -> Call {
        self.call_with(&args)
    }

    /// The same for arguments that are put together first.
    #[must_use]
    pub fn call_with(&self, args: &[&str]) -> Call {
        self.home.banger(args)
    }

    /// `bangerd` itself, as a service manager would start it.
    #[must_use]
    pub fn daemon_call(&self) -> Call {
        self.home.bangerd()
    }

    /// A line of shell in which `banger` is this world's.
    #[must_use]
    pub fn shell(&self, line: &str) -> Call {
        self.home.shell(line)
    }

    /// Runs `banger` on a terminal of 100 columns and 30 rows.
    #[track_caller]
    #[must_use]
    pub fn terminal<const N: usize>(&self, args: [&str; N]) -> Terminal {
        Terminal::open(&self.home.command(&args), 100, 30)
    }

    /// Makes a VM of the busybox image and starts it.
    #[track_caller]
    pub fn start(&self, name: &str) {
        let created = self.banger(["vm", "create", "--name", name]);
        created.ok().stdout(format!("{name}\n"));
    }

    /// Runs a line of the guest's shell and gives back what it printed.
    #[track_caller]
    #[must_use]
    pub fn guest(&self, vm: &str, line: &str) -> String {
        self.banger(["exec", vm, "--", "sh", "-c", line])
            .ok()
            .text()
    }

    #[track_caller]
    #[must_use]
    pub fn vm(&self, target: &str) -> Vm {
        self.banger(["vm", "show", "--json", target]).ok().json()
    }

    #[track_caller]
    #[must_use]
    pub fn vms(&self) -> Vec<Vm> {
        self.banger(["vm", "list", "--json"]).ok().json()
    }

    #[track_caller]
    #[must_use]
    pub fn state_of(&self, target: &str) -> VmState {
        self.vm(target).state
    }

    /// The guest kernel's own word for which boot this is.
    #[track_caller]
    #[must_use]
    pub fn boot_id(&self, vm: &str) -> String {
        self.guest(vm, "cat /proc/sys/kernel/random/boot_id")
    }

    #[track_caller]
    #[must_use]
    pub fn image(&self, name: &str) -> Image {
        self.banger(["image", "show", "--json", name]).ok().json()
    }

    /// Pulls an image, and gives what the last line of JSON says of it.
    #[track_caller]
    #[must_use]
    pub fn pull(&self, args: &[&str]) -> PulledImage {
        let args = [&["image", "pull", "--json"], args].concat();
        let text = self.call_with(&args).run().ok().text();
        let last = text.lines().last().expect("a pull prints lines");
        let done: serde_json::Value = serde_json::from_str(last).expect("a line of JSON");
        serde_json::from_value(done["done"].clone()).expect("the last line is the image")
    }

    /// How many files there are below a directory of the state, in any depth.
    #[must_use]
    pub fn files_below(&self, path: &str) -> usize {
        let mut directories = vec![self.state(path)];
        let mut files = 0;
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                    Ok(_) | Err(_) => files += 1,
                }
            }
        }
        files
    }

    #[track_caller]
    #[must_use]
    pub fn daemon(&self) -> DaemonStatus {
        self.banger(["daemon", "status", "--json"]).ok().json()
    }

    /// The processes of this world that are virtual machines.
    #[must_use]
    pub fn machines(&self) -> Vec<u32> {
        let residents = self.home.residents();
        let machines = residents.iter().filter(|resident| resident.is_vmm());
        machines.map(|machine| machine.pid).collect()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
