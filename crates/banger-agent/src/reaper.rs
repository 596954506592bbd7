//! Owns the agent's children from birth to burial: the only place that starts processes and the only one that waits.
//!
//! The agent has one thread and [`Reaper::spawn`] has no await, so a child is registered before anything can learn of
//! its end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use banger_guest_proto::message::ExitStatus;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};

use crate::sys::spawn::{Program, SpawnError, spawn};

/// Which children are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Process 1 inherits orphans and must bury them too.
    Everything,
    /// Only those that were started here.
    Own,
}

/// Starts and buries processes.
#[derive(Debug)]
pub(crate) struct Reaper {
    scope: Scope,
    waiting: RefCell<HashMap<Pid, oneshot::Sender<ExitStatus>>>,
    buried: Notify,
}

/// A process that was started and whose end has not been told yet.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    ended: oneshot::Receiver<ExitStatus>,
}

impl Process {
    /// Waits for the end. Must not be called again once it has returned.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        match (&mut self.ended).await {
            Ok(status) => status,
            // The reaper lives as long as the agent and forgets nobody.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Reaper {
    /// Starts to wait. Must be called within a local task set.
    pub(crate) fn start(scope: Scope) -> io::Result<Rc<Self>> {
        let reaper = Rc::new(Self {
            scope,
            waiting: RefCell::default(),
            buried: Notify::new(),
        });
        let children = signal(SignalKind::child())?;
        tokio::task::spawn_local(Rc::clone(&reaper).run(children));
        Ok(reaper)
    }

    /// Starts a process; `steps` run in it before its program, see [`crate::sys::spawn`].
    pub(crate) fn spawn<E>(
        &self,
        program: &Program<'_>,
        steps: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<Process, SpawnError<E>> {
        let pid = spawn(program, steps)?;
        let (sender, ended) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid, sender);
        Ok(Process { pid, ended })
    }

    /// Waits until there is no child left. For process 1 that means no other process at all.
    pub(crate) async fn childless(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while !matches!(waitid(WaitId::All, options), Err(Errno::CHILD)) {
            self.buried.notified().await;
        }
    }

    async fn run(self: Rc<Self>, mut children: Signal) {
        loop {
            self.reap();
            self.buried.notify_waiters();
            if children.recv().await.is_none() {
                return;
            }
        }
    }

    fn reap(&self) {
        match self.scope {
            Scope::Everything => {
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    self.bury(pid, status);
                }
            }
            Scope::Own => {
                let pids: Vec<Pid> = self.waiting.borrow().keys().copied().collect();
                for pid in pids {
                    if let Ok(Some((pid, status))) = waitpid(Some(pid), WaitOptions::NOHANG) {
                        self.bury(pid, status);
                    }
                }
            }
        }
    }

    fn bury(&self, pid: Pid, status: WaitStatus) {
        let waiting = self.waiting.borrow_mut().remove(&pid);
        if let (Some(waiting), Some(status)) = (waiting, exit_status(status)) {
            // Who does not wait any more has no need to know.
            let _ = waiting.send(status);
        }
    }
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    if let Some(code) = status.exit_status() {
        return Some(ExitStatus::Exited { code });
    }
    status
        .terminating_signal()
        .map(|signal| ExitStatus::Signaled { signal })
}
