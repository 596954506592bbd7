//! What VMs do when a daemon comes, or the host: they come back where their owners want that.

use crate::{
    record::VmState,
    spec::SpecChange,
    testing::{LONG, World, create, reaches, soon, time_passes},
};

fn change(restart: &str, autostart: bool) -> SpecChange {
    SpecChange {
        restart: Some(restart.parse().unwrap()),
        autostart: Some(autostart),
        ..SpecChange::default()
    }
}

/// How a VM is left by one daemon, and what the next one finds.
struct Story {
    restart: &'static str,
    autostart: bool,
    /// Somebody stopped it.
    stopped: bool,
    /// The host, and with it every VMM, was started anew.
    reboot: bool,
}

fn check(story: &Story, expected: VmState) {
    let world = World::new();
    world.host.reboot("first");
    world.life(async |engine| {
        let vm = create(&engine, "a", true, false).await;
        vm.change(change(story.restart, story.autostart))
            .await
            .unwrap();
        if story.stopped {
            vm.stop(None).await.unwrap();
        }
    });
    if !story.stopped {
        world.host.machine(world.rows()[0].id).end("gone", false);
    }
    if story.reboot {
        world.host.reboot("second");
    }
    world.life(async |engine| {
        let vm = engine.find("a").unwrap();
        soon("it is looked for", engine.looked_for()).await;
        if expected == VmState::Running {
            reaches(&vm, VmState::Running).await;
        }
        time_passes(LONG).await;
        let Story {
            restart,
            autostart,
            stopped,
            reboot,
        } = story;
        let told = format!("{restart} {autostart} stopped {stopped} reboot {reboot}");
        assert_eq!(vm.view().record.state, expected, "{told}");
    });
}

#[test]
fn a_vm_comes_back_with_the_host_or_the_daemon_where_that_is_wanted() {
    let story = |restart, autostart, stopped, reboot| Story {
        restart,
        autostart,
        stopped,
        reboot,
    };
    use VmState::{Running, Stopped};
    // Its VMM went while no daemon was there.
    check(&story("no", false, false, false), Stopped);
    check(&story("on-failure", false, false, false), Stopped);
    check(&story("always", false, false, false), Running);
    check(&story("unless-stopped", false, false, true), Running);
    // Somebody stopped it: the next daemon changes nothing, the next start of the host may.
    check(&story("always", true, true, false), Stopped);
    check(&story("always", false, true, true), Running);
    check(&story("unless-stopped", false, true, true), Stopped);
    check(&story("no", true, true, true), Running);
    check(&story("no", false, true, true), Stopped);
}
