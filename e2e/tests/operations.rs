//! Stories about work that takes a while: seen, waited for, left alone, and cancelled by anybody at any
//! stage, with nothing left of it.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fs, time::Duration};

use banger_api::operation::Operation;
use e2e::{Mood, Registry, Stumbler, World, eventually};

const SOON: Duration = Duration::from_secs(60);

/// An image of two layers, the upper one of noise, behind a proxy that holds what it is told to.
struct Bench {
    world: World,
    registry: Registry,
    proxy: Stumbler,
    upper: String,
    /// What the state has when nothing goes on.
    still: BTreeSet<String>,
}

impl Bench {
    fn new(noise: &str) -> Option<Self> {
        let registry = Registry::start()?;
        let layout = registry.layout("");
        registry.add_made_layer(&layout, noise);
        registry.push(&format!("oci:{layout}:1"), "web:1", "");
        let layers = registry.layers("web:1");
        let upper = layers.last().expect("two layers were pushed").clone();
        let world = World::new();
        world.banger(["vm", "list"]).ok();
        let still = files(&world);
        Some(Self {
            world,
            proxy: Stumbler::before(registry.address()),
            registry,
            upper,
            still,
        })
    }

    /// Begins a pull that nobody waits for; its number.
    fn begin(&self, reference: &str) -> String {
        let pull = ["image", "pull", "--detach", reference];
        self.world.banger(pull).ok().text()
    }

    /// Waits until an operation is in a stage.
    fn reaches(&self, number: &str, stage: &str) -> Operation {
        eventually(stage, SOON, || {
            let operation = self.operation(number);
            assert_eq!(
                operation.outcome, None,
                "it went past {stage}: {operation:?}"
            );
            (operation.stage.as_deref() == Some(stage)).then_some(operation)
        })
    }

    fn operation(&self, number: &str) -> Operation {
        let show = ["operations", "show", "--json", number];
        self.world.banger(show).ok().json()
    }

    fn cancel(&self, number: &str) {
        let cancel = ["operations", "cancel", number];
        self.world.banger(cancel).ok().stdout(format!("{number}\n"));
        let operation = self.operation(number);
        assert_eq!(operation.outcome.as_deref(), Some("cancelled"));
        self.world
            .banger(["operations", "wait", number])
            .code(1)
            .stdout(format!("{number} cancelled\n"));
    }

    /// Nothing of a pull is there: no image, no half of one, no part of a layer.
    fn nothing_is_left(&self) {
        let going = self.world.banger(["operations", "list", "--json"]);
        assert_eq!(going.ok().json::<Vec<Operation>>(), []);
        let mut left = BTreeSet::new();
        eventually("nothing is left", SOON, || {
            left = files(&self.world);
            left.retain(|file| !self.still.contains(file));
            // Layers that are whole are kept for the next try.
            left.retain(|file| !file.starts_with("image-cache/"));
            let parts = files(&self.world)
                .into_iter()
                .filter(|file| file.contains("partial-"));
            left.extend(parts);
            left.is_empty().then_some(())
        });
        self.world.expect_tidy(SOON);
        let images = self.world.banger(["image", "list", "--json"]).ok().text();
        assert!(!images.contains("web"), "{images}");
    }
}

/// All files of a world's state that are not written all the time.
fn files(world: &World) -> BTreeSet<String> {
    let root = world.state("");
    let mut found = BTreeSet::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
            } else {
                let name = path.strip_prefix(&root).expect("it is below the state");
                found.insert(name.to_string_lossy().into_owned());
            }
        }
    }
    found.retain(|name| !name.starts_with("state.db") && !name.starts_with("bangerd."));
    found
}

#[test]
fn a_pull_is_cancelled_at_each_stage_and_leaves_nothing() {
    // More than is written in the time that it takes to say no.
    let Some(bench) = Bench::new("head -c 150M /dev/urandom >noise") else {
        return;
    };
    let through = bench.proxy.reference("web:1");
    bench.proxy.stumble("/manifests/1", Mood::Hold(0));
    let number = bench.begin(&through);
    bench.reaches(&number, "resolve");
    bench.cancel(&number);
    bench.nothing_is_left();

    let held = Stumbler::before(bench.registry.address());
    held.stumble(&bench.upper, Mood::Hold(100_000));
    let number = bench.begin(&held.reference("web:1"));
    eventually("a part has come", SOON, || {
        let step = bench.operation(&number).step?;
        (step.stage == "download" && step.done > 0).then_some(())
    });
    bench.cancel(&number);
    bench.nothing_is_left();

    // Nothing holds this one up: it is written as it comes.
    let number = bench.begin(&bench.registry.reference("web:1"));
    let writing = bench.reaches(&number, "download");
    assert_eq!(writing.kind, "pull-image");
    bench.cancel(&number);
    bench.nothing_is_left();

    // The same command works afterwards, and what was whole is not fetched again.
    let pulled = bench.world.pull(&[&bench.registry.reference("web:1")]);
    assert_eq!(pulled.image.name, "web-1");
    let run = [
        "run", "--rm", "--image", "web-1", "--", "wc", "-c", "/noise",
    ];
    bench.world.banger(run).ok().stdout_has(["157286400"]);
}

#[test]
fn work_that_is_left_alone_goes_on_without_whoever_asked_for_it() {
    let Some(bench) = Bench::new("head -c 300K /dev/urandom >noise") else {
        return;
    };
    bench.proxy.stumble(&bench.upper, Mood::Hold(100_000));
    let number = bench.begin(&bench.proxy.reference("web:1"));
    // The command has ended, and its work has not.
    let list = bench.world.banger(["operations", "list"]).ok().text();
    assert!(list.contains("pull-image"), "{list}");
    let wait = bench.world.call(["operations", "wait", &number]).spawn();
    bench.proxy.release();
    wait.finish().ok().stdout(format!("{number} done\n"));
    assert!(bench.world.image("web-1").size_bytes > 0);
    let all = bench
        .world
        .banger(["operations", "list", "--all", "--json"]);
    let all: Vec<Operation> = all.ok().json();
    let mine = all.iter().find(|one| one.id.to_string() == number);
    assert_eq!(mine.and_then(|one| one.outcome.as_deref()), Some("done"));

    // A machine, too: made, started, and there when one comes back.
    let create = ["vm", "create", "--detach", "--name", "web"];
    let number = bench.world.banger(create).ok().text();
    bench
        .world
        .banger(["operations", "wait", &number])
        .ok()
        .stdout(format!("{number} done\n"));
    assert_eq!(bench.world.guest("web", "echo here"), "here");
    let create = ["vm", "create", "--detach", "--no-start"];
    let number = bench.world.banger(create).ok().text();
    bench.world.banger(["operations", "wait", &number]).ok();
    let made = bench.operation(&number).target;
    assert_eq!(bench.world.vm(&made).name, made, "its name is told there");
    bench.world.banger(["vm", "stop", "web"]).ok();
    let start = bench.world.banger(["vm", "start", "-d", "web"]).ok().text();
    bench.world.banger(["operations", "wait", &start]).ok();
    assert_eq!(bench.world.guest("web", "echo again"), "again");
    // What comes through the command cannot be left.
    bench
        .world
        .call(["image", "import", "--detach", "more", "tar:-"])
        .stdin(e2e::busybox_tar())
        .run()
        .code(2)
        .stderr_has(["cannot leave", "--detach"]);
}

#[test]
fn what_two_have_asked_for_survives_the_one_that_goes() {
    let Some(bench) = Bench::new("head -c 300K /dev/urandom >noise") else {
        return;
    };
    bench.proxy.stumble(&bench.upper, Mood::Hold(100_000));
    let reference = bench.proxy.reference("web:1");
    let pull = |args: [&str; 2]| {
        let args = [&["image", "pull"], &args[..]].concat();
        bench.world.call_with(&args).spawn()
    };
    let going = pull([&reference, "--quiet"]);
    eventually("the layer is asked for", SOON, || {
        (bench.proxy.asked(&bench.upper) > 0).then_some(())
    });
    let staying = pull([&reference, "--quiet"]);
    eventually("both go on", SOON, || {
        let list = bench.world.banger(["operations", "list", "--json"]);
        (list.ok().json::<Vec<Operation>>().len() == 2).then_some(())
    });
    going.kill();
    drop(going);
    eventually("only one goes on", SOON, || {
        let list = bench.world.banger(["operations", "list", "--json"]);
        (list.ok().json::<Vec<Operation>>().len() == 1).then_some(())
    });
    bench.proxy.release();
    staying.finish().ok().stdout("web-1\n");
}

#[test]
fn an_operation_that_its_daemon_did_not_end_was_cut_off() {
    let Some(bench) = Bench::new("head -c 300K /dev/urandom >noise") else {
        return;
    };
    bench.proxy.stumble(&bench.upper, Mood::Hold(100_000));
    let number = bench.begin(&bench.proxy.reference("web:1"));
    bench.reaches(&number, "download");
    bench.world.banger(["daemon", "stop"]).ok();
    let operation = bench.operation(&number);
    assert_eq!(operation.outcome.as_deref(), Some("cut-off"));
    bench.nothing_is_left();
}
