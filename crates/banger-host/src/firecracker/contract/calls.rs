//! What Firecracker takes, and what it refuses in its own words.

use banger_core::{host_error::HostError, spec::Network};

use super::{
    guest,
    story::{Story, can_be_told, is_root},
};
use crate::{
    firecracker::{
        CacheMode, FirecrackerSettings, IoEngine, RateLimit,
        api::{Call, InstanceInfo, InstanceState, MachineConfiguration},
        client::Client,
        control::metrics_file,
        jail::{Item, Walls, outside},
    },
    process::{Ended, Process},
};

async fn end(story: &Story, process: Process) {
    process.kill().unwrap();
    assert_eq!(process.ended().await, Ended::Signal(9));
    story.end();
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
    let limit = RateLimit {
        bytes: Some(64 << 20),
        operations: Some(1000),
    };
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
    let mut api = Client::connect(&outside(story.places(), Item::ApiSocket))
        .await
        .unwrap();
    let info: InstanceInfo = api.get("/").await.unwrap();
    assert_eq!(info.state, InstanceState::Running);
    assert_eq!(info.id, story.places().id.short());
    assert_eq!(info.vmm_version, "1.12.1");
    let machine: MachineConfiguration = api.get("/machine-config").await.unwrap();
    assert_eq!((machine.vcpu_count, machine.mem_size_mib), (1, 64));
    let mmds: serde_json::Value = api.get("/mmds").await.unwrap();
    assert_eq!(mmds["local-hostname"], "calm-otter");
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
    let socket = outside(story.places(), Item::ApiSocket);
    let mut api = Client::connect(&socket).await.unwrap();
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
    // The guest may be gone before the call that starts it is answered.
    match story.start().await {
        Ok((process, _, control)) => {
            let exit = control.exit(process.ended().await);
            assert_eq!((exit.status.as_str(), exit.clean), ("exit code 0", true));
        }
        Err(HostError::VmmExited { status, .. }) => assert_eq!(status, "exit code 0"),
        Err(error) => panic!("{error}"),
    }
    story.heard("up").await;
    story.end();
}

/// Which call is refused, and that nothing of the VMM stays behind.
async fn check_refusal(story: &Story, call: &str) {
    match story.start().await {
        Err(HostError::VmmRefused { command, message }) => {
            assert_eq!(command, call, "{message}");
            assert!(!message.is_empty());
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{call} was to be refused"),
    }
    assert_eq!(story.left(), [story.places().runtime.display().to_string()]);
    story.end();
}

#[tokio::test]
async fn what_cannot_work_is_refused_by_name() {
    if !can_be_told() {
        return;
    }
    let no_elf = Story::of(b"neither ELF nor anything else", best_walls());
    check_refusal(&no_elf, "PUT /actions").await;

    // Without a root of its own the VMM is told the host's names, so a file can be missing.
    let story = Story::of(&guest::waiting(), Walls::Landlock);
    let (process, ..) = story.start().await.unwrap();
    let mut api = Client::connect(&outside(story.places(), Item::ApiSocket))
        .await
        .unwrap();
    let check = |result: Result<(), HostError>, told: &str| match result {
        Err(HostError::VmmRefused { message, .. }) => assert!(message.contains(told), "{message}"),
        other => panic!("{other:?}"),
    };
    let machine = Call::Machine(MachineConfiguration {
        vcpu_count: 1,
        mem_size_mib: 64,
        smt: false,
        cpu_template: None,
    });
    check(api.call(&machine).await, "not supported after starting");
    end(&story, process).await;
}

#[tokio::test]
async fn a_machine_that_the_vmm_cannot_make_is_refused() {
    if !can_be_told() {
        return;
    }
    let mut story = Story::of(&guest::waiting(), best_walls());
    // More than any processor of these days can address.
    story.plan.memory = (1_u64 << 40).try_into().unwrap();
    match story.start().await {
        Err(HostError::VmmRefused { command, .. }) => {
            assert!(
                command == "PUT /machine-config" || command == "PUT /actions",
                "{command}"
            );
        }
        Err(HostError::VmmExited { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok((process, ..)) => process.kill().unwrap(),
    }
    story.end();
}

#[tokio::test]
async fn a_flood_on_the_console_reaches_the_log_and_nothing_else() {
    if !can_be_told() {
        return;
    }
    let story = Story::of(&guest::flooding(), best_walls());
    let (process, ..) = story.start().await.unwrap();
    story.heard("flood flood\nflood").await;
    let log = std::fs::read_to_string(story.places().vmm_log()).unwrap();
    assert!(!log.contains("flood"));
    end(&story, process).await;
}
