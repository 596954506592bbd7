//! A person at a terminal: a shell with job control, a window that changes, Ctrl-C.
#![forbid(unsafe_code)]

use banger_api::vm::VmState;
use e2e::{Terminal, World};

/// Types a line and waits for what it prints. The answer must not be in the line itself, as the
/// terminal echoes that.
#[track_caller]
fn answer(terminal: &mut Terminal, line: &str, wanted: &str) {
    terminal.send(&format!("{line}\n"));
    terminal.expect(wanted);
}

#[test]
fn run_opens_a_shell_on_a_terminal() {
    let world = World::new();
    let mut shell = world.terminal(["run", "--name", "web"]);
    answer(&mut shell, "tty", "/dev/pts/");
    answer(&mut shell, "stty size", "30 100");
    shell.resize(81, 25);
    // The new size is on its way: a shell that asks until it has come needs no sleep.
    let until = "until [ \"$(stty size)\" = '25 81' ]; do :; done; echo has=$((40+2))";
    answer(&mut shell, until, "has=42");
    answer(&mut shell, "echo $TERM", "xterm");

    // The command itself says that it is there: between two commands Ctrl-C is the shell's.
    let sleeper = "sh -c 'echo begin=$((1+1)); exec sleep 600'";
    answer(&mut shell, sleeper, "begin=2");
    shell.send("\x03");
    answer(&mut shell, "echo interrupted=$?", "interrupted=130");

    shell.send("exit 7\n");
    assert_eq!(shell.finish(), 7);
    assert_eq!(world.state_of("web"), VmState::Running);
}

#[test]
fn a_shell_with_rm_takes_its_machine_along() {
    let world = World::new();
    let mut shell = world.terminal(["run", "--rm"]);
    answer(&mut shell, "echo here=$((1+1))", "here=2");
    // Only behind its prompt does the shell read the key as the end of its input.
    shell.expect("# ");
    shell.send("\x04");
    assert_eq!(shell.finish(), 0);
    assert!(world.vms().is_empty());
    assert!(world.machines().is_empty());
}

#[test]
fn a_command_gets_a_terminal_exactly_where_there_is_one() {
    let world = World::new();
    world.start("web");
    let mut there = world.terminal(["exec", "web", "--", "sh", "-c", "tty && exit 3"]);
    there.expect("/dev/pts/");
    assert_eq!(there.finish(), 3);
    let mut refused = world.terminal(["exec", "-T", "web", "--", "tty"]);
    refused.expect("not a tty");
    assert_eq!(refused.finish(), 1);
    world
        .banger(["exec", "web", "--", "tty"])
        .code(1)
        .stdout("not a tty\n");
    world
        .banger(["exec", "-t", "web", "--", "tty"])
        .ok()
        .stdout_has(["/dev/pts/"]);
}
