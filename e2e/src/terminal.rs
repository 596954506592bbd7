//! A program on a pseudo-terminal, as a person sits before it: types, reads, changes the window.

use std::{
    fs::File,
    io::Write,
    process::{Child, Command},
    time::{Duration, Instant},
};

use rustix::termios::{Winsize, tcsetwinsize};
use rustix_openpty::openpty;

use crate::{capture::Capture, outcome::shown, wait::has_ended_within};

/// How long a person waits for an answer, a boot included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal with a program in it. Dropping it hangs up.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Capture,
    /// How much of the screen the story has seen.
    seen: usize,
}

impl Terminal {
    /// Puts `command` on a terminal of its own, as its controlling one.
    #[track_caller]
    pub(crate) fn open(command: &Command, cols: u16, rows: u16) -> Self {
        let pty = openpty(None, Some(&winsize(cols, rows))).expect("the host has pseudo-terminals");
        let user = || File::from(pty.user.try_clone().expect("a descriptor can be copied"));
        // Taking a terminal needs a call between fork and exec; this program is made for it.
        let mut setsid = Command::new("setsid");
        setsid
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => setsid.env(name, value),
                None => setsid.env_remove(name),
            };
        }
        setsid
            .env("TERM", "xterm")
            .stdin(user())
            .stdout(user())
            .stderr(user());
        let child = setsid.spawn().expect("setsid is part of every Debian");
        let keyboard = File::from(pty.controller);
        let screen = keyboard.try_clone().expect("a descriptor can be copied");
        Self {
            child,
            keyboard,
            screen: Capture::of(screen),
            seen: 0,
        }
    }

    /// Types some text.
    pub fn send(&mut self, text: &str) {
        let typed = self.keyboard.write_all(text.as_bytes());
        typed.expect("the terminal is open as long as the story");
    }

    /// Waits until the screen shows a text that was not there before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        match self.screen.find(text, self.seen, Instant::now() + PATIENCE) {
            Some(end) => self.seen = end,
            None => panic!("the screen does not show {text:?}:\n{}", self.unseen()),
        }
    }

    /// Changes the size of the window.
    pub fn resize(&self, cols: u16, rows: u16) {
        let changed = tcsetwinsize(&self.keyboard, winsize(cols, rows));
        changed.expect("the terminal is open as long as the story");
    }

    /// Waits for the program's end and gives back its exit code.
    #[track_caller]
    pub fn finish(&mut self) -> i32 {
        assert!(
            has_ended_within(self.child.id(), PATIENCE),
            "the program goes on; the screen shows:\n{}",
            self.unseen()
        );
        let status = self.child.wait().expect("our own child can be waited for");
        status
            .code()
            .unwrap_or_else(|| panic!("the program was ended: {status}"))
    }

    fn unseen(&self) -> String {
        shown(&self.screen.bytes()[self.seen..])
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail where it has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn winsize(cols: u16, rows: u16) -> Winsize {
    Winsize {
        ws_col: cols,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_a_terminal_that_changes() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "trap 'stty size; exit 3' WINCH; stty size; while :; do read -r _; done",
        ]);
        let mut terminal = Terminal::open(&command, 100, 30);
        terminal.expect("30 100");
        terminal.resize(90, 20);
        // A shell runs its trap between two commands.
        terminal.send("\n");
        terminal.expect("20 90");
        assert_eq!(terminal.finish(), 3);
    }
}
