//! Images and kernels travel from one host to another through a directory on a web server, and
//! nobody on the way can change them, or show what was there before.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use banger_api::catalog::{AvailableImage, Catalog};
use e2e::{BUSYBOX, DEBIAN, KERNEL, Registry, StaticServer, World};

/// Packing a distribution's kernel takes a while on a busy host.
const PACKING: Duration = Duration::from_secs(300);
const SIGNED: &str = "catalog.signed";

/// Somebody who has a kernel and an image, and a directory for others.
struct Publisher {
    world: World,
    key: String,
}

impl Publisher {
    fn new() -> Self {
        let world = World::new();
        let key = Self::generate(&world, "acme");
        Self { world, key }
    }

    fn generate(world: &World, signer: &str) -> String {
        let line = format!("banger catalog key generate --signer {signer} $BANGER_HOME/{signer}");
        world.shell(&line).run().ok().text()
    }

    fn directory(&self) -> PathBuf {
        self.world.home().join("shelf")
    }

    /// Publishes; what the bundle's file is called.
    fn publish(&self, kind: &str, name: &str) -> String {
        let line =
            format!("banger {kind} publish {name} --to $BANGER_HOME/shelf --key $BANGER_HOME/acme");
        self.world.shell(&line).limit(PACKING).run().ok().text()
    }

    fn serve(&self) -> StaticServer {
        StaticServer::serve(&self.directory())
    }
}

fn add(world: &World, server: &StaticServer, key: &str) {
    let added = world
        .call(["catalog", "add", "acme", server.url(), "--key", key])
        // The daemon that this starts has a proxy, which does not reach this host's own servers.
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .run();
    added.ok().stdout("acme\n");
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

#[test]
fn a_machine_is_made_of_what_somebody_else_has_published() {
    let publisher = Publisher::new();
    let bundle = publisher.publish("image", BUSYBOX);
    assert!(
        bundle.starts_with("busybox-x86_64-") && bundle.ends_with(".tar.zst"),
        "{bundle}"
    );
    publisher.publish("kernel", KERNEL);
    let server = publisher.serve();

    let reader = World::empty();
    add(&reader, &server, &publisher.key);
    let listed: Vec<Catalog> = reader.banger(["catalog", "list", "--json"]).ok().json();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].images, listed[0].kernels), (1, 1));
    let offers = reader.banger(["image", "list", "--available", "--json"]);
    let offers: Vec<AvailableImage> = offers.ok().json();
    let offer = offers.iter().find(|offer| offer.name == BUSYBOX);
    assert_eq!(
        offer.and_then(|offer| offer.catalog.as_deref()),
        Some("acme")
    );
    let kernels = reader.banger(["kernel", "list", "--available"]);
    kernels.ok().stdout_has([KERNEL, "acme", server.url()]);

    let exact = format!("acme/{KERNEL}");
    let pulled = reader.call(["kernel", "pull", &exact]).limit(PACKING).run();
    pulled.ok().stdout(format!("{KERNEL}\n"));
    // The image is fetched by the command that needs it.
    let line = "cat /etc/os-release; uname -r";
    let ran = reader.banger(["run", "--rm", "--image", BUSYBOX, "--", "sh", "-c", line]);
    ran.ok().stdout_has(["Busybox of the stories", "6.1."]);
    let image = |world: &World| fs::read(world.image(BUSYBOX).rootfs_path).expect("a file");
    assert!(image(&reader) == image(&publisher.world), "the same bytes");

    // What is here needs nobody, and neither does forgetting the catalog.
    drop(server);
    let again = reader.banger(["image", "pull", "acme/busybox"]);
    again.ok().stderr_has(["was here already"]);
    reader.banger(["catalog", "remove", "acme"]).ok();
    reader
        .banger(["run", "--rm", "--image", BUSYBOX, "--", "true"])
        .ok();
    reader
        .banger(["catalog", "remove", "acme"])
        .code(1)
        .stderr_has(["acme"]);
}

#[test]
fn what_was_changed_on_its_way_is_refused_by_name() {
    let publisher = Publisher::new();
    let bundle = publisher.publish("image", BUSYBOX);
    let server = publisher.serve();
    let reader = World::empty();
    add(&reader, &server, &publisher.key);
    let path = publisher.directory().join(&bundle);
    let good = fs::read(&path).expect("a bundle");
    let refused = |why: &str| {
        let pulled = reader.banger(["image", "pull", "acme/busybox"]);
        pulled
            .code(1)
            .stdout("")
            .stderr_has([&bundle, why, "hint:"]);
        assert_eq!(files(&reader.state("images")), [""; 0], "{why}");
        reader.banger(["image", "show", BUSYBOX]).code(1);
    };
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    fs::write(&path, &changed).expect("writable");
    refused("has the digest");
    fs::write(&path, &good[..good.len() / 2]).expect("writable");
    refused("bytes where");
    fs::remove_file(&path).expect("there");
    refused("404");
    fs::write(&path, &good).expect("writable");
    reader.banger(["image", "pull", "acme/busybox"]).ok();

    // The catalog itself, and one that somebody else has signed.
    let signed = publisher.directory().join(SIGNED);
    let note = fs::read_to_string(&signed).expect("a catalog");
    fs::write(&signed, note.replace("busybox-", "bushbox-")).expect("writable");
    let available = reader.banger(["image", "list", "--available"]);
    available
        .ok()
        .stderr_has(["acme", "changed after it was signed", "hint:"]);
    let other = Publisher::generate(&publisher.world, "mallory");
    fs::write(&signed, note).expect("writable");
    let stranger = ["catalog", "add", "other", server.url(), "--key", &other];
    let stranger = reader.banger(stranger);
    stranger
        .code(1)
        .stderr_has(["not signed with the key of mallory", "hint:"]);
    let over = "banger image publish busybox --to $BANGER_HOME/shelf --key $BANGER_HOME/mallory";
    let over = publisher.world.shell(over).run();
    over.code(1).stderr_has(["somebody else's", "hint:"]);
}

#[test]
fn what_was_there_before_is_refused() {
    let publisher = Publisher::new();
    publisher.publish("image", BUSYBOX);
    let signed = publisher.directory().join(SIGNED);
    let old = fs::read(&signed).expect("a catalog");
    publisher.publish("image", BUSYBOX);
    let mut server = publisher.serve();
    let reader = World::empty();
    add(&reader, &server, &publisher.key);
    let new = fs::read(&signed).expect("a catalog");
    fs::write(&signed, &old).expect("writable");
    // Another daemon remembers as well as the first.
    reader.banger(["daemon", "stop"]).ok();
    let refused = reader.banger(["image", "pull", "acme/busybox"]);
    refused
        .code(1)
        .stderr_has(["acme", "older than one that was seen", "hint:"]);
    fs::write(&signed, &new).expect("writable");
    reader.banger(["image", "pull", "acme/busybox"]).ok();

    server.stop();
    let gone = [
        "catalog",
        "add",
        "more",
        server.url(),
        "--key",
        &publisher.key,
    ];
    let gone = reader.banger(gone);
    gone.code(1)
        .stderr_has(["cannot read the catalog more", "hint:"]);
    // What was read last is still known.
    let available = reader.banger(["image", "list", "--available"]);
    available
        .ok()
        .stdout_has([BUSYBOX, "acme"])
        .stderr_has(["warning:", "hint:"]);
}

#[test]
fn the_default_image_comes_from_a_registry_where_nothing_can_build_it() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::empty();
    let mirror = format!(
        "[registries.mirrors]\n\"docker.io\" = \"{}\"",
        registry.address()
    );
    world.configure_also(&mirror);
    let layout = registry.layout("--config.cmd hello");
    registry.push(&format!("oci:{layout}:1"), "library/debian:bookworm", "");
    // A host without mmdebstrap.
    let pulled = world
        .call(["image", "pull", DEBIAN])
        .env("PATH", "/nonexistent")
        .run();
    pulled.ok().stdout(format!("{DEBIAN}\n"));
    let image = world.image(DEBIAN);
    assert_eq!(image.os.as_deref(), Some("Busybox of the stories"));
    assert_eq!(
        image.reference.as_deref(),
        Some("docker.io/library/debian:bookworm")
    );
}
