//! Measures the processor's time stamp counter against the clock. An emulated guest needs
//! the rate, because it cannot measure it itself. Knows no VMM.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use crate::sys;

/// Long enough that the uncertainty of both readings is a few millionths of it.
const BASELINE: Duration = Duration::from_millis(20);

/// The rate in kHz, known shortly after this is made.
#[derive(Debug, Clone)]
pub(crate) struct TscRate(Arc<OnceLock<u64>>);

impl TscRate {
    /// Starts to measure beside whatever else this process does.
    pub(crate) fn measure() -> Self {
        let rate = Self(Arc::default());
        let cell = Arc::clone(&rate.0);
        // When no thread can be had the first one who asks measures.
        let _ = std::thread::Builder::new()
            .name("tsc".into())
            .spawn(move || {
                cell.get_or_init(measure);
            });
        rate
    }

    /// Blocks until the measurement is done: never longer than it takes.
    pub(crate) fn khz(&self) -> u64 {
        *self.0.get_or_init(measure)
    }
}

/// A counter value and the raw monotonic clock's time in nanoseconds at that moment.
type Reading = (u64, u64);

fn measure() -> u64 {
    let first = read_both();
    std::thread::sleep(BASELINE);
    khz(first, read_both())
}

/// Reads both clocks close together: of some attempts the one that took the shortest time.
fn read_both() -> Reading {
    let attempt = |_| {
        let before = sys::time_stamp_counter();
        let time = clock_gettime(ClockId::MonotonicRaw);
        let after = sys::time_stamp_counter();
        let nanos = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
        let width = after.saturating_sub(before);
        (width, (before + width / 2, nanos))
    };
    let best = (0..32).map(attempt).min_by_key(|(width, _)| *width);
    best.expect("there are 32 attempts").1
}

fn khz(first: Reading, last: Reading) -> u64 {
    let ticks = u128::from(last.0.saturating_sub(first.0));
    let nanos = u128::from(last.1.saturating_sub(first.1)).max(1);
    u64::try_from((ticks * 1_000_000 + nanos / 2) / nanos).unwrap_or(u64::MAX)
}

/// The host's processor in words: its model, and a number for all that it can do.
pub(crate) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    describe(&text)
}

fn describe(cpuinfo: &str) -> String {
    let value = |key: &str| {
        let line = cpuinfo
            .lines()
            .find(|line| line.split(':').next().map(str::trim) == Some(key));
        line.and_then(|line| line.split_once(':'))
            .map_or("", |(_, value)| value.trim())
    };
    // FNV-1a: the same in every build of ours.
    let features = value("flags")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{} ({features:016x})", value("model name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_ticks_by_time() {
        let check = |first, last, wanted| assert_eq!(khz(first, last), wanted);
        check((0, 0), (2_596_146, 1_000_000), 2_596_146);
        check(
            (1 << 60, 77),
            ((1 << 60) + 60_000_000, 20_000_077),
            3_000_000,
        );
        check((5, 5), (5, 5), 0);
    }

    #[test]
    fn processors_differ_by_model_and_by_what_they_can_do() {
        let one = describe("model name\t: Fast One\nflags\t\t: fpu sse2\n");
        assert!(one.starts_with("Fast One ("), "{one}");
        assert_ne!(one, describe("model name\t: Fast One\nflags\t\t: fpu\n"));
        assert_ne!(
            one,
            describe("model name\t: Slow One\nflags\t\t: fpu sse2\n")
        );
    }

    #[test]
    fn two_measurements_agree() {
        let (one, two) = (TscRate::measure().khz(), measure());
        assert!(one.abs_diff(two) <= one / 1000, "{one} kHz and {two} kHz");
    }
}
