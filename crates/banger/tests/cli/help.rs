//! What the help says, word by word, and that every command has some.

use std::path::Path;

use insta::assert_snapshot;

use crate::fake::{banger, text};

fn help(words: &[&str]) -> String {
    let mut command = banger(Path::new("/nonexistent"), words);
    // A width of its own: help fits itself to the terminal.
    let output = command
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}");
    text(&output.stdout).to_owned()
}

#[test]
fn the_help_of_the_whole_is_one_screen() {
    assert_snapshot!(help(&[]), @r"
    A real Linux machine with one command

    Usage: banger <COMMAND>

    Commands:
      run         Make a VM and open a shell in it, or run a command
      exec        Run a command in a running VM
      ps          List the VMs that run
      rm          Delete VMs
      vm          Virtual machines
      pool        Machines that are ready before anybody asks
      image       Images: the root file systems that VMs are made from
      registry    Registries that images come from
      kernel      Kernels that VMs boot
      catalog     Catalogs that images and kernels come from
      events      What happened to VMs, images and kernels
      df          Show what takes room on this host's disk
      prune       Delete what no VM that runs needs
      daemon      The daemon that keeps the VMs
      host        What was done on this host
      operations  Work that takes a while: what goes on, and what became of it
      recover     Have VMs and images again that lie on the disk and are not known
      config      What the daemon is told by its file
      system      The daemon as a service of systemd
      doctor      Check whether this host can run VMs
      version     Print version, commit and build time
      completion  Print a completion script for a shell

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Examples:
      banger run                          a shell in a fresh machine
      banger run --rm -- uname -a         one command in a machine that goes away afterwards
      banger ps                           the machines that run
      banger doctor                       is this host ready?

    `run`, `exec`, `ps` and `rm` are short for the commands of `banger vm`.
    ");
}

#[test]
fn the_help_of_run_names_every_flag() {
    assert_snapshot!(help(&["run"]), @r"
    Make a VM and open a shell in it, or run a command

    Usage: banger run [OPTIONS] [-- <COMMAND>...]

    Arguments:
      [COMMAND]...  Command to run [default: the image's own, else the login shell]

    Options:
          --rm                    Delete the VM when the command or shell has ended
      -d, --detach                Start the VM, print its name and leave it running
          --name <NAME>           The VM's name: 1 to 63 of a-z, 0-9 and - [default: one is made up]
          --snapshot <NAME>       Go on from this snapshot instead of booting
          --pool <NAME>           Take a machine of this pool, which is ready
          --cold                  Boot it, although a saved machine of its kind could go on instead
          --image <IMAGE>         Image to make it from: a name or a reference [default:
                                  debian-bookworm]
          --kernel <KERNEL>       Kernel to boot [default: generic-6.12 where it is, else debian-6.1]
          --vcpu <N>              Virtual processors
          --memory <SIZE>         Memory, as in 512M or 2G
          --disk-size <SIZE>      Size of the VM's own disk; it costs only what is written
          --init <INIT>           First process: auto, agent, systemd or an absolute path
          --network <NETWORK>     Network: user (outbound) or none
          --vmm <VMM>             VMM to use: qemu or firecracker [default: what this host can run]
      -l, --label <KEY[=VALUE]>   Write a label on it, to find it by
          --ttl <TIME>            Delete it after this time, whatever it does then, as in 90s, 2h or 7d
          --restart <POLICY>      Start it again when it ends: no, on-failure[:N], always or
                                  unless-stopped [default: no]
          --autostart             Start it with this host
          --idle-stop <TIME>      Stop it when nobody used it for this time, as in 30m or 2h, or never
      -e, --env <KEY[=VALUE]>     Set a variable, or pass on this environment's value
      -w, --workdir <DIR>         Directory to run it in
      -u, --user <USER>           User to run it as: NAME, UID, NAME:GROUP or UID:GID [default: root]
      -t, --tty                   Give it a terminal even if standard input or output is none
      -T, --no-tty                Give it no terminal
          --entrypoint <PROGRAM>  Program to run instead of the image's own entrypoint and command
      -q, --quiet                 Report no progress
          --json                  In the end, print VM, boot and exit code as JSON, on standard error
      -h, --help                  Print help

    Examples:
      banger run                               a shell in a fresh machine, which stays
      banger run --rm -- uname -a              one command; the machine goes away afterwards
      banger run --name web --memory 2G -d     start it and come back
      banger run --rm --snapshot s -- true     go on from a saved machine
      banger run --rm --pool p -- true         take one that is ready
      tar c . | banger run --rm -- tar tv      standard input reaches the command
      banger run --rm --json -- true 2>&1 | jq .vm.boot    where the time went

    Exits with the command's own code; 128 and the signal's number if a signal ended it; 125 if
    banger failed before or around it, 126 if it is not executable, 127 if it is not there.
    Ctrl-C reaches the command; the third within three seconds stops waiting for it.
    ");
}

#[test]
fn the_help_of_exec_names_every_flag() {
    assert_snapshot!(help(&["vm", "exec"]), @r"
    Run a command in a running VM

    Usage: banger vm exec [OPTIONS] <VM> [-- <COMMAND>...]

    Arguments:
      <VM>          Name, id or unique prefix
      [COMMAND]...  Command to run [default: the login shell]

    Options:
      -e, --env <KEY[=VALUE]>  Set a variable, or pass on this environment's value
      -w, --workdir <DIR>      Directory to run it in
      -u, --user <USER>        User to run it as: NAME, UID, NAME:GROUP or UID:GID [default: root]
      -t, --tty                Give it a terminal even if standard input or output is none
      -T, --no-tty             Give it no terminal
      -h, --help               Print help

    Examples:
      banger exec web                          the login shell
      banger exec web -- systemctl status
      banger exec -u nobody -w /tmp web -- id
      banger exec web -- tar c /etc > etc.tar

    Exits as `banger run` does.
    ");
}

#[test]
fn every_command_has_an_example() {
    let commands = "run|exec|ps|rm|vm run|vm create|vm start|vm stop|vm delete|vm list|vm show|\
        vm exec|vm logs|vm pause|vm resume|vm kill|vm restart|vm rename|vm set|vm wait|vm prune|\
        vm snapshot create|vm snapshot list|vm snapshot show|vm snapshot delete|vm restore|vm fork|\
        pool create|pool list|pool show|pool delete|image list|image show|image delete|image import|image pull|image register|image promote|registry login|registry logout|kernel list|\
        kernel show|kernel rm|kernel import|kernel pull|kernel publish|image publish|catalog add|catalog list|\
        catalog remove|catalog key generate|daemon status|daemon stop|daemon start|\
        daemon openapi|system install|system status|system uninstall|config show|config get|config set|config unset|config edit|config check|df|prune|image prune|events|vm events|vm stats|vm ports|doctor|version|completion";
    for command in commands.split('|') {
        let words: Vec<_> = command.split(' ').collect();
        let help = help(&words);
        assert!(help.contains("Example"), "{command}:\n{help}");
        assert!(help.contains("Usage: banger "), "{command}:\n{help}");
    }
}
