//! Where a Firecracker lives: a place with the host's files in it, under names of its own, for a
//! user of its own. Makes and removes the place; starts nothing.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use banger_core::{
    host::{LaunchPlan, SnapshotPlaces, VmPlaces},
    host_error::HostError,
    name::VmId,
};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{pipes, saved, walls::Walls};
use crate::places::{file_error, remove};

/// What a Firecracker needs of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Kernel,
    Initramfs,
    /// Of a saved machine that goes on.
    Memory,
    Devices,
    Base,
    Disk,
    Configuration,
    Metadata,
    Log,
    Metrics,
    ApiSocket,
    AgentSocket,
    /// Where it writes its own machine's when that is saved.
    SavedMemory,
    SavedDevices,
}

/// The devices that it opens.
pub(super) const KVM: &str = "/dev/kvm";
pub(super) const TUN: &str = "/dev/net/tun";
pub(super) const URANDOM: &str = "/dev/urandom";

/// The place of one VMM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jail {
    pub(super) walls: Walls,
    pub(super) places: VmPlaces,
    /// Whether this process is root, and can give the VMM a user of its own.
    pub(super) as_root: bool,
}

impl Jail {
    pub(crate) fn new(places: &VmPlaces, walls: Walls) -> Self {
        Self {
            walls,
            places: places.clone(),
            as_root: rustix::process::geteuid().is_root(),
        }
    }

    /// The name by which jailer and Firecracker itself know the VM.
    pub(crate) fn id(&self) -> String {
        self.places.id.short()
    }

    /// The user that the VMM runs as, when it is not ours: one for each VM, of a range that
    /// no distribution gives away.
    pub(crate) fn user(&self) -> Option<u32> {
        match self.walls {
            Walls::Jailer | Walls::Namespaces => self.as_root.then(|| user_of(self.places.id)),
            Walls::Landlock => None,
        }
    }

    /// Where the jailer keeps its jails of this VM.
    pub(crate) fn base(&self) -> PathBuf {
        base(&self.places)
    }

    /// The VMM's root, seen from the host.
    pub(crate) fn root(&self) -> PathBuf {
        root(&self.places)
    }

    /// A path as the VMM sees it.
    pub(crate) fn inside(&self, item: Item, plan: &LaunchPlan) -> PathBuf {
        match self.walls {
            Walls::Jailer | Walls::Namespaces => inside(item).into(),
            Walls::Landlock => self.outside(item, plan),
        }
    }

    /// A path as the host sees it.
    pub(super) fn outside(&self, item: Item, plan: &LaunchPlan) -> PathBuf {
        match item {
            Item::Kernel => plan.kernel.clone(),
            Item::Initramfs => plan.initramfs.clone(),
            Item::Memory => saved_machine(plan).memory(),
            Item::Devices => saved_machine(plan).devices(),
            Item::Base => plan.base.clone(),
            Item::Disk => self.places.disk(),
            Item::Configuration
            | Item::Metadata
            | Item::Log
            | Item::Metrics
            | Item::ApiSocket
            | Item::AgentSocket
            | Item::SavedMemory
            | Item::SavedDevices => outside(&self.places, item),
        }
    }

    /// Writes a file that the VMM reads as it begins.
    pub(crate) fn leave(&self, item: Item, bytes: &[u8]) -> Result<(), HostError> {
        let path = outside(&self.places, item);
        let mut options = OpenOptions::new();
        let opened = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o400)
            .open(&path);
        let written = opened.and_then(|mut file| file.write_all(bytes));
        written.map_err(|source| file_error("write", &path, source))?;
        self.hand_over(&path)
    }

    /// Makes the place anew.
    pub(crate) fn prepare(&self, plan: &LaunchPlan, metrics: bool) -> Result<(), HostError> {
        sweep(&self.places)?;
        let run = match self.walls {
            Walls::Landlock => PathBuf::from("."),
            Walls::Jailer | Walls::Namespaces => {
                self.make_root(plan)?;
                self.root().join("run")
            }
        };
        let link = link(&self.places);
        symlink(&run, &link).map_err(|source| file_error("make", &link, source))?;
        let pipes = [Item::Log, Item::Metrics];
        for item in &pipes[..if metrics { 2 } else { 1 }] {
            let path = outside(&self.places, *item);
            pipes::make(&path).map_err(|source| file_error("make", &path, source))?;
            self.hand_over(&path)?;
        }
        for path in self
            .walls
            .keep_names()
            .then(|| self.saved())
            .into_iter()
            .flatten()
        {
            saved::make(&path).map_err(|source| file_error("make", &path, source))?;
            self.hand_over(&path)?;
        }
        Ok(())
    }

    /// The files for its own machine's state: they are there from the beginning, as what is made
    /// later is not within its fence.
    pub(super) fn saved(&self) -> [PathBuf; 2] {
        [Item::SavedMemory, Item::SavedDevices].map(|item| outside(&self.places, item))
    }

    fn make_root(&self, plan: &LaunchPlan) -> Result<(), HostError> {
        let root = self.root();
        let directories = ["", "run", saved::IN_MEMORY, "dev", "dev/net"];
        let wanted = match self.walls {
            // The jailer makes its own devices.
            Walls::Jailer => &directories[..3],
            Walls::Namespaces | Walls::Landlock => &directories[..],
        };
        for name in wanted {
            private_directory(&root.join(name))?;
            self.hand_over(&root.join(name))?;
        }
        for item in files(plan) {
            let path = root.join(below_root(item));
            File::create(&path).map_err(|source| file_error("make", &path, source))?;
            self.open_up(item, plan)?;
        }
        match self.walls {
            Walls::Namespaces => self.make_devices(&root),
            Walls::Jailer | Walls::Landlock => Ok(()),
        }
    }

    /// Targets for mounts, or nodes that the VMM's own user may open.
    fn make_devices(&self, root: &Path) -> Result<(), HostError> {
        let path = root.join("firecracker");
        File::create(&path).map_err(|source| file_error("make", &path, source))?;
        for (device, major, minor) in [(KVM, 10, 232), (TUN, 10, 200), (URANDOM, 1, 9)] {
            let path = root.join(device.trim_start_matches('/'));
            let made = if self.as_root {
                let mode = Mode::RUSR | Mode::WUSR;
                mknodat(
                    CWD,
                    &path,
                    FileType::CharacterDevice,
                    mode,
                    makedev(major, minor),
                )
                .map_err(Into::into)
            } else {
                File::create(&path).map(drop)
            };
            made.map_err(|source| file_error("make", &path, source))?;
            self.hand_over(&path)?;
        }
        Ok(())
    }

    /// Lets the VMM's user read what all VMs share, and own what is this VM's alone.
    fn open_up(&self, item: Item, plan: &LaunchPlan) -> Result<(), HostError> {
        if self.user().is_none() {
            return Ok(());
        }
        let path = self.outside(item, plan);
        if item == Item::Disk {
            return self.hand_over(&path);
        }
        let mode = fs::metadata(&path).map(|meta| meta.permissions().mode());
        let mode = mode.map_err(|source| file_error("look at", &path, source))?;
        if mode & 0o044 == 0o044 {
            return Ok(());
        }
        // The directories above keep everybody else out.
        fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777 | 0o044))
            .map_err(|source| file_error("open up", &path, source))
    }

    fn hand_over(&self, path: &Path) -> Result<(), HostError> {
        let Some(user) = self.user() else {
            return Ok(());
        };
        chown(path, Some(user), Some(user)).map_err(|source| file_error("give away", path, source))
    }
}

/// What lies in the directory of its own.
const OWN: [Item; 8] = [
    Item::Configuration,
    Item::Metadata,
    Item::Log,
    Item::Metrics,
    Item::ApiSocket,
    Item::AgentSocket,
    Item::SavedMemory,
    Item::SavedDevices,
];

/// What is mounted into the root: what boots, or what goes on.
pub(super) fn files(plan: &LaunchPlan) -> [Item; 4] {
    match plan.resume_from {
        None => [Item::Kernel, Item::Initramfs, Item::Base, Item::Disk],
        Some(_) => [Item::Memory, Item::Devices, Item::Base, Item::Disk],
    }
}

fn saved_machine(plan: &LaunchPlan) -> &SnapshotPlaces {
    let saved = plan.resume_from.as_ref();
    saved.expect("only a machine that goes on has a saved one's files")
}

/// A saved machine looks for everything under these names, so they stay as they are.
pub(super) fn inside(item: Item) -> &'static str {
    match item {
        Item::Kernel => "/vmlinux",
        Item::Initramfs => "/initramfs",
        Item::Memory => "/memory",
        Item::Devices => "/devices",
        Item::Base => "/base.ext4",
        Item::Disk => "/disk.ext4",
        Item::Configuration => "/run/machine.json",
        Item::Metadata => "/run/metadata.json",
        Item::Log => "/run/log",
        Item::Metrics => "/run/metrics",
        Item::ApiSocket => "/run/api.sock",
        Item::AgentSocket => "/run/agent.sock",
        Item::SavedMemory => "/run/saved.memory",
        Item::SavedDevices => "/run/saved.devices",
    }
}

pub(super) fn below_root(item: Item) -> &'static str {
    inside(item).trim_start_matches('/')
}

/// A path of the VMM's own directory, seen from the host: short enough for a socket wherever
/// the directory itself is.
pub(crate) fn outside(places: &VmPlaces, item: Item) -> PathBuf {
    let name = Path::new(inside(item)).file_name();
    link(places).join(name.expect("every item has a name"))
}

fn link(places: &VmPlaces) -> PathBuf {
    places.runtime.join("fc")
}

pub(crate) fn base(places: &VmPlaces) -> PathBuf {
    places.state.join("jail")
}

pub(crate) fn root(places: &VmPlaces) -> PathBuf {
    let id = places.id.short();
    base(places).join("firecracker").join(id).join("root")
}

/// Removes the place of a VMM that is gone.
pub(crate) fn sweep(places: &VmPlaces) -> Result<(), HostError> {
    for item in OWN {
        remove(&outside(places, item))?;
    }
    remove(&link(places))?;
    let base = base(places);
    match fs::remove_dir_all(&base) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(file_error("remove", &base, source)),
    }
}

/// 28 bits of the VM's id above the users that systems give to people, services, containers
/// and subordinate ranges.
fn user_of(id: VmId) -> u32 {
    const FIRST: u32 = 0x6000_0000;
    let [a, b, c, d, ..] = id.bytes();
    FIRST | (u32::from_be_bytes([a, b, c, d]) & 0x0fff_ffff)
}

fn private_directory(path: &Path) -> Result<(), HostError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|source| file_error("create", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::args::tests::plan;

    #[test]
    fn a_vmm_sees_short_names_and_the_host_finds_its_sockets() {
        let plan = plan();
        let jail = Jail::new(&plan.places, Walls::Jailer);
        assert_eq!(jail.inside(Item::Base, &plan), Path::new("/base.ext4"));
        assert_eq!(
            outside(&plan.places, Item::AgentSocket),
            Path::new("/run/vm/fc/agent.sock")
        );
        let fenced = Jail::new(&plan.places, Walls::Landlock);
        assert_eq!(fenced.inside(Item::Base, &plan), plan.base);
    }

    #[test]
    fn users_of_vms_are_far_from_those_of_people() {
        let check = |id: &str| {
            let user = user_of(id.parse().unwrap());
            assert!((0x6000_0000..0x7000_0000).contains(&user), "{user}");
        };
        check("00000000000000000000000000000000");
        check("ffffffffffffffffffffffffffffffff");
    }

    #[test]
    fn a_place_is_made_again_and_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = plan();
        plan.places.state = dir.path().join("state");
        plan.places.runtime = dir.path().join("run");
        fs::create_dir_all(&plan.places.state).unwrap();
        fs::create_dir_all(&plan.places.runtime).unwrap();
        for file in [&mut plan.kernel, &mut plan.initramfs, &mut plan.base] {
            *file = dir.path().join(file.file_name().unwrap());
            fs::write(file, "").unwrap();
        }
        fs::write(plan.places.disk(), "").unwrap();
        let jail = Jail::new(&plan.places, Walls::Jailer);
        for _ in 0..2 {
            jail.prepare(&plan, true).unwrap();
            assert!(outside(&plan.places, Item::Log).exists());
            assert!(jail.root().join("vmlinux").exists());
        }
        for _ in 0..2 {
            sweep(&plan.places).unwrap();
            assert!(!jail.base().exists());
            assert_eq!(fs::read_dir(&plan.places.runtime).unwrap().count(), 0);
        }
    }
}
