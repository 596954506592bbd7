//! Pools that change, or end, while machines wait in them, are made, or are taken.

use std::sync::Arc;

use tokio::task::{JoinSet, yield_now};

use super::{
    kills::is_tidy,
    pools::{create, is_full, of_pool, resize, take, was_waiting, web},
};
use crate::{
    engine::{CreateRequest, Engine},
    error::Error,
    record::VmState,
    testing::{Act, Connect, LONG, World, entries, silent, time_passes},
};

/// How far one of two has come when the other begins, in turns of both.
const MOMENTS: [usize; 8] = [0, 1, 2, 4, 8, 14, 24, 40];

fn ready(engine: &Engine) -> usize {
    engine.pool(&web()).unwrap().status.ready
}

#[test]
fn a_pool_that_grows_makes_machines_and_one_that_shrinks_deletes_them() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 1).await.unwrap();
        let first = is_full(&engine).await;
        resize(&engine, 3).await.unwrap();
        let now = is_full(&engine).await;
        assert!(now.len() == 3 && now.contains(&first[0]), "it grows");
        let pool = resize(&engine, 1).await.unwrap();
        // Those that are too many are gone when it answers.
        assert_eq!((pool.machines.len(), pool.status.ready), (1, 1));
        assert_eq!(world.host.alive(), first);
        resize(&engine, 0).await.unwrap();
        assert_eq!(engine.views().len(), 0);
        time_passes(LONG).await;
        assert_eq!((engine.views().len(), ready(&engine)), (0, 0), "it rests");
        assert!(!was_waiting(&world, &take(&engine, "a").await));
        resize(&engine, 2).await.unwrap();
        is_full(&engine).await;
        assert!(was_waiting(&world, &take(&engine, "b").await));
        is_full(&engine).await;
        is_tidy(&world, &engine, "a pool that changed");
        assert!(matches!(
            engine
                .resize_pool(&"other".parse().unwrap(), 1.try_into().unwrap())
                .await,
            Err(Error::NotFound { .. })
        ));
    });
    world.life(async |engine| {
        assert_eq!(is_full(&engine).await.len(), 2, "it is written down");
    });
}

#[test]
fn a_machine_that_is_being_made_goes_when_a_pool_shrinks() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 1).await.unwrap();
        world.host.script(|script| script.connect = Connect::Hangs);
        let connects = world.host.count(Act::Connect);
        resize(&engine, 2).await.unwrap();
        world.host.asked(Act::Connect, connects + 1).await;
        assert_eq!(engine.views().len(), 2);
        let pool = resize(&engine, 1).await.unwrap();
        assert_eq!((pool.machines.len(), pool.status.ready), (1, 1));
        is_tidy(&world, &engine, "a pool that shrank");
    });
}

#[test]
fn a_boot_that_a_pool_needs_is_saved_once_and_whatever_else_is_wanted() {
    let mut world = World::new();
    world.boots_budget = Some(u64::MAX);
    world.life(async |engine| {
        let vm = crate::testing::create(&engine, "first", true, false).await;
        // Both want a boot of the same kind to be saved.
        create(&engine, 1).await.unwrap();
        time_passes(LONG).await;
        assert_eq!(world.host.count(Act::Save), 1);
        engine.set_boots_budget(None).unwrap();
        assert_eq!(entries(&world.snapshots()).len(), 1, "the pool needs it");
        vm.delete(true).await.unwrap();
        assert!(was_waiting(&world, &take(&engine, "a").await));
        is_full(&engine).await;
        assert_eq!(world.host.count(Act::Save), 1);
        engine.delete_pool(&web()).await.unwrap();
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
    });
}

#[test]
fn a_daemon_that_is_asked_to_end_takes_along_what_a_pool_was_making() {
    let world = World::new();
    let first = world.life(async |engine| {
        create(&engine, 1).await.unwrap();
        let first = is_full(&engine).await;
        world.host.script(|script| script.connect = Connect::Hangs);
        let connects = world.host.count(Act::Connect);
        resize(&engine, 2).await.unwrap();
        world.host.asked(Act::Connect, connects + 1).await;
        engine.end().await;
        assert_eq!(world.host.alive(), first, "what waits goes on waiting");
        is_tidy(&world, &engine, "asked to end");
        first
    });
    world
        .host
        .script(|script| script.connect = Connect::Answers);
    world.life(async |engine| {
        assert!(is_full(&engine).await.contains(&first[0]));
    });
}

#[test]
fn a_pool_that_cannot_make_a_machine_has_no_complaint_when_none_is_wanted() {
    let world = World::new();
    world.life(async |engine| {
        world.host.script(|script| script.connect = Connect::Breaks);
        assert!(
            create(&engine, 1)
                .await
                .unwrap()
                .status
                .last_error
                .is_some()
        );
        let pool = resize(&engine, 0).await.unwrap();
        assert_eq!(pool.status.last_error, None);
    });
}

#[test]
fn whoever_takes_a_machine_has_it_though_the_pool_is_deleted_meanwhile() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 1).await.unwrap();
        let [waiting] = is_full(&engine).await.try_into().unwrap();
        let machine = world.host.machine(waiting);
        machine.script(|script| script.connect = Connect::Hangs);
        machine.disconnect();
        let connects = world.host.count(Act::Connect);
        let meanwhile = async {
            world.host.asked(Act::Connect, connects + 1).await;
            engine.delete_pool(&web()).await.unwrap();
            assert!(engine.pools().is_empty() && machine.is_alive());
            machine.script(|script| script.connect = Connect::Answers);
        };
        let (view, ()) = tokio::join!(take(&engine, "a"), meanwhile);
        assert_eq!(view.record.id, waiting);
        is_tidy(&world, &engine, "a pool that was deleted");
        engine.find("a").unwrap().delete(true).await.unwrap();
    });
    world.is_empty();
}

#[test]
fn whoever_comes_while_a_pool_is_deleted_has_a_machine_at_whatever_moment() {
    for moment in MOMENTS {
        let world = World::new();
        world.life(async |engine| {
            create(&engine, 1).await.unwrap();
            is_full(&engine).await;
            let deleted = async {
                for _ in 0..moment {
                    yield_now().await;
                }
                engine.delete_pool(&web()).await.unwrap();
            };
            tokio::join!(take(&engine, "a"), deleted);
            time_passes(LONG).await;
            is_tidy(&world, &engine, &format!("deleted at moment {moment}"));
            assert_eq!(engine.views().len(), 1);
            engine.find("a").unwrap().delete(true).await.unwrap();
        });
        world.is_empty();
        assert_eq!(entries(&world.snapshots()), Vec::<String>::new());
    }
}

#[test]
fn a_pool_is_deleted_though_whoever_asked_has_gone_away() {
    for moment in MOMENTS {
        let world = World::new();
        world.life(async |engine| {
            create(&engine, 2).await.unwrap();
            is_full(&engine).await;
            let gone = async {
                for _ in 0..moment {
                    yield_now().await;
                }
            };
            let name = web();
            tokio::select! {
                biased;
                deleted = engine.delete_pool(&name) => deleted.unwrap(),
                () = gone => {}
            }
            time_passes(LONG).await;
            assert!(engine.pool(&name).is_err(), "{moment}");
            assert_eq!(engine.views().len(), 0, "{moment}");
            create(&engine, 1).await.unwrap();
            is_full(&engine).await;
            is_tidy(&world, &engine, &format!("went away at moment {moment}"));
        });
    }
}

#[test]
fn many_who_come_at_once_each_have_a_machine() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 3).await.unwrap();
        let waiting = is_full(&engine).await;
        let engine = Arc::new(engine);
        let mut takers = JoinSet::new();
        for number in 0..20 {
            let engine = engine.clone();
            takers.spawn(async move { take(&engine, &format!("vm-{number}")).await });
        }
        let views = takers.join_all().await;
        let had = |view: &&_| was_waiting(&world, view);
        assert!(views.iter().filter(had).count() >= 3);
        let ids: Vec<_> = views.iter().map(|view| view.record.id).collect();
        assert!(waiting.iter().all(|id| ids.contains(id)));
        assert_eq!(is_full(&engine).await.len(), 3);
        is_tidy(&world, &engine, "a pool under load");
        assert_eq!(engine.views().len(), 23);
    });
}

#[test]
fn whoever_goes_away_while_they_take_a_machine_leaves_nothing() {
    for moment in MOMENTS {
        let world = World::new();
        world.life(async |engine| {
            create(&engine, 2).await.unwrap();
            is_full(&engine).await;
            let gone = async {
                for _ in 0..moment {
                    yield_now().await;
                }
            };
            let taken = tokio::select! {
                biased;
                taken = engine.create(of_pool("a"), silent()) => taken.is_ok(),
                () = gone => false,
            };
            time_passes(LONG).await;
            assert_eq!(is_full(&engine).await.len(), 2);
            is_tidy(&world, &engine, &format!("went away at moment {moment}"));
            let named = engine.find("a").map(|vm| vm.view().record.state);
            assert_eq!(named.ok(), taken.then_some(VmState::Running), "{moment}");
        });
    }
}

#[test]
fn an_image_may_go_while_a_machine_of_it_is_taken() {
    for moment in MOMENTS {
        let world = World::new();
        world.life(async |engine| {
            create(&engine, 1).await.unwrap();
            is_full(&engine).await;
            let image = "tiny".parse().unwrap();
            let deleted = async {
                for _ in 0..moment {
                    yield_now().await;
                }
                engine.delete_image(&image).await
            };
            let (taken, deleted) = tokio::join!(engine.create(of_pool("a"), silent()), deleted);
            time_passes(LONG).await;
            // One of them has it; both never do.
            match (&taken, &deleted) {
                (Ok(_), Err(Error::ImageUsed { .. })) | (Err(_), Ok(())) => {}
                other => panic!("{moment}: {other:?}"),
            }
            is_tidy(
                &world,
                &engine,
                &format!("an image deleted at moment {moment}"),
            );
            assert_eq!(engine.find("a").is_ok(), taken.is_ok(), "{moment}");
        });
    }
}

#[test]
fn two_who_draw_the_same_name_both_have_a_machine() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, 2).await.unwrap();
        is_full(&engine).await;
        let nameless = || CreateRequest {
            name: None,
            ..of_pool("a")
        };
        let (one, other) = tokio::join!(
            engine.create(nameless(), silent()),
            engine.create(nameless(), silent()),
        );
        assert_ne!(one.unwrap().record.name, other.unwrap().record.name);
        is_full(&engine).await;
        is_tidy(&world, &engine, "names that are drawn");
    });
}
