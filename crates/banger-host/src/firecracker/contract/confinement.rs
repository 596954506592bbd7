//! What a Firecracker can do that its guest has taken over: read from the kernel's own account
//! of its process.

use std::fs;

use banger_core::{host::Confinement, spec::Network};

use super::{
    guest,
    story::{Story, all_walls, can_be_told, is_root},
};
use crate::{firecracker::walls::Walls, sys::landlock_version};

/// The fields of a process's status that say what it may do.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

fn space(pid: impl std::fmt::Display, name: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    link.to_string_lossy().into_owned()
}

#[tokio::test]
async fn every_confinement_takes_away_what_it_promises() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let story = Story::of(&guest::waiting(), walls);
        let (process, note, _control) = story.start().await.unwrap();
        story.heard("up").await;
        let pid = process.pid();
        let wanted = match walls {
            Walls::Jailer => Confinement::Jailer,
            Walls::Namespaces => Confinement::Namespaces,
            Walls::Landlock if landlock_version().is_none() => Confinement::Seccomp,
            Walls::Landlock => Confinement::Landlock,
        };
        assert_eq!(note.confinement, wanted);
        assert_eq!(field(pid, "CapEff"), "0000000000000000", "{walls:?}");
        assert_eq!(field(pid, "NoNewPrivs"), "1", "{walls:?}");
        assert_eq!(field(pid, "Seccomp"), "2", "{walls:?}");
        let own = |name| space(pid, name) != space("self", name);
        let (namespaces, other_user) = match walls {
            Walls::Jailer => (true, true),
            Walls::Namespaces => (true, is_root()),
            Walls::Landlock => (false, false),
        };
        for name in ["pid", "net", "mnt"] {
            assert_eq!(own(name), namespaces, "{walls:?} {name}");
        }
        let user: u32 = field(pid, "Uid")
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(user >= 0x6000_0000, other_user, "{walls:?} {user}");
        process.kill().unwrap();
        process.ended().await;
        story.end().await;
    }
}

#[tokio::test]
async fn a_root_of_its_own_holds_nothing_of_the_hosts() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        if walls == Walls::Landlock {
            continue;
        }
        let story = Story::of(&guest::waiting(), walls);
        let (process, ..) = story.start().await.unwrap();
        story.heard("up").await;
        let entries = fs::read_dir(format!("/proc/{}/root/", process.pid())).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.retain(|name| name != "firecracker.pid");
        let wanted = [
            "base.ext4",
            "dev",
            "disk.ext4",
            "firecracker",
            "initramfs",
            "run",
            "vmlinux",
        ];
        assert_eq!(names, wanted, "{walls:?}");
        process.kill().unwrap();
        process.ended().await;
        story.end().await;
    }
}

#[tokio::test]
async fn a_network_is_the_vms_own_and_its_uplink_ends_with_it() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        if walls == Walls::Landlock {
            continue;
        }
        let mut story = Story::of(&guest::waiting(), walls);
        story.plan.network = Network::User;
        let (process, ..) = story.start().await.unwrap();
        story.heard("up").await;
        let devices = fs::read_to_string(format!("/proc/{}/net/dev", process.pid())).unwrap();
        for name in ["guest", "uplink", "cable"] {
            assert!(devices.contains(&format!("{name}:")), "{walls:?} {devices}");
        }
        let ours = fs::read_to_string("/proc/self/net/dev").unwrap();
        assert!(!ours.contains("cable:"), "{ours}");
        process.kill().unwrap();
        process.ended().await;
        story.end().await;
    }
}

/// What its control groups hold, and the files that it may have open.
#[tokio::test]
async fn a_vmm_has_limits_in_every_confinement() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let story = Story::of(&guest::waiting(), walls);
        let (process, ..) = story.start().await.unwrap();
        story.heard("up").await;
        let pid = process.pid();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let recorded = fs::read_to_string(story.places().state.join("groups")).unwrap();
        let name = format!("banger-{}", story.places().id.short());
        let joined = groups.lines().filter(|line| line.ends_with(&name)).count();
        assert_eq!(joined, recorded.lines().count(), "{walls:?} {groups}");
        assert!(joined > 0 || !is_root(), "{walls:?} {groups}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let row = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.unwrap_or_default().to_owned()
        };
        assert_eq!(row("Max core file size"), "0", "{walls:?}");
        if walls == Walls::Jailer {
            assert_eq!(row("Max open files"), "256");
        }
        process.kill().unwrap();
        process.ended().await;
        story.end().await;
    }
}

/// No socket fits into such a path, so each is reached through a link.
#[tokio::test]
async fn a_place_may_be_as_deep_as_files_can_be() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let mut story = Story::of(&guest::waiting(), walls);
        story.move_state(&"deep/".repeat(60));
        let (process, _, control) = story.start().await.unwrap();
        story.heard("up").await;
        control.pause().await.unwrap();
        process.kill().unwrap();
        process.ended().await;
        story.end().await;
    }
}
