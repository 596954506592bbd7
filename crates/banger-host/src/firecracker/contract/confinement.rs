//! What a Firecracker can do that its guest has taken over: read from the kernel's own account
//! of its process.

use std::fs;

use banger_core::{host::Confinement, spec::Network};

use super::{
    guest,
    story::{Story, all_walls, can_be_told, is_root},
};
use crate::firecracker::jail::Walls;

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
        assert_eq!(note.confinement, Confinement::from(walls));
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
