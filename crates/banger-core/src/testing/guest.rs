//! A fake guest: a connection that answers, breaks, and ends its machine as scripted.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::{Act, Shutdown, machine::Shared};
use crate::{
    exec::{ExecOutput, ExecRequest, ExecStatus, ExecStream},
    host::{AgentInfo, BootMarks, Guest, Health, Identity, Listeners, LogLine},
    host_error::GuestError,
};

pub(crate) struct FakeGuest {
    machine: Arc<Shared>,
    broken: watch::Sender<bool>,
}

impl FakeGuest {
    pub(super) fn new(machine: Arc<Shared>) -> Self {
        Self {
            machine,
            broken: watch::Sender::new(false),
        }
    }

    pub(super) fn disconnect(&self) {
        self.broken.send_replace(true);
    }

    fn check(&self, operation: &'static str) -> Result<(), GuestError> {
        if *self.broken.borrow() {
            Err(broken(operation))
        } else {
            Ok(())
        }
    }
}

pub(super) fn broken(operation: &'static str) -> GuestError {
    GuestError::Broken {
        operation,
        source: Box::new(io::Error::other("the line is dead")),
    }
}

#[async_trait]
impl Guest for FakeGuest {
    fn info(&self) -> AgentInfo {
        AgentInfo {
            generation: 1,
            version: "0.1.0".into(),
            boot_id: "first".into(),
            init: "agent".into(),
            marks: BootMarks::default(),
        }
    }

    async fn health(&self) -> Result<Health, GuestError> {
        self.check("a health check")?;
        Ok(Health {
            uptime: Duration::from_secs(1),
            load: [0.5, 0.25, 0.0],
            memory_total: 2,
            memory_available: 1,
            init_state: "running".into(),
        })
    }

    async fn listeners(&self) -> Result<Listeners, GuestError> {
        self.check("a list of ports")?;
        Ok(Listeners::default())
    }

    async fn log(&self) -> Result<Vec<LogLine>, GuestError> {
        self.check("its log")?;
        Ok(Vec::new())
    }

    async fn grow_disk(&self, _: u64) -> Result<(), GuestError> {
        self.machine.record(Act::GrowFileSystem);
        self.check("a larger disk")
    }

    /// Every command ends at once, with code 0.
    async fn exec(&self, _: ExecRequest) -> Result<ExecStream, GuestError> {
        self.machine.record(Act::Exec);
        self.check("an exec")?;
        let ((stdin, _), (control, _)) = (mpsc::channel(1), mpsc::channel(1));
        let (outputs, output) = mpsc::channel(2);
        for event in [
            ExecOutput::Started { pid: 1 },
            ExecOutput::Ended(ExecStatus::Code(0)),
        ] {
            outputs.try_send(Ok(event)).expect("there is room for two");
        }
        Ok(ExecStream {
            stdin,
            control,
            output,
        })
    }

    async fn assume(&self, _: &Identity) -> Result<(), GuestError> {
        self.machine.record(Act::Assume);
        self.check("an identity")
    }

    async fn tell_time(&self) -> Result<(), GuestError> {
        self.machine.record(Act::TellTime);
        self.check("the time")
    }

    async fn shutdown(&self, _: Duration) -> Result<(), GuestError> {
        self.machine.power.check(Act::Shutdown)?;
        self.machine.record(Act::Shutdown);
        self.check("a shutdown")?;
        let how = self.machine.script.borrow().shutdown;
        match how {
            Shutdown::Ends => self.machine.end("exit code 0", true),
            Shutdown::Crashes => self.machine.end("signal 11", false),
            Shutdown::NeverEnds => {}
            Shutdown::Refuses => {
                let message = "not now".into();
                return Err(GuestError::Refused {
                    operation: "a shutdown",
                    message,
                });
            }
            Shutdown::BreaksOnce => {
                self.machine
                    .script
                    .send_modify(|script| script.shutdown = Shutdown::Ends);
                self.disconnect();
                return Err(broken("a shutdown"));
            }
        }
        Ok(())
    }

    async fn closed(&self) {
        let mut broken = self.broken.subscribe();
        // An error is the end of the guest, and so of its connection.
        let _ = broken.wait_for(|broken| *broken).await;
    }
}
