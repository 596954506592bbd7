//! Pulls that are cut short, lied to, or made twice at once, and what stays of them.
#![forbid(unsafe_code)]

use std::time::Duration;

use e2e::{Mood, Registry, Stumbler, World, eventually};

const SOON: Duration = Duration::from_secs(30);

/// An image of two layers behind a proxy that stumbles where it is told to.
struct Bench {
    world: World,
    registry: Registry,
    proxy: Stumbler,
    /// Digests of the layers.
    lower: String,
    upper: String,
}

impl Bench {
    fn new() -> Option<Self> {
        let registry = Registry::start()?;
        let layout = registry.layout("");
        registry.add_made_layer(&layout, "head -c 300K /dev/urandom >noise");
        registry.push(&format!("oci:{layout}:1"), "web:1", "");
        let layers = registry.layers("web:1");
        let [lower, upper] = layers.try_into().expect("two layers were pushed");
        Some(Self {
            world: World::new(),
            proxy: Stumbler::before(registry.address()),
            registry,
            lower,
            upper,
        })
    }

    fn reference(&self) -> String {
        self.proxy.reference("web:1")
    }

    fn hold_upper(&self) {
        self.proxy.stumble(&self.upper, Mood::Hold(100_000));
    }

    /// Whether the first layer has arrived and the second one is on its way.
    fn wait_for_the_middle(&self, pull: &e2e::Running) {
        pull.expect_stderr("layer: 1/2");
        eventually("the upper layer is asked for", SOON, || {
            (self.proxy.asked(&self.upper) > 0).then_some(())
        });
    }

    /// Images that are there, whole or half.
    fn images(&self) -> usize {
        self.world.files_below("images")
    }
}

#[test]
fn an_interrupted_pull_leaves_what_is_whole_and_nothing_half() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let before = bench.images();
    bench.hold_upper();
    let pull = bench
        .world
        .call(["image", "pull", &bench.reference()])
        .spawn();
    bench.wait_for_the_middle(&pull);
    pull.interrupt();
    pull.finish().code(130).stdout("").stderr_has(["cancelled"]);
    let partial = |name: &std::fs::DirEntry| {
        let name = name.file_name().to_string_lossy().into_owned();
        name.starts_with("partial-")
    };
    eventually("nothing half is left", SOON, || {
        let blobs = std::fs::read_dir(bench.world.state("image-cache/blobs"));
        let half = blobs
            .into_iter()
            .flatten()
            .flatten()
            .filter(partial)
            .count();
        (half == 0 && bench.images() == before).then_some(())
    });
    bench.world.banger(["image", "show", "web-1"]).code(1);

    bench.proxy.release();
    let second = bench.world.pull(&[&bench.reference()]);
    assert_eq!(
        bench.proxy.asked(&bench.lower),
        1,
        "the first layer was whole"
    );
    assert_eq!(bench.proxy.asked(&bench.upper), 2);
    assert!(second.pull.fetched_bytes < second.pull.layer_bytes);
    let run = [
        "run", "--rm", "--image", "web-1", "--", "wc", "-c", "/noise",
    ];
    bench.world.banger(run).ok().stdout_has(["307200"]);
}

#[test]
fn a_layer_that_is_always_another_is_refused_by_name() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let before = bench.images();
    bench.proxy.stumble(&bench.upper, Mood::Corrupt);
    let refused = bench.world.banger(["image", "pull", &bench.reference()]);
    refused
        .code(1)
        .stdout("")
        .stderr_has([&bench.upper, "twice", "hint:"]);
    assert_eq!(bench.proxy.asked(&bench.upper), 2);
    assert_eq!(bench.images(), before);
    // The same image from an honest place; the layer that was right is not fetched again.
    let honest = bench.registry.reference("web:1");
    let pulled = bench.world.pull(&[&honest]).pull;
    assert!(pulled.fetched_bytes < pulled.layer_bytes, "{pulled:?}");
}

#[test]
fn pulls_at_the_same_time_share_the_download() {
    let Some(bench) = Bench::new() else {
        return;
    };
    bench.hold_upper();
    let reference = bench.reference();
    let first = bench.world.call(["image", "pull", &reference]).spawn();
    bench.wait_for_the_middle(&first);
    let second = bench.world.call(["image", "pull", &reference]).spawn();
    second.expect_stderr("waiting for another request");
    // Under another name it is another image, of the same layers.
    let named = ["image", "pull", "--name", "other", &reference];
    let third = bench.world.call(named).spawn();
    third.expect_stderr("layer: 1/2");
    // What a running pull needs is not pruned.
    let pruned = bench.world.banger(["image", "cache", "prune", "--json"]);
    let pruned: banger_api::cache::PrunedCache = pruned.ok().json();
    assert_eq!(pruned.items, []);
    bench.proxy.release();
    first.finish().ok().stdout("web-1\n");
    // By whichever of its names: both are images of the reference.
    second.finish().ok().stderr_has(["was here already"]);
    third.finish().ok().stdout("other\n");
    for layer in [&bench.lower, &bench.upper] {
        assert_eq!(bench.proxy.asked(layer), 1, "{layer}");
    }
    let bytes = |name: &str| std::fs::read(bench.world.image(name).rootfs_path);
    assert!(bytes("web-1").expect("readable") == bytes("other").expect("readable"));
}

#[test]
fn progress_is_shown_per_layer_and_in_total() {
    let Some(bench) = Bench::new() else {
        return;
    };
    bench.hold_upper();
    let reference = bench.reference();
    let mut terminal = bench.world.terminal(["image", "pull", &reference]);
    terminal.expect("layer: 2/2");
    terminal.expect("download");
    bench.proxy.release();
    terminal.expect("2 layers");
    terminal.expect("fetched");
    assert_eq!(terminal.finish(), 0);
    bench.world.banger(["image", "delete", "web-1"]).ok();
    bench.world.banger(["image", "cache", "prune"]).ok();

    let lines = bench.world.banger(["image", "pull", "--json", &reference]);
    let text = lines.ok().text();
    let steps: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    for stage in ["resolve", "layer", "download", "write"] {
        let found = steps.iter().any(|line| line["step"]["stage"] == stage);
        assert!(found, "{stage}: {text}");
    }
    let last = steps.last().expect("lines");
    assert_eq!(last["done"]["pull"]["layers"], 2);
}

#[test]
fn the_cache_is_listed_pruned_and_kept_to_its_budget() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let list = || -> banger_api::cache::ImageCache {
        let listed = bench.world.banger(["image", "cache", "list", "--json"]);
        listed.ok().json()
    };
    assert_eq!(list().items, []);
    let pulled = bench.world.pull(&[&bench.reference()]);
    let shared = list();
    assert_eq!(shared.items.len(), 2);
    assert!(shared.items.iter().all(|item| !item.in_use));
    bench
        .world
        .banger(["image", "delete", &pulled.image.name])
        .ok();
    let alone = list();
    assert!(alone.bytes > shared.bytes + pulled.image.content_bytes / 2);
    let cache = |words: &[&str]| {
        let args = [&["image", "cache"], words].concat();
        bench.world.call_with(&args).run()
    };
    let would = cache(&["prune", "--dry-run"]);
    would.ok().stderr_has(["would remove 2 items"]);
    assert_eq!(list(), alone);
    cache(&["prune", "--keep", "1T"]).ok().stdout("");
    cache(&["list"]).ok().stdout_has(["layer", "KIND"]);
    cache(&["prune"])
        .ok()
        .stderr_has(["removed 2 items", "0 B left"]);
    assert_eq!(bench.world.files_below("image-cache"), 0);

    // With a budget nobody has to think of it.
    bench.world.banger(["daemon", "stop"]).ok();
    bench.world.configure_also("cache_budget = \"1M\"");
    let _ = bench.world.pull(&[&bench.reference()]);
    assert_eq!(list().items.len(), 2);
    bench.world.banger(["image", "delete", "web-1"]).ok();
    assert!(list().bytes <= 1 << 20);
}

#[test]
fn an_image_beyond_a_limit_is_refused_by_limit_and_key() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let check = |limit: &str, said: &str, key: &str| {
        bench.world.banger(["daemon", "stop"]).ok();
        bench.world.configure_also(&format!("[limits]\n{limit}"));
        let refused = bench.world.banger(["image", "pull", &bench.reference()]);
        refused
            .code(1)
            .stdout("")
            .stderr_has([said, key, "[limits]"]);
    };
    check("entries = 10", "limit of 10 entries", "`entries`");
    check(
        "file_size = \"100K\"",
        "102400 bytes in one file",
        "`file_size`",
    );
    check(
        "content_size = \"100K\"",
        "bytes of content",
        "`content_size`",
    );
    check("layer_size = \"100K\"", "bytes of archive", "`layer_size`");
    bench.world.banger(["image", "show", "web-1"]).code(1);
}
