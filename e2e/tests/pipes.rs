//! Bytes go in and come out: all of them, in order, at both ends of a pipe, however it ends.
#![forbid(unsafe_code)]

use std::{fs::File, io::Read, time::Duration};

use e2e::{World, eventually};
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut source = File::open("/dev/urandom").expect("the host has randomness");
    source
        .read_exact(&mut bytes)
        .expect("the host has randomness");
    bytes
}

#[test]
fn a_hundred_mebibytes_go_in_and_come_back_unchanged() {
    let world = World::new();
    world.start("web");
    let sent = random_bytes(100 * MIB);
    let wanted = Sha256::digest(&sent);
    let echoed = world
        .call(["exec", "-i", "web", "--", "cat"])
        .stdin(sent)
        .run();
    echoed.ok().stderr("");
    assert_eq!(echoed.bytes().len(), 100 * MIB);
    assert_eq!(Sha256::digest(echoed.bytes()), wanted);
}

#[test]
fn run_passes_its_input_on_and_tells_of_its_end() {
    let world = World::new();
    let ran = world
        .call(["run", "--rm", "--", "wc", "-c"])
        .stdin(random_bytes(3 * MIB + 7))
        .run();
    ran.ok().stdout(format!("{}\n", 3 * MIB + 7));
}

#[test]
fn every_byte_passes_through_all_three_streams() {
    let world = World::new();
    world.start("web");
    let all: Vec<u8> = (0..=255).cycle().take(64 << 10).collect();
    let command = "tee /dev/stderr";
    let echoed = world
        .call(["exec", "web", "--", "sh", "-c", command])
        .stdin(all.clone())
        .run();
    echoed.ok().stdout(&all).stderr(&all);
}

#[test]
fn a_command_without_input_sees_its_end() {
    let world = World::new();
    world.start("web");
    world.banger(["exec", "web", "--", "cat"]).ok().stdout("");
    // A command that does not care for its input does not wait for it.
    let careless = world
        .call(["exec", "web", "--", "true"])
        .open_stdin()
        .spawn();
    careless.finish().ok();
    // An input that ends late ends the command then, and not before.
    let mut late = world.call(["exec", "web", "--", "sh", "-c", "echo ready; cat; echo end"]);
    late = late.open_stdin();
    let mut late = late.spawn();
    late.expect_stdout("ready");
    late.close_stdin();
    late.finish().ok().stdout("ready\nend\n");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let world = World::new();
    world.start("web");
    let line = "banger exec web -- yes | head -n 2; echo ${PIPESTATUS[0]}";
    let piped = world.shell(line).limit(Duration::from_secs(60)).run();
    piped.ok().stdout("y\ny\n141\n").stderr("");
    eventually(
        "no `yes` runs in the guest",
        Duration::from_secs(10),
        || {
            let left = world.banger(["exec", "web", "--", "pidof", "yes"]);
            (left.bytes().is_empty()).then_some(())
        },
    );
}

#[test]
fn what_a_command_leaves_open_does_not_hold_up_its_end() {
    let world = World::new();
    world.start("web");
    let line = "sleep 600 >/dev/null 2>&1 & echo done";
    let ran = world
        .call(["exec", "web", "--", "sh", "-c", line])
        .limit(Duration::from_secs(30));
    ran.run().ok().stdout("done\n");
}
