//! What a VM's task does by its own clock: starts again what ended, and stops what nobody uses. What is
//! to be done is `upkeep`'s policy; how far it has come is in the row before it is done.

use std::{sync::Arc, time::Duration};

use banger_image::progress::Silent;
use tokio::{sync::oneshot, time::Instant};
use tracing::{info, warn};

use super::Task;
use crate::{
    error::Error,
    policy::{Admission, Verb, admit},
    record::{VmRecord, VmState},
    upkeep::{self, Life},
};

impl Task {
    /// Somebody wants the VM to be down: nothing starts it again by itself.
    pub(super) fn stays_down(&mut self) {
        self.restart = None;
        self.set_life(|life| {
            life.stopped = true;
            life.restarts = 0;
            life.restart_at = None;
        });
    }

    /// Somebody wants the VM to run: what was before does not count any more.
    pub(super) fn is_wanted(&mut self) {
        self.restart = None;
        self.set_life(|life| {
            life.stopped = false;
            life.restarts = 0;
            life.restart_at = None;
        });
    }

    /// The VM runs from now on.
    pub(super) fn runs(&mut self) {
        self.running_since = Some(Instant::now());
        self.activity.touch();
    }

    /// The VM ended by itself: it may come back.
    pub(super) fn ended_by_itself(&mut self, clean: bool) {
        let VmRecord { spec, life, .. } = self.record();
        let ran = self.running_since.take().map(|since| since.elapsed());
        let settled = ran.is_some_and(|ran| ran >= upkeep::SETTLED);
        let restarts = if settled { 0 } else { life.restarts };
        match upkeep::after_end(spec.upkeep.restart, clean, restarts) {
            Some(pause) => self.restart_in(pause, restarts),
            None => self.set_life(|life| life.restart_at = None),
        }
    }

    fn restart_in(&mut self, pause: Duration, restarts: u32) {
        info!(vm = %self.record().name, ?pause, restarts, "this VM is started again");
        let at = (self.surroundings.clock)().saturating_add(pause.as_secs());
        self.set_life(|life| {
            life.restarts = restarts;
            life.restart_at = Some(at);
        });
        self.restart = Some(Instant::now() + pause);
    }

    /// Starts the VM, as nobody asked for now.
    pub(super) async fn restart(&mut self) {
        self.restart = None;
        if let Err(error) = self.look_again().await {
            warn!(vm = %self.record().name, %error, "cannot look for a running VMM");
            return self.ended_by_itself(false);
        }
        let record = self.record();
        if admit(record.state, Verb::Start) != Admission::Proceed {
            return self.set_life(|life| life.restart_at = None);
        }
        self.set_life(|life| life.restarts = life.restarts.saturating_add(1));
        // Nobody waits, so nobody goes away.
        let (mut reply, _waiting) = oneshot::channel();
        match self
            .boot(&record, false, &(Arc::new(Silent) as _), &mut reply)
            .await
        {
            // Whoever interrupts it says what comes next.
            Ok(()) | Err(Error::Interrupted { .. }) => {
                self.set_life(|life| life.restart_at = None);
            }
            Err(error) => {
                warn!(vm = %record.name, error = error.chain(), "cannot start a VM again");
                self.ended_by_itself(false);
            }
        }
    }

    /// Goes on with what an earlier daemon had begun, and with what happened when there was none.
    pub(super) fn take_up(&mut self, left: &VmRecord) {
        let VmRecord { life, .. } = self.record();
        let now = (self.surroundings.clock)();
        let touched = life.touched_at.unwrap_or(0).max(left.updated_at);
        self.activity
            .was_touched(Duration::from_secs(now.saturating_sub(touched)));
        if self.machine.is_some() {
            self.running_since = Some(Instant::now());
            return self.set_life(|life| life.restart_at = None);
        }
        if let Some(at) = life.restart_at {
            let pause = Duration::from_secs(at.saturating_sub(now));
            return self.restart_in(pause.min(upkeep::LONGEST_PAUSE), life.restarts);
        }
        let ran = match left.state {
            VmState::Running | VmState::Paused => true,
            VmState::Created
            | VmState::Starting
            | VmState::Stopping
            | VmState::Deleting
            | VmState::Stopped
            | VmState::Error => false,
        };
        if ran && !life.stopped && upkeep::after_absence(left.spec.upkeep.restart) {
            self.restart_in(Duration::ZERO, life.restarts);
        }
    }

    /// When the VM is stopped if nobody uses it until then.
    pub(super) fn idle_deadline(&self) -> Option<Instant> {
        let view = self.views.borrow();
        if view.record.state != VmState::Running {
            return None;
        }
        let configured = self.surroundings.patience.idle;
        let after = view.record.spec.upkeep.idle_stop.after(configured)?;
        self.activity.idle_since().checked_add(after)
    }

    pub(super) async fn stop_if_idle(&mut self) {
        let record = self.record();
        let configured = self.surroundings.patience.idle;
        let Some(after) = record.spec.upkeep.idle_stop.after(configured) else {
            return;
        };
        // It may have been used since the clock was set.
        if self.idle_deadline().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let why = format!("nobody used it for {}", humantime::format_duration(after));
        info!(vm = %record.name, why, "stopping a VM");
        self.stays_down();
        let patience = self.surroundings.patience.stop;
        if let Err(error) = self.stop_running(patience, Some(why)).await {
            warn!(vm = %record.name, error = error.chain(), "cannot stop an idle VM");
        }
    }

    /// Writes a use down, for the next daemon.
    pub(super) fn write_touch(&self) {
        let now = (self.surroundings.clock)();
        if self.idle_deadline().is_some() {
            self.set_life(|life| life.touched_at = Some(now));
        }
    }

    fn set_life(&self, change: impl FnOnce(&mut Life)) {
        let record = self.record();
        let mut life = record.life;
        change(&mut life);
        if life == record.life {
            return;
        }
        if let Err(error) = self.surroundings.store.set_vm_life(record.id, life) {
            warn!(vm = %record.name, %error, "cannot record a VM's upkeep");
        }
        self.views.send_modify(|view| view.record.life = life);
    }
}
