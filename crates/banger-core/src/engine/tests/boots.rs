//! Starts that skip their boot because one of their kind was saved.

use super::kills::is_tidy;
use crate::{
    engine::{CreateRequest, Engine},
    holder::Holder,
    name::VmId,
    record::VmState,
    testing::{Act, Connect, LONG, Step, World, entries, request, silent, time_passes},
    vm::View,
};

fn world() -> World {
    let mut world = World::new();
    world.boots_budget = Some(u64::MAX);
    world
}

async fn start(engine: &Engine, name: &str) -> View {
    let view = engine.create(request(name, true, false), silent()).await;
    let view = view.unwrap();
    assert_eq!(view.record.state, VmState::Running);
    view
}

/// Whether it went on from a saved boot.
fn skipped(world: &World, view: &View) -> bool {
    world.host.acts_of(view.record.id).contains(&Act::Assume)
}

/// Whether it was held up to be saved.
fn was_saved(world: &World, view: &View) -> bool {
    world.host.acts_of(view.record.id).contains(&Act::Save)
}

/// Lets the daemon save what it will.
async fn behind_our_back() {
    time_passes(LONG).await;
}

#[test]
fn the_second_start_of_a_kind_skips_its_boot() {
    let world = world();
    world.life(async |engine| {
        let first = start(&engine, "a").await;
        assert!(!was_saved(&world, &first) && !skipped(&world, &first));
        let at_once = start(&engine, "at-once").await;
        assert!(
            !skipped(&world, &at_once),
            "the first has the host for itself"
        );
        behind_our_back().await;
        assert_eq!(world.host.count(Act::Save), 1, "one of a kind is enough");
        assert_eq!(engine.views().len(), 2, "what was saved is gone");
        let second = start(&engine, "b").await;
        assert!(skipped(&world, &second) && !was_saved(&world, &second));
        let cold = CreateRequest {
            cold: true,
            ..request("c", true, false)
        };
        let cold = engine.create(cold, silent()).await.unwrap();
        assert!(!skipped(&world, &cold) && !was_saved(&world, &cold));
        let other = CreateRequest {
            memory: Some((256 << 20).try_into().unwrap()),
            ..request("d", true, false)
        };
        let other = engine.create(other, silent()).await.unwrap();
        assert!(!skipped(&world, &other), "another size boots");
        // What has run has a disk of its own, which no saved machine knows.
        let vm = engine.find("a").unwrap();
        vm.stop(None).await.unwrap();
        vm.start(silent()).await.unwrap();
        assert!(!skipped(&world, &vm.view()));
        assert_eq!(
            engine.snapshots().list().unwrap(),
            [],
            "nobody asked for one"
        );
    });
    world.life(async |engine| {
        assert!(skipped(&world, &start(&engine, "e").await), "it is kept");
    });
}

#[test]
fn a_boot_that_is_not_saved_or_does_not_go_on_is_a_boot() {
    let world = world();
    world.life(async |engine| {
        world.host.script(|script| script.save = Step::Fails);
        for name in ["a", "again"] {
            start(&engine, name).await;
            behind_our_back().await;
        }
        assert_eq!(world.host.count(Act::Save), 1, "it is not tried again");
        assert_eq!(engine.views().len(), 2);
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
    });
    world.life(async |engine| {
        world.host.script(|script| script.save = Step::Works);
        start(&engine, "b").await;
        behind_our_back().await;
        assert_eq!(entries(&world.snapshots()).len(), 1);
        // An agent that does not answer, and then does.
        world
            .host
            .script(|script| script.connect = Connect::BreaksOnce);
        let third = start(&engine, "c").await;
        assert!(!skipped(&world, &third));
        assert_eq!(
            entries(&world.snapshots()),
            Vec::<String>::new(),
            "it is of no use"
        );
    });
}

#[test]
fn saved_boots_keep_to_their_budget_and_go_with_their_image() {
    let mut world = world();
    world.boots_budget = Some(0);
    world.host.script(|script| script.saved_bytes = 1);
    world.life(async |engine| {
        start(&engine, "a").await;
        behind_our_back().await;
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
    });
    world.boots_budget = Some(1);
    world.life(async |engine| {
        start(&engine, "b").await;
        behind_our_back().await;
        assert_eq!(entries(&world.snapshots()).len(), 1);
        for vm in ["a", "b"] {
            engine.find(vm).unwrap().delete(true).await.unwrap();
        }
        engine.delete_image(&"tiny".parse().unwrap()).await.unwrap();
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
    });
}

#[test]
fn a_daemon_that_is_asked_to_end_takes_the_machine_along_that_nobody_knows_of() {
    let world = world();
    world.life(async |engine| {
        let vm = start(&engine, "a").await;
        world.host.script(|script| script.connect = Connect::Hangs);
        world.host.asked(Act::Connect, 2).await;
        assert_eq!(engine.views().len(), 2);
        engine.end().await;
        assert_eq!(world.host.alive(), [vm.record.id]);
        is_tidy(&world, &engine, "asked to end");
        world
            .host
            .script(|script| script.connect = Connect::Answers);
    });
}

/// The memory of so many machines.
fn memory_of(machines: u64) -> u64 {
    machines * (128 << 20)
}

/// Waits until a machine boots to be saved, which never gets that far.
async fn hangs_in_its_boot(world: &World, engine: &Engine) -> VmId {
    let connects = world.host.count(Act::Connect);
    world.host.script(|script| script.connect = Connect::Hangs);
    world.host.asked(Act::Connect, connects + 1).await;
    world
        .host
        .script(|script| script.connect = Connect::Answers);
    let views = engine.views().into_iter();
    let mut hidden = views.filter(|view| view.record.holder == Some(Holder::Boots));
    hidden.next().unwrap().record.id
}

#[test]
fn no_boot_is_saved_where_the_host_is_short_of_memory_or_room() {
    let world = world();
    world.life(async |engine| {
        world.host.script(|script| script.memory = memory_of(2));
        start(&engine, "a").await;
        behind_our_back().await;
        world.host.script(|script| script.memory = u64::MAX);
        world.host.has_free((128 << 20) - 1, 0);
        start(&engine, "b").await;
        behind_our_back().await;
        assert_eq!(world.host.count(Act::Launch), 2, "nothing boots unasked");
        world.host.has_free(u64::MAX, 0);
        start(&engine, "c").await;
        behind_our_back().await;
        assert!(
            skipped(&world, &start(&engine, "d").await),
            "it tries again"
        );
    });
}

#[test]
fn what_boots_to_be_saved_makes_room_for_what_somebody_waits_for() {
    let world = world();
    world.life(async |engine| {
        world.host.script(|script| script.memory = memory_of(4));
        start(&engine, "a").await;
        let hidden = hangs_in_its_boot(&world, &engine).await;
        start(&engine, "b").await;
        start(&engine, "c").await;
        assert!(world.host.machine(hidden).is_alive());
        start(&engine, "d").await;
        assert!(!world.host.machine(hidden).is_alive());
        let refused = engine.create(request("e", true, false), silent()).await;
        assert!(refused.is_err(), "there is nothing left that could go");
        is_tidy(&world, &engine, "a host that is full");
        // It was none of its own doing.
        for vm in ["b", "c", "d", "e"] {
            engine.find(vm).unwrap().delete(true).await.unwrap();
        }
        start(&engine, "f").await;
        behind_our_back().await;
        assert!(skipped(&world, &start(&engine, "g").await));
    });
}

#[test]
fn a_machine_that_boots_to_be_saved_goes_when_nobody_wants_it_any_more() {
    let world = world();
    world.life(async |engine| {
        start(&engine, "a").await;
        let hidden = hangs_in_its_boot(&world, &engine).await;
        engine.set_boots_budget(None).unwrap();
        behind_our_back().await;
        assert!(!world.host.machine(hidden).is_alive());
        start(&engine, "b").await;
        behind_our_back().await;
        assert_eq!(engine.views().len(), 2, "nobody wants another");
        engine.set_boots_budget(Some(u64::MAX)).unwrap();
        start(&engine, "c").await;
        behind_our_back().await;
        assert!(skipped(&world, &start(&engine, "d").await));
        engine.set_boots_budget(None).unwrap();
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
        is_tidy(&world, &engine, "no saved boots");
    });
}

#[test]
fn a_daemon_that_ends_while_it_saves_a_boot_leaves_nothing_of_it() {
    for moment in 0.. {
        let world = world();
        let end = world.life(async |engine| {
            let vm = start(&engine, "a").await;
            world.host.power().cut_at(moment);
            behind_our_back().await;
            assert_eq!(vm.record.state, VmState::Running);
            world.host.power().end()
        });
        world.life(async |engine| {
            engine.looked_for().await;
            behind_our_back().await;
            is_tidy(
                &world,
                &engine,
                &format!("ended at moment {moment}: {end:?}"),
            );
            assert_eq!(engine.views().len(), 1);
            let kept = world.store().snapshots().unwrap().len();
            assert_eq!(entries(&world.snapshots()).len(), kept);
        });
        if end.is_none() {
            return;
        }
    }
}
