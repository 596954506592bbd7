//! A guest with much on its hands is forked: an encrypted connection, a random generator, timers, and a
//! database in the middle of a write. Each is right in the copy and in the origin, or ends with a clear word. So
//! does what runs in it for somebody who waits.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use e2e::{World, busybox_tar_with, eventually};

const OPENSSL: &str = "/usr/bin/openssl";
const SQLITE: &str = "/usr/bin/sqlite3";
/// How a guest calls this host.
const HOST: &str = "10.0.2.2";
const PATIENCE: Duration = Duration::from_secs(30);

/// An encrypted server on this host's own address that says every line backwards.
struct Echo {
    port: u16,
    server: Child,
}

impl Echo {
    fn start(world: &World) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let (key, cert) = (world.home().join("key.pem"), world.home().join("cert.pem"));
        if !cert.exists() {
            let line = format!(
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                 -subj /CN=host -keyout {} -out {} 2>/dev/null",
                key.display(),
                cert.display()
            );
            world.shell(&line).run().ok();
        }
        let server = Command::new(OPENSSL)
            .args(["s_server", "-quiet", "-rev", "-accept"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("-key")
            .arg(key)
            .arg("-cert")
            .arg(cert)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl can be started");
        Self { port, server }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Leaves a line of shell running in the guest, with a file to write to it and one that it writes.
fn behind(world: &World, vm: &str, name: &str, line: &str) {
    let script = format!(
        "mkfifo /run/{name}; (setsid sh -c 'exec 3<>/run/{name}; {{ {line}; }} <&3 >/run/{name}.out 2>&1; \
         echo ended >>/run/{name}.out' >/dev/null 2>&1 </dev/null &)"
    );
    let _ = world.guest(vm, &script);
}

fn tell(world: &World, vm: &str, name: &str, text: &str) {
    let _ = world.guest(vm, &format!("echo '{text}' >/run/{name}"));
}

/// Waits until something is in what a program has said.
fn said(world: &World, vm: &str, name: &str, wanted: &str) {
    eventually(&format!("{vm}: {name} says {wanted}"), PATIENCE, || {
        let text = world.guest(vm, &format!("cat /run/{name}.out"));
        text.lines().any(|line| line.contains(wanted)).then_some(())
    });
}

/// What the guest's network card is called.
fn card(world: &World, vm: &str) -> String {
    world.guest(vm, "cat /sys/class/net/eth0/address")
}

#[test]
fn what_a_guest_has_in_hand_is_right_in_its_copies() {
    let Some(tar) = busybox_tar_with(&[OPENSSL, SQLITE]) else {
        skip("this host has no openssl or no sqlite3");
        return;
    };
    let world = World::new();
    let import = world.call(["image", "import", "tools", "tar:-"]).stdin(tar);
    import.run().ok();
    world
        .banger(["vm", "create", "--name", "web", "--image", "tools"])
        .ok();
    let echo = Echo::start(&world);

    // A connection that both ends have agreed on keys for.
    let client = format!("openssl s_client -quiet -connect {HOST}:{}", echo.port);
    behind(&world, "web", "tls", &client);
    tell(&world, "web", "tls", "before");
    said(&world, "web", "tls", "erofeb");
    // A program that has the generator open, and draws when it is asked to.
    let draws = "while read word; do head -c 16 <&4 | sha256sum; done 4</dev/urandom";
    behind(&world, "web", "random", draws);
    tell(&world, "web", "random", "draw");
    // A connection within the guest, by the address that it has in its network.
    behind(&world, "web", "server", "nc -l -p 77 -e cat");
    behind(&world, "web", "inner", "sleep 1; exec nc 10.0.2.15 77");
    tell(&world, "web", "inner", "before");
    said(&world, "web", "inner", "before");
    // Timers: one that beats, and one that is due once, a while from now.
    let beats = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";
    behind(&world, "web", "beats", beats);
    behind(&world, "web", "due", "date +%s; sleep 6; date +%s");
    // A transaction that has written and is not over.
    behind(&world, "web", "sql", "sqlite3 /data.db");
    tell(
        &world,
        "web",
        "sql",
        "CREATE TABLE t (word); INSERT INTO t VALUES (1); BEGIN IMMEDIATE; INSERT INTO t VALUES (2); SELECT 20 + count(*) FROM t;",
    );
    said(&world, "web", "sql", "22");

    world.banger(["vm", "fork", "web", "-n", "2"]).ok();

    // The connection is the origin's, and goes on there.
    tell(&world, "web", "tls", "after");
    said(&world, "web", "tls", "retfa");
    let (mut drawn, mut cards) = (BTreeSet::new(), BTreeSet::new());
    for copy in ["web-1", "web-2"] {
        // In a copy it ends when it is used, and nothing of it passes.
        tell(&world, copy, "tls", "stolen");
        said(&world, copy, "tls", "ended");
        assert!(
            !world.guest(copy, "cat /run/tls.out").contains("nelots"),
            "{copy}"
        );
        let fresh = Echo::start(&world);
        let again = format!(
            "(echo again; sleep 2) | openssl s_client -quiet -no_ign_eof -connect {HOST}:{} 2>/dev/null",
            fresh.port
        );
        assert_eq!(
            world.guest(copy, &again).trim(),
            "niaga",
            "{copy}: a new one is made"
        );
    }
    for vm in ["web", "web-1", "web-2"] {
        tell(&world, vm, "inner", "after");
        said(&world, vm, "inner", "after");
        cards.insert(card(&world, vm));
        tell(&world, vm, "random", "draw");
        let all = eventually("it draws", PATIENCE, || {
            let all = world.guest(vm, "cat /run/random.out");
            (all.lines().count() == 2).then_some(all)
        });
        let mut lines = all.lines().map(str::to_owned);
        let before = lines.next();
        drawn.extend(lines);
        assert!(before.is_some_and(|line| line.len() > 64), "{vm}: {all}");

        let beat = |()| -> u64 {
            let text = world.guest(vm, "tail -n 1 /run/beats.out");
            text.trim().parse().expect("a number")
        };
        let then = beat(());
        thread::sleep(Duration::from_secs(1));
        let beats = beat(()) - then;
        assert!(
            (1..60).contains(&beats),
            "{vm}: neither stands still nor catches up: {beats}"
        );
        said(&world, vm, "due", "ended");
        let text = world.guest(vm, "cat /run/due.out");
        let times: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        let [asked, came] = times[..] else {
            panic!("{vm}: {text}");
        };
        assert!((6..60).contains(&(came - asked)), "{vm}: {asked} {came}");
    }
    assert_eq!(drawn.len(), 3, "each draws for itself: {drawn:?}");
    assert_eq!(cards.len(), 3, "each has a card of its own: {cards:?}");

    // Each says for itself what becomes of the transaction.
    let ends = [
        ("web", "ROLLBACK;", "1"),
        ("web-1", "COMMIT;", "1\n2"),
        ("web-2", "", "1"),
    ];
    for (vm, word, rows) in ends {
        if word.is_empty() {
            // It is cut off, as by a power failure.
            world.banger(["vm", "kill", vm]).ok();
            world.banger(["vm", "start", vm]).ok();
            assert!(cards.contains(&card(&world, vm)), "it keeps its card");
        } else {
            tell(&world, vm, "sql", &format!("{word} SELECT 30;"));
            said(&world, vm, "sql", "30");
        }
        let look = "sqlite3 /data.db 'PRAGMA integrity_check; SELECT word FROM t ORDER BY word'";
        assert_eq!(world.guest(vm, look), format!("ok\n{rows}"), "{vm}");
    }
}

/// Ends with its input, or by its own account when it is hung up.
const ATTENTIVE: &str = "trap 'echo was hung up >/run/fate; exit 3' HUP; echo ready; cat; exit 42";
/// Ends with its input only.
const STUBBORN: &str = "trap '' HUP; echo ready; cat; exit 43";

#[test]
fn what_runs_for_somebody_ends_in_copies_and_goes_on_in_the_origin() {
    let world = World::new();
    world.start("web");
    let run = |script| {
        let args = ["exec", "-i", "web", "--", "sh", "-c", script];
        let running = world.call(args).open_stdin().spawn();
        running.expect_stdout("ready");
        running
    };
    let running = [run(ATTENTIVE), run(STUBBORN)];
    let mut terminal = world.terminal(["exec", "-it", "web", "--", "sh"]);
    terminal.send("echo 'on a' terminal\n");
    terminal.expect("on a terminal");
    behind(&world, "web", "apart", "read word; echo $word");

    world
        .banger(["vm", "fork", "web", "--name-prefix", "fork"])
        .ok();
    world
        .banger(["vm", "snapshot", "create", "web", "s", "--keep-running"])
        .ok();
    let create = ["vm", "create", "--name", "late", "--snapshot", "s"];
    world.banger(create).ok();
    for copy in ["fork-1", "late"] {
        eventually("all three have ended", PATIENCE, || {
            let log = world.banger(["vm", "logs", "--agent", copy]).ok().text();
            let fates = ["exit code 3", "signal 9", "signal 1"];
            let told = |fate: &&str| log.contains(&format!("has ended: {fate}"));
            let named = log.matches("is hung up: sh").count() == 3;
            (named && fates.iter().all(told)).then_some(())
        });
        assert_eq!(world.guest(copy, "cat /run/fate"), "was hung up", "{copy}");
        assert_eq!(world.guest(copy, "pidof cat || echo none"), "none");
        // What does not belong to them stays.
        tell(&world, copy, "apart", "here");
        said(&world, copy, "apart", "here");
    }
    // In the origin nothing has happened to them.
    terminal.send("echo 'still' here; exit 44\n");
    terminal.expect("still here");
    assert_eq!(terminal.finish(), 44);
    for (mut program, code) in running.into_iter().zip([42, 43]) {
        program.close_stdin();
        program.finish().code(code);
    }
    let log = world.banger(["vm", "logs", "--agent", "web"]).ok().text();
    assert!(!log.contains("hung up"), "{log}");
}

#[expect(
    clippy::print_stderr,
    reason = "whoever reads the run must see what was not tested"
)]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
