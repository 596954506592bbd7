//! Random commands, faults, deaths and restarts, held against a model that is a map from names to
//! states. `BANGER_MODEL_STEPS` says how many steps; a thousand are enough for every day.

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::kills::is_tidy;
use crate::{
    engine::Engine,
    error::Error,
    record::VmState,
    spec::SpecChange,
    testing::{Connect, LONG, Script, Step as Goes, World, reaches, request, silent, time_passes},
    vm::VmHandle,
};

/// No name is the beginning of another, or of an id.
const NAMES: [&str; 4] = ["sage", "tulip", "willow", "yarrow"];
const STEPS_OF_A_CASE: u32 = 50;

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Create { start: bool },
    Start,
    Stop,
    Kill,
    Restart,
    Pause,
    Resume,
    Rename { to: usize },
    SetVcpus(u32),
    Delete { force: bool },
}

/// What is wrong with the host while it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NoLaunch,
    NoAgent,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(usize, Ask, Fault),
    /// The daemon is killed at this moment of what is asked.
    Cut(usize, Ask, usize),
    /// A machine ends by itself.
    Die(usize, bool),
    /// The daemon ends, and another begins.
    Restart,
}

/// What is true of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Truth {
    state: VmState,
    vcpus: u32,
}

type Model = BTreeMap<&'static str, Truth>;

fn asks() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => any::<bool>().prop_map(|start| Ask::Create { start }),
        3 => Just(Ask::Start),
        2 => Just(Ask::Stop),
        1 => Just(Ask::Kill),
        1 => Just(Ask::Restart),
        1 => Just(Ask::Pause),
        1 => Just(Ask::Resume),
        1 => (0..NAMES.len()).prop_map(|to| Ask::Rename { to }),
        1 => (1..5_u32).prop_map(Ask::SetVcpus),
        2 => any::<bool>().prop_map(|force| Ask::Delete { force }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..NAMES.len();
    let fault = prop_oneof![
        8 => Just(Fault::None),
        1 => Just(Fault::NoLaunch),
        1 => Just(Fault::NoAgent),
    ];
    let step = prop_oneof![
        10 => (name(), asks(), fault).prop_map(|(name, ask, fault)| Step::Ask(name, ask, fault)),
        3 => (name(), asks(), 0..40_usize).prop_map(|(name, ask, at)| Step::Cut(name, ask, at)),
        1 => (name(), any::<bool>()).prop_map(|(name, clean)| Step::Die(name, clean)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..2 * STEPS_OF_A_CASE as usize)
}

/// What is true afterwards, and whether what was asked for is granted.
fn follow(model: &Model, name: &'static str, ask: Ask, fault: Fault) -> (Model, bool) {
    use VmState::{Created, Error, Paused, Running, Stopped};
    let mut next = model.clone();
    let started = match fault {
        Fault::None => Running,
        Fault::NoLaunch | Fault::NoAgent => Error,
    };
    let Some(truth) = model.get(name).copied() else {
        let Ask::Create { start } = ask else {
            return (next, false);
        };
        let state = if start { started } else { Created };
        next.insert(name, Truth { state, vcpus: 1 });
        return (next, state != Error);
    };
    let is_up = matches!(truth.state, Running | Paused);
    let (state, granted) = match (ask, truth.state) {
        (Ask::Create { .. }, state) => (state, false),
        (Ask::Start, Running) => (Running, true),
        (Ask::Start, Paused) => (Paused, false),
        (Ask::Start | Ask::Restart, _) => (started, started == Running),
        (Ask::Stop | Ask::Kill, Running | Paused) => (Stopped, true),
        (Ask::Stop | Ask::Kill, state) => (state, true),
        (Ask::Pause, Running | Paused) => (Paused, true),
        (Ask::Resume, Running | Paused) => (Running, true),
        (Ask::Pause | Ask::Resume, state) => (state, false),
        (Ask::Rename { to }, _) => {
            let to = NAMES[to];
            if to != name && model.contains_key(to) {
                return (next, false);
            }
            next.remove(name);
            next.insert(to, truth);
            return (next, true);
        }
        (Ask::SetVcpus(vcpus), state) => {
            // What runs has them from its next start on.
            next.insert(name, Truth { state, vcpus });
            return (next, true);
        }
        (Ask::Delete { force }, _) => {
            if force || !is_up {
                next.remove(name);
            }
            return (next, force || !is_up);
        }
    };
    next.insert(name, Truth { state, ..truth });
    (next, granted)
}

async fn ask(engine: &Engine, name: &str, ask: Ask) -> Result<(), Error> {
    let vm = || engine.find(name);
    match ask {
        Ask::Create { start } => {
            let made = engine.create(request(name, start, false), silent());
            made.await.map(drop)
        }
        Ask::Start => vm()?.start(silent()).await.map(drop),
        Ask::Stop => vm()?.stop(None).await.map(drop),
        Ask::Kill => vm()?.kill().await.map(drop),
        Ask::Restart => vm()?.restart(None, silent()).await.map(drop),
        Ask::Pause => vm()?.pause().await.map(drop),
        Ask::Resume => vm()?.resume().await.map(drop),
        Ask::Rename { to } => vm()?.rename(NAMES[to].parse().unwrap()).await.map(drop),
        Ask::SetVcpus(vcpus) => {
            let change = SpecChange {
                vcpus: Some(vcpus.try_into().unwrap()),
                ..SpecChange::default()
            };
            vm()?.change(change).await.map(drop)
        }
        Ask::Delete { force } => vm()?.delete(force).await,
    }
}

/// What the engine says is true.
fn truths(engine: &Engine) -> Model {
    let views = engine.views().into_iter().map(|view| view.record);
    let known = |name: &str| NAMES.into_iter().find(|known| *known == name);
    views
        .map(|record| {
            let name = known(record.name.as_str()).expect("no other name was given");
            let (state, vcpus) = (record.state, record.spec.vcpus.get());
            (name, Truth { state, vcpus })
        })
        .collect()
}

/// What may be true after a kill in the middle of something.
fn is_plausible(before: &Model, after: &Model, found: &Model, asked: Ask, name: &str) -> bool {
    if found == before || found == after {
        return true;
    }
    // A machine that was on its way up or down may have arrived at either end.
    let is_on_its_way = match asked {
        Ask::Start | Ask::Stop | Ask::Kill | Ask::Restart => true,
        Ask::Create { .. }
        | Ask::Pause
        | Ask::Resume
        | Ask::Rename { .. }
        | Ask::SetVcpus(_)
        | Ask::Delete { .. } => false,
    };
    let without = |model: &Model| {
        let mut others = model.clone();
        others.remove(name);
        others
    };
    let arrived = found
        .get(name)
        .is_some_and(|truth| matches!(truth.state, VmState::Running | VmState::Stopped));
    is_on_its_way && arrived && without(found) == without(before)
}

/// How a daemon's life ended.
enum End {
    Over,
    Peaceful,
    /// It was killed while this was asked; afterwards it would have been true.
    Killed {
        asked: Ask,
        name: &'static str,
        after: Model,
        told: String,
    },
}

/// Follows the steps until they are over, or the daemon ends.
async fn live(
    world: &World,
    engine: &Engine,
    model: &mut Model,
    steps: &mut std::vec::IntoIter<Step>,
) -> End {
    for step in steps {
        let told = format!("{step:?} with {model:?}");
        match step {
            Step::Restart => return End::Peaceful,
            Step::Die(name, clean) => die(world, engine, model, NAMES[name], clean).await,
            Step::Ask(name, asked, fault) => {
                world.host.script(|script| spoil(script, fault));
                let answer = ask(engine, NAMES[name], asked).await;
                world.host.script(|script| *script = Script::default());
                let (next, granted) = follow(model, NAMES[name], asked, fault);
                assert_eq!(answer.is_ok(), granted, "{told}: {answer:?}");
                *model = next;
            }
            Step::Cut(name, asked, moment) => {
                let name = NAMES[name];
                let (after, _) = follow(model, name, asked, Fault::None);
                world.host.power().cut_at(moment);
                let _ = tokio::time::timeout(LONG, ask(engine, name, asked)).await;
                if let Some(end) = world.host.power().end() {
                    let told = format!("{told}, killed {end}");
                    return End::Killed {
                        asked,
                        name,
                        after,
                        told,
                    };
                }
                world.host.power().spare();
                *model = after;
            }
        }
        compare(world, engine, model, &told);
    }
    End::Over
}

fn spoil(script: &mut Script, fault: Fault) {
    match fault {
        Fault::None => {}
        Fault::NoLaunch => script.launch = Goes::Fails,
        Fault::NoAgent => script.connect = Connect::Breaks,
    }
}

/// A machine ends by itself, if there is one.
async fn die(world: &World, engine: &Engine, model: &mut Model, name: &'static str, clean: bool) {
    let Some(truth) = model.get_mut(name) else {
        return;
    };
    if !matches!(truth.state, VmState::Running | VmState::Paused) {
        return;
    }
    truth.state = if clean {
        VmState::Stopped
    } else {
        VmState::Error
    };
    let vm: VmHandle = engine.find(name).unwrap();
    let machine = world.host.machine(vm.view().record.id);
    machine.end(if clean { "exit code 0" } else { "signal 11" }, clean);
    reaches(&vm, truth.state).await;
}

fn compare(world: &World, engine: &Engine, model: &Model, told: &str) {
    assert_eq!(truths(engine), *model, "{told}");
    is_tidy(world, engine, told);
}

/// What is true after a daemon has taken up what an earlier one left.
fn take_up(engine: &Engine, model: &mut Model, end: End) -> String {
    match end {
        End::Over | End::Peaceful => "another daemon began".to_owned(),
        End::Killed {
            asked,
            name,
            after,
            told,
        } => {
            let found = truths(engine);
            let fine = is_plausible(model, &after, &found, asked, name);
            assert!(fine, "{told}: {found:?}");
            *model = found;
            told
        }
    }
}

fn check(steps: Vec<Step>) {
    let world = World::new();
    let (mut model, mut steps) = (Model::new(), steps.into_iter());
    let mut end = End::Peaceful;
    while !matches!(end, End::Over) {
        end = world.life(async |engine| {
            engine.looked_for().await;
            time_passes(LONG).await;
            let told = take_up(&engine, &mut model, end);
            compare(&world, &engine, &model, &told);
            live(&world, &engine, &mut model, &mut steps).await
        });
    }
}

#[test]
fn whatever_happens_the_daemon_and_a_simple_model_agree() {
    let steps_wanted = std::env::var("BANGER_MODEL_STEPS").map_or(1_000, |steps| {
        steps
            .parse()
            .expect("BANGER_MODEL_STEPS is a number of steps")
    });
    let config = Config {
        cases: steps_wanted / STEPS_OF_A_CASE,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&steps(), |steps| {
        check(steps);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}
