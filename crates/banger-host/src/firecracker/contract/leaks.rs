//! Many starts and kills, one after the other, and a count of what is there afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
};

use banger_core::spec::Network;

use super::{
    guest,
    story::{Story, all_walls, can_be_told},
};
use crate::firecracker::walls::Walls;

const STARTS: usize = 200;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What is mounted below the places of these VMs: others mount, too, at the same time.
fn mounts_below(homes: &[PathBuf]) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let is_ours = |line: &&str| {
        let point = line.split(' ').nth(1).map(Path::new);
        point.is_some_and(|point| homes.iter().any(|home| point.starts_with(home)))
    };
    mounts.lines().filter(is_ours).map(str::to_owned).collect()
}

#[tokio::test]
async fn two_hundred_starts_and_kills_leave_nothing() {
    if !can_be_told() {
        return;
    }
    let walls = all_walls();
    let (mut before, mut homes) = (None, Vec::new());
    for number in 0..STARTS {
        let walls = walls[number % walls.len()];
        let mut story = Story::of(&guest::waiting(), walls);
        if walls != Walls::Landlock {
            story.plan.network = Network::User;
        }
        let places = story.places();
        homes.extend([places.state.clone(), places.runtime.clone()]);
        let (process, _, control) = story.start().await.unwrap();
        if number % 2 == 0 {
            story.heard("up").await;
        }
        process.kill().unwrap();
        process.ended().await;
        control.drained().await;
        drop((process, control));
        // Looks for processes, mounts, groups, jails and sockets of this VM.
        story.end().await;
        // The runtime keeps what it has made for the first of them.
        if number == walls_count() {
            before = Some(descriptors());
        }
    }
    assert_eq!(Some(descriptors()), before);
    assert_eq!(mounts_below(&homes), Vec::<String>::new());
}

fn walls_count() -> usize {
    all_walls().len()
}
