//! A VMM that is killed at any stage, a daemon that forgets one, and what is found afterwards.

use banger_core::{journal::Unrecorded, spec::Network};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{
    guest,
    story::{Story, all_walls, can_be_told},
};
use crate::{
    arrivals::connect_when_there,
    cgroups::{Groups, Limits},
    firecracker::{
        api::{InstanceInfo, InstanceState, State},
        client::Client,
        jail::{Item, outside},
        launch,
        uplink::Uplink,
        walls::Walls,
    },
    places,
    process::Process,
};

/// How far a start has come. Each stage has all that the ones before it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its place is made, and no process.
    Placed,
    /// Its program has begun, or the jailer has.
    Executed,
    Limited,
    /// The other end of its cable is served.
    Linked,
    /// Its API answers, and so its guest begins.
    Answering,
    Begun,
    Paused,
}

const STAGES: [Stage; 7] = [
    Stage::Placed,
    Stage::Executed,
    Stage::Limited,
    Stage::Linked,
    Stage::Answering,
    Stage::Begun,
    Stage::Paused,
];

impl Story {
    /// Starts the VMM as far as `stage`, as [`launch`] does.
    async fn start_until(&self, stage: Stage) -> Option<Process> {
        let start = self.about_to_start();
        let jail = start.prepare().unwrap();
        let groups = Groups::make(self.places(), Limits::of(&self.plan)).unwrap();
        if stage == Stage::Placed {
            return None;
        }
        let process = Process::start(start.detached(&jail, start.note()).unwrap()).unwrap();
        if stage >= Stage::Limited {
            groups.take_in(&[process.pid()]);
        }
        if stage >= Stage::Linked && self.plan.network == Network::User {
            let uplink = Uplink::find().unwrap();
            uplink.ensure(self.places(), process.pid()).unwrap();
        }
        if stage >= Stage::Answering {
            let socket = outside(self.places(), Item::ApiSocket);
            let mut api = Client::over(connect_when_there(&socket).await)
                .await
                .unwrap();
            let _: InstanceInfo = api.get("/").await.unwrap();
            if stage >= Stage::Begun {
                self.heard("up").await;
            }
            if stage >= Stage::Paused {
                api.change(State::Paused).await.unwrap();
            }
        }
        Some(process)
    }
}

#[tokio::test]
async fn a_kill_at_any_stage_leaves_nothing_that_is_not_swept() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let mut story = Story::of(&guest::waiting(), walls);
        if walls != Walls::Landlock {
            story.plan.network = Network::User;
        }
        for stage in STAGES {
            let process = story.start_until(stage).await;
            assert_ne!(story.left(), Vec::<String>::new(), "{walls:?} {stage:?}");
            if let Some(process) = process {
                process.kill().unwrap();
                process.ended().await;
            }
            story.end().await;
        }
    }
}

/// What the next daemon does after one that died at any stage of a start: it takes over a guest
/// that has begun, and ends a VMM without one.
#[tokio::test]
async fn a_daemon_that_dies_at_any_stage_leaves_nothing_that_is_not_found() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let mut story = Story::of(&guest::waiting(), walls);
        if walls != Walls::Landlock {
            story.plan.network = Network::User;
        }
        for stage in STAGES {
            drop(story.start_until(stage).await);
            let lock = places::vmm_lock(story.places());
            let found = Process::adopt(&lock).unwrap();
            assert_eq!(
                found.is_some(),
                stage > Stage::Placed,
                "{walls:?} {stage:?}"
            );
            let adopted = match found {
                Some((process, _)) => launch::adopt(story.places(), process, &Unrecorded)
                    .await
                    .unwrap(),
                None => None,
            };
            let has_begun = stage >= Stage::Answering;
            assert!(adopted.is_some() || !has_begun, "{walls:?} {stage:?}");
            if let Some((process, _control)) = adopted {
                process.kill().unwrap();
                process.ended().await;
            }
            story.end().await;
        }
    }
}

#[tokio::test]
async fn a_guest_that_began_without_its_uplink_gets_one_from_the_next_daemon() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        if walls == Walls::Landlock {
            continue;
        }
        let mut story = Story::of(&guest::waiting(), walls);
        story.plan.network = Network::User;
        drop(story.start_until(Stage::Limited).await);
        story.heard("up").await;
        let uplink = story.places().state.join("uplink.lock");
        assert!(Process::adopt(&uplink).unwrap().is_none());
        let (process, _) = Process::adopt(&places::vmm_lock(story.places()))
            .unwrap()
            .unwrap();
        let adopted = launch::adopt(story.places(), process, &Unrecorded)
            .await
            .unwrap();
        let (process, _control) = adopted.unwrap();
        assert!(Process::adopt(&uplink).unwrap().is_some(), "{walls:?}");
        process.kill().unwrap();
        process.ended().await;
        story.end().await;
    }
}

#[tokio::test]
async fn a_forgotten_vmm_is_taken_over_with_its_guest() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let mut story = Story::of(&guest::waiting(), walls);
        if walls != Walls::Landlock {
            story.plan.network = Network::User;
        }
        let (process, note, control) = story.start().await.unwrap();
        story.heard("up").await;
        let pid = process.pid();
        drop((process, control));
        let lock = places::vmm_lock(story.places());
        let (again, noted) = Process::adopt(&lock).unwrap().unwrap();
        assert_eq!((again.pid(), &noted), (pid, &note), "{walls:?}");
        let adopted = launch::adopt(story.places(), again, &Unrecorded)
            .await
            .unwrap();
        let (again, control) = adopted.unwrap();
        control.pause().await.unwrap();
        let socket = outside(story.places(), Item::ApiSocket);
        let info: InstanceInfo = Client::connect(&socket)
            .await
            .unwrap()
            .get("/")
            .await
            .unwrap();
        assert_eq!(info.state, InstanceState::Paused);
        again.kill().unwrap();
        again.ended().await;
        story.end().await;
    }
}

/// A pipe in the place of its configuration holds a VMM up for as long as nobody writes to it.
fn hold_up(story: &Story) {
    let path = story.configuration();
    std::fs::remove_file(&path).unwrap();
    let mode = Mode::RUSR | Mode::WUSR | Mode::ROTH | Mode::WOTH;
    mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
}

#[tokio::test]
async fn a_vmm_whose_guest_never_began_is_ended_by_the_next_daemon() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let story = Story::of(&guest::waiting(), walls);
        let start = story.about_to_start();
        let jail = start.prepare().unwrap();
        hold_up(&story);
        drop(Process::start(start.detached(&jail, start.note()).unwrap()).unwrap());
        let lock = places::vmm_lock(story.places());
        let (again, _) = Process::adopt(&lock).unwrap().unwrap();
        assert!(
            launch::adopt(story.places(), again, &Unrecorded)
                .await
                .unwrap()
                .is_none()
        );
        assert!(Process::adopt(&lock).unwrap().is_none(), "{walls:?}");
        story.end().await;
    }
}
