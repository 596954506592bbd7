//! What the user's limits mean for a daemon (getrlimit(2)): it takes all open files that it may have, and
//! says what it cannot do instead of being ended by a signal or a panic.

use std::{io, thread};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// The threads that the runtime begins with.
pub(crate) const WORKERS: usize = 2;

/// Each running VM needs some open files, and shells start programs with few.
pub(crate) fn take_all_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // With those that it was given it serves fewer VMs.
    let _ = setrlimit(Resource::Nofile, wanted);
}

/// Whether the threads of a runtime can be started; the runtime itself would panic.
pub(crate) fn can_start_threads() -> io::Result<()> {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let started: io::Result<Vec<_>> = (0..=WORKERS)
        .map(|_| {
            let held = held.clone();
            // All of them at once, as the runtime has them.
            let wait = move || drop(held.lock().map(|held| held.recv()));
            thread::Builder::new().spawn(wait)
        })
        .collect();
    drop(hold);
    for thread in started? {
        // They do nothing that could fail.
        let _ = thread.join();
    }
    Ok(())
}

/// A write beyond the size that files may have fails from now on, instead of ending this process. Programs
/// that are started have the signal as it was.
pub(crate) fn survive_large_files() -> io::Result<()> {
    // The handler stays when nobody listens.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_taken_and_threads_are_no_problem_here() {
        take_all_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        can_start_threads().unwrap();
    }
}
