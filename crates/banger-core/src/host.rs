//! The port through which the domain acts on Linux. One implementation is `banger-host`,
//! another is the fake of the tests. Declares; does nothing.

use std::{
    io::Read,
    net::IpAddr,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    exec::{ExecRequest, ExecStream},
    host_error::{GuestError, HostError},
    journal::{Act, Journal},
    name::{VmId, VmName},
    spec::{Init, Memory, Network, Vcpus, VmSpec},
};

/// Which program runs the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmmKind {
    Qemu,
    Firecracker,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    Tcg,
}

impl VmmKind {
    /// The word in rows, documents and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Firecracker => "firecracker",
        }
    }
}

impl VmmKind {
    /// Whether a disk can become larger while a guest runs.
    #[must_use]
    pub fn grows_disks(self) -> bool {
        match self {
            Self::Qemu => true,
            Self::Firecracker => false,
        }
    }
}

impl Accelerator {
    /// The word in rows, documents and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What is chosen for a new VM, and why, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmmChoice {
    pub vmm: VmmKind,
    pub accelerator: Accelerator,
    pub reason: String,
}

/// What keeps a VMM that its guest has taken over from the rest of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// A filter of system calls.
    Seccomp,
    /// Firecracker's own jailer: a user, a root and namespaces of its own, limited resources.
    Jailer,
    /// Namespaces and a root of its own, made by banger.
    Namespaces,
    /// No new privileges, and a fence around its files.
    Landlock,
}

impl Confinement {
    /// The word in rows, documents and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Jailer => "jailer",
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
        }
    }
}

/// What a VMM gave its machine when it began, and keeps to whatever is asked for meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    pub vcpus: Vcpus,
    pub memory: Memory,
    pub network: Network,
}

impl Built {
    #[must_use]
    pub fn of(plan: &LaunchPlan) -> Self {
        Self {
            vcpus: plan.vcpus,
            memory: plan.memory,
            network: plan.network,
        }
    }

    /// What was asked for, as far as it holds now.
    #[must_use]
    pub fn holds(self, spec: &VmSpec) -> VmSpec {
        VmSpec {
            vcpus: self.vcpus,
            memory: self.memory,
            network: self.network,
            ..spec.clone()
        }
    }
}

/// The running VMM of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmmProcess {
    pub vmm: VmmKind,
    pub accelerator: Accelerator,
    pub pid: u32,
    pub confinement: Confinement,
    /// What the guest's kernel was told.
    pub command_line: String,
    /// Nobody knows it of one that an earlier version began.
    pub built: Option<Built>,
    /// It went on from a saved machine.
    pub copy: bool,
}

/// The directories of one VM. All that the VMM needs to be found again is in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPlaces {
    pub id: VmId,
    /// Durable: disk, console log, VMM log, lock.
    pub state: PathBuf,
    /// Sockets, gone after a reboot of the host.
    pub runtime: PathBuf,
}

impl VmPlaces {
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.state.join("disk.ext4")
    }

    /// The guest's serial console, bounded.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.state.join("console.log")
    }

    /// What the VMM itself printed.
    #[must_use]
    pub fn vmm_log(&self) -> PathBuf {
        self.state.join("vmm.log")
    }
}

/// The files of a saved machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPlaces {
    pub directory: PathBuf,
}

impl SnapshotPlaces {
    /// The guest's memory from its first byte to its last, with holes where it is zero. Machines
    /// that go on from it map it, each for itself.
    #[must_use]
    pub fn memory(&self) -> PathBuf {
        self.directory.join("memory")
    }

    /// Processors and devices, in the VMM's own format.
    #[must_use]
    pub fn devices(&self) -> PathBuf {
        self.directory.join("devices")
    }

    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.ext4")
    }
}

/// What a machine's state is bound to: it goes on only where all of this is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub vmm: VmmKind,
    pub accelerator: Accelerator,
    /// The VMM's own word for its release.
    pub version: String,
    /// What the guest believes its processor to be.
    pub processor: String,
    /// How fast the guest's clock source counts; its kernel was told at its boot.
    pub clock_khz: u64,
}

/// Who a guest is to be that goes on from a saved state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub id: VmId,
    pub name: VmName,
    /// Whether that state was its own: it is nobody's copy then.
    pub same: bool,
}

/// Everything that the host needs to know to start a machine. Pure data: the same plan
/// gives the same VMM command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlan {
    pub places: VmPlaces,
    pub name: VmName,
    pub vmm: VmmKind,
    pub accelerator: Accelerator,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// The kernel's timer frequency, where it is known.
    pub timer_hz: Option<u32>,
    /// Words that the kernel's manifest asks for.
    pub kernel_args: Vec<String>,
    /// The image, an ext4 file shared read-only.
    pub base: PathBuf,
    pub vcpus: Vcpus,
    pub memory: Memory,
    pub network: Network,
    pub init: Init,
    /// The saved machine that goes on; where there is none, the kernel boots.
    pub resume_from: Option<SnapshotPlaces>,
    /// Nobody waits for it: what else the host has to do goes first.
    pub yields: bool,
}

/// A root file system to be built by mmdebstrap from Debian's archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianRoot {
    pub suite: String,
    /// One-line sources, in apt's `sources.list` notation.
    pub sources: Vec<String>,
    pub packages: Vec<String>,
}

/// A tar stream that a program of the host writes. Dropping it ends the program.
pub trait RootTar: Read + Send {
    /// To be called at the stream's end: whether the program was content with its work.
    fn finish(self: Box<Self>) -> Result<(), HostError>;

    /// What the program said last, as it works; ends with the program. Says nothing unless
    /// the implementation does.
    fn progress(&self) -> watch::Receiver<String> {
        watch::channel(String::new()).1
    }

    /// Ends the program when called, from any thread; the stream then ends early.
    fn stopper(&self) -> Box<dyn FnOnce() + Send>;
}

/// One row of `banger doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub detail: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// What only the host can do.
#[async_trait]
pub trait Host: Send + Sync {
    /// Which VMM a new machine gets here; an error says what is missing.
    async fn choose_vmm(&self, wanted: Option<VmmKind>) -> Result<VmmChoice, HostError>;

    /// Refuses what cannot work (memory, space, socket paths) before anything is created.
    async fn admit(&self, plan: &LaunchPlan) -> Result<(), HostError>;

    /// What a launch makes, in its order. Makes nothing.
    async fn acts(
        &self,
        places: &VmPlaces,
        vmm: VmmKind,
        network: Network,
    ) -> Result<Vec<Act>, HostError>;

    /// Starts the VMM in a session of its own; returns as soon as its process runs. Each act is in
    /// the journal before it is done.
    async fn launch(
        &self,
        plan: &LaunchPlan,
        journal: &dyn Journal,
    ) -> Result<Arc<dyn Machine>, HostError>;

    /// Finds a machine that an earlier daemon started, if its VMM is still alive, and gives it
    /// what that daemon had no time to give.
    async fn adopt(
        &self,
        places: &VmPlaces,
        journal: &dyn Journal,
    ) -> Result<Option<Arc<dyn Machine>>, HostError>;

    /// Removes what a dead machine left behind: sockets, locks, the runtime directory. Strikes
    /// all that a launch wrote into the journal.
    async fn sweep(&self, places: &VmPlaces, journal: &dyn Journal) -> Result<(), HostError>;

    /// What a machine's state would be bound to here.
    async fn binding(&self, vmm: VmmKind, accelerator: Accelerator) -> Result<Binding, HostError>;

    /// What of this host's configuration is in each machine that boots, in words that nobody reads.
    fn flavour(&self, _: VmmKind) -> String {
        String::new()
    }

    /// Copies a file with its holes, sharing its blocks where the file system can. Gives back how
    /// many bytes the copy takes on its own.
    async fn copy_sparse(&self, from: &Path, to: &Path) -> Result<u64, HostError>;

    /// Starts to build a Debian root file system, as root or as an ordinary user.
    fn debian_root(&self, root: &DebianRoot) -> Result<Box<dyn RootTar>, HostError>;

    /// Asks a credential helper what it keeps for a server, in the helper's own words. Knows no
    /// helper unless the implementation does.
    async fn credential(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(None)
    }

    /// What a VMM that runs uses; nothing where it has just ended. Knows nothing unless the
    /// implementation does.
    async fn usage(&self, _: &VmPlaces, _: &VmmProcess) -> Option<VmmUsage> {
        None
    }

    /// How much room there is where a path is or will be. Endless unless the implementation knows.
    fn space(&self, _: &Path) -> Result<Space, HostError> {
        Ok(Space::ENDLESS)
    }

    /// How much memory could be taken without anybody's harm, in bytes. Endless unless the implementation
    /// knows.
    fn spare_memory(&self) -> u64 {
        u64::MAX
    }

    /// Refuses what would take the last of the room where a path is or will be.
    fn has_room(&self, path: &Path, wanted: u64) -> Result<(), HostError> {
        let Space { free, reserve, .. } = self.space(path)?;
        if free < wanted.saturating_add(reserve) {
            return Err(HostError::Space {
                path: path.to_owned(),
                wanted,
                available: free,
                reserve,
            });
        }
        Ok(())
    }

    /// Where on its device those blocks of a file are that another file has, too. None unless the
    /// implementation knows.
    fn shared_blocks(&self, _: &Path) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// Which start of the host this is, where it can be told.
    fn boot_id(&self) -> Option<String> {
        None
    }

    /// What of our making is left on this host that belongs to none of these VMs, and that nobody uses.
    /// Finds nothing unless the implementation does.
    fn strays(&self, _: &[VmId]) -> Vec<Act> {
        Vec::new()
    }

    /// Removes something that was found so.
    fn remove_stray(&self, _: &Act) -> Result<(), HostError> {
        Ok(())
    }

    /// The host's part of `banger doctor`; changes nothing.
    async fn checks(&self, state: &Path) -> Vec<Check>;
}

/// A machine whose VMM runs, or has run.
#[async_trait]
pub trait Machine: Send + Sync {
    fn process(&self) -> VmmProcess;

    /// Waits until the VMM is gone; may be called often, also afterwards.
    async fn exited(&self) -> VmmExit;

    /// Connects to the agent and agrees on a generation. Returns early with
    /// [`HostError::VmmExited`] when the VMM dies first. Calling it again replaces the
    /// earlier connection.
    /// With an identity the guest is another's copy: who it is to be is said with the first words,
    /// and [`Guest::assume`] does the rest.
    async fn connect(
        &self,
        patience: Duration,
        identity: Option<&Identity>,
    ) -> Result<Arc<dyn Guest>, GuestError>;

    /// Waits until the VMM has stopped the guest by itself, because something of it could not be written.
    /// Says nothing of it unless the implementation does.
    async fn halted(&self) -> Halt {
        std::future::pending().await
    }

    /// Stops the guest's processors; its memory stays as it is.
    async fn pause(&self) -> Result<(), HostError>;

    /// Gives the machine's own disk so many bytes while the guest runs. Not every VMM can.
    async fn grow_disk(&self, bytes: u64) -> Result<(), HostError>;

    /// Lets a paused guest go on.
    async fn resume(&self) -> Result<(), HostError>;

    /// Refuses a machine whose VMM cannot save it, before anything is done to it.
    fn may_be_saved(&self) -> Result<(), HostError>;

    /// Does what makes a save into the same directory shorter, while the guest runs. Does nothing
    /// unless the implementation does.
    async fn prepare_save(&self, _: &SnapshotPlaces) -> Result<(), HostError> {
        Ok(())
    }

    /// Writes memory and devices of a machine that stands still into a directory that is there.
    /// Gives back how many bytes that takes. It can go on afterwards; the connection to its agent may
    /// be broken then.
    async fn save(&self, into: &SnapshotPlaces) -> Result<u64, HostError>;

    /// Finishes what [`Self::save`] has begun, while the machine may go on. Gives back how many bytes all
    /// of it takes, of which `taken` were known.
    async fn fetch_saved(&self, _: &SnapshotPlaces, taken: u64) -> Result<u64, HostError> {
        Ok(taken)
    }

    /// Ends the VMM at once, and returns when it is gone.
    async fn kill(&self) -> Result<(), HostError>;
}

/// Why a VMM has stopped its guest: what it could not write waits, and is written once the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The host's disk is full.
    NoSpace,
    /// The host's disk failed.
    DiskError,
}

impl Halt {
    /// In words for people.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::NoSpace => {
                "the host's disk is full: nothing is lost; make room, then `banger vm resume`"
            }
            Self::DiskError => {
                "the host's disk failed: what was to be written waits; mend it, then `banger vm resume`"
            }
        }
    }
}

/// The room of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub size: u64,
    /// For this user.
    pub free: u64,
    /// Of that, what is not to be taken.
    pub reserve: u64,
}

impl Space {
    pub const ENDLESS: Self = Self {
        size: u64::MAX,
        free: u64::MAX,
        reserve: 0,
    };
}

/// How a VMM ended, with what its logs say last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmmExit {
    /// `exit code 0`, `signal 9`, or `gone` for an adopted process.
    pub status: String,
    pub clean: bool,
}

/// A live connection to a guest's agent.
#[async_trait]
pub trait Guest: Send + Sync {
    fn info(&self) -> AgentInfo;

    async fn health(&self) -> Result<Health, GuestError>;

    /// What listens in the guest, by its own word.
    async fn listeners(&self) -> Result<Listeners, GuestError>;

    /// What the agent did since the boot: the end of it.
    async fn log(&self) -> Result<Vec<LogLine>, GuestError>;

    /// Has the guest's file system fill its disk, which has so many bytes now.
    async fn grow_disk(&self, bytes: u64) -> Result<(), GuestError>;

    async fn exec(&self, request: ExecRequest) -> Result<ExecStream, GuestError>;

    /// Makes the guest somebody: a name, identities and random numbers of its own, and the
    /// present time. Returns when it is so.
    async fn assume(&self, identity: &Identity) -> Result<(), GuestError>;

    /// Sets the clock of a guest that stood still.
    async fn tell_time(&self) -> Result<(), GuestError>;

    /// Asks the guest to write everything to its disk and to end. The VMM exits afterwards.
    async fn shutdown(&self, patience: Duration) -> Result<(), GuestError>;

    /// Waits until this connection is broken.
    async fn closed(&self);
}

/// What the agent said of itself when the connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    pub generation: u32,
    pub version: String,
    pub boot_id: String,
    pub init: String,
    pub marks: BootMarks,
}

/// When the guest passed the stages of its boot, since its kernel's clock began: its own word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BootMarks {
    pub init_entered: Option<Duration>,
    pub modules_loaded: Option<Duration>,
    pub root_mounted: Option<Duration>,
    pub ready: Option<Duration>,
    /// When it answered the greeting.
    pub greeted: Duration,
}

/// What a VMM uses of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VmmUsage {
    /// Of processors, since its start.
    pub cpu: Duration,
    /// In memory now.
    pub memory: u64,
    /// The most that it may have, where a group limits it.
    pub memory_limit: Option<u64>,
    pub threads: u32,
    /// From and to disks since its start, where the kernel tells.
    pub read: Option<u64>,
    pub written: Option<u64>,
}

/// How a socket listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// The word in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A socket of a guest that waits for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub protocol: Protocol,
    pub address: IpAddr,
    pub port: u16,
    pub pid: Option<u32>,
    pub process: Option<String>,
}

/// What listens in a guest; there may be more than is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listeners {
    pub listeners: Vec<Listener>,
    pub more: bool,
}

/// Something that an agent did, and when since the guest's boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub uptime: Duration,
    pub text: String,
}

/// Signs of life from inside. All of it is the guest's own word.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub uptime: Duration,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f32; 3],
    pub memory_total: u64,
    pub memory_available: u64,
    pub init_state: String,
}
