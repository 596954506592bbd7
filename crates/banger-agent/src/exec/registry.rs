//! Owns the running execs of a session by their ids, so that signals and window sizes find them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use banger_guest_proto::message::{ExecId, WindowSize};
use tokio::sync::mpsc;

/// More than a person or program sends before the exec's task runs; what comes on top is refused.
const QUEUE: usize = 32;

/// Something for a running exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Signal(i32),
    Resize(WindowSize),
}

/// Why a control was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    NoSuchExec,
    Busy,
}

/// The execs of one session.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    running: RefCell<HashMap<ExecId, mpsc::Sender<Control>>>,
}

/// Keeps an exec registered.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Rc<Registry>,
    id: ExecId,
}

impl Registry {
    /// Registers an exec; `None` when the id is taken.
    pub(crate) fn register(
        self: &Rc<Self>,
        id: ExecId,
    ) -> Option<(Registration, mpsc::Receiver<Control>)> {
        let mut running = self.running.borrow_mut();
        if running.contains_key(&id) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        running.insert(id, sender);
        Some((
            Registration {
                registry: Rc::clone(self),
                id,
            },
            receiver,
        ))
    }

    pub(crate) fn send(&self, id: ExecId, control: Control) -> Result<(), Undelivered> {
        let running = self.running.borrow();
        let sender = running.get(&id).ok_or(Undelivered::NoSuchExec)?;
        sender.try_send(control).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undelivered::Busy,
            mpsc::error::TrySendError::Closed(_) => Undelivered::NoSuchExec,
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.running.borrow_mut().remove(&self.id);
    }
}
