//! What developers' machines ask of a kernel: containers, firewalls, tunnels, file systems, users.
//! With `BANGER_TEST_GENERIC_KERNEL=DIR` the kernel in DIR tells these stories, as `generic-6.12`;
//! otherwise Debian's does, without what it keeps in modules that no guest has.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a story that is left out says so")]

use std::time::Duration;

use e2e::{KernelUnderTest, WORKBENCH, World, eventually};

/// Under emulation a daemon of daemons takes its time.
const PATIENCE: Duration = Duration::from_secs(200);

/// A machine of the image that has the tools.
struct Machine {
    world: World,
}

impl Machine {
    fn start<const N: usize>(options: [&str; N]) -> Self {
        let world = World::with_workbench();
        let fixed = ["vm", "create", "--name", "bench", "--image", WORKBENCH];
        let words: Vec<&str> = fixed.into_iter().chain(options).collect();
        world.call_with(&words).limit(PATIENCE).run().ok();
        let vm = world.vm("bench");
        let wanted = KernelUnderTest::of_this_run().name();
        assert_eq!(vm.kernel, wanted, "{}", vm.kernel_reason);
        Self { world }
    }

    /// A line of the guest's shell that must succeed.
    #[track_caller]
    fn does(&self, line: &str) -> String {
        let words = ["exec", "bench", "--", "sh", "-euc", line];
        self.world.call(words).limit(PATIENCE).run().ok().text()
    }

    /// Waits for systemd's word that everything has started. Exec answers before systemd listens, so
    /// the first questions may go unanswered.
    fn settles(&self) {
        let word = eventually("systemd has started everything", PATIENCE, || {
            let ask = [
                "exec",
                "bench",
                "--",
                "systemctl",
                "is-system-running",
                "--wait",
            ];
            let word = self.world.banger(ask).text();
            (!matches!(word.as_str(), "" | "offline" | "initializing" | "starting")).then_some(word)
        });
        assert_eq!(word, "running");
    }

    #[track_caller]
    fn says(&self, line: &str, wanted: &str) {
        assert_eq!(self.does(line), wanted, "{line}");
    }
}

/// Whether the kernel has what Debian's keeps in modules.
fn has_built_in(what: &str) -> bool {
    match KernelUnderTest::of_this_run() {
        KernelUnderTest::Generic => true,
        KernelUnderTest::Debian => {
            eprintln!("SKIPPED: {what}: Debian's kernel has it in modules, which guests lack");
            false
        }
    }
}

#[test]
fn docker_builds_an_image_from_scratch_and_runs_it() {
    if !has_built_in("docker's networks") {
        return;
    }
    let machine = Machine::start(["--memory", "1G", "--disk-size", "2G"]);
    machine.settles();
    machine.does("systemctl start docker");
    machine.says("docker info --format '{{.Driver}}'", "overlay2");
    // Not on the root's overlay, which no other overlay can lie on.
    machine.says(
        "stat --file-system --format %T /var/lib/docker",
        "ext2/ext3",
    );
    machine.does(
        "mkdir context && cd context && cp /bin/busybox . && echo served >page && \
         printf 'FROM scratch\\nCOPY busybox page /\\nENTRYPOINT [\"/busybox\"]\\n' >Dockerfile && \
         docker build --quiet --tag tiny .",
    );
    machine.says("docker run --rm tiny echo inside", "inside");
    machine.says(
        "docker run --rm --memory 64m --cpus 0.5 --pids-limit 20 tiny id -u",
        "0",
    );
    // Through docker's bridge, its proxy and its rules.
    machine.does("docker run --detach --name web --publish 8080:80 tiny httpd -f -p 80 -h /");
    machine.says(
        "exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080; \
         printf \"GET /page HTTP/1.0\\r\\n\\r\\n\" >&3; tail -n 1 <&3'",
        "served",
    );
    machine.does("docker rm --force web");
}

#[test]
fn packets_are_filtered_translated_and_tunnelled() {
    if !has_built_in("nftables, bridges and tunnels") {
        return;
    }
    let machine = Machine::start(["--init", "agent"]);
    machine.does(
        "nft add table inet t && nft add chain inet t c '{ type filter hook input priority 0; }' && \
         nft add rule inet t c ct state established counter accept && \
         nft add set inet t s '{ type ipv4_addr; flags interval; }' && \
         nft add rule inet t c ip saddr @s limit rate 10/second log drop",
    );
    machine.does("nft list ruleset | grep -q 'ip saddr @s limit rate 10/second'");
    for iptables in ["iptables-nft", "iptables-legacy", "ip6tables-nft"] {
        machine.does(&format!(
            "{iptables} -t nat -A POSTROUTING -o eth0 -j MASQUERADE && \
             {iptables} -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED \
             -m comment --comment x -j ACCEPT && \
             {iptables} -t nat -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 80 && \
             {iptables} -A INPUT -m addrtype --dst-type LOCAL -m multiport -p tcp --dports 1,2 -j REJECT"
        ));
    }
    machine.does(
        "ipset create s hash:net && ipset add s 198.51.100.0/24 && \
         iptables -A INPUT -m set --match-set s src -j DROP",
    );
    for kind in ["bridge", "wireguard", "dummy", "ifb", "vrf table 9"] {
        machine.does(&format!(
            "ip link add probe type {kind} && ip link delete probe"
        ));
    }
    for kind in ["macvlan", "ipvlan", "vlan id 5"] {
        machine.does(&format!(
            "ip link add probe link eth0 type {kind} && ip link delete probe"
        ));
    }
    machine.does("ip link add probe type vxlan id 7 dstport 4789 && ip link delete probe");
    machine.does(
        "ip tuntap add mode tun probe && ip link show probe && ip tuntap delete mode tun probe",
    );
    // Two name spaces, a pair of ends, and packets between them.
    machine.does(
        "ip netns add other && ip link add here type veth peer name there netns other && \
         ip address add 192.0.2.1/30 dev here && ip link set here up && \
         ip -n other address add 192.0.2.2/30 dev there && ip -n other link set there up && \
         busybox ping -c 1 -W 20 192.0.2.2",
    );
    // What is built in makes no interface that nobody asked for.
    machine.says(
        "ip netns add bare && ip -n bare -o link | cut -d ' ' -f 2; ip -o link | grep -vcE ': (lo|eth0|here)'||:",
        "lo:\n0",
    );
}

#[test]
fn file_systems_are_mounted_in_the_guest() {
    let machine = Machine::start(["--init", "agent"]);
    machine.does(
        "mkdir -p lower upper work merged && mount -t tmpfs tmpfs upper && mkdir upper/u upper/w && \
         echo low >lower/file && \
         mount -t overlay overlay -o lowerdir=lower,upperdir=upper/u,workdir=upper/w merged && \
         echo high >merged/file",
    );
    machine.says("cat lower/file upper/u/file", "low\nhigh");
    if !has_built_in("FUSE, loop devices and squashfs") {
        return;
    }
    machine.does("test -c /dev/fuse");
    machine.does("mkdir -p a b && echo hello >a/file && bindfs a b");
    machine.says(
        "cat b/file; stat --file-system --format %T b",
        "hello\nfuseblk",
    );
    machine.does(
        "mksquashfs a a.squashfs -quiet -no-progress -comp zstd && mkdir s && mount -o loop a.squashfs s && \
         cat s/file && truncate -s 32M disk && mkfs.ext4 -q disk && mkdir d && mount -o loop disk d && \
         echo x >d/x && umount d s",
    );
    machine
        .does("dmsetup targets | grep -E '^(thin|thin-pool|snapshot|crypt) ' | wc -l | grep -qx 4");
}

#[test]
fn users_have_sessions_and_namespaces_of_their_own() {
    let machine = Machine::start(["--memory", "512M"]);
    machine.settles();
    machine.does(
        "useradd --create-home --shell /bin/sh dev && loginctl enable-linger dev && \
         systemctl start user@$(id -u dev)",
    );
    let session = "XDG_RUNTIME_DIR=/run/user/$(id -u)";
    let unit = "systemd-run --user --quiet --wait --pipe --property MemoryMax=64M";
    let su = |line: &str| format!("su dev -c '{line}'");
    machine.says(&su(&format!("{session} {unit} echo unit")), "unit");
    // As rootless containers make them: a user without rights, root in a name space, and one in that.
    let nested = "unshare --user --map-root-user --mount --pid --fork --net --uts --cgroup \
                  unshare --user --map-root-user --mount sh -c \"mount -t tmpfs t /mnt && id -u\"";
    machine.says(&su(nested), "0");
}

#[test]
fn a_machine_has_the_processors_memory_and_disk_that_it_was_given() {
    let machine = Machine::start(["--init", "agent", "--vcpu", "4", "--memory", "2G"]);
    machine.says("nproc", "4");
    let kib: u64 = machine
        .does("grep -o '^MemTotal: *[0-9]*' /proc/meminfo | grep -o '[0-9]*$'")
        .parse()
        .expect("a number");
    assert!((1_900_000..=2_097_152).contains(&kib), "{kib} KiB");
    machine.does("for i in 1 2 3 4; do taskset -c $((i - 1)) true; done");

    machine.does("echo kept >/root/file");
    let disk = machine.world.vm("bench").disk_path;
    machine.world.banger(["vm", "stop", "bench"]).ok();
    let grown = machine.world.shell(&format!("truncate --size 3G {disk}"));
    grown.run().ok();
    machine
        .world
        .call(["vm", "start", "bench"])
        .limit(PATIENCE)
        .run()
        .ok();
    machine.says("cat /root/file", "kept");
    let size: u64 = machine
        .does("df --block-size 1M --output=size / | tail -n 1")
        .trim()
        .parse()
        .expect("a number");
    assert!((2_700..=3_072).contains(&size), "{size} MiB");
}
