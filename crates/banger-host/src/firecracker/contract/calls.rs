//! What Firecracker takes, and what it refuses in its own words.

use std::fs;

use banger_core::{
    host::LaunchPlan,
    host_error::{GuestError, HostError},
    spec::Network,
};
use serde_json::{Value, json};

use super::{
    guest,
    story::{Story, all_walls, can_be_told, is_root},
};
use crate::{
    arrivals::connect_when_there,
    firecracker::{
        CacheMode, CpuTemplate, FirecrackerSettings, IoEngine, RateLimit,
        api::{InstanceInfo, InstanceState, MachineConfiguration},
        client::Client,
        control::metrics_file,
        jail::{Item, outside},
        walls::Walls,
    },
    process::{Ended, Process},
};

async fn api(story: &Story) -> Client {
    let socket = outside(story.places(), Item::ApiSocket);
    Client::over(connect_when_there(&socket).await)
        .await
        .unwrap()
}

async fn end(story: &Story, process: Process) {
    process.kill().unwrap();
    assert_eq!(process.ended().await, Ended::Signal(9));
    story.end().await;
}

fn best_walls() -> Walls {
    if is_root() {
        Walls::Jailer
    } else {
        Walls::Namespaces
    }
}

#[tokio::test]
async fn every_device_is_taken_and_the_guest_begins() {
    if !can_be_told() {
        return;
    }
    let mut story = Story::of(&guest::waiting(), best_walls());
    let limit = RateLimit::new(Some(64 << 20), Some(1000)).unwrap();
    story.plan.network = Network::User;
    story.settings = FirecrackerSettings {
        disk_cache: CacheMode::Unsafe,
        disk_engine: IoEngine::Sync,
        disk_limit: limit,
        network_limit: limit,
        mmds: true,
        metrics: true,
        ..story.settings.clone()
    };
    let (process, note, control) = story.start().await.unwrap();
    story.heard("up").await;
    assert_eq!(note.command_line, "quiet");
    let mut api = api(&story).await;
    let info: InstanceInfo = api.get("/").await.unwrap();
    assert_eq!(info.state, InstanceState::Running);
    assert_eq!(info.id, story.places().id.short());
    assert_eq!(info.vmm_version, "1.12.1");
    let machine: MachineConfiguration = api.get("/machine-config").await.unwrap();
    assert_eq!((machine.vcpu_count, machine.mem_size_mib), (1, 64));
    let mmds: Value = api.get("/mmds").await.unwrap();
    assert_eq!(mmds["local-hostname"], "calm-otter");
    let made: Value = api.get("/vm/config").await.unwrap();
    let wanted = json!({"size": 64 << 20, "one_time_burst": null, "refill_time": 1000});
    assert_eq!(made["drives"][1]["rate_limiter"]["bandwidth"], wanted);
    assert_eq!(made["drives"][1]["cache_type"], "Unsafe");
    let interface = &made["network-interfaces"][0];
    assert_eq!(interface["rx_rate_limiter"]["bandwidth"], wanted);
    assert_eq!(interface["tx_rate_limiter"]["bandwidth"], wanted);
    assert_eq!(made["balloon"]["deflate_on_oom"], true);
    assert!(!made["entropy"].is_null() && !made["vsock"].is_null());
    assert_eq!(made["mmds-config"]["version"], "V2");
    assert!(metrics_file(story.places()).exists());
    drop(control);
    end(&story, process).await;
}

#[tokio::test]
async fn a_paused_guest_stands_still_until_it_is_resumed() {
    if !can_be_told() {
        return;
    }
    let story = Story::of(&guest::waiting(), best_walls());
    let (process, _, control) = story.start().await.unwrap();
    let mut api = api(&story).await;
    for (paused, wanted) in [
        (true, InstanceState::Paused),
        (false, InstanceState::Running),
        (false, InstanceState::Running),
    ] {
        let changed = if paused {
            control.pause().await
        } else {
            control.resume().await
        };
        changed.unwrap();
        let info: InstanceInfo = api.get("/").await.unwrap();
        assert_eq!(info.state, wanted);
    }
    end(&story, process).await;
}

#[tokio::test]
async fn a_guest_that_resets_ends_its_vmm_cleanly() {
    if !can_be_told() {
        return;
    }
    let story = Story::of(&guest::resetting(), best_walls());
    let (process, _, control) = story.start().await.unwrap();
    let exit = control.exit(process.ended().await);
    assert_eq!((exit.status.as_str(), exit.clean), ("exit code 0", true));
    story.heard("up").await;
    story.end().await;
}

/// Changes a machine's configuration after it was written, and starts it.
async fn start_otherwise(story: &Story, place: &str, value: &Value) -> GuestError {
    let start = story.about_to_start();
    let jail = start.prepare().unwrap();
    let path = story.configuration();
    let mut machine: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    *machine.pointer_mut(place).unwrap() = value.clone();
    fs::remove_file(&path).unwrap();
    jail.leave(Item::Configuration, machine.to_string().as_bytes())
        .unwrap();
    let started = start.run_in(&jail).await.unwrap();
    story.wait_for_agent(started).await
}

fn check_refusal(refused: &GuestError, told: &str) {
    match refused {
        GuestError::Host(HostError::VmmRefused { command, message }) => {
            assert_eq!(command, "the machine");
            assert!(message.contains(told), "{told}: {message}");
            assert!(!message.contains("from Json"), "{message}");
        }
        other => panic!("{told}: {other:?}"),
    }
}

#[tokio::test]
async fn what_the_vmm_refuses_is_told_in_its_own_words() {
    if !can_be_told() {
        return;
    }
    let cases = [
        (
            "/boot-source/kernel_image_path",
            json!("/nowhere"),
            "kernel file cannot be opened",
        ),
        (
            "/boot-source/initrd_path",
            json!("/nowhere"),
            "initrd file cannot be opened",
        ),
        (
            "/boot-source/boot_args",
            json!("x".repeat(4096)),
            "ommand line",
        ),
        (
            "/drives/0/path_on_host",
            json!("/nowhere"),
            "No such file or directory",
        ),
        (
            "/drives/1/io_engine",
            json!("Fast"),
            "unknown variant `Fast`",
        ),
        ("/machine-config/vcpu_count", json!(33), "number of vCPUs"),
        ("/machine-config/mem_size_mib", json!(0), "memory size"),
        ("/machine-config/mem_size_mib", json!(1 << 24), "memory"),
        ("/machine-config/smt", json!("both"), "invalid type"),
        (
            "/vsock/uds_path",
            json!("/nowhere/agent.sock"),
            "Vsock device error",
        ),
        ("/balloon/amount_mib", json!(1 << 20), "alloon"),
        (
            "/metrics",
            json!({"metrics_path": "/nowhere/metrics"}),
            "etrics",
        ),
        (
            "/network-interfaces/0/host_dev_name",
            json!("a name that is too long"),
            "tap",
        ),
        ("/network-interfaces/0/guest_mac", json!("02:00"), "MAC"),
        ("/mmds-config/network_interfaces/0", json!("net9"), "MMDS"),
    ];
    let mut story = Story::of(&guest::waiting(), best_walls());
    story.plan.network = Network::User;
    story.settings.metrics = true;
    story.settings.mmds = true;
    for (place, value, told) in cases {
        check_refusal(&start_otherwise(&story, place, &value).await, told);
        story.end().await;
    }
}

#[tokio::test]
async fn a_kernel_that_is_none_is_named_in_every_confinement() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let story = Story::of(b"neither ELF nor anything else", walls);
        let started = story.start().await.unwrap();
        let refused = story.wait_for_agent(started).await;
        check_refusal(&refused, "Kernel Loader");
        let log = fs::read_to_string(story.places().vmm_log()).unwrap();
        assert!(log.contains("Kernel Loader"), "{walls:?} {log}");
        story.end().await;
    }
}

/// Not every processor can have every template; what cannot be had is named.
#[tokio::test]
async fn a_cpu_template_is_taken_or_refused_by_name() {
    if !can_be_told() {
        return;
    }
    for template in [CpuTemplate::T2, CpuTemplate::T2A] {
        let mut story = Story::of(&guest::waiting(), best_walls());
        story.settings.cpu_template = Some(template);
        let (process, note, control) = story.start().await.unwrap();
        tokio::select! {
            () = story.heard("up") => end(&story, process).await,
            _ = process.ended() => {
                let refused = story.wait_for_agent((process, note, control)).await;
                check_refusal(&refused, "CPU template");
                story.end().await;
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named_before_the_vmm_begins() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let gone = |plan: &LaunchPlan| {
            [
                plan.kernel.clone(),
                plan.initramfs.clone(),
                plan.base.clone(),
                plan.places.disk(),
            ]
        };
        for file in 0..4 {
            let story = Story::of(&guest::waiting(), walls);
            fs::remove_file(&gone(&story.plan)[file]).unwrap();
            let refused = story.start().await.map(drop).unwrap_err();
            assert!(
                matches!(refused, HostError::File { .. } | HostError::Spawn { .. }),
                "{walls:?} {file} {refused:?}"
            );
            story.end().await;
        }
    }
}

#[tokio::test]
async fn both_engines_and_both_caches_are_taken() {
    if !can_be_told() {
        return;
    }
    for (disk_engine, disk_cache) in [
        (IoEngine::Sync, CacheMode::Writeback),
        (IoEngine::Async, CacheMode::Unsafe),
    ] {
        let mut story = Story::of(&guest::waiting(), best_walls());
        story.settings.disk_engine = disk_engine;
        story.settings.disk_cache = disk_cache;
        let (process, ..) = story.start().await.unwrap();
        let machine = api(&story).await.get::<Value>("/vm/config").await.unwrap();
        let disk = &machine["drives"][1];
        let engine = crate::firecracker::api::Engine::from(disk_engine);
        assert_eq!(disk["io_engine"], serde_json::to_value(engine).unwrap());
        end(&story, process).await;
    }
}

#[tokio::test]
async fn a_state_that_the_vmm_does_not_know_is_refused() {
    if !can_be_told() {
        return;
    }
    let story = Story::of(&guest::waiting(), best_walls());
    let (process, ..) = story.start().await.unwrap();
    let refused = api(&story).await.get::<Value>("/nowhere").await;
    match refused {
        Err(HostError::VmmRefused { command, message }) => {
            assert_eq!(command, "GET /nowhere");
            assert!(message.contains("Invalid request"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    end(&story, process).await;
}

#[tokio::test]
async fn a_flood_on_the_console_reaches_the_log_and_nothing_else() {
    if !can_be_told() {
        return;
    }
    let story = Story::of(&guest::flooding(), best_walls());
    let (process, ..) = story.start().await.unwrap();
    story.heard("flood flood\nflood").await;
    let log = fs::read_to_string(story.places().vmm_log()).unwrap();
    assert!(!log.contains("flood"));
    end(&story, process).await;
}
