//! A VM's end: stop, deletion, and clearing away what a machine leaves. What is left is always
//! named by the row.

use std::{ops::ControlFlow, time::Duration};

use tracing::warn;

use super::{Interruption, Task, answer};
use crate::{
    error::Error,
    host_error::HostError,
    policy::{Admission, Verb, admit},
    record::VmState,
    vm::{Reply, View, disks, ending::end_gracefully},
};

impl Task {
    pub(super) async fn stop(&mut self, patience: Option<Duration>, reply: Reply<View>) {
        if let Err(error) = self.look_again().await {
            return answer(reply, Err(error.into()));
        }
        let result = match admit(self.record().state, Verb::Stop) {
            Admission::Done => {
                self.stays_down();
                Ok(self.view())
            }
            Admission::Refuse => Err(self.refusal("stop")),
            Admission::Proceed | Admission::Wait | Admission::Interrupt => {
                self.stays_down();
                let patience = patience.unwrap_or(self.surroundings.patience.stop);
                self.stop_running(patience, None)
                    .await
                    .map(|()| self.view())
            }
        };
        answer(reply, result);
    }

    pub(super) async fn kill(&mut self, reply: Reply<View>) {
        if let Err(error) = self.look_again().await {
            return answer(reply, Err(error.into()));
        }
        let result = match admit(self.record().state, Verb::Kill) {
            Admission::Done => {
                self.stays_down();
                Ok(self.view())
            }
            Admission::Refuse => Err(self.refusal("be killed")),
            Admission::Proceed | Admission::Wait | Admission::Interrupt => {
                self.stays_down();
                self.kill_running().await.map(|()| self.view())
            }
        };
        answer(reply, result);
    }

    async fn kill_running(&mut self) -> Result<(), Error> {
        self.write_state(VmState::Stopping, None)?;
        let lost = "it was killed; what the guest had not written to its disk is lost";
        self.confirm_end(Some(lost.to_owned())).await
    }

    /// Ends the machine and says what became of the VM.
    pub(super) async fn confirm_end(&mut self, lost: Option<String>) -> Result<(), Error> {
        match self.end_machine().await.map_err(Error::from) {
            Ok(()) => self.confirm_state(VmState::Stopped, lost),
            Err(error) => {
                self.note_state(VmState::Error, Some(error.chain()));
                Err(error)
            }
        }
    }

    /// `why` it is stopped, where nobody asked for it.
    pub(super) async fn stop_running(
        &mut self,
        patience: Duration,
        why: Option<String>,
    ) -> Result<(), Error> {
        self.resume_to_end().await;
        self.write_state(VmState::Stopping, why.clone())?;
        let Some(machine) = self.machine.clone() else {
            return self.write_state(VmState::Stopped, why);
        };
        // An attempt to reconnect that nobody drives would keep others from connecting.
        self.connecting = None;
        let guest = self.views.borrow().guest.clone();
        let ended = tokio::select! {
            ended = end_gracefully(machine.as_ref(), guest, patience) => Some(ended),
            Interruption::Command(command) = self.interruption(None) => {
                self.postponed.push_front(*command);
                None
            }
        };
        let lost = match ended {
            Some(Ok(exit)) if exit.clean => why,
            Some(Ok(exit)) => Some(format!(
                "the VMM ended unexpectedly during the stop, and what the guest had not written \
                 to its disk is lost: {}",
                exit.status
            )),
            Some(Err(error)) => Some(format!(
                "the guest did not end by itself and was cut off; what it had not written to its \
                 disk is lost: {}",
                Error::from(error).chain()
            )),
            None => Some("the stop was cut short by a kill or a deletion".to_owned()),
        };
        self.confirm_end(lost).await
    }

    pub(super) async fn delete(&mut self, force: bool, reply: Reply<()>) -> ControlFlow<()> {
        if admit(self.record().state, Verb::Delete { force }) == Admission::Refuse {
            answer(reply, Err(self.refusal("be deleted")));
            return ControlFlow::Continue(());
        }
        match self.remove().await {
            Ok(()) => {
                answer(reply, Ok(()));
                ControlFlow::Break(())
            }
            Err(error) => {
                answer(reply, Err(error));
                ControlFlow::Continue(())
            }
        }
    }

    pub(super) async fn delete_quietly(&mut self) -> ControlFlow<()> {
        self.owner_deadline = None;
        match self.remove().await {
            Ok(()) => ControlFlow::Break(()),
            Err(error) => {
                warn!(vm = %self.record().name, error = error.chain(), "cannot delete a VM");
                ControlFlow::Continue(())
            }
        }
    }

    pub(super) async fn remove(&mut self) -> Result<(), Error> {
        self.write_state(VmState::Deleting, None)?;
        let removed = self.remove_all().await;
        match &removed {
            Ok(()) => {
                if let Some(on_deleted) = self.on_deleted.take() {
                    on_deleted();
                }
            }
            Err(error) => self.note_state(VmState::Deleting, Some(error.chain())),
        }
        removed
    }

    /// The process, then the files, then the row: what is left is always named by the row.
    pub(super) async fn remove_all(&mut self) -> Result<(), Error> {
        self.end_machine().await?;
        let places = self.views.borrow().places.clone();
        let page = self.page();
        tokio::task::spawn_blocking(move || disks::remove(&places, page.journal()))
            .await
            .map_err(|_| Error::Ending)??;
        self.surroundings.store.delete_vm(self.record().id)?;
        Ok(())
    }

    /// Ends the VMM, if there is one, and clears what only a live machine has.
    pub(super) async fn end_machine(&mut self) -> Result<(), HostError> {
        self.connecting = None;
        self.views.send_modify(|view| view.guest = None);
        if self.unsure {
            // What may still write to the VM's files is found first, or nothing is touched.
            self.look_for_machine().await?;
        }
        if let Some(machine) = &self.machine {
            machine.kill().await?;
        }
        self.machine = None;
        self.views.send_modify(|view| view.process = None);
        let places = self.views.borrow().places.clone();
        let page = self.page();
        let swept = self.surroundings.host.sweep(&places, page.journal());
        if let Err(error) = swept.await {
            warn!(vm = %self.record().name, %error, "cannot sweep after the VMM");
        }
        Ok(())
    }

    /// As [`Self::end_machine`], where the act failed already. A VMM that stays is kept, so
    /// that its end is seen and a deletion tries again.
    pub(super) async fn end_machine_or_warn(&mut self) {
        if let Err(error) = self.end_machine().await {
            warn!(vm = %self.record().name, %error, "cannot end the VMM");
        }
    }
}
