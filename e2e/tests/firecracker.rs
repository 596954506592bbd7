//! Linux under the real Firecracker. On hosts whose /dev/kvm only emulates, every machine takes
//! many seconds to boot, so each of them serves for a long story.
#![forbid(unsafe_code)]

use std::{fs::File, io::Read, net::TcpListener, time::Duration};

use banger_api::vm::{Vm, VmState};
use e2e::{
    Devices, World, eventually, firecracker_for_all, firecracker_world, is_root, leave_out,
    own_address, serve_names, serve_words, wait_for_end,
};
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;
/// Bytes take their time through an emulated kernel.
const LONG: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(20);

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut source = File::open("/dev/urandom").expect("the host has randomness");
    source
        .read_exact(&mut bytes)
        .expect("the host has randomness");
    bytes
}

fn check_exec(world: &World) {
    let failing = [
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ];
    world
        .banger(failing)
        .code(7)
        .stdout("out\n")
        .stderr("err\n");
    // More than all buffers on the way hold.
    let sent = random_bytes(4 * MIB);
    let wanted = Sha256::digest(&sent);
    let echoed = world
        .call(["exec", "-i", "web", "--", "cat"])
        .stdin(sent)
        .limit(LONG)
        .run();
    echoed.ok();
    assert_eq!(Sha256::digest(echoed.bytes()), wanted);
}

fn check_account(vm: &Vm) {
    assert_eq!(vm.vmm.as_deref(), Some("firecracker"));
    assert_eq!(vm.accelerator.as_deref(), Some("kvm"));
    let line = vm.kernel_command_line.as_deref().unwrap_or_default();
    // The manifest's word stands behind ours and before the agent's.
    let at = |word: &str| line.split(' ').position(|other| other == word);
    assert!(at("loglevel=4") < at("loglevel=1"), "{line}");
    assert!(at("loglevel=1") < at("banger.hostname=web"), "{line}");
    let confinement = vm.confinement.as_deref();
    assert!(
        matches!(confinement, Some("jailer" | "namespaces")),
        "{confinement:?}"
    );
}

#[test]
fn a_machine_works_outlives_its_daemon_loses_nothing_and_is_missed_when_it_dies() {
    let Some(world) = firecracker_world() else {
        return;
    };
    world.start("web");
    check_account(&world.vm("web"));
    check_exec(&world);
    check_pause(&world);
    check_outside(&world);
    let boot = check_daemons_end(&world);

    world
        .banger(["exec", "web", "--", "sh", "-c", "echo kept > /root/word"])
        .ok();
    world.banger(["vm", "stop", "web"]).ok();
    assert!(world.machines().is_empty());
    assert_eq!(world.state_of("web"), VmState::Stopped);
    assert_eq!(world.vm("web").last_error, None);
    let server = serve_other_names(&world);
    world.banger(["vm", "start", "web"]).ok();
    assert_eq!(world.guest("web", "cat /root/word"), "kept");
    assert_ne!(world.boot_id("web"), boot);
    if server {
        check_names(&world);
    }
    check_killed_vmm(&world);
}

fn check_pause(world: &World) {
    world.banger(["vm", "pause", "web"]).ok();
    assert_eq!(world.state_of("web"), VmState::Paused);
    let refused = world.banger(["exec", "web", "--", "true"]);
    refused.code(125).stderr_has(["vm resume"]);
    world.banger(["vm", "resume", "web"]).ok();
    assert_eq!(world.guest("web", "echo back"), "back");
}

/// A guest reaches the outside, and not its host's loopback.
fn check_outside(world: &World) {
    let Some(address) = own_address() else {
        return leave_out("this host has no network");
    };
    let port = serve_words(address);
    let line = format!("nc -w 20 {address} {port} </dev/null");
    assert_eq!(world.guest("web", &line), "the outside");
    let inner = TcpListener::bind("127.0.0.1:0").expect("the loopback can be bound");
    let port = inner.local_addr().expect("it is bound").port();
    let line = format!("nc -w 5 10.0.2.2 {port} </dev/null && echo reached || echo fenced");
    assert_eq!(world.guest("web", &line), "fenced");
}

/// Gives back which boot outlived its daemon.
fn check_daemons_end(world: &World) -> String {
    let (daemon, machines) = (world.daemon().pid, world.machines());
    assert_eq!(machines.len(), 1);
    world.shell(&format!("kill -KILL {daemon}")).run().ok();
    wait_for_end(daemon, SOON);
    let boot = world.boot_id("web");
    assert_eq!(world.machines(), machines, "the machine goes on");
    assert_ne!(world.daemon().pid, daemon);
    boot
}

/// Starts the daemon where the host's resolver is another one, for it and all that it starts.
const DAEMON_WITH_RESOLVER: &str = r#"
set -eu
banger daemon stop
echo "nameserver $SERVER" > "$BANGER_HOME/resolv.conf"
exec unshare --mount sh -euc '
    mount --bind "$BANGER_HOME/resolv.conf" /etc/resolv.conf
    exec banger daemon start
'
"#;

/// From the next start on the host has names of its own; not where only root could give it some.
fn serve_other_names(world: &World) -> bool {
    if !is_root() {
        leave_out("only root can serve names and give itself another resolver");
        return false;
    }
    let server = serve_names([192, 0, 2, 83].into()).expect("the loopback has this address");
    let daemon = world
        .shell(DAEMON_WITH_RESOLVER)
        .env("SERVER", server.to_string());
    daemon.run().ok();
    true
}

/// A guest resolves names as its host does.
fn check_names(world: &World) {
    let resolved = world.guest("web", "nslookup some.name.test");
    assert!(resolved.contains("10.0.2.3"), "{resolved}");
    assert!(resolved.contains("192.0.2.83"), "{resolved}");
}

/// A VMM that is killed is found out, and leaves nothing.
fn check_killed_vmm(world: &World) {
    let vm = world.vm("web");
    let pid = vm.pid.expect("a running VM has a process");
    world.shell(&format!("kill -KILL {pid}")).run().ok();
    eventually("the VM is in error", SOON, || {
        (world.state_of("web") == VmState::Error).then_some(())
    });
    let error = world.vm("web").last_error.unwrap_or_default();
    assert!(error.contains("signal 9"), "{error}");
    assert!(world.machines().is_empty());
    world.banger(["vm", "delete", "web"]).ok();
    let id = &vm.id[..12];
    world
        .shell(&format!("! find /sys/fs/cgroup -name '*{id}*' | grep ."))
        .run()
        .ok();
}

const LIFE: &str = "
    banger vm create --quiet --name web
    banger vm show web
    banger exec web -- nc -w 20 $ADDRESS $PORT </dev/null
    banger vm stop web
    banger rm web
    banger daemon stop
";

#[test]
fn an_ordinary_user_needs_no_more_than_the_devices() {
    if !is_root() {
        leave_out("only root can let another user open the devices");
        return;
    }
    let Some(address) = own_address() else {
        leave_out("this host has no network");
        return;
    };
    let Some(world) = firecracker_world() else {
        return;
    };
    firecracker_for_all(&world);
    let port = serve_words(address);
    let life = world
        .as_nobody(Devices::Virtual, LIFE)
        .env("ADDRESS", address.to_string())
        .env("PORT", port.to_string())
        .limit(LONG)
        .run();
    life.ok().stdout_has(["namespaces", "the outside"]);
}

#[test]
fn an_emulating_kvm_is_refused_unless_the_configuration_allows_it() {
    let world = World::new();
    world.configure_also("firecracker_bin = \"/bin/true\"");
    let refused = world.banger(["vm", "create", "--vmm", "firecracker"]);
    // Which reason comes first depends on the host; each names what is asked for.
    refused.code(1).stderr_has(["firecracker"]);
    assert!(world.vms().is_empty());
}
