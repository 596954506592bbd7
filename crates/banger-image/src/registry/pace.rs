//! Owns when a request is made again: how often, after which pause, and what a server that
//! names a time is allowed to ask for. Sleeps not, asks nothing.

use std::time::{Duration, SystemTime};

/// A server that asks for more is not waited for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// No pause of our own is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Counts tries and gives the pauses between them.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    tries: u32,
    tries_left: u32,
    first_pause: Duration,
    pause: Duration,
}

impl Pace {
    pub(super) fn new(tries: u32, first_pause: Duration) -> Self {
        let tries = tries.max(1);
        Self {
            tries,
            tries_left: tries,
            first_pause,
            pause: first_pause,
        }
    }

    /// Counts a failed try. Gives the pause before the next, or nothing where it was the last.
    /// `jitter`, from 0 to 1, spreads those that were refused at the same time.
    pub(super) fn failed(&mut self, asked: Option<Duration>, jitter: f64) -> Option<Duration> {
        self.tries_left -= 1;
        if self.tries_left == 0 {
            return None;
        }
        let own = self.pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        match asked {
            Some(asked) if asked > LONGEST_WAIT => None,
            Some(asked) => Some(asked.max(own)),
            None => Some(own),
        }
    }

    /// Something was achieved: the next failure is a first one.
    pub(crate) fn progressed(&mut self) {
        *self = Self::new(self.tries, self.first_pause);
    }
}

/// A number from 0 to 1.
pub(super) fn jitter() -> f64 {
    let random = getrandom::u32().expect("the kernel's random source does not fail after boot");
    f64::from(random) / f64::from(u32::MAX)
}

/// `Retry-After` (RFC 9110) in seconds or as a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_until_the_tries_are_used_up() {
        let mut pace = Pace::new(4, SECOND);
        assert_eq!(pace.failed(None, 0.5), Some(SECOND));
        assert_eq!(pace.failed(None, 0.5), Some(SECOND * 2));
        assert_eq!(pace.failed(None, 0.5), Some(SECOND * 4));
        assert_eq!(pace.failed(None, 0.5), None);
    }

    #[test]
    fn jitter_spreads_and_progress_begins_anew() {
        let mut pace = Pace::new(3, SECOND);
        assert_eq!(pace.failed(None, 0.0), Some(SECOND / 2));
        assert_eq!(pace.failed(None, 1.0), Some(SECOND * 3));
        pace.progressed();
        assert_eq!(pace.failed(None, 0.5), Some(SECOND));
    }

    #[test]
    fn a_server_that_names_a_time_is_obeyed_within_reason() {
        let mut pace = Pace::new(9, SECOND);
        assert_eq!(pace.failed(Some(SECOND * 30), 0.5), Some(SECOND * 30));
        assert_eq!(pace.failed(Some(Duration::ZERO), 0.5), Some(SECOND * 2));
        assert_eq!(pace.failed(Some(LONGEST_WAIT * 2), 0.5), None);
    }

    #[test]
    fn the_time_is_named_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + SECOND * 784_111_777;
        let check = |value: &str, seconds: Option<u64>| {
            let found = retry_after(value, now);
            assert_eq!(found, seconds.map(Duration::from_secs), "{value}");
        };
        check("7", Some(7));
        check(" 0 ", Some(0));
        check("Sun, 06 Nov 1994 08:49:47 GMT", Some(10));
        check("Sun, 06 Nov 1994 08:49:27 GMT", Some(0));
        check("soon", None);
        check("-1", None);
    }
}
