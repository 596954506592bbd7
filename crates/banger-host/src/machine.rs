//! A machine whose VMM is a QEMU process: waiting for its end, reaching its agent, ending
//! it. Knows no plans and no policies.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use banger_core::{
    host::{Guest, Machine, VmPlaces, VmmExit, VmmProcess},
    host_error::{GuestError, HostError},
};
use banger_guest_proto::{
    Client, Connection,
    hello::{AgentHello, HostHello},
};
use tokio::{
    net::UnixStream,
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    boot_failure,
    guest::{LiveGuest, guest_error},
    lock::Note,
    log_keeper::{Kept, LogKeeper},
    logs, places,
    process::Process,
    qemu::qmp::Qmp,
    task::Leashed,
};

/// What QEMU gets to end itself before it is ended.
const QUIT_PATIENCE: Duration = Duration::from_millis(500);
/// How long after a broken connection the VMM's end may follow and explain it.
const AFTERMATH: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct QemuMachine {
    places: VmPlaces,
    note: Note,
    process: Process,
    /// The task that moves the latest session's bytes. QEMU serves one client at a time.
    session: Mutex<Option<Leashed>>,
    _logs: Kept,
}

impl QemuMachine {
    pub(crate) fn new(places: &VmPlaces, process: Process, note: Note, keeper: &LogKeeper) -> Self {
        Self {
            places: places.clone(),
            note,
            process,
            session: Mutex::default(),
            _logs: keeper.keep(&[places.console(), places.vmm_log()]),
        }
    }

    async fn dial(&self) -> Result<(Client, AgentHello, Connection<UnixStream>), GuestError> {
        let stream = connect_when_there(&places::agent_socket(&self.places)).await;
        let hello = HostHello::now().map_err(|source| broken("dialling", source))?;
        Client::connect(stream, hello)
            .await
            .map_err(|error| guest_error("the greeting", error))
    }

    /// A connection that breaks is often the first sign of a VMM's end, which says more.
    async fn explain(&self, error: GuestError) -> GuestError {
        match timeout(AFTERMATH, self.exited()).await {
            Ok(exit) => self.end_error(exit),
            Err(_) => error,
        }
    }

    fn end_error(&self, exit: VmmExit) -> GuestError {
        let tail = logs::tails(&self.places);
        let cause = boot_failure::classify(&tail.console);
        GuestError::Host(HostError::VmmExited {
            status: exit.status,
            cause,
            tail,
        })
    }

    async fn quit(&self) -> Result<(), HostError> {
        let mut qmp = Qmp::connect(&places::qmp_socket(&self.places)).await?;
        qmp.execute("quit").await?;
        self.process.ended().await;
        Ok(())
    }
}

#[async_trait]
impl Machine for QemuMachine {
    fn process(&self) -> VmmProcess {
        VmmProcess {
            vmm: self.note.vmm,
            accelerator: self.note.accelerator,
            pid: self.process.pid(),
        }
    }

    async fn exited(&self) -> VmmExit {
        let exit = VmmExit::from(self.process.ended().await);
        match boot_failure::collapse(&logs::tails(&self.places).console) {
            Some(what) if exit.clean => VmmExit {
                status: format!("{} after {what}", exit.status),
                clean: false,
            },
            Some(_) | None => exit,
        }
    }

    async fn connect(&self, patience: Duration) -> Result<Arc<dyn Guest>, GuestError> {
        let deadline = Instant::now() + patience;
        let mut session = self.session.lock().await;
        if let Some(earlier) = session.take() {
            earlier.end().await;
        }
        let dialled = tokio::select! {
            biased;
            exit = self.exited() => return Err(self.end_error(exit)),
            dialled = timeout_at(deadline, self.dial()) => dialled,
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
        Ok(Arc::new(LiveGuest::new(client, &hello, closed)))
    }

    async fn kill(&self) -> Result<(), HostError> {
        if self.process.has_ended() {
            return Ok(());
        }
        match timeout(QUIT_PATIENCE, self.quit()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => tracing::debug!(%error, "QEMU does not quit by itself"),
            Err(_) => tracing::debug!("QEMU does not quit in time"),
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

fn broken(operation: &'static str, source: std::io::Error) -> GuestError {
    GuestError::Broken {
        operation,
        source: Box::new(source),
    }
}

/// Connects to a socket that its server is about to make. The wait between attempts is a
/// fraction of what the server's start takes.
async fn connect_when_there(socket: &Path) -> UnixStream {
    const FIRST_WAIT: Duration = Duration::from_millis(1);
    const LONGEST_WAIT: Duration = Duration::from_millis(16);
    let mut wait = FIRST_WAIT;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return stream,
            Err(error) => tracing::trace!(%error, "the agent's socket is not there yet"),
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
