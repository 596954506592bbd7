//! A VMM that is killed at any stage, a daemon that forgets one, and what is found afterwards.

use banger_core::spec::Network;

use super::{
    guest,
    story::{Story, all_walls, can_be_told},
};
use crate::{
    control::connect_when_there,
    firecracker::{
        api::{InstanceInfo, InstanceState},
        client::Client,
        jail::{Item, Jail, Walls, outside},
        launch::{self, Start},
        setup,
    },
    places,
    process::Process,
};

impl Story {
    /// Starts the VMM and makes the first `calls` calls; the guest never begins.
    async fn half_start(&self, calls: usize) -> Process {
        let start = Start {
            plan: &self.plan,
            command_line: "quiet".into(),
            settings: &self.settings,
            programs: &self.programs,
        };
        let jail = Jail::new(self.places(), self.programs.walls);
        places::prepare(self.places()).unwrap();
        crate::logs::start_console(&self.places().console()).unwrap();
        jail.prepare(&self.plan, false).unwrap();
        let process = Process::start(start.detached(&jail, start.note()).unwrap()).unwrap();
        let stream = connect_when_there(&outside(self.places(), Item::ApiSocket)).await;
        let mut api = Client::over(stream).await.unwrap();
        let all = setup::calls(&self.plan, "quiet", &self.settings, &jail);
        for call in all.iter().take(calls) {
            api.call(call).await.unwrap();
        }
        process
    }
}

#[tokio::test]
async fn a_kill_at_any_stage_leaves_nothing_that_is_not_swept() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let story = Story::of(&guest::waiting(), walls);
        let jail = Jail::new(story.places(), walls);
        let stages = setup::calls(&story.plan, "quiet", &story.settings, &jail).len();
        for stage in 0..=stages {
            let process = story.half_start(stage).await;
            process.kill().unwrap();
            process.ended().await;
            story.end();
        }
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
        let adopted = launch::adopt(story.places(), again).await.unwrap();
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
        story.end();
    }
}

#[tokio::test]
async fn a_vmm_whose_guest_never_began_is_ended_by_the_next_daemon() {
    if !can_be_told() {
        return;
    }
    for walls in all_walls() {
        let story = Story::of(&guest::waiting(), walls);
        drop(story.half_start(3).await);
        let lock = places::vmm_lock(story.places());
        let (again, _) = Process::adopt(&lock).unwrap().unwrap();
        assert!(
            launch::adopt(story.places(), again)
                .await
                .unwrap()
                .is_none()
        );
        assert!(Process::adopt(&lock).unwrap().is_none(), "{walls:?}");
        story.end();
    }
}
