//! `vm list`, `ps` and `vm show`.

use std::time::{Duration, SystemTime};

use banger_api::{
    client::Client,
    size::format_size,
    vm::{Boot, Built, Vm, VmBrief, VmState, VmUpkeep},
};

use crate::{
    cli::{
        values::Filter,
        vm::{ListArgs, ShowArgs},
    },
    output,
    report::{Failure, SUCCESS},
    table::{fields, table},
    text::{age, count},
};

pub(super) async fn list(client: &Client, args: &ListArgs, all: bool) -> Result<u8, Failure> {
    let wanted = |vm: &VmBrief| {
        (all || is_up(vm.state)) && args.filter.iter().all(|filter| fits(vm, filter))
    };
    if args.json.json {
        let mut vms = client.vms().await?;
        vms.retain(|vm| wanted(&vm.into()));
        output::print_json(&vms)?;
        return Ok(SUCCESS);
    }
    let mut vms = client.overview().await?;
    vms.retain(wanted);
    if args.quiet {
        let names: String = vms.iter().map(|vm| format!("{}\n", vm.name)).collect();
        output::print(&names)?;
    } else {
        output::print(&overview(&vms, SystemTime::now()))?;
    }
    Ok(SUCCESS)
}

pub(super) async fn show(client: &Client, args: &ShowArgs) -> Result<u8, Failure> {
    let vm = client.vm(args.target.as_ref()).await?;
    if args.json.json {
        output::print_json(&vm)?;
    } else {
        output::print(&details(&vm, SystemTime::now()))?;
    }
    Ok(SUCCESS)
}

/// What a machine has now, in words.
pub(super) fn built(now: &Built) -> String {
    let memory = format_size(now.memory_bytes);
    let vcpus = count(now.vcpus.into(), "vCPU");
    format!("{vcpus}, {memory}, network {}", now.network)
}

/// Whether `ps` shows it.
pub(super) fn is_up(state: VmState) -> bool {
    match state {
        VmState::Starting
        | VmState::Running
        | VmState::Paused
        | VmState::Stopping
        | VmState::Deleting => true,
        VmState::Created | VmState::Stopped | VmState::Error => false,
    }
}

fn fits(vm: &VmBrief, filter: &Filter) -> bool {
    match filter {
        Filter::State(state) => vm.state.as_str() == state,
        Filter::Image(image) => vm.image == *image,
        Filter::Name(part) => vm.name.contains(part.as_str()),
        Filter::Label(key, None) => vm.labels.contains_key(key),
        Filter::Label(key, Some(value)) => vm.labels.get(key) == Some(value),
    }
}

fn overview(vms: &[VmBrief], now: SystemTime) -> String {
    let header = [
        "NAME", "STATE", "IMAGE", "VCPU", "MEM", "DISK", "VMM", "CREATED", "ID",
    ];
    let rows: Vec<_> = vms.iter().map(|vm| row(vm, now)).collect();
    table(header, &rows)
}

fn row(vm: &VmBrief, now: SystemTime) -> [String; 9] {
    [
        vm.name.clone(),
        vm.state.as_str().to_owned(),
        vm.image.clone(),
        vm.vcpus.to_string(),
        format_size(vm.memory_bytes),
        format_size(vm.disk_bytes),
        machine(vm.vmm.as_deref(), vm.accelerator.as_deref()).unwrap_or_else(|| "-".to_owned()),
        age(&vm.created_at, now),
        vm.id.chars().take(12).collect(),
    ]
}

fn machine(vmm: Option<&str>, accelerator: Option<&str>) -> Option<String> {
    let vmm = vmm?;
    Some(match accelerator {
        Some(accelerator) => format!("{vmm}/{accelerator}"),
        None => vmm.to_owned(),
    })
}

fn labels(vm: &Vm) -> String {
    let pairs = vm
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

/// The stages of a boot, each with the time since the start was asked for.
fn boot(boot: &Boot) -> String {
    let stages = [
        ("VMM", boot.vmm_started_ms),
        ("kernel", boot.kernel_entered_ms),
        ("init", boot.init_entered_ms),
        ("root", boot.root_mounted_ms),
        ("agent", boot.connected_ms),
        ("command", boot.command_started_ms),
    ];
    let known = stages.into_iter();
    let known = known.filter_map(|(stage, ms)| Some(format!("{stage} {} ms", ms?)));
    known.collect::<Vec<_>>().join(", ")
}

/// The policy, and how far it has come.
fn restart(upkeep: &VmUpkeep) -> Option<String> {
    let times = match upkeep.restarts {
        0 => String::new(),
        times => format!(", {} in a row", count(times.into(), "restart")),
    };
    let next = upkeep.restart_at.as_deref();
    let next = next.map_or(String::new(), |at| format!(", next at {at}"));
    (upkeep.restart != "no").then(|| format!("{}{times}{next}", upkeep.restart))
}

fn idle_stop(upkeep: &VmUpkeep) -> Option<String> {
    match (upkeep.idle_stop.as_str(), upkeep.idle_stop.parse()) {
        ("default", _) => None,
        (_, Ok(seconds)) => {
            let time = humantime::format_duration(Duration::from_secs(seconds));
            Some(format!("for {time}"))
        }
        (word, Err(_)) => Some(word.to_owned()),
    }
}

fn details(vm: &Vm, now: SystemTime) -> String {
    let agent = vm.agent.as_ref();
    let yes = |flag: bool| flag.then(|| "yes".to_owned());
    fields(&[
        ("name", Some(vm.name.clone())),
        ("id", Some(vm.id.clone())),
        ("state", Some(vm.state.as_str().to_owned())),
        ("last error", vm.last_error.clone()),
        ("image", Some(vm.image.clone())),
        ("kernel", Some(vm.kernel.clone())),
        ("kernel reason", Some(vm.kernel_reason.clone())),
        ("vcpus", Some(vm.vcpus.to_string())),
        ("memory", Some(format_size(vm.memory_bytes))),
        ("disk", Some(format_size(vm.disk_bytes))),
        ("init", Some(vm.init.clone())),
        ("network", Some(vm.network.clone())),
        ("for now", vm.now.as_ref().map(built)),
        ("vmm", machine(vm.vmm.as_deref(), vm.accelerator.as_deref())),
        ("vmm reason", vm.vmm_reason.clone()),
        ("confinement", vm.confinement.clone()),
        ("command line", vm.kernel_command_line.clone()),
        ("pid", vm.pid.map(|pid| pid.to_string())),
        (
            "agent",
            agent.map(|agent| format!("{}, generation {}", agent.version, agent.generation)),
        ),
        ("first process", agent.map(|agent| agent.init.clone())),
        ("boot id", agent.map(|agent| agent.boot_id.clone())),
        ("boot", vm.boot.as_ref().map(boot)),
        ("removed at end", yes(vm.auto_remove)),
        ("removed at", vm.expires_at.clone()),
        ("restart", restart(&vm.upkeep)),
        ("autostart", yes(vm.upkeep.autostart)),
        ("idle stop", idle_stop(&vm.upkeep)),
        ("labels", (!vm.labels.is_empty()).then(|| labels(vm))),
        ("created", Some(age(&vm.created_at, now))),
        ("changed", Some(age(&vm.updated_at, now))),
        ("disk path", Some(vm.disk_path.clone())),
        ("console path", Some(vm.console_path.clone())),
        ("vmm log path", Some(vm.vmm_log_path.clone())),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use banger_api::vm::Agent;
    use insta::assert_snapshot;

    use super::*;

    fn vm() -> Vm {
        Vm {
            id: "0123456789abcdef0123456789abcdef".into(),
            name: "calm-otter".into(),
            state: VmState::Running,
            image: "debian-bookworm".into(),
            kernel: "debian-6.1".into(),
            kernel_reason: "it was asked for".into(),
            vcpus: 2,
            memory_bytes: 2 << 30,
            disk_bytes: 8 << 30,
            init: "auto".into(),
            network: "user".into(),
            vmm: Some("qemu".into()),
            accelerator: Some("tcg".into()),
            vmm_reason: Some("/dev/kvm is absent".into()),
            confinement: Some("seccomp".into()),
            kernel_command_line: Some("console=ttyS0 quiet".into()),
            now: None,
            pid: Some(7),
            disk_path: "/s/disk.ext4".into(),
            console_path: "/s/console.log".into(),
            vmm_log_path: "/s/vmm.log".into(),
            agent: Some(Agent {
                version: "0.1.0".into(),
                generation: 1,
                boot_id: "b".into(),
                init: "systemd\x1b".into(),
            }),
            boot: Some(Boot {
                requested_at: "1970-01-01T00:00:00Z".into(),
                vmm_started_ms: Some(20),
                kernel_entered_ms: Some(150),
                init_entered_ms: Some(800),
                modules_loaded_ms: None,
                root_mounted_ms: None,
                agent_ready_ms: Some(980),
                connected_ms: Some(1000),
                command_started_ms: None,
            }),
            last_error: None,
            auto_remove: false,
            upkeep: VmUpkeep {
                restart: "on-failure:3".into(),
                autostart: true,
                idle_stop: "7200".into(),
                restarts: 2,
                restart_at: None,
            },
            labels: [("owner".to_owned(), "me".to_owned())].into(),
            expires_at: Some("1970-01-01T02:00:00Z".into()),
            created_at: "1970-01-01T00:00:00Z".into(),
            updated_at: "1970-01-01T00:01:00Z".into(),
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(185)
    }

    #[test]
    fn the_overview_has_a_line_per_vm() {
        let stopped = Vm {
            name: "b".into(),
            state: VmState::Created,
            vmm: None,
            accelerator: None,
            memory_bytes: 512 << 20,
            ..vm()
        };
        assert_snapshot!(overview(&[VmBrief::from(&vm()), VmBrief::from(&stopped)], now()), @r"
        NAME        STATE    IMAGE            VCPU  MEM      DISK   VMM       CREATED        ID
        calm-otter  running  debian-bookworm  2     2 GiB    8 GiB  qemu/tcg  3 minutes ago  0123456789ab
        b           created  debian-bookworm  2     512 MiB  8 GiB  -         3 minutes ago  0123456789ab
        ");
    }

    #[test]
    fn the_details_leave_out_what_is_not_known() {
        assert_snapshot!(details(&vm(), now()), @r"
        name            calm-otter
        id              0123456789abcdef0123456789abcdef
        state           running
        image           debian-bookworm
        kernel          debian-6.1
        kernel reason   it was asked for
        vcpus           2
        memory          2 GiB
        disk            8 GiB
        init            auto
        network         user
        vmm             qemu/tcg
        vmm reason      /dev/kvm is absent
        confinement     seccomp
        command line    console=ttyS0 quiet
        pid             7
        agent           0.1.0, generation 1
        first process   systemd\u{1b}
        boot id         b
        boot            VMM 20 ms, kernel 150 ms, init 800 ms, agent 1000 ms
        removed at      1970-01-01T02:00:00Z
        restart         on-failure:3, 2 restarts in a row
        autostart       yes
        idle stop       for 2h
        labels          owner=me
        created         3 minutes ago
        changed         2 minutes ago
        disk path       /s/disk.ext4
        console path    /s/console.log
        vmm log path    /s/vmm.log
        ");
        let fresh = Vm {
            agent: None,
            boot: None,
            pid: None,
            vmm: None,
            ..vm()
        };
        assert!(!details(&fresh, now()).contains("agent"));
    }

    #[test]
    fn ps_shows_what_uses_the_host() {
        let up = [VmState::Starting, VmState::Running, VmState::Stopping];
        let down = [VmState::Created, VmState::Stopped, VmState::Error];
        assert!(up.into_iter().all(is_up));
        assert!(!down.into_iter().any(is_up));
    }
}
