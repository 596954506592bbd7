//! Checks Firecracker by asking it, and what stands beside it: its jailer, its network.

use banger_core::{
    host::{Check, Verdict},
    host_error::HostError,
};

use super::{advised, row};
use crate::firecracker::{
    FirecrackerSettings,
    launch::can_make_taps,
    programs::Programs,
    version::{NEWEST, OLDEST, Version},
    walls::Walls,
};

const INSTALL: &str = "QEMU runs the machines meanwhile; releases are at \
                       https://github.com/firecracker-microvm/firecracker/releases: put firecracker \
                       and jailer on the PATH, or name them with firecracker_bin and jailer_bin";

/// Where /dev/kvm is of no use, Firecracker is not either, and is not missed.
pub(super) fn firecracker(settings: &FirecrackerSettings, missed: bool) -> Vec<Check> {
    match Programs::find(settings) {
        Ok(programs) => vec![
            version_row(programs.version),
            confinement_row(programs.walls),
            network_row(can_make_taps()),
        ],
        Err(error) => vec![missing_row(&error, missed)],
    }
}

fn missing_row(error: &HostError, missed: bool) -> Check {
    if missed {
        return advised("firecracker", Verdict::Warn, error.to_string(), INSTALL);
    }
    let detail = format!("{error}; it would be of no use without hardware virtualization");
    row("firecracker", Verdict::Pass, detail)
}

fn version_row(version: Version) -> Check {
    let detail = format!("Firecracker {version}");
    if version.is_known() {
        return row("firecracker", Verdict::Pass, detail);
    }
    let hint = format!(
        "banger knows the releases from {OLDEST} to {}; newer ones usually work",
        NEWEST.series()
    );
    advised("firecracker", Verdict::Warn, detail, &hint)
}

fn confinement_row(walls: Walls) -> Check {
    const NAME: &str = "confinement";
    match walls {
        Walls::Jailer => row(NAME, Verdict::Pass, "Firecracker's jailer"),
        Walls::Namespaces => row(NAME, Verdict::Pass, "namespaces and a root of its own"),
        Walls::Landlock => advised(
            NAME,
            Verdict::Warn,
            "Landlock alone: this user may not make namespaces".into(),
            "machines under Firecracker have no user network then; allow user namespaces, as \
             with sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }
}

fn network_row(taps: Result<(), HostError>) -> Check {
    const NAME: &str = "firecracker network";
    match taps {
        Ok(()) => row(NAME, Verdict::Pass, "a tap and a user-mode uplink"),
        Err(error) => advised(
            NAME,
            Verdict::Warn,
            error.to_string(),
            "install slirp4netns, and let this user open /dev/net/tun",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_judged_by_the_range_that_is_known() {
        let check = |text: &str, wanted| {
            assert_eq!(version_row(text.parse().unwrap()).verdict, wanted, "{text}");
        };
        check("1.12.1", Verdict::Pass);
        check("1.16.2", Verdict::Pass);
        check("1.17.0", Verdict::Warn);
    }

    #[test]
    fn firecracker_is_missed_only_where_it_could_run() {
        let error = HostError::ProgramMissing {
            program: "firecracker".into(),
            package: "firecracker",
        };
        assert_eq!(missing_row(&error, true).verdict, Verdict::Warn);
        assert_eq!(missing_row(&error, false).verdict, Verdict::Pass);
    }
}
