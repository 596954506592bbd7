//! Stories about the daemon as a service, and about mending what others left.

use std::{os::unix::net::UnixDatagram, time::Duration};

use banger_api::vm::VmState;
use e2e::World;

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).expect("the daemon says something");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_service_takes_the_place_of_a_daemon_and_leaves_machines_alone() {
    let world = World::new();
    world.start("web");
    let (boot, before) = (world.boot_id("web"), world.daemon().pid);
    let path = world.home().join("notify");
    let manager = UnixDatagram::bind(&path).expect("the home is writable");
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a time is a time");
    let service = world.daemon_call().env("NOTIFY_SOCKET", &path).spawn();
    assert!(heard(&manager).starts_with("READY=1\n"));
    let serving = world.daemon().pid;
    assert_eq!(serving, service.pid());
    assert_ne!(serving, before);
    assert_eq!(world.boot_id("web"), boot);

    world.banger(["daemon", "stop"]).ok();
    assert!(heard(&manager).starts_with("STOPPING=1\n"));
    // Its log went where its manager wants it.
    service.finish().ok().stderr_has(["serving", "ended"]);
    assert_eq!(world.state_of("web"), VmState::Running);
    assert_eq!(world.boot_id("web"), boot);
}

#[test]
fn a_unit_is_printed_for_whom_it_is_asked() {
    let world = World::empty();
    let unit = world
        .banger(["system", "install", "--user", "--print"])
        .ok()
        .text();
    for line in ["Type=notify", "KillMode=process", "WantedBy=default.target"] {
        assert!(unit.lines().any(|found| found == line), "{line}: {unit}");
    }
    let home = format!("BANGER_HOME={}", world.home().display());
    assert!(unit.contains(&home), "{unit}");
    let args = [
        "system", "install", "--system", "--owner", "root", "--print",
    ];
    let unit = world.banger(args).ok().text();
    assert!(
        unit.contains("User=root\n") && unit.contains("XDG_RUNTIME_DIR=/run/user/0"),
        "{unit}"
    );
    world
        .banger([
            "system",
            "install",
            "--system",
            "--owner",
            "nobody-at-all",
            "--print",
        ])
        .code(2)
        .stderr_has(["no user nobody-at-all", "--owner"]);
}

#[test]
fn what_is_left_over_is_mended_and_a_manual_is_written() {
    let world = World::new();
    world.start("web");
    let stale = world.home().join("run/vm/0123456789ab");
    std::fs::create_dir_all(&stale).expect("the home is writable");
    let told = world.banger(["doctor"]);
    assert!(told.text().contains("0123456789ab"), "{}", told.text());
    world
        .banger(["doctor", "--fix"])
        .stderr_has(["removed", "0123456789ab"]);
    assert!(!stale.exists());
    world.banger(["exec", "web", "--", "true"]).ok();

    let pages = world.home().join("man");
    let pages_text = pages.to_str().expect("a home is text");
    world.banger(["man", pages_text]).ok();
    let page = std::fs::read_to_string(pages.join("banger-vm-run.1")).expect("a page");
    assert!(page.contains(".TH banger"), "{page}");
}

#[test]
fn a_configuration_is_changed_by_command_and_refused_with_the_nearest_key() {
    let world = World::empty();
    world.configure("# mine\nvmm = \"qemu\" # for now\n");
    let set = ["config", "set", "vm_defaults.memory", "300M"];
    world.banger(set).ok().stderr_has(["when it starts"]);
    world
        .banger(["config", "get", "vm_defaults.memory"])
        .ok()
        .stdout("300M\n");
    let text = std::fs::read_to_string(world.home().join("config/config.toml")).expect("a file");
    assert_eq!(
        text,
        "# mine\nvmm = \"qemu\" # for now\n\n[vm_defaults]\nmemory = \"300M\"\n"
    );
    let shown = world.banger(["config", "show"]).ok().text();
    assert!(
        shown.contains("file, line 2") && shown.contains("default"),
        "{shown}"
    );
    world
        .banger(["config", "set", "vm_defaults.memroy", "1G"])
        .code(2)
        .stderr_has(["did you mean vm_defaults.memory?"]);
    world.configure("vmm = \"qemu\"\ndefualt_image = \"a\"\n");
    world
        .banger(["config", "check"])
        .code(1)
        .stderr_has(["line 2", "did you mean default_image?"]);
    world
        .banger(["vm", "list"])
        .code(1)
        .stderr_has(["did you mean default_image?"]);
    world.banger(["config", "unset", "vmm"]).code(0);
    // An editor that writes what is right, and one that does not.
    world.configure("");
    let edit = |text: &str| {
        let source = world.home().join("typed");
        std::fs::write(&source, text).expect("the home is writable");
        let editor = format!("cp {}", source.display());
        world.call(["config", "edit"]).env("VISUAL", editor).run()
    };
    edit("vmm = \"firecracker\"\n").ok();
    edit("vmm = \"bochs\"\n")
        .code(1)
        .stderr_has(["line 1", "one of qemu, firecracker"]);
    world
        .banger(["config", "get", "vmm"])
        .ok()
        .stdout("firecracker\n");
}

#[test]
fn two_daemons_never_write_to_one_state_directory() {
    let world = World::empty();
    let home = world.home().to_owned();
    let daemon = |verb: &str, runtime: &str| {
        let directory = home.join(runtime);
        std::fs::create_dir_all(&directory).expect("the home is writable");
        let call = world.call(["daemon", verb]).env("BANGER_HOME", "");
        call.env("HOME", &home)
            .env("XDG_RUNTIME_DIR", directory)
            .run()
    };
    daemon("start", "one").ok();
    let socket = home.join("one/banger/bangerd.sock");
    daemon("start", "two").code(1).stderr_has([
        "another daemon serves",
        socket.to_str().expect("text"),
        "XDG_RUNTIME_DIR",
    ]);
    daemon("stop", "one").ok();
    daemon("start", "two").ok();
    daemon("stop", "two").ok();
}

#[test]
fn a_change_of_the_configuration_is_taken_up_or_said_to_hold_later() {
    let world = World::new();
    world.banger(["vm", "list"]).ok();
    let pid = world.daemon().pid;
    let set = |key: &str, value: &str| world.banger(["config", "set", key, value]);
    set("vm_defaults.memory", "300M")
        .ok()
        .stderr_has(["vm_defaults.memory holds now"]);
    set("vmm", "qemu")
        .ok()
        .stderr_has(["vmm holds from the daemon's next start on"]);
    // What was said before is said again as long as it is so.
    set("disk_reserve", "4000000G")
        .ok()
        .stderr_has(["disk_reserve holds now", "vmm holds from"]);
    let create = ["vm", "create", "--no-start", "--name", "web"];
    world
        .banger(create)
        .code(1)
        .stderr_has(["are kept free", "disk_reserve"]);
    world.banger(["config", "unset", "disk_reserve"]).ok();
    world.banger(create).ok();
    assert_eq!(world.vm("web").memory_bytes, 300 << 20);
    let level = set("log_level", "debug");
    level.ok().stderr_has(["log_level holds now"]);
    set("default_image", "no such name")
        .ok()
        .stderr_has(["config check"]);
    assert_eq!(world.daemon().pid, pid, "it has served all the time");
}

/// A service manager with one service: it starts a new daemon and says what it was told.
const MANAGER: &str = r#"#!/bin/sh
echo "$@" >>"$BANGER_HOME/orders"
read -r pid <"$BANGER_HOME/pid"
kill -TERM "$pid"
until grep -qs 'State:.Z' "/proc/$pid/status" || [ ! -e "/proc/$pid" ]; do :; done
"$BANGER_HOME/bin/bangerd" </dev/null >"$BANGER_HOME/said" 2>&1 &
until grep -q ready "$BANGER_HOME/said"; do :; done
"#;

#[test]
fn a_service_whose_program_is_replaced_is_restarted_by_its_manager() {
    let world = World::new();
    world.start("web");
    let boot = world.boot_id("web");
    world.banger(["daemon", "stop"]).ok();
    let bin = "mkdir $BANGER_HOME/bin && cp $(command -v banger bangerd) $BANGER_HOME/bin";
    world.shell(bin).run().ok();
    let manager = world.home().join("bin/systemctl");
    std::fs::write(&manager, MANAGER).expect("the home is writable");
    world
        .shell("chmod 755 $BANGER_HOME/bin/systemctl")
        .run()
        .ok();
    let path = world.home().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the home is writable");
    let serve = "echo $$ > $BANGER_HOME/pid && exec $BANGER_HOME/bin/bangerd";
    let service = world.shell(serve).env("NOTIFY_SOCKET", &path);
    let service = service.env("BANGER_SERVICE", "user").spawn();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a time is a time");
    assert!(heard(&socket).starts_with("READY=1\n"));
    assert_eq!(world.daemon().service.as_deref(), Some("user"));

    let replace = "cd $BANGER_HOME/bin && cp bangerd new && mv new bangerd && \
                   PATH=$BANGER_HOME/bin:$PATH && banger vm list --quiet";
    world.shell(replace).run().ok().stdout("web\n");
    let orders = std::fs::read_to_string(world.home().join("orders")).expect("it was asked");
    assert_eq!(orders, "--user restart bangerd.service\n");
    service.finish().ok();
    assert_eq!(world.boot_id("web"), boot);
}
