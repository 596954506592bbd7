//! Waiting for what will be true, up to a deadline that is always there.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// How often something is looked at that nobody announces.
const GLANCE: Duration = Duration::from_millis(20);

/// Looks until `found` finds something. Fails the story when `patience` is over.
#[track_caller]
pub fn eventually<T>(what: &str, patience: Duration, found: impl FnMut() -> Option<T>) -> T {
    match within(patience, found) {
        Some(value) => value,
        None => panic!("{what}: not within {patience:?}"),
    }
}

/// Looks until `found` finds something or `patience` is over; looks at least once.
pub(crate) fn within<T>(patience: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = found() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(GLANCE);
    }
}

/// Waits until a process has ended, whoever its parent is. Fails the story when it goes on.
#[track_caller]
pub fn wait_for_end(pid: u32, patience: Duration) {
    assert!(
        has_ended_within(pid, patience),
        "process {pid} goes on after {patience:?}"
    );
}

/// Whether a process ends in time. One that is not there has ended.
pub(crate) fn has_ended_within(pid: u32, patience: Duration) -> bool {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return true;
    };
    let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else {
        return true;
    };
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(error) => panic!("cannot wait for process {pid}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn waiting_has_an_end() {
        assert_eq!(within(Duration::ZERO, || Some(7)), Some(7));
        assert_eq!(within(Duration::ZERO, || None::<u8>), None);
        let mut turns = 1..=3;
        let third = || turns.next().filter(|turn| *turn == 3);
        assert_eq!(
            eventually("a third turn", Duration::from_secs(60), third),
            3
        );
    }

    #[test]
    fn a_process_is_waited_for_by_its_number() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(!has_ended_within(child.id(), Duration::ZERO));
        child.kill().unwrap();
        wait_for_end(child.id(), Duration::from_secs(60));
        child.wait().unwrap();
    }
}
