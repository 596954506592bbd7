//! Images come from registries and layouts, once, and run as they want to be run.
#![forbid(unsafe_code)]

use e2e::{Registry, World};

/// What the image of these stories says of itself.
const CONFIG: &str = "--config.entrypoint /bin/echo --config.cmd hello --config.env GREETING=hi \
                      --config.user nobody --config.workingdir /tmp --config.exposedports 80/tcp";

#[test]
fn an_image_of_a_registry_boots_as_it_wants_to() {
    let Some(mut registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout(CONFIG);
    registry.add_layer(&layout, "second", b"layer\n");
    registry.push(&format!("oci:{layout}:1"), "web:1", "");
    let reference = registry.reference("web:1");
    let pulled = world.pull(&[&reference]);
    assert_eq!(pulled.image.name, "web-1");
    assert_eq!((pulled.pull.layers, pulled.pull.was_here), (2, false));
    assert!(pulled.pull.fetched_bytes > 0);
    assert_eq!(pulled.image.reference.as_deref(), Some(reference.as_str()));
    assert_eq!(pulled.image.config.exposed_ports, ["80/tcp"]);

    let run = |line: &str| {
        let line = format!("banger run --rm --image {reference} {line}");
        world.shell(&line).run().ok().text()
    };
    assert_eq!(run(""), "hello");
    assert_eq!(run("-- other words"), "other words");
    let shell = "--entrypoint /bin/sh -- -c";
    assert_eq!(
        run(&format!(
            "{shell} 'echo $GREETING; id -un; pwd; cat /second'"
        )),
        "hi\nnobody\n/tmp\nlayer"
    );
    assert_eq!(
        run(&format!(
            "-u root -w / -e GREETING=ho {shell} 'echo $GREETING; id -un; pwd'"
        )),
        "ho\nroot\n/"
    );
    // What is here needs nobody.
    registry.stop();
    assert!(world.pull(&[&reference]).pull.was_here);
    let gone = world.banger(["image", "pull", &registry.reference("other:1")]);
    gone.code(1).stderr_has(["cannot pull", "hint:"]);
}

#[test]
fn layers_are_shared_between_images() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout(CONFIG);
    registry.push(&format!("oci:{layout}:1"), "base:1", "");
    registry.add_layer(&layout, "more", b"more\n");
    registry.push(&format!("oci:{layout}:1"), "more:1", "");
    let base = world.pull(&[&registry.reference("base:1")]);
    let more = world.pull(&[&registry.reference("more:1")]);
    assert_eq!((more.pull.layers, more.pull.reused_layers), (2, 1));
    assert!(more.pull.fetched_bytes < base.pull.fetched_bytes);
}

#[test]
fn every_source_gives_the_same_bytes() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout(CONFIG);
    registry.add_layer(&layout, "second", b"layer\n");
    let from = format!("oci:{layout}:1");
    registry.push(&from, "oci:1", "--format oci --dest-compress-format zstd");
    registry.push(&from, "docker:1", "--format v2s2");
    let file = |name: &str| registry.directory().join(name).display().to_string();
    let (oci, docker) = (file("image.oci"), file("image.docker"));
    let line = format!(
        "skopeo copy --quiet {from} oci-archive:{oci}:1 && \
         skopeo copy --quiet {from} docker-archive:{docker}:example.org/web:1"
    );
    world.shell(&line).run().ok();
    let bytes = |name: &str, source: &str| {
        let pulled = world.pull(&["--name", name, source]);
        assert_eq!(pulled.image.config.cmd, ["hello"], "{source}");
        std::fs::read(pulled.image.rootfs_path).expect("an image is a file")
    };
    let first = bytes("first", &registry.reference("oci:1"));
    for (name, source) in [
        ("second", registry.reference("docker:1")),
        ("third", from.clone()),
        ("fourth", format!("oci-archive:{oci}")),
        ("fifth", format!("docker-archive:{docker}")),
        (
            "sixth",
            format!("docker-archive:{docker}:example.org/web:1"),
        ),
    ] {
        assert!(bytes(name, &source) == first, "{source}");
    }
    let digest = world.image("first").digest;
    let by_digest = registry.reference(&format!("oci@{digest}"));
    assert!(bytes("seventh", &by_digest) == first);
    let wrong = world.banger(["image", "pull", &format!("oci:{layout}:2")]);
    wrong.code(1).stderr_has(["2", "hint:"]);
}
