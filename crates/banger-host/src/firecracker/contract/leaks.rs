//! Many starts and kills, one after the other, and a count of what is there afterwards.

use std::fs;

use banger_core::spec::Network;

use super::{
    guest,
    story::{Story, all_walls, can_be_told},
};
use crate::firecracker::walls::Walls;

const STARTS: usize = 200;

/// What a start makes of the host's things, counted.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    mounts: usize,
    descriptors: usize,
}

impl Census {
    fn take() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        Self {
            mounts: mounts.lines().count(),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }
}

#[tokio::test]
async fn two_hundred_starts_and_kills_leave_nothing() {
    if !can_be_told() {
        return;
    }
    let walls = all_walls();
    let mut before = None;
    for number in 0..STARTS {
        let walls = walls[number % walls.len()];
        let mut story = Story::of(&guest::waiting(), walls);
        if walls != Walls::Landlock {
            story.plan.network = Network::User;
        }
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
            before = Some(Census::take());
        }
    }
    assert_eq!(Some(Census::take()), before);
}

fn walls_count() -> usize {
    all_walls().len()
}
