//! A machine whose VMM is a process: waiting for its end, reaching its agent, ending it. Knows
//! no plans and no policies; what differs between VMMs is in their [`Control`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use banger_core::{
    host::{Guest, Halt, Identity, Machine, SnapshotPlaces, VmPlaces, VmmExit, VmmProcess},
    host_error::{GuestError, HostError},
};
use banger_guest_proto::{Client, Connection, hello::AgentHello};
use tokio::{
    net::UnixStream,
    sync::{Mutex, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    boot_failure,
    control::{Control, Pace},
    guest::{self, LiveGuest, guest_error},
    lock::Note,
    log_keeper::{Kept, LogKeeper},
    logs, places,
    process::Process,
    sys,
    task::Leashed,
};

/// What a VMM gets to end itself before it is ended.
const QUIT_PATIENCE: Duration = Duration::from_millis(500);
/// How long after a broken connection the VMM's end may follow and explain it.
const AFTERMATH: Duration = Duration::from_millis(500);

/// How long the answer to a greeting may take that may be lost with its connection: at first, and at
/// most.
const GREETING: Duration = Duration::from_millis(250);
const LONGEST_GREETING: Duration = Duration::from_secs(8);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

type Dialled = (Client, AgentHello, Connection<UnixStream>);

#[derive(Debug)]
pub(crate) struct VmmMachine {
    places: VmPlaces,
    note: Note,
    process: Process,
    control: Box<dyn Control>,
    /// The task that moves the latest session's bytes. The agent serves one client at a time.
    session: Mutex<Option<Leashed>>,
    _logs: Kept,
}

impl VmmMachine {
    pub(crate) fn new(
        places: &VmPlaces,
        process: Process,
        note: Note,
        control: Box<dyn Control>,
        keeper: &LogKeeper,
    ) -> Self {
        let mut logs = vec![places.console(), places.vmm_log()];
        logs.extend(control.logs());
        Self {
            places: places.clone(),
            note,
            process,
            control,
            session: Mutex::default(),
            _logs: keeper.keep(&logs),
        }
    }

    async fn dial(&self, identity: Option<&Identity>) -> Result<Dialled, GuestError> {
        if !self.control.hangs_up_to_save() {
            return greet(self.control.dial().await, identity).await;
        }
        // A guest that goes on may hear only now that its connections are gone, this one among them.
        let (mut pace, mut patience) = (Pace::up_to(LONGEST_PAUSE), GREETING);
        loop {
            let stream = self.control.dial().await;
            match timeout(patience, greet(stream, identity)).await {
                Ok(Err(GuestError::Broken { .. })) => tracing::debug!("a guest hung up at once"),
                Ok(greeted) => return greeted,
                Err(_) => tracing::debug!("a guest does not answer a greeting"),
            }
            patience = (patience * 2).min(LONGEST_GREETING);
            pace.wait().await;
        }
    }

    /// A connection that breaks is often the first sign of a VMM's end, which says more.
    async fn explain(&self, error: GuestError) -> GuestError {
        match timeout(AFTERMATH, self.exited()).await {
            Ok(exit) => self.end_error(exit).await,
            Err(_) => error,
        }
    }

    /// What a VMM's end means for whoever waits for its guest.
    async fn end_error(&self, exit: VmmExit) -> GuestError {
        if let Some(message) = self.control.refusal(self.process.ended().await) {
            let command = "the machine".into();
            return GuestError::Host(HostError::VmmRefused { command, message });
        }
        let tail = logs::tails(&self.places);
        let cause = boot_failure::classify(&tail.console);
        GuestError::Host(HostError::VmmExited {
            status: exit.status,
            cause,
            tail,
        })
    }

    async fn quit(&self) -> Result<(), HostError> {
        self.control.quit().await?;
        self.process.ended().await;
        Ok(())
    }
}

#[async_trait]
impl Machine for VmmMachine {
    fn process(&self) -> VmmProcess {
        VmmProcess {
            vmm: self.note.vmm,
            accelerator: self.note.accelerator,
            pid: self.process.pid(),
            confinement: self.note.confinement,
            command_line: self.note.command_line.clone(),
            built: self.note.built,
            copy: self.note.copy,
        }
    }

    async fn exited(&self) -> VmmExit {
        let exit = self.control.exit(self.process.ended().await);
        self.control.drained().await;
        match boot_failure::collapse(&logs::tails(&self.places).console) {
            Some(what) if exit.clean => VmmExit {
                status: format!("{} after {what}", exit.status),
                clean: false,
            },
            Some(_) | None => exit,
        }
    }

    async fn connect(
        &self,
        patience: Duration,
        identity: Option<&Identity>,
    ) -> Result<Arc<dyn Guest>, GuestError> {
        let deadline = Instant::now() + patience;
        let mut session = self.session.lock().await;
        if let Some(earlier) = session.take() {
            earlier.end().await;
        }
        let dialled = tokio::select! {
            biased;
            exit = self.exited() => return Err(self.end_error(exit).await),
            dialled = timeout_at(deadline, self.dial(identity)) => dialled,
        };
        let (client, hello, connection) = match dialled {
            Ok(Ok(parts)) => parts,
            Ok(Err(error)) => return Err(self.explain(error).await),
            Err(_) => {
                let tail = logs::tails(&self.places);
                return Err(GuestError::Silent {
                    after: patience,
                    tail,
                });
            }
        };
        let (alive, closed) = watch::channel(());
        *session = Some(Leashed(tokio::spawn(async move {
            let _alive = alive;
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a session ended");
            }
        })));
        Ok(Arc::new(LiveGuest::new(client, hello, closed)))
    }

    async fn halted(&self) -> Halt {
        self.control.halted().await
    }

    async fn pause(&self) -> Result<(), HostError> {
        self.control.pause().await
    }

    async fn grow_disk(&self, bytes: u64) -> Result<(), HostError> {
        let disk = self.places.disk();
        // What it was started with bounds every file that it writes.
        sys::allow_files(self.process.pid(), bytes)
            .map_err(|source| places::file_error("let the VMM grow", &disk, source))?;
        self.control.grow_disk(bytes).await
    }

    async fn resume(&self) -> Result<(), HostError> {
        self.control.resume().await
    }

    fn may_be_saved(&self) -> Result<(), HostError> {
        self.control.may_save()
    }

    async fn prepare_save(&self, into: &SnapshotPlaces) -> Result<(), HostError> {
        self.control.prepare_save(self.process.pid(), into).await
    }

    async fn save(&self, into: &SnapshotPlaces) -> Result<u64, HostError> {
        let saved = self.control.save(into).await;
        if self.control.hangs_up_to_save()
            && let Some(session) = self.session.lock().await.take()
        {
            // The guest does not know it any more.
            session.end().await;
        }
        saved
    }

    async fn fetch_saved(&self, into: &SnapshotPlaces, taken: u64) -> Result<u64, HostError> {
        self.control.fetch(into, taken).await
    }

    async fn kill(&self) -> Result<(), HostError> {
        if self.process.has_ended() {
            return Ok(());
        }
        match timeout(QUIT_PATIENCE, self.quit()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => tracing::debug!(%error, "the VMM does not quit by itself"),
            Err(_) => tracing::debug!("the VMM does not quit in time"),
        }
        self.process.kill().map_err(|source| {
            places::file_error(
                "kill the holder of",
                &places::vmm_lock(&self.places),
                source,
            )
        })?;
        self.process.ended().await;
        Ok(())
    }
}

async fn greet(stream: UnixStream, identity: Option<&Identity>) -> Result<Dialled, GuestError> {
    let hello = guest::greeting(identity)?;
    Client::connect(stream, hello)
        .await
        .map_err(|error| guest_error("the greeting", error))
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
