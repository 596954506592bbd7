//! Pools: what is ready is taken at once, what is taken is replaced, and whoever is killed leaves nothing.

use super::kills::is_tidy;
use crate::{
    engine::{CreateRequest, Engine, PoolRequest, PoolView},
    error::Error,
    name::{PoolName, VmId},
    pool::PoolError,
    record::VmState,
    store::StoreError,
    testing::{Act, Connect, LONG, World, entries, request, silent, soon, time_passes},
    vm::View,
};

pub(super) fn web() -> PoolName {
    "web".parse().unwrap()
}

pub(super) async fn create(engine: &Engine, size: u32) -> Result<PoolView, Error> {
    let request = PoolRequest {
        name: web(),
        size: size.try_into().unwrap(),
        machine: CreateRequest::default(),
        wait: true,
    };
    engine.create_pool(request, silent()).await
}

pub(super) fn of_pool(name: &str) -> CreateRequest {
    CreateRequest {
        pool: Some(web()),
        ..request(name, true, false)
    }
}

pub(super) async fn take(engine: &Engine, name: &str) -> View {
    let view = engine.create(of_pool(name), silent()).await.unwrap();
    assert_eq!(view.record.state, VmState::Running);
    assert_eq!(
        (view.record.name.as_str(), &view.record.holder),
        (name, &None)
    );
    view
}

pub(super) async fn resize(engine: &Engine, size: u32) -> Result<PoolView, Error> {
    let size = size.try_into().unwrap();
    engine.resize_pool(&web(), size).await
}

/// Waits until a pool has all its machines.
pub(super) async fn is_full(engine: &Engine) -> Vec<VmId> {
    let full = async {
        loop {
            let pool = engine.pool(&web()).unwrap();
            if pool.status.ready == pool.record.size.count() {
                let ids = pool.machines.iter().map(|view| view.record.id);
                return ids.collect();
            }
            time_passes(std::time::Duration::from_millis(50)).await;
        }
    };
    soon("the pool is full", full).await
}

/// Whether it was started for whoever asked.
pub(super) fn was_waiting(world: &World, view: &View) -> bool {
    let acts = world.host.acts_of(view.record.id);
    let at = |act: Act| acts.iter().rposition(|other| *other == act);
    at(Act::Pause).is_some()
        && at(Act::Pause) < at(Act::Resume)
        && at(Act::Resume) < at(Act::Assume)
}

#[test]
fn a_machine_that_is_ready_is_taken_and_another_takes_its_place() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 2).await.unwrap();
        let waiting = is_full(&engine).await;
        assert_eq!(world.host.count(Act::Save), 1, "one boot is enough for all");
        assert_eq!(world.host.count(Act::Assume), 0, "nobody is anybody yet");
        assert_eq!(engine.snapshots().list().unwrap(), []);
        // What is nobody's yet is found by whoever has its whole name, and by no other word.
        let name = engine.pool(&web()).unwrap().machines[0].record.name.clone();
        assert!(engine.find(name.as_str()).unwrap().is_held());
        assert!(engine.find("pool").is_err() && engine.find("pool-web").is_err());
        let view = take(&engine, "a").await;
        assert!(waiting.contains(&view.record.id) && was_waiting(&world, &view));
        assert_eq!(engine.find("a").unwrap().view().record.id, view.record.id);
        let now = is_full(&engine).await;
        assert!(!now.contains(&view.record.id), "it is replaced");
        let refused = engine.create(of_pool("a"), silent()).await;
        assert!(matches!(refused, Err(Error::Store(StoreError::VmTaken(_)))));
        is_tidy(&world, &engine, "a pool");
        engine.delete_pool(&web()).await.unwrap();
        assert_eq!(engine.views().len(), 1, "what was taken is not the pool's");
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
        engine.find("a").unwrap().delete(true).await.unwrap();
        let gone = engine.delete_pool(&web()).await;
        assert!(matches!(gone, Err(Error::NotFound { .. })));
    });
    world.is_empty();
}

#[test]
fn a_pool_outlives_daemons_and_replaces_what_does_not() {
    let world = World::new();
    let first = world.life(async |engine| {
        create(&engine, 2).await.unwrap();
        is_full(&engine).await
    });
    let launched = world.host.count(Act::Launch);
    world.life(async |engine| {
        assert_eq!(is_full(&engine).await, first, "they are adopted");
        assert_eq!(world.host.count(Act::Launch), launched);
        assert!(was_waiting(&world, &take(&engine, "a").await));
        is_full(&engine).await;
    });
    let left = world.life(async |engine| is_full(&engine).await);
    world.host.machine(left[0]).end("signal 9", false);
    world.life(async |engine| {
        let now = is_full(&engine).await;
        assert!(!now.contains(&left[0]) && now.contains(&left[1]));
        // One that dies while a daemon watches is replaced, too.
        world.host.machine(left[1]).end("signal 9", false);
        time_passes(LONG).await;
        let now = is_full(&engine).await;
        assert!(!now.contains(&left[1]), "{now:?}");
        is_tidy(&world, &engine, "a pool");
    });
}

#[test]
fn an_image_that_is_replaced_replaces_the_machines() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 1).await.unwrap();
        let before = is_full(&engine).await;
        let image = "tiny".parse().unwrap();
        engine.delete_image(&image).await.unwrap();
        assert_eq!(engine.views().len(), 0);
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
        time_passes(LONG).await;
        let pool = engine.pool(&web()).unwrap();
        assert!(pool.status.last_error.is_some(), "it says what it lacks");
        world.publish_tiny();
        assert_ne!(is_full(&engine).await, before);
        let pool = engine.pool(&web()).unwrap();
        assert_eq!(pool.status.last_error, None);
        // A VM of somebody's keeps the image, and the pool keeps its machines.
        let view = take(&engine, "a").await;
        let kept = is_full(&engine).await;
        let used = engine.delete_image(&image).await;
        assert!(matches!(used, Err(Error::ImageUsed { vm, .. }) if vm == "a"));
        assert_eq!(is_full(&engine).await, kept);
        assert!(was_waiting(&world, &view));
    });
}

#[test]
fn an_agent_or_a_vmm_of_another_release_replaces_the_machines() {
    let world = World::new();
    let before = world.life(async |engine| {
        create(&engine, 1).await.unwrap();
        is_full(&engine).await
    });
    world.host.script(|script| script.vmm_version = "2.0");
    world.life(async |engine| {
        let view = take(&engine, "a").await;
        assert!(
            !was_waiting(&world, &view),
            "nothing fits, so one is started"
        );
        assert_ne!(is_full(&engine).await, before);
        is_tidy(&world, &engine, "a pool");
    });
}

#[test]
fn an_empty_pool_starts_a_machine_and_goes_on_trying() {
    let world = World::new();
    world.life(async |engine| {
        world.host.script(|script| script.connect = Connect::Breaks);
        let pool = create(&engine, 1).await.unwrap();
        assert!(pool.status.last_error.is_some() && pool.status.ready == 0);
        world
            .host
            .script(|script| script.connect = Connect::Answers);
        let view = take(&engine, "a").await;
        assert!(!was_waiting(&world, &view));
        is_full(&engine).await;
        assert_eq!(engine.pool(&web()).unwrap().status.last_error, None);
        is_tidy(&world, &engine, "a pool");
    });
}

#[test]
fn a_machine_that_cannot_become_somebody_s_goes_and_the_next_is_taken() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 2).await.unwrap();
        let waiting = is_full(&engine).await;
        let broken = world.host.machine(waiting[0]);
        broken.script(|script| script.connect = Connect::Breaks);
        broken.disconnect();
        // Whichever is the first to be handed out.
        for name in ["a", "b"] {
            assert_ne!(take(&engine, name).await.record.id, waiting[0]);
        }
        assert!(!broken.is_alive());
        is_full(&engine).await;
        is_tidy(&world, &engine, "a pool");
    });
}

#[test]
fn a_machine_that_has_lost_its_connection_is_greeted_anew() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 1).await.unwrap();
        let [waiting] = is_full(&engine).await.try_into().unwrap();
        let connects = |world: &World| {
            let acts = world.host.acts_of(waiting).into_iter();
            acts.filter(|act| *act == Act::Connect).count()
        };
        assert_eq!(connects(&world), 1);
        world.host.machine(waiting).disconnect();
        let view = take(&engine, "a").await;
        assert_eq!((view.record.id, connects(&world)), (waiting, 2));
        assert!(was_waiting(&world, &view));
        let [other] = is_full(&engine).await.try_into().unwrap();
        assert_eq!(take(&engine, "b").await.record.id, other);
        let connected = world.host.acts_of(other).into_iter();
        assert_eq!(
            connected.filter(|act| *act == Act::Connect).count(),
            1,
            "one will do"
        );
    });
}

#[test]
fn what_a_pool_decides_cannot_be_chosen() {
    let world = World::new();
    world.life(async |engine| {
        let unknown = engine.create(of_pool("a"), silent()).await;
        assert!(matches!(unknown, Err(Error::NotFound { .. })));
        create(&engine, 1).await.unwrap();
        let taken = create(&engine, 1).await;
        assert!(matches!(taken, Err(Error::Store(StoreError::PoolTaken(_)))));
        let other = CreateRequest {
            vcpus: Some(2.try_into().unwrap()),
            ..of_pool("a")
        };
        let refused = engine.create(other, silent()).await;
        assert!(matches!(refused, Err(Error::Pool(PoolError::Fixed { .. }))));
        let later = CreateRequest {
            start: false,
            ..of_pool("a")
        };
        let refused = engine.create(later, silent()).await;
        assert!(matches!(refused, Err(Error::Pool(PoolError::NotStarted))));
    });
}

/// What is asked of a pool when the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Create,
    Take,
    Grow,
    Shrink,
    Delete,
}

/// How many machines a story's pool has at its beginning.
const SIZE: u32 = 1;

/// Lets a daemon end at each moment of a story in turn, and looks at what the next one makes of it.
fn check(story: Story) {
    for moment in 0.. {
        let world = World::new();
        let end = world.life(async |engine| {
            match story {
                Story::Create => {}
                Story::Take | Story::Grow | Story::Shrink | Story::Delete => {
                    create(&engine, SIZE).await.unwrap();
                }
            }
            world.host.power().cut_at(moment);
            let asked = async {
                match story {
                    Story::Create => create(&engine, SIZE).await.map(drop),
                    Story::Take => engine.create(of_pool("a"), silent()).await.map(drop),
                    Story::Grow => resize(&engine, SIZE + 1).await.map(drop),
                    Story::Shrink => resize(&engine, 0).await.map(drop),
                    Story::Delete => engine.delete_pool(&web()).await,
                }
            };
            // Who is cut off may never get an answer.
            let _ = tokio::time::timeout(LONG, asked).await;
            world.host.power().end()
        });
        let told = format!("{story:?}, ended at moment {moment}: {end:?}");
        world.life(async |engine| {
            engine.looked_for().await;
            time_passes(LONG).await;
            is_tidy(&world, &engine, &told);
            let held = engine
                .views()
                .into_iter()
                .filter(|view| view.record.holder.is_some());
            match engine.pool(&web()) {
                Ok(pool) => {
                    let wanted = pool.record.size.count();
                    let has = (pool.status.ready, held.count());
                    assert_eq!(has, (wanted, wanted), "{told}");
                }
                Err(_) => assert_eq!((held.count(), story == Story::Take), (0, false), "{told}"),
            }
            if let Ok(vm) = engine.find("a") {
                assert_eq!(vm.view().record.state, VmState::Running, "{told}");
                vm.delete(true).await.unwrap();
            }
            let _ = engine.delete_pool(&web()).await;
        });
        world.is_empty();
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new(), "{told}");
        if end.is_none() {
            assert!(moment > 0, "{story:?} has no moment");
            return;
        }
    }
}

#[test]
fn the_creation_of_a_pool_survives_a_kill_at_any_moment() {
    check(Story::Create);
}

#[test]
fn a_machine_that_is_taken_survives_a_kill_at_any_moment() {
    check(Story::Take);
}

#[test]
fn a_pool_that_grows_survives_a_kill_at_any_moment() {
    check(Story::Grow);
}

#[test]
fn a_pool_that_shrinks_survives_a_kill_at_any_moment() {
    check(Story::Shrink);
}

#[test]
fn the_deletion_of_a_pool_survives_a_kill_at_any_moment() {
    check(Story::Delete);
}
