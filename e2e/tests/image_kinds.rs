//! Images of all shapes come from a registry and boot: many files, large holes, many layers, one
//! program, a whole distribution.
#![forbid(unsafe_code)]

use std::time::Duration;

use e2e::{Registry, World, eventually, one_binary_tar};

const SETTLING: Duration = Duration::from_secs(60);

/// The image of a layout, pulled through a registry.
fn pulled(world: &World, registry: &Registry, layout: &str, name: &str) -> String {
    let image = format!("{name}:1");
    registry.push(&format!("oci:{layout}:1"), &image, "");
    world.pull(&[&registry.reference(&image)]).image.name
}

fn ran(world: &World, image: &str, line: &str) -> String {
    world
        .banger(["run", "--rm", "--image", image, "--", "sh", "-c", line])
        .ok()
        .text()
}

#[test]
fn twenty_thousand_files_in_one_directory() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    let make = "mkdir many && cd many && seq -f 'file-%05g' 20000 | xargs touch && \
                echo last >file-20000";
    registry.add_made_layer(&layout, make);
    let image = pulled(&world, &registry, &layout, "many");
    let line = "ls /many | wc -l; cat /many/file-20000; ls /many/file-12345; \
                rm /many/file-00001; ls /many | wc -l";
    assert_eq!(
        ran(&world, &image, line),
        "20000\nlast\n/many/file-12345\n19999"
    );
}

#[test]
fn a_file_of_three_gibibytes_that_is_mostly_a_hole() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    let make = "truncate -s 3G hole && printf middle | dd of=hole bs=1 seek=2G conv=notrunc \
                2>/dev/null && printf end >>hole";
    registry.add_made_layer(&layout, make);
    let image = pulled(&world, &registry, &layout, "hole");
    let line = "stat -c %s /hole; tail -c 3 /hole; echo; \
                dd if=/hole bs=1M skip=2048 count=1 2>/dev/null | head -c 6; echo; \
                test $(stat -c %b /hole) -lt 1000 && echo sparse";
    assert_eq!(ran(&world, &image, line), "3221225475\nend\nmiddle\nsparse");
}

#[test]
fn a_hundred_layers() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    // Each layer replaces a file, adds one, and takes away what the one before it added.
    for number in 1..100 {
        let make = format!(
            "echo {number} >top; mkdir -p d; echo {number} >d/{number}; touch d/.wh.{}",
            number - 1
        );
        registry.add_made_layer(&layout, &make);
    }
    let image = pulled(&world, &registry, &layout, "tower");
    assert_eq!(
        ran(&world, &image, "cat /top; ls /d; cat /d/99"),
        "99\n99\n99"
    );
}

#[test]
fn a_single_program() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let tar = registry.directory().join("one.tar");
    std::fs::write(&tar, one_binary_tar()).expect("the directory is writable");
    let layout = registry.layout_of(&tar, "--config.entrypoint /bin/echo --config.cmd alone");
    let image = pulled(&world, &registry, &layout, "one");
    world
        .banger(["run", "--rm", "--image", &image])
        .ok()
        .stdout("alone\n");
}

#[test]
fn a_debian_with_systemd() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let tar = registry.directory().join("debian.tar");
    let line = format!(
        "mmdebstrap --quiet --variant=minbase --include=systemd-sysv,dbus bookworm {}",
        tar.display()
    );
    let made = world.shell(&line).limit(Duration::from_secs(480)).run();
    if !made.succeeded() {
        skip(&format!("no Debian can be made here\n{made}"));
        return;
    }
    let layout = registry.layout_of(&tar, "--config.env FROM=registry");
    let image = pulled(&world, &registry, &layout, "debian");
    let shown = world.image(&image);
    assert!(shown.has_systemd && shown.has_shell, "{shown:?}");
    let create = [
        "vm", "create", "--name", "web", "--image", &image, "--memory", "512M",
    ];
    world.banger(create).ok();
    let agent = world.vm("web").agent.expect("it runs");
    assert_eq!(agent.init, "systemd");
    assert_eq!(
        world.guest("web", "echo $FROM; . /etc/os-release; echo $ID"),
        "registry\ndebian"
    );
    eventually("systemd is the first process", SETTLING, || {
        (world.guest("web", "cat /proc/1/comm") == "systemd").then_some(())
    });
}

#[expect(
    clippy::print_stderr,
    reason = "whoever reads the run must see what was not tested"
)]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
