//! What a plan becomes under Firecracker: the configuration of a whole machine, which it reads by
//! itself as it begins. That spares the guest's start a conversation about every device. Pure.

use banger_core::{host::LaunchPlan, spec::Network};
use serde_json::json;

use super::{
    api::{
        Balloon, BootSource, CacheType, Configuration, Drive, Entropy, MachineConfiguration,
        Metrics, MmdsConfig, MmdsVersion, NetworkInterface, Vsock,
    },
    jail::{Item, Jail},
    settings::{CpuTemplate, FirecrackerSettings},
};
use crate::{qemu::args::mac, sys::GUEST_TAP};

const BASE: &str = "base";
const DISK: &str = "disk";
const INTERFACE: &str = "net0";
/// Any number above those that vsock keeps for itself: each VM has a vsock of its own.
const GUEST_CID: u32 = 3;

pub(super) fn configuration(
    plan: &LaunchPlan,
    command_line: &str,
    settings: &FirecrackerSettings,
    jail: &Jail,
) -> Configuration {
    let inside = |item| jail.inside(item, plan);
    Configuration {
        machine_config: MachineConfiguration {
            vcpu_count: plan.vcpus.get(),
            mem_size_mib: plan.memory.mib(),
            smt: false,
            cpu_template: settings
                .cpu_template
                .map(CpuTemplate::as_str)
                .map(Into::into),
        },
        boot_source: BootSource {
            kernel_image_path: inside(Item::Kernel),
            initrd_path: Some(inside(Item::Initramfs)),
            boot_args: command_line.to_owned(),
        },
        drives: drives(plan, settings, jail),
        network_interfaces: interface(plan, settings).into_iter().collect(),
        vsock: Vsock {
            guest_cid: GUEST_CID,
            uds_path: inside(Item::AgentSocket),
        },
        entropy: Entropy {},
        // Empty: it takes memory from the guest only when it is told to.
        balloon: Balloon {
            amount_mib: 0,
            deflate_on_oom: true,
            stats_polling_interval_s: 0,
        },
        metrics: settings.metrics.then(|| Metrics {
            metrics_path: inside(Item::Metrics),
        }),
        mmds_config: has_metadata(plan, settings).then(|| MmdsConfig {
            version: MmdsVersion::V2,
            network_interfaces: vec![INTERFACE],
        }),
    }
}

/// What the guest's metadata service tells, where it has one.
pub(super) fn metadata(
    plan: &LaunchPlan,
    settings: &FirecrackerSettings,
) -> Option<serde_json::Value> {
    has_metadata(plan, settings).then(|| {
        json!({
            "instance-id": plan.places.id.to_string(),
            "local-hostname": plan.name.as_str(),
        })
    })
}

/// The service is reached over the network only.
fn has_metadata(plan: &LaunchPlan, settings: &FirecrackerSettings) -> bool {
    settings.mmds && plan.network == Network::User
}

/// In the order in which the guest counts them. Neither is the root device in Firecracker's
/// sense, which would put words of its own on the kernel's command line.
fn drives(plan: &LaunchPlan, settings: &FirecrackerSettings, jail: &Jail) -> [Drive; 2] {
    let base = Drive {
        drive_id: BASE,
        path_on_host: jail.inside(Item::Base, plan),
        is_root_device: false,
        is_read_only: true,
        // Nothing is ever written, so there is nothing to flush.
        cache_type: CacheType::Unsafe,
        io_engine: settings.disk_engine.into(),
        rate_limiter: None,
    };
    let disk = Drive {
        drive_id: DISK,
        path_on_host: jail.inside(Item::Disk, plan),
        is_read_only: false,
        cache_type: settings.disk_cache.into(),
        io_engine: settings.disk_engine.into(),
        rate_limiter: settings.disk_limit.limiter(),
        ..base.clone()
    };
    [base, disk]
}

fn interface(plan: &LaunchPlan, settings: &FirecrackerSettings) -> Option<NetworkInterface> {
    let limiter = settings.network_limit.limiter();
    match plan.network {
        Network::None => None,
        Network::User => Some(NetworkInterface {
            iface_id: INTERFACE,
            guest_mac: mac(plan.places.id).to_string(),
            host_dev_name: GUEST_TAP,
            rx_rate_limiter: limiter,
            tx_rate_limiter: limiter,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        firecracker::{RateLimit, walls::Walls},
        qemu::args::tests::plan,
    };

    fn made(plan: &LaunchPlan, settings: &FirecrackerSettings) -> serde_json::Value {
        let jail = Jail::new(&plan.places, Walls::Jailer);
        serde_json::to_value(configuration(plan, "quiet", settings, &jail)).unwrap()
    }

    #[test]
    fn a_plan_becomes_this_machine() {
        let wanted = json!({
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 512, "smt": false},
            "boot-source": {
                "kernel_image_path": "/vmlinux",
                "initrd_path": "/initramfs",
                "boot_args": "quiet",
            },
            "drives": [
                {
                    "drive_id": "base", "path_on_host": "/base.ext4", "is_root_device": false,
                    "is_read_only": true, "cache_type": "Unsafe", "io_engine": "Sync",
                },
                {
                    "drive_id": "disk", "path_on_host": "/disk.ext4", "is_root_device": false,
                    "is_read_only": false, "cache_type": "Writeback", "io_engine": "Sync",
                },
            ],
            "network-interfaces": [
                {"iface_id": "net0", "guest_mac": "02:00:11:22:33:44", "host_dev_name": "guest"},
            ],
            "vsock": {"guest_cid": 3, "uds_path": "/run/agent.sock"},
            "entropy": {},
            "balloon": {"amount_mib": 0, "deflate_on_oom": true, "stats_polling_interval_s": 0},
        });
        assert_eq!(made(&plan(), &FirecrackerSettings::default()), wanted);
    }

    #[test]
    fn what_is_asked_for_is_configured() {
        let limit = RateLimit::new(Some(1 << 20), Some(100)).unwrap();
        let settings = FirecrackerSettings {
            disk_limit: limit,
            network_limit: limit,
            cpu_template: Some(CpuTemplate::T2),
            metrics: true,
            ..FirecrackerSettings::default()
        };
        let machine = made(&plan(), &settings);
        let wanted = json!({
            "bandwidth": {"size": 1 << 20, "refill_time": 1000},
            "ops": {"size": 100, "refill_time": 1000},
        });
        assert_eq!(machine["drives"][0].get("rate_limiter"), None);
        assert_eq!(machine["drives"][1]["rate_limiter"], wanted);
        for way in ["rx_rate_limiter", "tx_rate_limiter"] {
            assert_eq!(machine["network-interfaces"][0][way], wanted);
        }
        assert_eq!(machine["machine-config"]["cpu_template"], "T2");
        assert_eq!(machine["metrics"]["metrics_path"], "/run/metrics");
    }

    #[test]
    fn there_is_no_metadata_service_unless_it_is_asked_for() {
        let asked = FirecrackerSettings {
            mmds: true,
            ..FirecrackerSettings::default()
        };
        let check = |plan: &LaunchPlan, settings: &FirecrackerSettings, wanted: bool| {
            assert_eq!(made(plan, settings).get("mmds-config").is_some(), wanted);
            assert_eq!(metadata(plan, settings).is_some(), wanted);
        };
        check(&plan(), &asked, true);
        check(&plan(), &FirecrackerSettings::default(), false);
        let alone = LaunchPlan {
            network: Network::None,
            ..plan()
        };
        check(&alone, &asked, false);
    }
}
