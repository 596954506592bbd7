//! The fake host: hands out fake machines, and finds them again as long as they live.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Act, Connect, FakeMachine, FakeTar, Power, Script, Step, soon};
use crate::{
    host::{
        Accelerator, Binding, Built, Check, DebianRoot, Host, LaunchPlan, Machine, RootTar, Space,
        VmPlaces, VmmChoice, VmmKind,
    },
    host_error::HostError,
    journal::{Act as Journaled, Journal},
    name::VmId,
    spec::Network,
};

/// What was asked, and of which VM where there is one.
pub(crate) type Log = watch::Sender<Vec<(Act, Option<VmId>)>>;

/// It outlives engines, as a real host does.
pub(crate) struct FakeHost {
    script: watch::Sender<Script>,
    log: Arc<Log>,
    machines: Mutex<BTreeMap<VmId, Arc<FakeMachine>>>,
    /// What the next build of a Debian root gives.
    root: Mutex<Option<FakeTar>>,
    boot: Mutex<Option<String>>,
    space: Mutex<Space>,
    strays: Mutex<Vec<Journaled>>,
    power: Arc<Power>,
}

/// What a launch makes.
fn acts(places: &VmPlaces) -> [Journaled; 2] {
    [
        Journaled::Sockets(places.runtime.clone()),
        Journaled::Vmm(places.state.join("vmm.lock")),
    ]
}

impl FakeHost {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            script: watch::Sender::new(Script::default()),
            log: Arc::new(watch::Sender::new(Vec::new())),
            machines: Mutex::default(),
            root: Mutex::default(),
            boot: Mutex::default(),
            space: Mutex::new(Space::ENDLESS),
            strays: Mutex::default(),
            power: Arc::default(),
        })
    }

    /// What every daemon on this host lives on.
    pub(crate) fn power(&self) -> &Arc<Power> {
        &self.power
    }

    /// Something is on this host that belongs to nobody.
    pub(crate) fn has_stray(&self, stray: Journaled) {
        self.strays.lock().unwrap().push(stray);
    }

    /// The VMs whose VMM runs.
    pub(crate) fn alive(&self) -> Vec<VmId> {
        let machines = self.machines.lock().unwrap();
        let alive = machines.iter().filter(|(_, machine)| machine.is_alive());
        alive.map(|(id, _)| *id).collect()
    }

    fn start(&self, plan: &LaunchPlan) -> Arc<FakeMachine> {
        let id = plan.places.id;
        let made = (Built::of(plan), plan.resume_from.is_some());
        let mut machines = self.machines.lock().unwrap();
        let alone = machines.get(&id).is_none_or(|machine| !machine.is_alive());
        assert!(alone, "a VM has one VMM at most");
        let (script, log) = (*self.script.borrow(), self.log.clone());
        if script.connect == Connect::BreaksOnce {
            self.script(|script| script.connect = Connect::Answers);
        }
        let machine = Arc::new(FakeMachine::new(id, made, script, log, self.power.clone()));
        machines.insert(id, machine.clone());
        machine
    }

    /// Changes how the host and the machines that it will launch behave.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        self.script.send_modify(change);
    }

    /// The host is another one's start from now on; until then it cannot tell.
    pub(crate) fn reboot(&self, id: &str) {
        *self.boot.lock().unwrap() = Some(id.to_owned());
    }

    /// There is so much room from now on, and so much of it is not to be taken.
    pub(crate) fn has_free(&self, free: u64, reserve: u64) {
        *self.space.lock().unwrap() = Space {
            free,
            reserve,
            ..Space::ENDLESS
        };
    }

    pub(crate) fn next_root(&self, tar: FakeTar) {
        *self.root.lock().unwrap() = Some(tar);
    }

    /// The machine that was launched last for a VM.
    pub(crate) fn machine(&self, vm: VmId) -> Arc<FakeMachine> {
        self.machines.lock().unwrap()[&vm].clone()
    }

    /// Whether any VMM runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.machines
            .lock()
            .unwrap()
            .values()
            .all(|machine| !machine.is_alive())
    }

    pub(crate) fn count(&self, act: Act) -> usize {
        self.log
            .borrow()
            .iter()
            .filter(|(done, _)| *done == act)
            .count()
    }

    /// What was asked for one VM, in order.
    pub(crate) fn acts_of(&self, vm: VmId) -> Vec<Act> {
        let log = self.log.borrow();
        log.iter()
            .filter(|(_, of)| *of == Some(vm))
            .map(|(act, _)| *act)
            .collect()
    }

    /// Waits until an act was asked for so often.
    pub(crate) async fn asked(&self, act: Act, times: usize) {
        let mut log = self.log.subscribe();
        let enough = |log: &Vec<(Act, _)>| log.iter().filter(|(a, _)| *a == act).count() >= times;
        let asked = soon(&format!("{act:?} is asked for"), log.wait_for(enough)).await;
        drop(asked.expect("the log lives as long as the host"));
    }

    async fn step(
        &self,
        act: Act,
        vm: Option<VmId>,
        of: impl Fn(&Script) -> Step,
    ) -> Result<(), HostError> {
        self.power.check(act)?;
        self.log.send_modify(|log| log.push((act, vm)));
        let mut script = self.script.subscribe();
        let decided = script.wait_for(|script| of(script) != Step::Hangs).await;
        match of(&decided.expect("the script lives as long as the host")) {
            Step::Fails => Err(failure(act)),
            Step::Works | Step::Hangs => Ok(()),
        }
    }
}

/// A copy of the same length with the same first bytes: enough to be known again.
fn copy_beginning(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = fs::File::open(from)?;
    let mut to = fs::File::create(to)?;
    io::copy(&mut from.by_ref().take(4096), &mut to)?;
    to.set_len(from.metadata()?.len())
}

/// What a step that fails says.
pub(super) fn failure(act: Act) -> HostError {
    let source = io::Error::other(format!("the script of {act:?} says so"));
    HostError::File {
        operation: "use",
        path: PathBuf::from("/fake"),
        source,
    }
}

#[async_trait]
impl Host for FakeHost {
    async fn choose_vmm(&self, _: Option<VmmKind>) -> Result<VmmChoice, HostError> {
        self.step(Act::ChooseVmm, None, |script| script.choose)
            .await?;
        Ok(VmmChoice {
            vmm: VmmKind::Qemu,
            accelerator: Accelerator::Tcg,
            reason: "there is nothing else here".into(),
        })
    }

    async fn admit(&self, plan: &LaunchPlan) -> Result<(), HostError> {
        self.step(Act::Admit, Some(plan.places.id), |script| script.admit)
            .await?;
        let (wanted, spare) = (plan.memory.bytes(), self.spare_memory());
        match wanted > spare {
            true => Err(HostError::Memory {
                wanted_mib: wanted >> 20,
                available_mib: spare >> 20,
            }),
            false => Ok(()),
        }
    }

    async fn acts(
        &self,
        places: &VmPlaces,
        _: VmmKind,
        _: Network,
    ) -> Result<Vec<Journaled>, HostError> {
        Ok(acts(places).into())
    }

    async fn launch(
        &self,
        plan: &LaunchPlan,
        journal: &dyn Journal,
    ) -> Result<Arc<dyn Machine>, HostError> {
        let places = &plan.places;
        self.step(Act::Launch, Some(places.id), |script| script.launch)
            .await?;
        let [sockets, vmm] = acts(places);
        journal.act(&sockets, || {
            fs::create_dir_all(&places.runtime).unwrap();
            fs::write(places.runtime.join("agent.sock"), "").unwrap();
            Ok::<_, HostError>(())
        })?;
        journal.intend(&vmm)?;
        let machine = self.start(plan);
        if let Err(error) = journal.confirm(&vmm) {
            // A daemon that is no more ends nothing.
            if self.power.is_on() {
                machine.end("given up", false);
            }
            return Err(error.into());
        }
        Ok(machine)
    }

    async fn adopt(
        &self,
        places: &VmPlaces,
        _: &dyn Journal,
    ) -> Result<Option<Arc<dyn Machine>>, HostError> {
        self.step(Act::Adopt, Some(places.id), |script| script.adopt)
            .await?;
        let machine = self.machines.lock().unwrap().get(&places.id).cloned();
        Ok(machine
            .filter(|machine| machine.is_alive())
            .map(|machine| -> Arc<dyn Machine> { machine }))
    }

    async fn sweep(&self, places: &VmPlaces, journal: &dyn Journal) -> Result<(), HostError> {
        self.step(Act::Sweep, Some(places.id), |_| Step::Works)
            .await?;
        let [sockets, vmm] = acts(places);
        journal.strike(&vmm)?;
        journal.undo(&sockets, || {
            // It may never have been there.
            let _ = fs::remove_dir_all(&places.runtime);
            Ok(())
        })
    }

    async fn binding(&self, vmm: VmmKind, accelerator: Accelerator) -> Result<Binding, HostError> {
        let version = self.script.borrow().vmm_version;
        Ok(Binding {
            vmm,
            accelerator,
            version: version.into(),
            processor: "max".into(),
            clock_khz: 1_000_000,
        })
    }

    async fn copy_sparse(&self, from: &Path, to: &Path) -> Result<u64, HostError> {
        self.step(Act::Copy, None, |script| script.copy).await?;
        let copied = copy_beginning(from, to);
        copied.map(|()| 0).map_err(|source| HostError::File {
            operation: "copy",
            path: from.to_owned(),
            source,
        })
    }

    fn debian_root(&self, _: &DebianRoot) -> Result<Box<dyn RootTar>, HostError> {
        let tar = self.root.lock().unwrap().take();
        self.log
            .send_modify(|log| log.push((Act::DebianRoot, None)));
        Ok(Box::new(tar.ok_or_else(|| failure(Act::DebianRoot))?))
    }

    fn space(&self, _: &Path) -> Result<Space, HostError> {
        Ok(*self.space.lock().unwrap())
    }

    fn spare_memory(&self) -> u64 {
        let taken = self.alive().len() as u64 * super::machine::MEMORY;
        self.script.borrow().memory.saturating_sub(taken)
    }

    fn strays(&self, _: &[VmId]) -> Vec<Journaled> {
        self.strays.lock().unwrap().clone()
    }

    fn remove_stray(&self, stray: &Journaled) -> Result<(), HostError> {
        let mut strays = self.strays.lock().unwrap();
        strays.retain(|one| one != stray);
        Ok(())
    }

    fn boot_id(&self) -> Option<String> {
        self.boot.lock().unwrap().clone()
    }

    async fn checks(&self, _: &Path) -> Vec<Check> {
        Vec::new()
    }
}
