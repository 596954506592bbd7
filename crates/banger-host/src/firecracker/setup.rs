//! What a plan becomes under Firecracker: the calls that make the machine, in their order.
//! Pure.

use banger_core::{host::LaunchPlan, spec::Network};
use serde_json::json;

use super::{
    api::{
        Balloon, BootSource, CacheType, Call, Drive, Entropy, LogLevel, Logger,
        MachineConfiguration, Metrics, MmdsConfig, MmdsVersion, NetworkInterface, Vsock,
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

/// All calls but the one that starts the guest. The log comes first, so that it tells of the
/// others; the disks come in the order in which the guest counts them.
pub(super) fn calls(
    plan: &LaunchPlan,
    command_line: &str,
    settings: &FirecrackerSettings,
    jail: &Jail,
) -> Vec<Call> {
    let inside = |item| jail.inside(item, plan);
    let mut calls = vec![
        Call::Logger(Logger {
            log_path: inside(Item::Log),
            level: LogLevel::Warning,
        }),
        Call::Machine(MachineConfiguration {
            vcpu_count: plan.vcpus.get(),
            mem_size_mib: plan.memory.mib(),
            smt: false,
            cpu_template: settings
                .cpu_template
                .map(CpuTemplate::as_str)
                .map(Into::into),
        }),
        Call::BootSource(BootSource {
            kernel_image_path: inside(Item::Kernel),
            initrd_path: Some(inside(Item::Initramfs)),
            boot_args: command_line.to_owned(),
        }),
    ];
    if settings.metrics {
        let metrics_path = inside(Item::Metrics);
        calls.push(Call::Metrics(Metrics { metrics_path }));
    }
    calls.extend(drives(plan, settings, jail));
    calls.extend(network(plan, settings));
    calls.extend([
        Call::Vsock(Vsock {
            guest_cid: GUEST_CID,
            uds_path: inside(Item::AgentSocket),
        }),
        Call::Entropy(Entropy {}),
        // Empty: it takes memory from the guest only when it is told to.
        Call::Balloon(Balloon {
            amount_mib: 0,
            deflate_on_oom: true,
            stats_polling_interval_s: 0,
        }),
    ]);
    calls
}

/// Neither is the root device in Firecracker's sense, which would put words of its own on the
/// kernel's command line.
fn drives(plan: &LaunchPlan, settings: &FirecrackerSettings, jail: &Jail) -> [Call; 2] {
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
    [Call::Drive(base), Call::Drive(disk)]
}

fn network(plan: &LaunchPlan, settings: &FirecrackerSettings) -> Vec<Call> {
    match plan.network {
        Network::None => return Vec::new(),
        Network::User => {}
    }
    let limiter = settings.network_limit.limiter();
    let mut calls = vec![Call::Network(NetworkInterface {
        iface_id: INTERFACE,
        guest_mac: mac(plan.places.id),
        host_dev_name: GUEST_TAP,
        rx_rate_limiter: limiter,
        tx_rate_limiter: limiter,
    })];
    if settings.mmds {
        calls.extend([
            Call::MmdsConfig(MmdsConfig {
                version: MmdsVersion::V2,
                network_interfaces: vec![INTERFACE],
            }),
            Call::Mmds(json!({
                "instance-id": plan.places.id.to_string(),
                "local-hostname": plan.name.as_str(),
            })),
        ]);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{firecracker::jail::Walls, qemu::args::tests::plan};

    fn paths(plan: &LaunchPlan, settings: &FirecrackerSettings) -> Vec<String> {
        let jail = Jail::new(&plan.places, Walls::Jailer);
        let calls = calls(plan, "quiet", settings, &jail);
        calls.iter().map(Call::path).collect()
    }

    #[test]
    fn a_plan_becomes_these_calls() {
        assert_eq!(
            paths(&plan(), &FirecrackerSettings::default()),
            [
                "/logger",
                "/machine-config",
                "/boot-source",
                "/drives/base",
                "/drives/disk",
                "/network-interfaces/net0",
                "/vsock",
                "/entropy",
                "/balloon"
            ]
        );
    }

    #[test]
    fn there_is_no_metadata_service_unless_it_is_asked_for() {
        let asked = FirecrackerSettings {
            mmds: true,
            ..FirecrackerSettings::default()
        };
        let silent = FirecrackerSettings::default();
        let has = |plan: &LaunchPlan, settings| paths(plan, settings).contains(&"/mmds".to_owned());
        assert!(has(&plan(), &asked));
        assert!(!has(&plan(), &silent));
        let alone = LaunchPlan {
            network: Network::None,
            ..plan()
        };
        assert!(!has(&alone, &asked));
    }

    #[test]
    fn only_the_vms_own_disk_is_written_to() {
        let plan = plan();
        let jail = Jail::new(&plan.places, Walls::Namespaces);
        let [Call::Drive(base), Call::Drive(disk)] =
            drives(&plan, &FirecrackerSettings::default(), &jail)
        else {
            panic!("both are drives");
        };
        assert!(base.is_read_only && !disk.is_read_only);
        assert_eq!(disk.cache_type, CacheType::Writeback);
    }
}
