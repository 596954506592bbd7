//! The signals that banger catches, and what each means for a command of the guest.
//! The policy is pure; the listening is tokio's.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
    time::Duration,
};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::report::Failure;

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caught {
    /// One that asks a process to end: SIGINT, SIGTERM, SIGQUIT or SIGHUP.
    Ending(u8),
    /// SIGUSR1 or SIGUSR2.
    User(u8),
    /// The terminal has a new size.
    Resized,
    /// We were stopped, and go on.
    Continued,
}

/// Listens from its making on; what comes while nobody asks is kept.
#[derive(Debug)]
pub(crate) struct Signals {
    listeners: Vec<(Caught, unix::Signal)>,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listeners = [
            (Caught::Ending(number(Signal::INT)), Signal::INT),
            (Caught::Ending(number(Signal::TERM)), Signal::TERM),
            (Caught::Ending(number(Signal::QUIT)), Signal::QUIT),
            (Caught::Ending(number(Signal::HUP)), Signal::HUP),
            (Caught::User(number(Signal::USR1)), Signal::USR1),
            (Caught::User(number(Signal::USR2)), Signal::USR2),
            (Caught::Resized, Signal::WINCH),
            (Caught::Continued, Signal::CONT),
        ]
        .into_iter()
        .map(|(caught, signal)| {
            let kind = SignalKind::from_raw(signal.as_raw());
            unix::signal(kind).map(|listener| (caught, listener))
        })
        .collect::<io::Result<_>>()
        .map_err(|source| Failure::Host {
            operation: "listen to signals",
            source,
        })?;
        Ok(Self { listeners })
    }

    /// The next signal. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Caught {
        poll_fn(|context| {
            for (caught, listener) in &mut self.listeners {
                if let Poll::Ready(Some(())) = listener.poll_recv(context) {
                    return Poll::Ready(*caught);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Does work that a signal cancels; `outcome` says what that means.
    pub(crate) async fn interrupt<T, E: Into<Failure>>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
        outcome: &str,
    ) -> Result<T, Failure> {
        let mut work = pin!(work);
        loop {
            let caught = tokio::select! {
                result = &mut work => return result.map_err(Into::into),
                caught = self.next() => caught,
            };
            if let Caught::Ending(signal) = caught {
                return Err(Failure::Interrupted {
                    signal,
                    outcome: outcome.to_owned(),
                });
            }
        }
    }
}

fn number(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).expect("the standard signals are below 32")
}

/// What a signal leads to while a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    Nothing,
    Forward(u8),
    /// The terminal may have a new size, and a shell may have changed its mode.
    Refresh,
    /// Hang the command up and end with this signal.
    Abandon(u8),
}

/// So many requests to end in a row mean banger, not the command.
const INSISTENT: usize = 3;
/// In a row: within this time.
const ROW: Duration = Duration::from_secs(3);

/// Decides what a signal leads to.
#[derive(Debug)]
pub(super) struct Policy {
    tty: bool,
    /// When the latest requests to end came.
    endings: Vec<Duration>,
}

impl Policy {
    pub(super) fn new(tty: bool) -> Self {
        Self {
            tty,
            endings: Vec::new(),
        }
    }

    /// `at` is the time since any fixed point.
    pub(super) fn react(&mut self, caught: Caught, at: Duration) -> Reaction {
        match caught {
            // On a terminal in raw mode Ctrl-C is a byte: such a signal came from elsewhere
            // and means us.
            Caught::Ending(signal) if self.tty => Reaction::Abandon(signal),
            Caught::Ending(signal) => {
                self.endings
                    .retain(|earlier| at.saturating_sub(*earlier) < ROW);
                self.endings.push(at);
                if self.endings.len() < INSISTENT {
                    Reaction::Forward(signal)
                } else {
                    Reaction::Abandon(signal)
                }
            }
            Caught::User(signal) => Reaction::Forward(signal),
            Caught::Resized | Caught::Continued if self.tty => Reaction::Refresh,
            Caught::Resized | Caught::Continued => Reaction::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tty: bool, steps: &[(u64, Caught, Reaction)]) {
        let mut policy = Policy::new(tty);
        for (at, caught, reaction) in steps {
            let got = policy.react(*caught, Duration::from_millis(*at));
            assert_eq!(got, *reaction, "tty {tty}, {caught:?} at {at}");
        }
    }

    #[test]
    fn the_command_gets_signals_until_somebody_insists() {
        let interrupt = Caught::Ending(2);
        check(
            false,
            &[
                (0, interrupt, Reaction::Forward(2)),
                (1_000, interrupt, Reaction::Forward(2)),
                (2_000, interrupt, Reaction::Abandon(2)),
            ],
        );
        check(
            false,
            &[
                (0, interrupt, Reaction::Forward(2)),
                (1_000, interrupt, Reaction::Forward(2)),
                (3_500, interrupt, Reaction::Forward(2)),
                (3_600, Caught::User(10), Reaction::Forward(10)),
                (3_700, Caught::Ending(15), Reaction::Abandon(15)),
            ],
        );
    }

    #[test]
    fn a_terminal_follows_its_window() {
        check(false, &[(0, Caught::Resized, Reaction::Nothing)]);
        check(
            true,
            &[
                (0, Caught::Resized, Reaction::Refresh),
                (0, Caught::Continued, Reaction::Refresh),
                (0, Caught::User(12), Reaction::Forward(12)),
                (0, Caught::Ending(1), Reaction::Abandon(1)),
            ],
        );
    }
}
