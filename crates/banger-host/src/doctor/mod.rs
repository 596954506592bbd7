//! The host's part of `banger doctor`: what a machine needs here, found or not. Changes
//! nothing but the remembered verdict of the KVM probe.

mod firecracker;
mod programs;

use std::{path::Path, thread};

use banger_core::{
    host::{Check, Verdict},
    host_error::HostError,
};

use crate::{
    admission::{self, LEAST_SPACE},
    cgroups,
    host::HostConfig,
    mmdebstrap::{self, Mode},
    probe::KvmVerdict,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// A VM with the default memory, its VMM included.
const GOOD_MEMORY: u64 = 1200 * MIB;
/// Below this no VM of a useful size starts.
const LEAST_MEMORY: u64 = 256 * MIB;
/// A kernel, a default image with what it is made of, and some VMs' disks.
const GOOD_SPACE: u64 = 4 * GIB;

/// All checks, in the order in which a reader wants them.
pub(crate) fn checks(config: &HostConfig, state: &Path) -> Vec<Check> {
    thread::scope(|scope| {
        // Programs are started; beside each other they cost the time of one.
        let qemu = scope.spawn(|| programs::qemu(config.qemu.as_deref()));
        let accelerated = scope.spawn(|| {
            let verdict = KvmVerdict::of_this_host(&config.cache);
            let mut rows = vec![kvm(&verdict)];
            rows.extend(firecracker::firecracker(
                &config.firecracker,
                verdict.is_usable(),
            ));
            rows
        });
        let mut checks = vec![architecture(), kernel()];
        let quick = [
            mmdebstrap_program(config),
            mmdebstrap_user(),
            memory(),
            limits(&cgroups::names()),
            space(state),
        ];
        checks.extend(accelerated.join().unwrap_or_default());
        checks.extend(qemu.join().unwrap_or_default());
        checks.extend(quick);
        checks
    })
}

fn row(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check {
        name,
        verdict,
        detail: detail.into(),
        hint: None,
    }
}

fn advised(name: &'static str, verdict: Verdict, detail: String, hint: &str) -> Check {
    Check {
        name,
        verdict,
        detail,
        hint: Some(hint.to_owned()),
    }
}

/// A second wall around machines, which many users have to do without.
fn limits(names: &[&str]) -> Check {
    let detail = match names {
        [] => "none: this user may make no control groups, so machines share this user's".into(),
        names => format!("control groups limit each machine's {}", names.join(", ")),
    };
    row("limits", Verdict::Pass, detail)
}

fn architecture() -> Check {
    row("architecture", Verdict::Pass, std::env::consts::ARCH)
}

/// Process descriptors and the flags that a VMM is started with.
fn kernel() -> Check {
    const OLDEST: (u32, u32) = (5, 4);
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    match parse_release(&release) {
        Some(version) if version < OLDEST => advised(
            "kernel",
            Verdict::Fail,
            format!("Linux {release}"),
            "banger needs Linux 5.4 or newer on the host",
        ),
        Some(_) | None => row("kernel", Verdict::Pass, format!("Linux {release}")),
    }
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kvm(verdict: &KvmVerdict) -> Check {
    let hint = match verdict {
        KvmVerdict::Real => return row("kvm", Verdict::Pass, verdict.explain()),
        KvmVerdict::Emulating { .. } => {
            "banger lets QEMU emulate instead: machines work, several times slower; \
             a host with hardware virtualization would run them at full speed"
        }
        KvmVerdict::Absent => {
            "banger lets QEMU emulate instead: machines work, several times slower; \
             switch on virtualization in the firmware, or nested virtualization in the cloud"
        }
        KvmVerdict::Forbidden => {
            "get access to it, usually through its group, and log in again: \
             sudo usermod -aG kvm \"$USER\""
        }
        KvmVerdict::Undecided { .. } => "run banger doctor again when the host is less busy",
    };
    advised("kvm", Verdict::Warn, verdict.explain(), hint)
}

fn mmdebstrap_program(config: &HostConfig) -> Check {
    match mmdebstrap::find(config.mmdebstrap.as_deref()) {
        Ok(path) => row("mmdebstrap", Verdict::Pass, path.display().to_string()),
        Err(error) => advised(
            "mmdebstrap",
            Verdict::Warn,
            error.to_string(),
            "only building the default Debian image needs it: sudo apt install mmdebstrap",
        ),
    }
}

fn mmdebstrap_user() -> Check {
    const NAME: &str = "image building";
    match Mode::of_this_user() {
        Ok(Mode::Root) => row(NAME, Verdict::Pass, "as root"),
        Ok(Mode::Unshare) => row(NAME, Verdict::Pass, "in a user namespace"),
        Err(HostError::Unsupported { reason, .. }) => {
            let (detail, hint) = reason.split_once("; ").unwrap_or((&reason, ""));
            advised(NAME, Verdict::Warn, detail.to_owned(), hint)
        }
        Err(HostError::ProgramMissing { program, package }) => advised(
            NAME,
            Verdict::Warn,
            format!("there is no {program} on this host"),
            &format!("only building images as an ordinary user needs it: install {package}"),
        ),
        Err(error) => row(NAME, Verdict::Warn, error.to_string()),
    }
}

fn memory() -> Check {
    let Some(bytes) = admission::available_memory() else {
        return row(
            "memory",
            Verdict::Warn,
            "the host does not tell what is available",
        );
    };
    let hint = "end other programs, or give machines less with --memory";
    let detail = format!("{} MiB available", bytes / MIB);
    graded("memory", bytes, LEAST_MEMORY, GOOD_MEMORY, detail, hint)
}

fn space(state: &Path) -> Check {
    let hint = "make room there, or move banger's directories with BANGER_HOME";
    match admission::free_space(state) {
        Ok(bytes) => {
            let detail = format!("{} MiB free for {}", bytes / MIB, state.display());
            graded("disk space", bytes, LEAST_SPACE, GOOD_SPACE, detail, hint)
        }
        Err(error) => advised("disk space", Verdict::Fail, error.to_string(), hint),
    }
}

/// Fails below the least, warns below what is good.
fn graded(
    name: &'static str,
    have: u64,
    least: u64,
    good: u64,
    detail: String,
    hint: &str,
) -> Check {
    if have < least {
        advised(name, Verdict::Fail, detail, hint)
    } else if have < good {
        advised(name, Verdict::Warn, detail, hint)
    } else {
        row(name, Verdict::Pass, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_its_version() {
        let check = |release, wanted| assert_eq!(parse_release(release), wanted, "{release}");
        check("6.1.0-18-cloud-amd64", Some((6, 1)));
        check("5.4", Some((5, 4)));
        check("6.18.44-fc", Some((6, 18)));
        check("linux", None);
    }

    #[test]
    fn only_a_real_kvm_passes_and_nothing_else_fails() {
        let check = |verdict: KvmVerdict, wanted| {
            let row = kvm(&verdict);
            assert_eq!(row.verdict, wanted, "{row:?}");
            assert_eq!(row.hint.is_some(), wanted != Verdict::Pass, "{row:?}");
        };
        check(KvmVerdict::Real, Verdict::Pass);
        check(
            KvmVerdict::Emulating {
                because: "it stopped".into(),
            },
            Verdict::Warn,
        );
        check(KvmVerdict::Absent, Verdict::Warn);
        check(KvmVerdict::Forbidden, Verdict::Warn);
        check(
            KvmVerdict::Undecided {
                because: "busy".into(),
            },
            Verdict::Warn,
        );
    }

    #[test]
    fn amounts_are_graded() {
        let check = |have, wanted| {
            assert_eq!(
                graded("x", have, 10, 20, String::new(), "").verdict,
                wanted,
                "{have}"
            );
        };
        check(9, Verdict::Fail);
        check(10, Verdict::Warn);
        check(20, Verdict::Pass);
    }

    #[test]
    fn everything_is_checked_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = HostConfig {
            cache: dir.path().to_owned(),
            ..HostConfig::default()
        };
        let checks = checks(&config, dir.path());
        let mut names: Vec<_> = checks.iter().map(|check| check.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(
            names.contains(&"kvm") && names.contains(&"qemu"),
            "{names:?}"
        );
    }
}
