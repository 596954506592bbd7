//! Owns the answer to "does /dev/kvm help here?". Decides from observations; the running of
//! code is in [`run`], the memory of verdicts in [`cache`]. Knows no VMM.

mod cache;
mod run;

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(crate) const DEVICE: &str = "/dev/kvm";

/// What /dev/kvm is on this host, for this user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvmVerdict {
    /// The processor itself runs guests.
    Real,
    /// It makes VMs, but their code runs in an emulator that stops at many instructions.
    Emulating { because: String },
    /// There is no such device.
    Absent,
    /// It is there, but not for this user.
    Forbidden,
    /// It could not be tried to the end.
    Undecided { because: String },
}

/// What the guest code of the probe did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    /// It ran to its end; `took` is the processor time of that.
    Finished { took: Duration },
    /// KVM gave up, at a point between the probe's instructions.
    Stopped { reason: String },
    /// It was still running when the watchdog ended it.
    Interrupted { took: Duration },
}

/// Sixty thousand instructions take a processor well under a millisecond, and an emulator
/// of four million a second fifteen.
const TOO_SLOW: Duration = Duration::from_millis(5);

fn decide(observation: Observation) -> KvmVerdict {
    let millis = |took: Duration| took.as_millis();
    match observation {
        Observation::Finished { took } if took < TOO_SLOW => KvmVerdict::Real,
        Observation::Finished { took } => KvmVerdict::Emulating {
            because: format!(
                "{} instructions took {} ms",
                run::INSTRUCTIONS,
                millis(took)
            ),
        },
        Observation::Stopped { reason } => KvmVerdict::Emulating { because: reason },
        Observation::Interrupted { took } if took >= TOO_SLOW => KvmVerdict::Emulating {
            because: format!("the test code did not end within {} ms", millis(took)),
        },
        // The host was too busy to run the test at all, which says nothing of KVM.
        Observation::Interrupted { .. } => KvmVerdict::Undecided {
            because: "the host was too busy to try it".into(),
        },
    }
}

impl KvmVerdict {
    /// Finds out, or remembers what was found since the host booted. Takes at most 50 ms.
    pub(crate) fn of_this_host(cache: &Path) -> Self {
        if let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) {
            return Self::of_open_error(&error);
        }
        let cache = cache::Cache::of_device(cache, Path::new(DEVICE));
        if let Some(verdict) = cache.as_ref().and_then(cache::Cache::read) {
            return verdict;
        }
        let verdict = match run::run() {
            Ok(observation) => decide(observation),
            Err(error) => Self::Undecided {
                because: error.to_string(),
            },
        };
        if let (Some(cache), true) = (&cache, verdict.is_lasting()) {
            cache.write(&verdict);
        }
        verdict
    }

    fn of_open_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            // The node is there, but no driver is behind it.
            _ if error.raw_os_error() == Some(libc::ENXIO) => Self::Absent,
            _ if error.raw_os_error() == Some(libc::ENODEV) => Self::Absent,
            _ => Self::Undecided {
                because: error.to_string(),
            },
        }
    }

    /// Whether the verdict holds until the host boots again.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Real | Self::Emulating { .. } => true,
            Self::Absent | Self::Forbidden | Self::Undecided { .. } => false,
        }
    }

    #[must_use]
    pub fn is_usable(&self) -> bool {
        *self == Self::Real
    }

    /// The verdict as the end of "…, because".
    pub(crate) fn explain(&self) -> String {
        match self {
            Self::Real => format!("{DEVICE} runs guests on the processor itself"),
            Self::Emulating { because } => {
                format!("{DEVICE} only emulates a processor here: {because}")
            }
            Self::Absent => format!("there is no {DEVICE} on this host"),
            Self::Forbidden => format!("this user may not open {DEVICE}"),
            Self::Undecided { because } => format!("{DEVICE} could not be tried: {because}"),
        }
    }
}

/// Where verdicts are remembered.
pub(crate) fn cache_file(cache: &Path) -> PathBuf {
    cache.join("kvm-probe.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_ends_fast_makes_kvm_real() {
        let ms = Duration::from_millis;
        let check = |observation: Observation, usable: bool, lasting: bool| {
            let verdict = decide(observation.clone());
            assert_eq!(verdict.is_usable(), usable, "{observation:?}");
            assert_eq!(verdict.is_lasting(), lasting, "{observation:?}");
        };
        check(
            Observation::Finished {
                took: Duration::from_micros(40),
            },
            true,
            true,
        );
        check(Observation::Finished { took: ms(15) }, false, true);
        check(
            Observation::Stopped {
                reason: "internal error".into(),
            },
            false,
            true,
        );
        check(Observation::Interrupted { took: ms(39) }, false, true);
        check(Observation::Interrupted { took: ms(1) }, false, false);
    }

    #[test]
    fn a_device_that_does_not_open_says_why() {
        let check = |errno: i32, wanted: KvmVerdict| {
            let verdict = KvmVerdict::of_open_error(&io::Error::from_raw_os_error(errno));
            assert_eq!(verdict, wanted, "errno {errno}");
        };
        check(libc::ENOENT, KvmVerdict::Absent);
        check(libc::ENXIO, KvmVerdict::Absent);
        check(libc::ENODEV, KvmVerdict::Absent);
        check(libc::EACCES, KvmVerdict::Forbidden);
        check(libc::EPERM, KvmVerdict::Forbidden);
    }

    #[test]
    fn the_probe_decides_on_any_host_and_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let start = std::time::Instant::now();
        let first = KvmVerdict::of_this_host(dir.path());
        // Twice what is promised, because tests share their host.
        assert!(
            start.elapsed() < Duration::from_millis(100),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(cache_file(dir.path()).exists(), first.is_lasting());
        if first.is_lasting() {
            assert_eq!(KvmVerdict::of_this_host(dir.path()), first);
        }
    }
}
