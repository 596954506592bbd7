//! What a VM does without being asked: start again after its end, start with the host, stop when nobody
//! uses it. Pure: without clock, lock or I/O.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use crate::record::{Seconds, VmState};

/// Why a text is no such wish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpkeepError {
    #[error(
        "a restart policy is no, on-failure, on-failure:N, always or unless-stopped, not \"{0}\""
    )]
    Restart(String),
    #[error("an idle stop is default, never or a number of seconds, not \"{0}\"")]
    IdleStop(String),
    #[error("a VM that goes away with its session cannot be restarted")]
    AutoRemove,
}

/// When a VM that ended by itself is started again: what docker's users know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    #[default]
    No,
    /// When it did not end well; so often in a row at most.
    OnFailure {
        most: Option<NonZeroU32>,
    },
    Always,
    /// As always, and it stays down over a restart of the host if it was stopped.
    UnlessStopped,
}

impl FromStr for RestartPolicy {
    type Err = UpkeepError;

    fn from_str(text: &str) -> Result<Self, UpkeepError> {
        let refused = || UpkeepError::Restart(text.chars().take(40).collect());
        match text {
            "no" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure { most: None }),
            _ => {
                let most = text.strip_prefix("on-failure:").ok_or_else(refused)?;
                let most = most.parse().map_err(|_| refused())?;
                Ok(Self::OnFailure { most: Some(most) })
            }
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure { most: None } => f.write_str("on-failure"),
            Self::OnFailure { most: Some(most) } => write!(f, "on-failure:{most}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// When a VM that nobody uses is stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdleStop {
    /// As the configuration says.
    #[default]
    Configured,
    Never,
    After(Duration),
}

impl IdleStop {
    /// What holds, with this in the configuration.
    #[must_use]
    pub fn after(self, configured: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Configured => configured,
            Self::Never => None,
            Self::After(time) => Some(time),
        }
    }

    /// As a row has it.
    pub(crate) fn seconds(self) -> Option<Seconds> {
        match self {
            Self::Configured => None,
            Self::Never => Some(0),
            Self::After(time) => Some(time.as_secs()),
        }
    }

    pub(crate) fn of_seconds(seconds: Option<Seconds>) -> Self {
        match seconds {
            None => Self::Configured,
            Some(0) => Self::Never,
            Some(seconds) => Self::After(Duration::from_secs(seconds)),
        }
    }
}

impl FromStr for IdleStop {
    type Err = UpkeepError;

    fn from_str(text: &str) -> Result<Self, UpkeepError> {
        match (text, text.parse()) {
            ("default", _) => Ok(Self::Configured),
            ("never", _) => Ok(Self::Never),
            (_, Ok(seconds @ 1..)) => Ok(Self::After(Duration::from_secs(seconds))),
            (_, Ok(0) | Err(_)) => Err(UpkeepError::IdleStop(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for IdleStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("default"),
            Self::Never => f.write_str("never"),
            Self::After(time) => write!(f, "{}", time.as_secs()),
        }
    }
}

/// What a VM's owner wants of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upkeep {
    pub restart: RestartPolicy,
    /// It starts with the host, whatever it did before.
    pub autostart: bool,
    pub idle_stop: IdleStop,
}

/// How far the wishes were carried out; durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Life {
    /// Somebody, or its idleness, ended it: it did not end by itself.
    pub stopped: bool,
    /// Starts in a row that nobody asked for.
    pub restarts: u32,
    /// When the next of them is.
    pub restart_at: Option<Seconds>,
    /// When it was used last, as far as that is written down.
    pub touched_at: Option<Seconds>,
}

/// The first pause before a restart, the longest, and how long a VM has to run for its next pause to be
/// the first again; docker has the same.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
pub(crate) const SETTLED: Duration = Duration::from_secs(10);

/// Whether a VM that ended by itself is started again, and after which pause.
#[must_use]
pub fn after_end(policy: RestartPolicy, clean: bool, restarts: u32) -> Option<Duration> {
    let again = match policy {
        RestartPolicy::No => false,
        RestartPolicy::OnFailure { most } => {
            !clean && most.is_none_or(|most| restarts < most.get())
        }
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
    };
    let pause = FIRST_PAUSE.saturating_mul(1 << restarts.min(16));
    again.then_some(pause.min(LONGEST_PAUSE))
}

/// Whether a VM whose VMM went while no daemon watched is started: nobody knows how it ended.
#[must_use]
pub fn after_absence(policy: RestartPolicy) -> bool {
    match policy {
        RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
    }
}

/// How long a VM with a time to go still has. A clock that was set back since the time was given makes it
/// no longer than it was then.
#[must_use]
pub fn time_left(expires_at: Seconds, recorded_at: Seconds, now: Seconds) -> Duration {
    Duration::from_secs(expires_at.saturating_sub(now.max(recorded_at)))
}

/// Whether a VM is started when the host has started.
#[must_use]
pub fn with_host(upkeep: Upkeep, life: Life, state: VmState) -> bool {
    let wanted = match upkeep.restart {
        RestartPolicy::No | RestartPolicy::OnFailure { .. } => upkeep.autostart,
        // One that was never started is not restarted either.
        RestartPolicy::Always => upkeep.autostart || state != VmState::Created,
        RestartPolicy::UnlessStopped => {
            upkeep.autostart || (state != VmState::Created && !life.stopped)
        }
    };
    match state {
        VmState::Created
        | VmState::Stopped
        | VmState::Error
        | VmState::Starting
        | VmState::Running
        | VmState::Paused => wanted,
        VmState::Stopping | VmState::Deleting => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_its_text() {
        for text in [
            "no",
            "on-failure",
            "on-failure:3",
            "always",
            "unless-stopped",
        ] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "yes",
            "on-failure:",
            "on-failure:0",
            "on-failure:-1",
            "always:3",
        ] {
            assert!(wrong.parse::<RestartPolicy>().is_err(), "{wrong}");
        }
        for text in ["default", "never", "3600"] {
            let idle: IdleStop = text.parse().unwrap();
            assert_eq!(idle.to_string(), text);
            assert_eq!(IdleStop::of_seconds(idle.seconds()), idle);
        }
        assert!("0".parse::<IdleStop>().is_err() && "soon".parse::<IdleStop>().is_err());
    }

    #[test]
    fn what_ended_by_itself_comes_back_as_its_policy_says() {
        let check = |policy: &str, clean: bool, restarts: u32, expected: Option<u64>| {
            let pause = after_end(policy.parse().unwrap(), clean, restarts);
            let expected = expected.map(Duration::from_millis);
            assert_eq!(pause, expected, "{policy} {clean} {restarts}");
        };
        check("no", false, 0, None);
        check("on-failure", true, 0, None);
        check("on-failure", false, 0, Some(100));
        check("on-failure:2", false, 1, Some(200));
        check("on-failure:2", false, 2, None);
        check("always", true, 3, Some(800));
        check("unless-stopped", true, 0, Some(100));
        // The pause has a limit, however often it was.
        check("always", false, u32::MAX, Some(60_000));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_time_longer() {
        let check = |expires_at, recorded_at, now, left| {
            let got = time_left(expires_at, recorded_at, now);
            assert_eq!(
                got,
                Duration::from_secs(left),
                "{expires_at} {recorded_at} {now}"
            );
        };
        check(1_060, 1_000, 1_000, 60);
        check(1_060, 1_000, 1_050, 10);
        check(1_060, 1_000, 2_000, 0);
        check(1_060, 1_000, 0, 60);
    }

    #[test]
    fn what_starts_with_the_host_is_what_was_not_to_stay_down() {
        let check = |policy: &str, autostart: bool, stopped: bool, state, expected: bool| {
            let upkeep = Upkeep {
                restart: policy.parse().unwrap(),
                autostart,
                ..Upkeep::default()
            };
            let life = Life {
                stopped,
                ..Life::default()
            };
            let told = format!("{policy} {autostart} {stopped} {}", state as u8);
            assert_eq!(with_host(upkeep, life, state), expected, "{told}");
        };
        check("no", false, false, VmState::Running, false);
        check("no", true, true, VmState::Stopped, true);
        check("no", true, false, VmState::Created, true);
        check("always", false, true, VmState::Stopped, true);
        check("always", false, false, VmState::Created, false);
        check("unless-stopped", false, true, VmState::Stopped, false);
        check("unless-stopped", false, false, VmState::Running, true);
        check("on-failure", false, false, VmState::Error, false);
        check("always", true, false, VmState::Deleting, false);
    }
}
