//! Owns what the agent says on the machine's console: one line for a boot that cannot go on, and a trace when asked.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use banger_guest_proto::boot::fatal;

use crate::boot::clock;
use crate::journal;

static TRACE: AtomicBool = AtomicBool::new(false);

/// Switches [`trace`] on.
pub(crate) fn enable_trace() {
    TRACE.store(true, Ordering::Relaxed);
}

/// Says what the agent is doing and when, where the host asked for it.
pub(crate) fn trace(what: fmt::Arguments<'_>) {
    if TRACE.load(Ordering::Relaxed) {
        let millis = clock::uptime_ns() / 1_000_000;
        line(format_args!("banger-agent: {millis} ms: {what}"));
    }
}

/// Says what did not work although the boot goes on.
pub(crate) fn warn(what: &str, error: &dyn std::error::Error) {
    journal::note(format_args!("warning: {what}: {}", Chain(error)));
    line(format_args!(
        "banger-agent: warning: {what}: {}",
        Chain(error)
    ));
}

/// Says why the boot cannot go on, in the words that the host looks for.
pub(crate) fn fatal(phrase: &str, error: &dyn std::error::Error) {
    line(format_args!("{}{phrase}: {}", fatal::PREFIX, Chain(error)));
}

/// An error and its causes on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut error = self.0;
        while let Some(source) = error.source() {
            write!(f, ": {source}")?;
            error = source;
        }
        Ok(())
    }
}

/// Writes a line of its own and waits until the console has it: the machine may go down right after.
fn line(text: fmt::Arguments<'_>) {
    let text = format!("\r\n{text}\r\n");
    // Where even the console is missing, there is nobody left to tell.
    let Ok(mut console) = OpenOptions::new().write(true).open("/dev/console") else {
        return;
    };
    let _ = console.write_all(text.as_bytes());
    let _ = rustix::termios::tcdrain(&console);
}
