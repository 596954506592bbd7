//! A fake machine: lives until it is killed, shut down, or told to die by the test.

use std::{
    fs::{self, File},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    Act, Connect, Power, Script, Step,
    guest::FakeGuest,
    host::{Log, failure},
};
use crate::{
    host::{
        Accelerator, Built, Confinement, Guest, Halt, Identity, Machine, SnapshotPlaces, VmmExit,
        VmmKind, VmmProcess,
    },
    host_error::{BootFailure, GuestError, HostError, LogTail},
    name::VmId,
};

/// What every fake machine has.
pub(super) const MEMORY: u64 = 128 << 20;

/// What a machine and the guest in it share.
pub(super) struct Shared {
    pub(super) id: VmId,
    pub(super) script: watch::Sender<Script>,
    pub(super) log: Arc<Log>,
    pub(super) exit: watch::Sender<Option<VmmExit>>,
    pub(super) power: Arc<Power>,
}

impl Shared {
    pub(super) fn record(&self, act: Act) {
        self.log.send_modify(|log| log.push((act, Some(self.id))));
    }

    /// The first end is the end.
    pub(super) fn end(&self, status: &str, clean: bool) {
        self.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            exit.get_or_insert_with(|| VmmExit {
                status: status.into(),
                clean,
            });
            first
        });
    }
}

pub(crate) struct FakeMachine {
    shared: Arc<Shared>,
    /// As with a real one, attempts to connect wait for each other.
    session: tokio::sync::Mutex<()>,
    guest: Mutex<Option<Arc<FakeGuest>>>,
    halt: watch::Sender<Option<Halt>>,
    built: Built,
    copy: bool,
}

impl FakeMachine {
    pub(super) fn new(
        id: VmId,
        (built, copy): (Built, bool),
        script: Script,
        log: Arc<Log>,
        power: Arc<Power>,
    ) -> Self {
        let script = watch::Sender::new(script);
        let shared = Shared {
            id,
            script,
            log,
            exit: watch::Sender::new(None),
            power,
        };
        Self {
            shared: Arc::new(shared),
            session: Default::default(),
            guest: Mutex::default(),
            halt: watch::Sender::new(None),
            built,
            copy,
        }
    }

    /// Changes how this machine behaves from now on.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        self.shared.script.send_modify(change);
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.shared.exit.borrow().is_none()
    }

    /// The VMM stops its guest by itself.
    pub(crate) fn halt(&self, halt: Halt) {
        self.halt.send_replace(Some(halt));
    }

    /// The VMM ends by itself.
    pub(crate) fn end(&self, status: &str, clean: bool) {
        self.shared.end(status, clean);
    }

    /// The connection to the agent breaks, the guest lives on.
    pub(crate) fn disconnect(&self) {
        if let Some(guest) = self.guest.lock().unwrap().take() {
            guest.disconnect();
        }
    }

    async fn greet(&self) -> Result<(), GuestError> {
        let mut script = self.shared.script.subscribe();
        let decided = script
            .wait_for(|script| script.connect != Connect::Hangs)
            .await;
        match decided
            .expect("the script lives as long as the machine")
            .connect
        {
            Connect::Answers | Connect::Hangs => Ok(()),
            Connect::BreaksOnce | Connect::Breaks => Err(super::guest::broken("the greeting")),
        }
    }
}

#[async_trait]
impl Machine for FakeMachine {
    fn process(&self) -> VmmProcess {
        VmmProcess {
            vmm: VmmKind::Qemu,
            accelerator: Accelerator::Tcg,
            pid: 4711,
            confinement: Confinement::Seccomp,
            command_line: "quiet".into(),
            built: Some(self.built),
            copy: self.copy,
        }
    }

    async fn exited(&self) -> VmmExit {
        let mut exit = self.shared.exit.subscribe();
        let exit = exit
            .wait_for(Option::is_some)
            .await
            .expect("the sender is in here");
        exit.clone().expect("it was waited for")
    }

    async fn connect(
        &self,
        patience: Duration,
        _: Option<&Identity>,
    ) -> Result<Arc<dyn Guest>, GuestError> {
        self.shared.power.check(Act::Connect)?;
        self.shared.record(Act::Connect);
        let _session = self.session.lock().await;
        self.disconnect();
        let greeted = tokio::select! {
            biased;
            exit = self.exited() => {
                let (status, cause) = (exit.status, BootFailure::Unknown);
                return Err(HostError::VmmExited { status, cause, tail: LogTail::default() }.into());
            }
            greeted = tokio::time::timeout(patience, self.greet()) => greeted,
        };
        match greeted {
            Ok(greeted) => greeted?,
            Err(_) => {
                return Err(GuestError::Silent {
                    after: patience,
                    tail: LogTail::default(),
                });
            }
        }
        let guest = Arc::new(FakeGuest::new(self.shared.clone()));
        *self.guest.lock().unwrap() = Some(guest.clone());
        Ok(guest)
    }

    async fn halted(&self) -> Halt {
        let mut halt = self.halt.subscribe();
        loop {
            let mut taken = None;
            self.halt.send_if_modified(|halt| {
                taken = halt.take();
                false
            });
            match taken {
                Some(halt) => return halt,
                None => drop(halt.wait_for(Option::is_some).await),
            }
        }
    }

    async fn pause(&self) -> Result<(), HostError> {
        self.shared.power.check(Act::Pause)?;
        self.shared.record(Act::Pause);
        Ok(())
    }

    async fn grow_disk(&self, _: u64) -> Result<(), HostError> {
        self.shared.record(Act::GrowDisk);
        Ok(())
    }

    async fn resume(&self) -> Result<(), HostError> {
        self.shared.power.check(Act::Resume)?;
        self.shared.record(Act::Resume);
        match self.shared.script.borrow().resume {
            Step::Fails => Err(failure(Act::Resume)),
            Step::Works | Step::Hangs => Ok(()),
        }
    }

    fn may_be_saved(&self) -> Result<(), HostError> {
        Ok(())
    }

    async fn save(&self, into: &SnapshotPlaces) -> Result<u64, HostError> {
        self.shared.power.check(Act::Save)?;
        self.shared.record(Act::Save);
        let mut script = self.shared.script.subscribe();
        let decided = script.wait_for(|script| script.save != Step::Hangs).await;
        let memory = File::create(into.memory()).expect("the directory is there");
        match decided
            .expect("the script lives as long as the machine")
            .save
        {
            Step::Fails => return Err(failure(Act::Save)),
            Step::Works | Step::Hangs => {}
        }
        memory.set_len(MEMORY).expect("a file without data");
        fs::write(into.devices(), "devices").expect("the directory is there");
        let script = *self.shared.script.borrow();
        if script.save_hangs_up {
            // As with a real one, whoever is connecting is waited for.
            let _session = self.session.lock().await;
            self.disconnect();
        }
        Ok(script.saved_bytes)
    }

    async fn fetch_saved(&self, _: &SnapshotPlaces, taken: u64) -> Result<u64, HostError> {
        self.shared.power.check(Act::Fetch)?;
        self.shared.record(Act::Fetch);
        let mut script = self.shared.script.subscribe();
        let decided = script.wait_for(|script| script.fetch != Step::Hangs).await;
        match decided
            .expect("the script lives as long as the machine")
            .fetch
        {
            Step::Fails => Err(failure(Act::Fetch)),
            Step::Works | Step::Hangs => Ok(taken),
        }
    }

    async fn kill(&self) -> Result<(), HostError> {
        self.shared.power.check(Act::Kill)?;
        self.shared.record(Act::Kill);
        let mut script = self.shared.script.subscribe();
        let decided = script.wait_for(|script| script.kill != Step::Hangs).await;
        match decided
            .expect("the script lives as long as the machine")
            .kill
        {
            Step::Fails => return Err(failure(Act::Kill)),
            Step::Works | Step::Hangs => {}
        }
        self.shared.end("signal 9", false);
        self.disconnect();
        Ok(())
    }
}
