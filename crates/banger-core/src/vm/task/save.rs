//! A machine that is written down as it stands. While that is done the row says what it said
//! before: the next daemon lets a machine go on whose row says that it runs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Task, answer};
use crate::{
    error::Error,
    host::{Binding, Guest, Machine, SnapshotPlaces},
    host_error::HostError,
    policy::{Admission, Verb, admit},
    record::VmState,
    snapshot::Frozen,
    snapshots::Staging,
    vm::{AfterSave, Reply, Saved, Standing},
};

/// What the files take.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) memory: u64,
    pub(super) disk: u64,
}

impl Task {
    pub(super) async fn save(
        &mut self,
        into: Arc<Staging>,
        after: AfterSave,
        reply: Reply<(Saved, Option<Standing>)>,
    ) {
        if reply.is_closed() {
            return;
        }
        let stood_still = self.record().state == VmState::Paused;
        let saved = match admit(self.record().state, Verb::Save) {
            Admission::Refuse | Admission::Interrupt => Err(self.refusal("be saved")),
            Admission::Proceed | Admission::Done | Admission::Wait => {
                self.save_live(&into.files, after, stood_still).await
            }
        };
        drop(into);
        match (saved, after) {
            (Ok(saved), AfterSave::End) => self.end_when_kept(saved, stood_still, reply).await,
            (saved, AfterSave::End | AfterSave::GoOn) => {
                answer(reply, saved.map(|saved| (saved, None)));
            }
        }
    }

    /// What cannot be saved goes on, if it went before.
    async fn save_live(
        &mut self,
        into: &SnapshotPlaces,
        after: AfterSave,
        stood_still: bool,
    ) -> Result<Saved, Error> {
        let machine = self.live_machine("be saved")?;
        machine.may_be_saved()?;
        let process = machine.process();
        let host = self.surroundings.host.clone();
        let binding = host.binding(process.vmm, process.accelerator).await?;
        // Whoever is being called could not answer, and would keep the line.
        self.connecting = None;
        if !stood_still && let Err(error) = machine.prepare_save(into).await {
            self.reconnect_if_needed();
            return Err(error.into());
        }
        let began = Instant::now();
        if !stood_still && let Err(error) = machine.pause().await {
            self.reconnect_if_needed();
            return Err(error.into());
        }
        let mut written = self.write_down(machine.as_ref(), into).await;
        if after == AfterSave::End {
            written = fetch(machine.as_ref(), into, written).await;
        }
        let stays = stood_still || after == AfterSave::End && written.is_ok();
        let went_on = if stays {
            Ok(())
        } else {
            machine.resume().await
        };
        let paused_for = began.elapsed();
        let went_on = match stays {
            true => Ok(()),
            false => self.see_it_go_on(went_on).await,
        };
        if after == AfterSave::GoOn {
            written = fetch(machine.as_ref(), into, written).await;
        }
        // Why it could not be saved matters more than what followed.
        let sizes = written?;
        went_on?;
        Ok(self.saved(binding, sizes, paused_for))
    }

    /// Whoever asked keeps what was written, or goes away and leaves the machine as it was.
    async fn end_when_kept(
        &mut self,
        saved: Saved,
        stood_still: bool,
        reply: Reply<(Saved, Option<Standing>)>,
    ) {
        let (kept, is_kept) = oneshot::channel();
        let (tell, ended) = oneshot::channel();
        answer(reply, Ok((saved, Some(Standing { kept, ended }))));
        match is_kept.await {
            Ok(()) => {
                // Whoever asked may have gone away; the end is carried through.
                let _ = tell.send(self.end_saved().await);
            }
            Err(_) if stood_still => {}
            Err(_) => {
                let Some(machine) = self.machine.clone() else {
                    return;
                };
                let went_on = machine.resume().await;
                // Nobody waits for this; what is wrong is in the VM's record.
                let _ = self.see_it_go_on(went_on).await;
            }
        }
    }

    /// A machine that could not be let go on stands still, and somebody has to know.
    async fn see_it_go_on(&mut self, went_on: Result<(), HostError>) -> Result<(), Error> {
        let Err(error) = went_on else {
            self.hear_again().await;
            return Ok(());
        };
        let error = Error::from(error);
        let why = format!(
            "it was saved, and could not be let go on: {}",
            error.chain()
        );
        self.note_state(VmState::Paused, Some(why));
        Err(error)
    }

    /// A guest that goes on is told the time, or greeted anew where its VMM has hung up.
    async fn hear_again(&mut self) {
        let guest = self.views.borrow().guest.clone();
        let hung_up = match &guest {
            Some(guest) => is_closed(guest.as_ref()).await,
            None => true,
        };
        if hung_up {
            self.reconnect(Duration::ZERO);
        } else {
            self.tell_time().await;
        }
    }

    /// Memory, devices and disk, all of one moment.
    pub(super) async fn write_down(
        &mut self,
        machine: &dyn Machine,
        into: &SnapshotPlaces,
    ) -> Result<Sizes, Error> {
        let disk = self.views.borrow().places.disk();
        let host = &self.surroundings.host;
        let copy = into.disk();
        // The copy is the last to begin: what the guest wrote is in the file by then.
        let memory = machine.save(into).await?;
        let disk = host.copy_sparse(&disk, &copy).await?;
        Ok(Sizes { memory, disk })
    }

    fn saved(&self, binding: Binding, sizes: Sizes, paused_for: Duration) -> Saved {
        let view = self.view();
        let built = view.process.as_ref().and_then(|process| process.built);
        let spec = &view.record.spec;
        Saved {
            // What it would be made of at its next start is not what was saved.
            machine: built.map_or_else(|| Frozen::of(spec), |built| Frozen::of(&built.holds(spec))),
            origin: view.record.name,
            origin_id: view.record.id,
            binding,
            agent: view.agent,
            memory_bytes: sizes.memory,
            disk_bytes: sizes.disk,
            paused_for,
        }
    }

    /// What runs is in the snapshot now, and its disk is as it was at that moment.
    async fn end_saved(&mut self) -> Result<(), Error> {
        self.stays_down();
        self.write_state(VmState::Stopping, None)?;
        self.confirm_end(None).await
    }
}

/// What the host had no need to do while the machine stood still.
pub(super) async fn fetch(
    machine: &dyn Machine,
    into: &SnapshotPlaces,
    written: Result<Sizes, Error>,
) -> Result<Sizes, Error> {
    let Sizes { memory, disk } = written?;
    let memory = machine.fetch_saved(into, memory).await?;
    Ok(Sizes { memory, disk })
}

/// Whether a connection is broken already.
pub(super) async fn is_closed(guest: &dyn Guest) -> bool {
    tokio::time::timeout(Duration::ZERO, guest.closed())
        .await
        .is_ok()
}
