//! Owns what is taken out of systemd's way: units and generators that serve hardware, disks and consoles which a
//! microVM does not have, or chores that a machine made a second ago does not need. Masked in /run only, so the image
//! and the machine's disk know nothing of it, and `systemctl unmask --runtime` brings each one back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::console;

/// Units that wait for devices or work on things that are not there.
const UNITS: [&str; 69] = [
    // Consoles: nobody sits at the serial port, it belongs to the kernel's log.
    "console-getty.service",
    "getty-pre.target",
    "getty-static.service",
    "getty.target",
    "getty@.service",
    "serial-getty@.service",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-vconsole-setup.service",
    "console-setup.service",
    "keyboard-setup.service",
    // Devices: the agent has loaded what there is, and devtmpfs shows it.
    "dev-ttyS0.device",
    "dev-hvc0.device",
    "systemd-hwdb-update.service",
    "systemd-modules-load.service",
    "systemd-rfkill.service",
    "systemd-rfkill.socket",
    "systemd-udev-settle.service",
    "kmod-static-nodes.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service",
    "modprobe@.service",
    "systemd-backlight@.service",
    "systemd-pcrphase-initrd.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pcrmachine.service",
    "systemd-tpm2-setup.service",
    "systemd-tpm2-setup-early.service",
    // Disks: the agent has mounted the root and grown it.
    "systemd-remount-fs.service",
    "systemd-fsck-root.service",
    "systemd-growfs-root.service",
    "systemd-growfs@.service",
    "systemd-repart.service",
    "systemd-pstore.service",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "lvm2-monitor.service",
    "mdmonitor.service",
    "dev-hugepages.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
    "proc-sys-fs-binfmt_misc.automount",
    // Identity, clock and random bytes: the agent has set them.
    "systemd-firstboot.service",
    "systemd-machine-id-commit.service",
    "systemd-random-seed.service",
    "systemd-boot-random-seed.service",
    "systemd-boot-system-token.service",
    "systemd-timesyncd.service",
    "systemd-hostnamed-set.service",
    "hwclock-save.service",
    "hwclock.service",
    // The network is configured before systemd starts.
    "systemd-networkd-wait-online.service",
    "NetworkManager-wait-online.service",
    "ifupdown-pre.service",
    // Chores.
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "logrotate.timer",
    "man-db.timer",
    "motd-news.timer",
    "ldconfig.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

/// Generators that look for what a microVM does not have. Those that an image adds itself are left alone.
const GENERATORS: [&str; 17] = [
    "systemd-bless-boot-generator",
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-factory-reset-generator",
    "systemd-fstab-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-tpm2-generator",
    "systemd-veritysetup-generator",
    "lvm2-activation-generator",
    "friendly-recovery",
    "openvpn-generator",
];

const SYSV_GENERATOR: &str = "systemd-sysv-generator";
const RC_LOCAL_GENERATOR: &str = "systemd-rc-local-generator";
/// Creates the users of an image that was built without any.
const SYSUSERS: &str = "systemd-sysusers.service";

/// Where an image's own units are.
const UNIT_DIRS: [&str; 3] = [
    "etc/systemd/system",
    "lib/systemd/system",
    "usr/lib/systemd/system",
];
const SYSV_DIR: &str = "etc/init.d";

/// Masks everything that is not needed. What cannot be masked costs time, no more.
pub(super) fn trim(root: &Path) {
    let masks = [
        ("run/systemd/system", units(root)),
        ("run/systemd/system-generators", generators(root)),
    ];
    for (directory, names) in masks {
        if let Err(error) = mask(&root.join(directory), &names) {
            console::warn("systemd masks", &error);
        }
    }
}

fn units(root: &Path) -> Vec<&'static str> {
    let mut units = UNITS.to_vec();
    if root.join("etc/passwd").exists() {
        units.push(SYSUSERS);
    }
    units
}

fn generators(root: &Path) -> Vec<&'static str> {
    let mut generators = GENERATORS.to_vec();
    if !needs_sysv(&names(&root.join(SYSV_DIR)), &unit_names(root)) {
        generators.push(SYSV_GENERATOR);
    }
    if !root.join("etc/rc.local").exists() {
        generators.push(RC_LOCAL_GENERATOR);
    }
    generators
}

fn mask(directory: &Path, names: &[&str]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    names.iter().try_for_each(|name| {
        match std::os::unix::fs::symlink("/dev/null", directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    })
}

/// Whether a script in /etc/init.d has no unit that replaces it, so that only the generator can start it.
fn needs_sysv(scripts: &BTreeSet<String>, units: &BTreeSet<String>) -> bool {
    scripts.iter().any(|script| {
        let name = script.strip_suffix(".sh").unwrap_or(script);
        let hidden = name.starts_with('.')
            || matches!(name, "README" | "functions" | "skeleton" | "rc" | "rcS");
        !hidden && !units.contains(&format!("{name}.service"))
    })
}

fn unit_names(root: &Path) -> BTreeSet<String> {
    let masked = UNITS.iter().map(ToString::to_string);
    UNIT_DIRS
        .iter()
        .flat_map(|directory| names(&root.join(directory)))
        .chain(masked)
        .collect()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_point_to_nothing_and_can_be_set_twice() {
        let root = tempfile::tempdir().unwrap();
        trim(root.path());
        trim(root.path());
        for path in [
            "run/systemd/system/getty@.service",
            "run/systemd/system-generators/systemd-sysv-generator",
        ] {
            assert_eq!(
                fs::read_link(root.path().join(path)).unwrap(),
                Path::new("/dev/null"),
                "{path}"
            );
        }
    }

    #[test]
    fn nothing_that_a_machine_is_for_is_masked() {
        for unit in [
            "ssh.service",
            "sshd.service",
            "network.target",
            "docker.service",
            "dbus.service",
        ] {
            assert!(!UNITS.contains(&unit), "{unit}");
        }
        let unique: BTreeSet<&str> = UNITS.into_iter().collect();
        assert_eq!(unique.len(), UNITS.len());
    }

    #[test]
    fn scripts_are_generated_for_only_where_no_unit_replaces_them() {
        let check = |scripts: &[&str], units: &[&str], needed| {
            let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            assert_eq!(
                needs_sysv(&set(scripts), &set(units)),
                needed,
                "{scripts:?}"
            );
        };
        check(&[], &[], false);
        check(
            &["ssh", "hwclock.sh"],
            &["ssh.service", "hwclock.service"],
            false,
        );
        check(&["ssh", "legacy"], &["ssh.service"], true);
        check(&["README", ".depend.boot"], &[], false);
    }
}
