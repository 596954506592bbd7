//! The place of one story: a VM's directories, its plan, the real programs; and what must be
//! gone afterwards.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use banger_core::{
    host::{Accelerator, LaunchPlan, Machine, VmPlaces, VmmKind},
    host_error::{GuestError, HostError},
    journal::Unrecorded,
    name::VmId,
    spec::{Memory, Network},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    firecracker::{
        FirecrackerSettings,
        jail::{Item, outside},
        launch::{Start, Started, sweep},
        programs::Programs,
        walls::Walls,
    },
    lock::VmmLock,
    log_keeper::LogKeeper,
    machine::VmmMachine,
    places,
    qemu::args::tests::plan,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Set where no story of Firecracker may be left out.
const REQUIRED_VARIABLE: &str = "BANGER_TEST_REQUIRE_FIRECRACKER";

/// Whether this host can tell stories of Firecracker; says so where it cannot, and fails where it
/// is said to be able to.
pub(super) fn can_be_told() -> bool {
    let mut options = OpenOptions::new();
    match options.read(true).write(true).open("/dev/kvm") {
        Ok(_) => true,
        Err(error) => {
            assert!(
                std::env::var_os(REQUIRED_VARIABLE).is_none(),
                "{REQUIRED_VARIABLE} is set, so no story of Firecracker may be left out, but \
                 /dev/kvm cannot be opened: {error}"
            );
            eprintln!("SKIPPED: /dev/kvm cannot be opened: {error}");
            false
        }
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where `scripts/fetch-firecracker.sh` puts them.
pub(super) fn directory() -> PathBuf {
    let named = std::env::var_os("BANGER_TEST_FIRECRACKER_DIR").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache");
        cache
            .unwrap_or_else(home)
            .join("banger-test/firecracker-1.12.1")
    })
}

/// All confinements that this user can have here.
pub(super) fn all_walls() -> Vec<Walls> {
    if is_root() {
        vec![Walls::Jailer, Walls::Namespaces, Walls::Landlock]
    } else {
        vec![Walls::Namespaces, Walls::Landlock]
    }
}

/// One VM.
pub(super) struct Story {
    pub(super) plan: LaunchPlan,
    pub(super) settings: FirecrackerSettings,
    pub(super) programs: Programs,
    _directory: TempDir,
}

impl Story {
    /// A VM with this guest and no network.
    pub(super) fn of(guest: &[u8], walls: Walls) -> Self {
        let program = directory().join("firecracker");
        assert!(
            program.exists(),
            "the stories need {}: run scripts/fetch-firecracker.sh",
            program.display()
        );
        let settings = FirecrackerSettings {
            program: Some(program),
            ..FirecrackerSettings::default()
        };
        let found = Programs::find(&settings).unwrap();
        let directory = tempfile::Builder::new().prefix("fc-").tempdir().unwrap();
        Self {
            plan: own_plan(directory.path(), guest),
            settings,
            programs: Programs { walls, ..found },
            _directory: directory,
        }
    }

    pub(super) fn places(&self) -> &VmPlaces {
        &self.plan.places
    }

    /// Gives the VM's directory another place, below the one that it had.
    pub(super) fn move_state(&mut self, below: &str) {
        let state = self.places().state.join(below);
        fs::create_dir_all(&state).unwrap();
        let disk = self.places().disk();
        self.plan.places.state = state;
        fs::rename(disk, self.places().disk()).unwrap();
    }

    /// A start that is about to be made.
    pub(super) fn about_to_start(&self) -> Start<'_> {
        Start {
            plan: &self.plan,
            command_line: "quiet".into(),
            settings: &self.settings,
            programs: &self.programs,
            journal: &Unrecorded,
        }
    }

    pub(super) async fn start(&self) -> Result<Started, HostError> {
        let start = self.about_to_start();
        start.admit()?;
        start.run().await
    }

    /// Waits for the agent of a machine that was started, which these guests do not have.
    pub(super) async fn wait_for_agent(&self, started: Started) -> GuestError {
        let (process, note, control) = started;
        let keeper = LogKeeper::default();
        let machine = VmmMachine::new(self.places(), process, note, control, &keeper);
        let error = machine.connect(PATIENCE, None).await.map(drop).unwrap_err();
        machine.kill().await.unwrap();
        error
    }

    /// The machine's configuration, where the VMM will look for it.
    pub(super) fn configuration(&self) -> PathBuf {
        outside(self.places(), Item::Configuration)
    }

    /// Waits until the guest has said `word` on its console.
    pub(super) async fn heard(&self, word: &str) {
        self.heard_that(|text| text.contains(word)).await;
    }

    /// Waits until what the guest has said on its console is enough.
    pub(super) async fn heard_that(&self, is_enough: impl Fn(&str) -> bool) {
        let console = self.places().console();
        let heard = timeout(PATIENCE, async {
            while !fs::read_to_string(&console).is_ok_and(|text| is_enough(&text)) {
                sleep(Duration::from_millis(2)).await;
            }
        });
        if heard.await.is_err() {
            let said = fs::read_to_string(&console);
            panic!("what was waited for was not said: {said:?}");
        }
    }

    /// Removes what is left of a VMM that is gone, and fails if it cannot be.
    pub(super) async fn end(&self) {
        sweep(self.places(), &Unrecorded).await.unwrap();
        places::sweep(self.places()).unwrap();
        assert_eq!(self.left(), Vec::<String>::new());
    }

    /// All that tells of this VM, but its own disk and logs.
    pub(super) fn left(&self) -> Vec<String> {
        let id = self.places().id.short();
        let state = self.places().state.to_string_lossy().into_owned();
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let process = entry.path();
            let words = fs::read(process.join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            let input = fs::read_link(process.join("fd/0")).unwrap_or_default();
            if words.contains(&id) || input.starts_with(&state) {
                left.push(format!("process {} {words}", process.display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&id))
                .map(Into::into),
        );
        left.extend(groups(Path::new("/sys/fs/cgroup"), &id));
        for place in [
            self.places().state.join("jail"),
            self.places().state.join("groups"),
            self.places().runtime.clone(),
        ] {
            if place.exists() {
                left.push(place.display().to_string());
            }
        }
        left
    }
}

/// A story that fails leaves neither a VMM nor its groups.
impl Drop for Story {
    fn drop(&mut self) {
        let groups = self.places().state.join("groups");
        let groups = fs::read_to_string(groups).unwrap_or_default();
        let lock = VmmLock::open(&places::vmm_lock(self.places()));
        if let Ok(Some(lock)) = lock
            && let Ok(Some(pid)) = lock.holder()
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let deadline = Instant::now() + PATIENCE;
        for group in groups.lines() {
            while let Err(error) = fs::remove_dir(group)
                && error.kind() == ErrorKind::ResourceBusy
                && Instant::now() < deadline
            {
                std::thread::yield_now();
            }
        }
    }
}

fn groups(directory: &Path, id: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .flat_map(|entry| {
            let path = entry.path();
            let named = path.to_string_lossy().contains(id);
            let mut found = if named { Vec::new() } else { groups(&path, id) };
            found.extend(named.then(|| path.display().to_string()));
            found
        })
        .collect()
}

fn own_plan(directory: &Path, guest: &[u8]) -> LaunchPlan {
    let places = VmPlaces {
        id: VmId::random(),
        state: directory.join("state"),
        runtime: directory.join("run"),
    };
    fs::create_dir(&places.state).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let sectors = vec![0; 1 << 20];
    fs::write(places.disk(), &sectors).unwrap();
    LaunchPlan {
        vmm: VmmKind::Firecracker,
        accelerator: Accelerator::Kvm,
        kernel: file("vmlinux", guest),
        initramfs: file("initramfs", b"nobody reads this"),
        base: file("base.ext4", &sectors),
        memory: Memory::from_bytes(64 << 20).unwrap(),
        vcpus: 1.try_into().unwrap(),
        network: Network::None,
        places,
        ..plan()
    }
}
