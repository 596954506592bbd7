//! The terminal that banger runs on: its size, and raw mode that never outlives us.

use std::{
    env,
    io::{self, IsTerminal},
    sync::{Mutex, Once, PoisonError},
};

use banger_api::exec::Window;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// What commands assume where nothing else is known.
const FALLBACK: Window = Window { cols: 80, rows: 24 };

/// The mode to go back to; outside of [`RawMode`], as a panic has to find it, too.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether a command gets a terminal.
pub(crate) fn wanted(forced: bool, refused: bool) -> bool {
    decide(
        forced,
        refused,
        io::stdin().is_terminal() && io::stdout().is_terminal(),
    )
}

fn decide(forced: bool, refused: bool, present: bool) -> bool {
    forced || (present && !refused)
}

/// The size of the terminal that the user sees.
pub(crate) fn window() -> Window {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    match size {
        // Serial lines have no size.
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Window {
            cols: size.ws_col,
            rows: size.ws_row,
        },
        Ok(_) | Err(_) => FALLBACK,
    }
}

/// The kind of terminal, for the command's environment.
pub(crate) fn kind() -> Option<String> {
    env::var("TERM").ok().filter(|kind| !kind.is_empty())
}

/// Standard input hands every key through, until this is dropped.
#[derive(Debug)]
pub(super) struct RawMode(());

impl RawMode {
    /// Enters raw mode, where standard input is a terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        restore_on_panic();
        let mode = tcgetattr(io::stdin())?;
        *saved() = Some(mode.clone());
        let raw = Self(());
        set_raw(mode)?;
        Ok(Some(raw))
    }

    /// Enters it again, after somebody else may have left it.
    pub(super) fn renew(&self) {
        let mode = saved().clone();
        if let Some(mode) = mode {
            // A terminal that has gone will be noticed by whoever reads from it.
            let _ = set_raw(mode);
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn set_raw(mut mode: Termios) -> io::Result<()> {
    mode.make_raw();
    Ok(tcsetattr(io::stdin(), OptionalActions::Drain, &mode)?)
}

fn restore() {
    if let Some(mode) = saved().take() {
        // A terminal that has gone needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &mode);
    }
}

/// What is typed is not shown, until this is dropped.
#[derive(Debug)]
pub(crate) struct Unseen(());

impl Unseen {
    /// Where standard input is a terminal; elsewhere nothing is shown anyway.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        restore_on_panic();
        let mut mode = tcgetattr(io::stdin())?;
        *saved() = Some(mode.clone());
        let unseen = Self(());
        mode.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Drain, &mode)?;
        Ok(Some(unseen))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        restore();
    }
}

/// A message that is printed in raw mode is a staircase.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            print(panic);
        }));
    });
}

fn saved() -> std::sync::MutexGuard<'static, Option<Termios>> {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_given_where_there_is_one_or_it_is_forced() {
        let cases = [
            (false, false, true, true),
            (false, false, false, false),
            (false, true, true, false),
            (true, false, false, true),
        ];
        for (forced, refused, present, expected) in cases {
            assert_eq!(decide(forced, refused, present), expected);
        }
    }
}
