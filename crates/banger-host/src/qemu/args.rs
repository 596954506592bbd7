//! Builds QEMU's command line from a plan. Pure: the same plan and the same kernel command
//! line give the same words.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::RawFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
};

use banger_core::{
    host::{Accelerator, LaunchPlan},
    name::VmId,
    spec::Network,
};
use banger_guest_proto::mac::MacAddress;

use crate::{
    command_line::{AGENT_PORT, BASE_SERIAL, DISK_SERIAL},
    places,
};

/// What QEMU calls the guest's memory, also in what it saves.
pub(crate) const MEMORY: &str = "ram";

/// One option's value, in QEMU's `key=value,key=value` notation.
struct Value(Vec<u8>);

impl Value {
    fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().as_bytes().to_vec())
    }

    /// Adds a key whose value may contain commas.
    fn path(mut self, key: &str, path: &Path) -> Self {
        self.0.extend_from_slice(format!(",{key}=").as_bytes());
        for &byte in path.as_os_str().as_bytes() {
            self.0.push(byte);
            if byte == b',' {
                self.0.push(b',');
            }
        }
        self
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&OsStr> for Value {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// The command line so far.
#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl Into<Value>) {
        self.flag(name);
        self.0.push(OsString::from_vec(value.into().0));
    }
}

/// QEMU's arguments, without the program itself.
pub(crate) fn args(plan: &LaunchPlan, command_line: &str) -> Vec<OsString> {
    let mut words = Words::default();
    machine(&mut words, plan);
    fences(&mut words);
    sockets_and_console(&mut words, plan);
    disks(&mut words, plan);
    network(&mut words, plan);
    words.option("-object", "rng-builtin,id=random");
    words.option("-device", "virtio-rng-device,rng=random");
    // A guest that goes on has its kernel in its memory.
    if plan.resume_from.is_none() {
        words.option("-kernel", plan.kernel.as_os_str());
        words.option("-initrd", plan.initramfs.as_os_str());
        words.option("-append", command_line);
    }
    words.0
}

/// The devices that we give a guest and what they can do. A state goes on only in the same: whoever changes them gives this
/// another number.
pub(crate) const MACHINE: &str = "devices 2";

/// What lets QEMU read a state from a descriptor that it is given. A machine that has moved would tell its network so, five
/// times; a copy has a network of its own, where nobody has met its origin.
pub(crate) fn incoming(descriptor: RawFd) -> [OsString; 4] {
    let state = format!("fd:{descriptor}");
    let announcements = "migration.announce-rounds=0";
    ["-global", announcements, "-incoming", &state].map(OsString::from)
}

/// The accelerator and the processor that its guests see. TCG executes `rep movsb` byte by byte: a
/// guest that is told it were fast copies slowly.
pub(crate) fn processor(accelerator: Accelerator) -> (&'static str, &'static str) {
    match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg,thread=multi", "max,-erms,-fsrm"),
    }
}

/// The guest's memory. Machines that go on from one saved machine read its file, and have each what
/// they write for themselves.
fn memory(words: &mut Words, plan: &LaunchPlan) {
    let size = format!("{}M", plan.memory.mib());
    words.option("-m", size.as_str());
    let backend = match &plan.resume_from {
        None => Value::new(format!("memory-backend-ram,id={MEMORY},size={size}")),
        Some(files) => {
            let backend = format!("memory-backend-file,id={MEMORY},size={size},share=off");
            Value::new(backend).path("mem-path", &files.memory())
        }
    };
    words.option("-object", backend);
}

fn machine(words: &mut Words, plan: &LaunchPlan) {
    words.option("-name", format!("banger-{}", plan.name));
    // Debian's kernel finds virtio-mmio devices through ACPI only.
    let machine = "microvm,acpi=on,rtc=on,mem-merge=off,dump-guest-core=off";
    words.option("-machine", format!("{machine},memory-backend={MEMORY}"));
    let (accel, cpu) = processor(plan.accelerator);
    words.option("-accel", accel);
    words.option("-cpu", cpu);
    words.option("-smp", plan.vcpus.get().to_string());
    memory(words, plan);
    // The default is the legacy interface, which virtiofs cannot use.
    words.option("-global", "virtio-mmio.force-legacy=false");
}

fn fences(words: &mut Words) {
    words.flag("-nodefaults");
    words.flag("-no-user-config");
    words.flag("-no-reboot");
    words.option("-display", "none");
    words.option(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
}

fn sockets_and_console(words: &mut Words, plan: &LaunchPlan) {
    let socket = |id: &str, path: &Path| {
        Value::new(format!("socket,id={id},server=on,wait=off")).path("path", path)
    };
    words.option(
        "-chardev",
        socket("control", &places::qmp_socket(&plan.places)),
    );
    words.option("-mon", "chardev=control,mode=control");
    // A second one: the first takes one client at a time, and is for orders.
    words.option(
        "-chardev",
        socket("told", &places::events_socket(&plan.places)),
    );
    words.option("-mon", "chardev=told,mode=control");
    // Appending is what allows the log to be cut while the guest writes.
    let console = Value::new("file,id=console,append=on").path("path", &plan.places.console());
    words.option("-chardev", console);
    words.option("-serial", "chardev:console");
    words.option(
        "-chardev",
        socket("agent", &places::agent_socket(&plan.places)),
    );
    words.option("-device", "virtio-serial-device,max_ports=2");
    words.option(
        "-device",
        format!("virtserialport,chardev=agent,name={AGENT_PORT}"),
    );
}

/// The base is shared by any number of VMs; QEMU's locks on the disk keep a second VMM away.
fn disks(words: &mut Words, plan: &LaunchPlan) {
    let base = Value::new(format!("file,node-name={BASE_SERIAL},read-only=on"));
    words.option("-blockdev", base.path("filename", &plan.base));
    words.option("-device", block_device(BASE_SERIAL));
    let disk = Value::new(format!("file,node-name={DISK_SERIAL},discard=unmap"));
    words.option("-blockdev", disk.path("filename", &plan.places.disk()));
    // A write that fails stops the guest, which goes on with it once there is room: a guest that
    // were told of an error would give its file system up.
    let disk = format!("{},werror=stop", block_device(DISK_SERIAL));
    words.option("-device", disk);
}

fn block_device(serial: &str) -> String {
    format!("virtio-blk-device,drive={serial},serial={serial}")
}

fn network(words: &mut Words, plan: &LaunchPlan) {
    match plan.network {
        Network::User => {
            words.option("-netdev", "user,id=uplink");
            let mac = mac(plan.places.id);
            // A copy has nobody to announce itself to; and a card that has done so, or was told not to, ends QEMU
            // 7.2 when the guest resets it.
            let card = "virtio-net-device,guest_announce=off,netdev=uplink";
            words.option("-device", format!("{card},mac={mac}"));
        }
        Network::None => {}
    }
}

/// A locally administered address that is a VM's for its whole life.
pub(crate) fn mac(id: VmId) -> MacAddress {
    let [a, b, c, d, e, ..] = id.bytes();
    MacAddress::local([a, b, c, d, e])
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use banger_core::{
        host::{SnapshotPlaces, VmPlaces, VmmKind},
        spec::{Init, Memory, Vcpus},
    };

    use super::*;

    pub(crate) fn plan() -> LaunchPlan {
        LaunchPlan {
            places: VmPlaces {
                id: "00112233445566778899aabbccddeeff".parse().unwrap(),
                state: PathBuf::from("/state/vm"),
                runtime: PathBuf::from("/run/vm"),
            },
            name: "calm-otter".parse().unwrap(),
            vmm: VmmKind::Qemu,
            accelerator: Accelerator::Tcg,
            kernel: PathBuf::from("/kernels/k/vmlinux"),
            initramfs: PathBuf::from("/cache/initramfs"),
            timer_hz: Some(250),
            kernel_args: Vec::new(),
            base: PathBuf::from("/images/debian.ext4"),
            vcpus: Vcpus::try_from(2).unwrap(),
            memory: Memory::from_bytes(512 << 20).unwrap(),
            network: Network::User,
            init: Init::Auto,
            resume_from: None,
            yields: false,
        }
    }

    /// Whether the option occurs with exactly this value.
    fn has(plan: &LaunchPlan, option: &str, value: &str) -> bool {
        let words = args(plan, "console=ttyS0");
        words
            .windows(2)
            .any(|pair| pair[0] == option && pair[1] == value)
    }

    #[test]
    fn a_plan_becomes_these_words() {
        let check = |option: &str, value: &str| assert!(has(&plan(), option, value), "{value}");
        check("-name", "banger-calm-otter");
        check(
            "-machine",
            "microvm,acpi=on,rtc=on,mem-merge=off,dump-guest-core=off,memory-backend=ram",
        );
        check("-object", "memory-backend-ram,id=ram,size=512M");
        check("-accel", "tcg,thread=multi");
        check("-cpu", "max,-erms,-fsrm");
        check("-smp", "2");
        check("-m", "512M");
        check("-global", "virtio-mmio.force-legacy=false");
        check(
            "-chardev",
            "socket,id=agent,server=on,wait=off,path=/run/vm/agent.sock",
        );
        check(
            "-chardev",
            "file,id=console,append=on,path=/state/vm/console.log",
        );
        check("-device", "virtserialport,chardev=agent,name=banger.agent");
        check(
            "-blockdev",
            "file,node-name=base,read-only=on,filename=/images/debian.ext4",
        );
        check(
            "-blockdev",
            "file,node-name=disk,discard=unmap,filename=/state/vm/disk.ext4",
        );
        let disk = "virtio-blk-device,drive=disk,serial=disk,werror=stop";
        check("-device", disk);
        check(
            "-device",
            "virtio-net-device,guest_announce=off,netdev=uplink,mac=02:00:11:22:33:44",
        );
        check("-kernel", "/kernels/k/vmlinux");
        check("-append", "console=ttyS0");
    }

    #[test]
    fn a_machine_that_goes_on_maps_its_memory_for_itself_and_boots_nothing() {
        let plan = LaunchPlan {
            resume_from: Some(SnapshotPlaces {
                directory: PathBuf::from("/snapshots/a,b"),
            }),
            ..plan()
        };
        let memory =
            "memory-backend-file,id=ram,size=512M,share=off,mem-path=/snapshots/a,,b/memory";
        assert!(has(&plan, "-object", memory));
        let words = args(&plan, "quiet");
        assert!(
            !words
                .iter()
                .any(|word| word == "-kernel" || word == "-append")
        );
    }

    #[test]
    fn qemu_is_always_fenced_in() {
        let words = args(&plan(), "");
        for flag in ["-nodefaults", "-no-user-config", "-no-reboot", "-sandbox"] {
            assert!(words.iter().any(|word| word == flag), "{flag}");
        }
        let sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        assert!(has(&plan(), "-sandbox", sandbox));
    }

    #[test]
    fn kvm_gets_the_hosts_processor() {
        let plan = LaunchPlan {
            accelerator: Accelerator::Kvm,
            ..plan()
        };
        assert!(has(&plan, "-accel", "kvm") && has(&plan, "-cpu", "host"));
    }

    #[test]
    fn a_vm_without_network_has_no_interface() {
        let plan = LaunchPlan {
            network: Network::None,
            ..plan()
        };
        let words = args(&plan, "");
        let is_net = |word: &OsString| word.to_string_lossy().contains("net");
        assert!(!words.iter().any(is_net));
    }

    #[test]
    fn a_comma_in_a_path_adds_no_option() {
        let plan = LaunchPlan {
            base: PathBuf::from("/a,read-only=off"),
            ..plan()
        };
        assert!(has(
            &plan,
            "-blockdev",
            "file,node-name=base,read-only=on,filename=/a,,read-only=off"
        ));
    }
}
