//! Owns the end of what the agent did since the boot, for a host that asks. Bounded; writes no file.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use banger_guest_proto::message::{AgentLog, LogLine};

use crate::boot::clock;

/// With lines of at most this many characters they fit into a document, whatever is escaped in them.
const MAX_LINES: usize = 128;
const MAX_CHARS: usize = 80;

static LINES: Mutex<VecDeque<LogLine>> = Mutex::new(VecDeque::new());

/// Notes what happened.
pub(crate) fn note(what: fmt::Arguments<'_>) {
    let text = what.to_string().chars().take(MAX_CHARS).collect();
    let uptime_ms = clock::uptime_ns() / 1_000_000;
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() == MAX_LINES {
        lines.pop_front();
    }
    lines.push_back(LogLine { uptime_ms, text });
}

/// What is noted.
pub(crate) fn log() -> AgentLog {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    AgentLog {
        lines: lines.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use banger_guest_proto::message::MAX_DOCUMENT;

    use super::*;

    #[test]
    fn a_flood_fits_into_a_document_and_the_latest_is_kept() {
        for n in 0..3 * MAX_LINES {
            note(format_args!("{n} {}", "\u{1}".repeat(1000)));
        }
        let log = log();
        assert_eq!(log.lines.len(), MAX_LINES);
        assert!(serde_json::to_vec(&log).unwrap().len() < MAX_DOCUMENT);
    }
}
