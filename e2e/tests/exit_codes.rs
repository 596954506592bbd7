//! The exit code of `banger` is the command's own; banger's failures have codes that docker's
//! users know, and standard output belongs to the command alone.
#![forbid(unsafe_code)]

use banger_api::vm::VmState;
use e2e::World;

#[test]
fn run_ends_as_its_command_did_and_leaves_nothing() {
    let world = World::new();
    let ran = world.banger(["run", "--rm", "--", "sh", "-c", "exit 42"]);
    ran.code(42).stdout("");
    assert!(world.vms().is_empty());
    assert!(world.machines().is_empty());
}

#[test]
fn exec_keeps_dockers_exit_codes() {
    let world = World::new();
    world.start("web");
    let check = |command: &[&str], code: i32| {
        let words = command.iter().map(|word| format!("'{word}'"));
        let line = format!("banger exec web -- {}", words.collect::<Vec<_>>().join(" "));
        world.shell(&line).run().code(code).stdout("");
    };
    check(&["true"], 0);
    check(&["false"], 1);
    check(&["sh", "-c", "exit 255"], 255);
    check(&["sh", "-c", "kill -9 $$"], 137);
    check(&["sh", "-c", "kill -TERM $$"], 143);
    check(&["no-such-program"], 127);
    check(&["/no/such/program"], 127);
    check(&["/etc/passwd"], 126);
    check(&["/etc"], 126);
}

#[test]
fn what_banger_itself_cannot_do_is_125_around_a_command_and_1_elsewhere() {
    let world = World::new();
    let stopped = ["vm", "create", "--no-start", "--name", "idle"];
    world.banger(stopped).ok().stdout("idle\n");
    let check = |line: &str, code: i32, word: &str| {
        let ran = world.shell(line).run();
        ran.code(code).stdout("").stderr_has([word]);
    };
    check("banger run --image nope -- true", 125, "nope");
    check("banger run --kernel nope -- true", 125, "nope");
    check("banger run --name idle -- true", 125, "idle");
    check("banger vm create --image nope", 1, "nope");
    check("banger exec nobody -- true", 125, "nobody");
    check("banger exec idle -- true", 125, "banger vm start");
    check("banger vm stop nobody", 1, "nobody");
    check("banger image show nope", 1, "nope");
    check("banger kernel show nope", 1, "nope");
    assert_eq!(world.vms().len(), 1);
}

#[test]
fn wrong_usage_is_2_and_leaves_no_row() {
    let world = World::new();
    let check = |line: &str, word: &str| {
        world
            .shell(line)
            .run()
            .code(2)
            .stdout("")
            .stderr_has([word]);
    };
    check("banger run --no-such-flag", "--no-such-flag");
    check("banger no-such-command", "no-such-command");
    check("banger run --name Bad_Name -- true", "name");
    check("banger run --name -- true", "name");
    check("banger run --memory lots -- true", "lots");
    check("banger run --vcpu 0 -- true", "0");
    check("banger vm create --memory 1M", "memory");
    check("banger image import ../x tar:-", "name");
    assert!(world.vms().is_empty());
}

#[test]
fn both_streams_arrive_apart_and_exactly() {
    let world = World::new();
    let command = "printf 'out\\0one\\n'; printf 'err one' >&2; printf 'out two'";
    let ran = world.banger(["run", "--rm", "--quiet", "--", "sh", "-c", command]);
    ran.ok().stdout("out\0one\nout two").stderr("err one");
}

#[test]
fn progress_is_told_on_standard_error_only() {
    let world = World::new();
    let ran = world.banger(["run", "--name", "web", "--", "echo", "hello"]);
    ran.ok().stdout("hello\n").stderr_has(["web"]);
    // Without --rm the machine stays.
    assert_eq!(world.state_of("web"), VmState::Running);
}

#[test]
fn a_command_runs_as_where_and_with_what_it_is_told() {
    let world = World::new();
    world.start("web");
    let check = |flags: &str, command: &str, out: &str| {
        let line = format!("A=inherited banger exec {flags} web -- {command}");
        world.shell(&line).run().ok().stdout(out);
    };
    check("", "pwd", "/root\n");
    check("-w /tmp", "pwd", "/tmp\n");
    check("", "id -un", "root\n");
    check("-u nobody", "id -un", "nobody\n");
    check("-u 65534:65534", "id -g", "65534\n");
    check("-e A=given", "sh -c 'echo $A'", "given\n");
    check("-e A", "sh -c 'echo $A'", "inherited\n");
    check("", "sh -c 'echo $A'", "\n");
    let refused = |flags: &str, word: &str| {
        let line = format!("banger exec {flags} web -- true");
        world
            .shell(&line)
            .run()
            .code(125)
            .stdout("")
            .stderr_has([word]);
    };
    refused("-u nobody-at-all", "nobody-at-all");
    refused("-w /no/such/place", "/no/such/place");
}
