//! What the time of a boot went into. Bounds what the guest says by what the host saw; knows no
//! clock but the one that it is handed.

use std::time::{Duration, Instant, SystemTime};

use crate::host::BootMarks;

/// When a boot passed its stages, each as the time since the start was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    pub requested_at: SystemTime,
    begin: Instant,
    /// The VMM's process runs.
    pub vmm_started: Option<Duration>,
    /// The kernel's clock began.
    pub kernel_entered: Option<Duration>,
    /// The agent's first instruction as the first process.
    pub init_entered: Option<Duration>,
    /// The drivers for the root are there.
    pub modules_loaded: Option<Duration>,
    pub root_mounted: Option<Duration>,
    /// The agent waits for the host.
    pub agent_ready: Option<Duration>,
    /// The agent has answered the host.
    pub connected: Option<Duration>,
    /// The first command since runs.
    pub command_started: Option<Duration>,
}

impl Timeline {
    #[must_use]
    pub(crate) fn begin(begin: Instant, requested_at: SystemTime) -> Self {
        Self {
            requested_at,
            begin,
            vmm_started: None,
            kernel_entered: None,
            init_entered: None,
            modules_loaded: None,
            root_mounted: None,
            agent_ready: None,
            connected: None,
            command_started: None,
        }
    }

    pub(crate) fn vmm_started(&mut self, now: Instant) {
        self.vmm_started = Some(now - self.begin);
    }

    /// Notes the first answer of the agent. A guest can say of its marks what it likes, but
    /// nothing of it lies before its VMM's start or after its answer.
    pub(crate) fn connected(&mut self, now: Instant, marks: BootMarks) {
        let connected = now - self.begin;
        let earliest = self.vmm_started.unwrap_or_default();
        let within = |moment: Duration| moment.clamp(earliest.min(connected), connected);
        let entered = within(connected.saturating_sub(marks.greeted));
        let at = |mark: Option<Duration>| mark.map(|mark| within(entered.saturating_add(mark)));
        self.connected = Some(connected);
        self.kernel_entered = Some(entered);
        self.init_entered = at(marks.init_entered);
        self.modules_loaded = at(marks.modules_loaded);
        self.root_mounted = at(marks.root_mounted);
        self.agent_ready = at(marks.ready);
    }

    pub(crate) fn command_started(&mut self, now: Instant) {
        self.command_started.get_or_insert(now - self.begin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A boot that was asked for at 0, whose VMM ran at 100 ms and whose agent answered at 900 ms.
    fn booted(marks: BootMarks) -> Timeline {
        let begin = Instant::now();
        let mut timeline = Timeline::begin(begin, SystemTime::UNIX_EPOCH);
        timeline.vmm_started(begin + ms(100));
        timeline.connected(begin + ms(900), marks);
        timeline
    }

    #[test]
    fn the_guests_clock_is_laid_onto_the_hosts() {
        let timeline = booted(BootMarks {
            init_entered: Some(ms(400)),
            ready: Some(ms(650)),
            greeted: ms(700),
            ..BootMarks::default()
        });
        assert_eq!(timeline.kernel_entered, Some(ms(200)));
        assert_eq!(timeline.init_entered, Some(ms(600)));
        assert_eq!(timeline.root_mounted, None);
        assert_eq!(timeline.agent_ready, Some(ms(850)));
        assert_eq!(timeline.connected, Some(ms(900)));
    }

    #[test]
    fn a_guest_that_lies_stays_within_what_the_host_saw() {
        let timeline = booted(BootMarks {
            init_entered: Some(Duration::MAX),
            ready: Some(Duration::ZERO),
            greeted: Duration::MAX,
            ..BootMarks::default()
        });
        assert_eq!(timeline.kernel_entered, Some(ms(100)));
        assert_eq!(timeline.init_entered, Some(ms(900)));
        assert_eq!(timeline.agent_ready, Some(ms(100)));
    }

    #[test]
    fn only_the_first_command_counts() {
        let mut timeline = booted(BootMarks::default());
        let begin = timeline.begin;
        timeline.command_started(begin + ms(950));
        timeline.command_started(begin + ms(2000));
        assert_eq!(timeline.command_started, Some(ms(950)));
    }
}
