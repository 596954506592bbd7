//! Builds the guest kernel's command line. Pure; knows the kernel's words and the agent's.

use std::time::SystemTime;

use banger_core::{
    host::{Accelerator, LaunchPlan, VmmKind},
    host_error::HostError,
    spec::{Init, Network},
};
use banger_guest_proto::boot::{self, BootConfig, Channel, DeviceRef, MAX_COMMAND_LINE, Name, Net};

pub(crate) const BASE_SERIAL: &str = "base";
pub(crate) const DISK_SERIAL: &str = "disk";
pub(crate) const AGENT_PORT: &str = "banger.agent";
/// Where the agent listens on a VM's vsock.
pub(crate) const AGENT_VSOCK_PORT: u32 = 1024;
/// Firecracker gives its disks no serial numbers; they are named in the order in which they
/// are attached.
const FIRST_DISK: &str = "vda";
const SECOND_DISK: &str = "vdb";

/// What every guest kernel is told:
/// a console that costs little, an end of the VMM after a panic instead of a hang, no waiting
/// for terminals, the first interface's name without udev's renaming, no self-tests of ciphers,
/// which are a fifth of an emulated kernel's boot, no search for what neither VMM has (a PCI bus,
/// and serial ports beyond the console's), and no waiting for a quiet moment of every vCPU where
/// asking each of them is quicker, as it is with few.
const WORDS: &[&str] = &[
    "console=ttyS0",
    "quiet",
    "loglevel=4",
    "panic=-1",
    "net.ifnames=0",
    "cryptomgr.notests",
    "initcall_blacklist=crypto_kdf108_init,pci_arch_init",
    "8250.nr_uarts=1",
    "rcupdate.rcu_expedited=1",
    "systemd.getty_auto=no",
];

/// QEMU ends at a triple fault, with and without ACPI.
const QEMU_WORDS: &[&str] = &["reboot=t"];

/// Firecracker ends at a reset through the keyboard's controller, behind which there is nothing
/// else to be looked for.
const FIRECRACKER_WORDS: &[&str] = &[
    "reboot=k",
    "pci=off",
    "i8042.noaux",
    "i8042.nomux",
    "i8042.nopnp",
    "i8042.dumbkbd",
];

/// Firecracker itself adds a word for each of its devices.
const FIRECRACKER_RESERVE: usize = 320;

fn words_of(vmm: VmmKind) -> (&'static [&'static str], usize) {
    match vmm {
        VmmKind::Qemu => (QEMU_WORDS, 0),
        VmmKind::Firecracker => (FIRECRACKER_WORDS, FIRECRACKER_RESERVE),
    }
}

/// What the host measured at this moment for this boot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) tsc_khz: u64,
    pub(crate) now: SystemTime,
}

/// The whole command line, or why there can be none. In this order: what we tell every kernel,
/// what is for the VMM, what emulation needs, the manifest's words, the agent's. Linux takes the
/// last of two words that contradict each other, so a kernel's manifest has its way.
pub(crate) fn command_line(plan: &LaunchPlan, measured: Measured) -> Result<String, HostError> {
    let (for_the_vmm, reserve) = words_of(plan.vmm);
    let fixed = WORDS.iter().chain(for_the_vmm);
    let mut words: Vec<String> = fixed.map(|word| (*word).to_owned()).collect();
    words.extend(words_for_emulation(plan, measured.tsc_khz));
    for word in &plan.kernel_args {
        check_word(word)?;
        // A console that is named twice is written to twice by some kernels.
        words.retain(|earlier| earlier != word);
        words.push(word.clone());
    }
    words.push(boot_config(plan, measured.now)?.render());
    let line = words.join(" ");
    let limit = MAX_COMMAND_LINE - reserve;
    if line.len() < limit {
        return Ok(line);
    }
    let feature = format!("a kernel command line of {} bytes", line.len());
    let reason = format!("there is room for less than {limit} bytes");
    Err(HostError::Unsupported { feature, reason })
}

/// An emulated kernel that measures its time stamp counter itself hangs in a boot out of
/// four, and one that distrusts it falls back to a clock of 4 ms. It would also spend a tenth
/// of the boot on measuring the delay loop of every vCPU but the first: `lpj` is that loop's
/// turns between two ticks, and with a time stamp counter a turn is a cycle. Under KVM the
/// kernel is told by KVM.
///
/// A kernel with one vCPU rewrites its locked instructions, each of which throws away translated
/// code: an eighth of an emulated boot, for instructions that cost nothing more there.
fn words_for_emulation(plan: &LaunchPlan, tsc_khz: u64) -> Vec<String> {
    match plan.accelerator {
        Accelerator::Tcg => {
            let mut words = vec![
                format!("tsc_early_khz={tsc_khz}"),
                "tsc=reliable".into(),
                "noreplace-smp".into(),
            ];
            let lpj = plan.timer_hz.map(|hz| tsc_khz * 1000 / u64::from(hz));
            words.extend(lpj.map(|lpj| format!("lpj={lpj}")));
            words
        }
        Accelerator::Kvm => Vec::new(),
    }
}

/// A manifest's word must stay one word, and cannot speak to the agent.
fn check_word(word: &str) -> Result<(), HostError> {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    if plain && !word.starts_with("banger.") {
        return Ok(());
    }
    let shown: String = word.chars().take(80).flat_map(char::escape_debug).collect();
    let feature = format!("the kernel argument \"{shown}\"");
    let reason = "an argument has printable ASCII without blanks and quotes, and does not begin \
                  with banger.";
    Err(HostError::Unsupported {
        feature,
        reason: reason.into(),
    })
}

fn boot_config(plan: &LaunchPlan, now: SystemTime) -> Result<BootConfig, HostError> {
    let name = |text: &str| {
        text.parse::<Name>()
            .expect("our device names are proper names")
    };
    let (root, disk, channel) = match plan.vmm {
        VmmKind::Qemu => (
            DeviceRef::Serial(name(BASE_SERIAL)),
            DeviceRef::Serial(name(DISK_SERIAL)),
            Channel::VirtioSerial(name(AGENT_PORT)),
        ),
        VmmKind::Firecracker => (
            DeviceRef::Dev(name(FIRST_DISK)),
            DeviceRef::Dev(name(SECOND_DISK)),
            Channel::Vsock(AGENT_VSOCK_PORT),
        ),
    };
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).ok();
    Ok(BootConfig {
        hostname: plan
            .name
            .as_str()
            .parse()
            .expect("a VM's name is a host name"),
        root,
        root_fs: name("ext4"),
        disk: Some(disk),
        channel,
        net: match plan.network {
            Network::User => Some(Net::qemu_user()),
            Network::None => None,
        },
        init: match &plan.init {
            Init::Auto => boot::Init::Auto,
            Init::Agent => boot::Init::Agent,
            Init::Systemd => boot::Init::Systemd,
            Init::Path(path) => boot::Init::Path(path.clone()),
        },
        time_ns: since_1970.and_then(|since| u64::try_from(since.as_nanos()).ok()),
        debug: false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::qemu::args::tests::plan;

    fn measured() -> Measured {
        Measured {
            tsc_khz: 2_596_146,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(9),
        }
    }

    #[test]
    fn the_agent_understands_what_the_host_renders() {
        let line = command_line(&plan(), measured()).unwrap();
        let config = BootConfig::parse(&line).unwrap();
        assert_eq!(config.hostname.as_str(), "calm-otter");
        assert_eq!(config.time_ns, Some(9_000_000_000));
        assert_eq!(config.net, Some(Net::qemu_user()));
        assert_eq!(config.init, boot::Init::Auto);
    }

    #[test]
    fn firecracker_is_asked_for_nothing_that_it_lacks() {
        let plan = LaunchPlan {
            vmm: VmmKind::Firecracker,
            accelerator: Accelerator::Kvm,
            ..plan()
        };
        let line = command_line(&plan, measured()).unwrap();
        let config = BootConfig::parse(&line).unwrap();
        assert_eq!(config.root.to_string(), "/dev/vda");
        assert_eq!(config.channel, Channel::Vsock(AGENT_VSOCK_PORT));
        assert!(line.contains("reboot=k") && !line.contains("reboot=t"));
    }

    #[test]
    fn a_manifests_words_come_behind_ours_and_before_the_agents() {
        let kernel_args = ["loglevel=1", "quiet", "noxsave"].map(str::to_owned).into();
        let line = command_line(
            &LaunchPlan {
                kernel_args,
                ..plan()
            },
            measured(),
        );
        let line = line.unwrap();
        let at = |word: &str| line.split(' ').position(|w| w == word).unwrap();
        assert!(at("loglevel=4") < at("loglevel=1") && at("loglevel=1") < at("quiet"));
        assert_eq!(line.matches("quiet").count(), 1);
        assert!(at("noxsave") < at("banger.hostname=calm-otter"));
    }

    #[test]
    fn what_emulation_needs_is_told_only_there() {
        let check = |accelerator, told: bool| {
            let line = command_line(
                &LaunchPlan {
                    accelerator,
                    ..plan()
                },
                measured(),
            )
            .unwrap();
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words.contains(&"tsc_early_khz=2596146"), told);
            assert_eq!(words.contains(&"tsc=reliable"), told);
            assert_eq!(words.contains(&"noreplace-smp"), told);
            assert_eq!(words.contains(&"lpj=10384584"), told);
            assert!(words.contains(&"panic=-1") && words.contains(&"reboot=t"));
        };
        check(Accelerator::Tcg, true);
        check(Accelerator::Kvm, false);
    }

    #[test]
    fn a_manifests_words_are_taken_or_refused_whole() {
        let check = |word: String, taken: bool| {
            let kernel_args = vec![word.clone()];
            let line = command_line(
                &LaunchPlan {
                    kernel_args,
                    ..plan()
                },
                measured(),
            );
            assert_eq!(line.is_ok(), taken, "{word:?}");
        };
        check("no_timer_check".into(), true);
        check("a=b,c".into(), true);
        check("two words".into(), false);
        check("quote\"".into(), false);
        check(String::new(), false);
        check("line\nbreak".into(), false);
        check("banger.hostname=other".into(), false);
        check("x".repeat(MAX_COMMAND_LINE), false);
    }
}
