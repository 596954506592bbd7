//! The whole of banger behind one value: makes VMs, finds them, and takes them up again
//! after a restart. Knows tasks and stores; knows no HTTP.

mod orphan;
mod preview;
mod recover;
mod snapshots;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use banger_image::{
    kernel::KernelName,
    progress::{SharedProgress, Silent, Step},
};
pub use snapshots::{ForkRequest, Forked};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::{
    assembly::Assembly,
    boots::Boots,
    error::{Error, Kind},
    events::{EventRequest, Feed, past_vm},
    exec::{ExecRequest, ExecStream},
    generated_name::generated_name,
    host::{Check, Host, VmmKind},
    image_config::{self, ImageUse},
    image_target::ImageTarget,
    images::{Images, Registration},
    journal::{Act, Ledger, Owner, Page, Stage},
    kernels::{KernelChoice, Kernels},
    labels::Labels,
    name::{ImageName, SnapshotName, VmId, VmName},
    operations::Operations,
    record::{Seconds, VmRecord, VmState},
    recovery,
    snapshots::Snapshots,
    spec::{DiskSize, Init, Memory, Network, Vcpus, VmSpec},
    store::{ImageRow, JournalRow, StoreError},
    target,
    upkeep::{self, Life, Upkeep},
    vm::{self, Patience, Surroundings, Usage, View, VmHandle},
};

pub use preview::{Planned, Preview};

/// How often a name is drawn before numbers are added to it.
const NAME_DRAWS: usize = 8;

/// What a new VM gets where the request is silent.
#[derive(Debug, Clone)]
pub struct Defaults {
    pub image: ImageName,
    /// The configured kernel; where none is, the best one that is at hand is taken.
    pub kernel: Option<KernelName>,
    pub vcpus: Vcpus,
    pub memory: Memory,
    pub disk: DiskSize,
}

/// A request for a VM, parsed.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    pub name: Option<VmName>,
    pub image: Option<ImageTarget>,
    pub kernel: Option<KernelName>,
    pub vcpus: Option<Vcpus>,
    pub memory: Option<Memory>,
    pub disk: Option<DiskSize>,
    pub init: Option<Init>,
    pub network: Option<Network>,
    pub vmm: Option<VmmKind>,
    pub labels: Labels,
    /// When the VM is deleted, whatever it does then.
    pub expires_at: Option<Seconds>,
    pub upkeep: Upkeep,
    /// The saved machine that it goes on from, instead of a boot.
    pub snapshot: Option<SnapshotName>,
    /// It boots, whatever has been saved.
    pub cold: bool,
    pub start: bool,
    pub auto_remove: bool,
}

/// Where the engine keeps things.
#[derive(Debug, Clone)]
pub struct Directories {
    pub state: PathBuf,
    pub cache: PathBuf,
    pub runtime: PathBuf,
}

impl Directories {
    /// Where VMs and images are.
    #[must_use]
    pub fn remains(&self) -> (PathBuf, PathBuf) {
        (self.state.join("vms"), self.state.join("images"))
    }
}

type Vms = Mutex<BTreeMap<VmId, VmHandle>>;

/// Everything that banger can do.
#[derive(Debug)]
pub struct Engine {
    surroundings: Arc<Surroundings>,
    vms: Arc<Vms>,
    /// What is being undone that no VM's row names.
    orphans: Mutex<Vec<JoinHandle<()>>>,
    images: Arc<Images>,
    kernels: Arc<Kernels>,
    snapshots: Arc<Snapshots>,
    operations: Arc<Operations>,
    defaults: Defaults,
    directories: Directories,
}

/// The parts that an engine is made of.
#[derive(Debug)]
pub struct Parts {
    pub ledger: Arc<Ledger>,
    pub images: Arc<Images>,
    pub kernels: Arc<Kernels>,
    pub assembly: Assembly,
    pub defaults: Defaults,
    pub directories: Directories,
    pub patience: Patience,
    /// What saved boots may take of the disk; with none, no boot is saved.
    pub boots_budget: Option<u64>,
}

impl Engine {
    /// Takes up all VMs of the store: live ones are adopted, half-done acts are finished or
    /// undone.
    pub fn start(parts: Parts, host: Arc<dyn Host>, clock: fn() -> u64) -> Result<Self, Error> {
        let Parts {
            ledger,
            images,
            kernels,
            assembly,
            defaults,
            directories,
            patience,
            boots_budget,
        } = parts;
        images.sweep()?;
        kernels.sweep();
        assembly.sweep()?;
        let snapshots = directories.state.join("snapshots");
        let snapshots = Arc::new(Snapshots::new(ledger.store().clone(), snapshots));
        snapshots.sweep()?;
        let assembly = Arc::new(assembly);
        let operations = Operations::open(ledger.store().clone(), clock)?;
        let surroundings = Surroundings {
            store: ledger.store().clone(),
            ledger,
            host,
            assembly,
            patience,
            boots: Boots::new(snapshots.clone(), boots_budget),
            clock,
        };
        let engine = Self {
            surroundings: Arc::new(surroundings),
            vms: Arc::default(),
            orphans: Mutex::default(),
            images,
            kernels,
            snapshots,
            operations: Arc::new(operations),
            defaults,
            directories,
        };
        let mut with_host = Vec::new();
        for mut record in engine.surroundings.store.vms()? {
            if engine.is_half_made(&record) {
                record.state = VmState::Deleting;
            }
            let autostart = upkeep::with_host(record.spec.upkeep, record.life, record.state);
            let vm = engine.spawn(record);
            // One of an earlier version has none.
            recovery::write_missing(&engine.surroundings.store, &vm.view().places);
            if autostart {
                with_host.push(vm);
            }
        }
        if engine.is_first_of_this_boot()? {
            tokio::spawn(start_with_host(with_host));
        }
        engine.forget_orphans()?;
        Ok(engine)
    }

    /// Undoes what the journal has of VMs that are in no row.
    fn forget_orphans(&self) -> Result<(), Error> {
        for owner in self.surroundings.store.journaled_orphans()? {
            if let Owner::Vm(id) = owner {
                let forgetting = orphan::forget(self.surroundings.clone(), id);
                self.lock_orphans().push(tokio::spawn(forgetting));
            }
        }
        Ok(())
    }

    fn lock_orphans(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        let orphans = self.orphans.lock();
        orphans.expect("no holder of the orphans' lock panics")
    }

    /// Waits until every VM was held against the host, so that nothing that an earlier daemon wrote
    /// is shown as the truth. A host that does not answer holds this up.
    pub async fn looked_for(&self) {
        let handles: Vec<VmHandle> = self.vms().values().cloned().collect();
        for handle in handles {
            handle.looked_for().await;
        }
        let orphans = std::mem::take(&mut *self.lock_orphans());
        for orphan in orphans {
            // What it could not undo is in the log, and in the journal.
            let _ = orphan.await;
        }
    }

    /// Work that takes a while.
    #[must_use]
    pub fn operations(&self) -> &Arc<Operations> {
        &self.operations
    }

    /// The journal of all acts on the host.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.surroundings.ledger
    }

    #[must_use]
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    #[must_use]
    pub fn kernels(&self) -> &Arc<Kernels> {
        &self.kernels
    }

    /// Makes a VM. Dropping the future before its end leaves nothing behind.
    pub async fn create(
        &self,
        request: CreateRequest,
        progress: SharedProgress,
    ) -> Result<View, Error> {
        if let Some(name) = &request.name {
            self.refuse_taken(name)?;
        }
        // Refuses what this host has no room for, or no VMM, before anything is fetched or made.
        self.surroundings
            .host
            .has_room(&self.directories.state, 0)?;
        if let Some(snapshot) = request.snapshot.clone() {
            return self.create_from(&snapshot, request, progress).await;
        }
        self.surroundings.host.choose_vmm(request.vmm).await?;
        let spec = self.spec(&request, &progress).await?;
        let (handle, made) = self.make(request.name, spec, &progress).await?;
        let unfinished = DeleteUnfinished(Some(handle.clone()));
        let started = match request.start {
            true => handle.start_as(request.cold, progress).await,
            false => Ok(handle.view()),
        };
        let started = match started {
            Err(Error::Start { vm, source, .. }) if request.auto_remove => {
                let kept = handle.delete(true).await.is_err();
                Err(Error::Start { vm, kept, source })
            }
            started => {
                let id = handle.view().record.id;
                self.page(id).journal().confirm(&made)?;
                started
            }
        };
        unfinished.disarm();
        started
    }

    fn page(&self, vm: VmId) -> Page {
        self.surroundings.ledger.page(Owner::Vm(vm))
    }

    /// Finds a VM by name, id or unique prefix of either.
    pub fn find(&self, target: &str) -> Result<VmHandle, Error> {
        let vms = self.vms();
        let known = vms.iter().map(|(id, handle)| (*id, handle.name()));
        match target::resolve(target, known) {
            Ok(id) => Ok(vms[&id].clone()),
            Err(target::Unresolved::Unknown) => Err(Error::NotFound {
                kind: Kind::Vm,
                target: target.chars().take(80).collect(),
            }),
            Err(target::Unresolved::Ambiguous(candidates)) => {
                let target = target.chars().take(80).collect();
                Err(Error::Ambiguous { target, candidates })
            }
        }
    }

    /// All VMs, by age.
    #[must_use]
    pub fn views(&self) -> Vec<View> {
        self.each_view(View::clone)
    }

    /// What is to be read of each VM, by age.
    pub fn each_view<T>(&self, read: impl Fn(&View) -> T) -> Vec<T> {
        let key = |view: &View| (view.record.created_at, view.record.name.clone());
        let vms = self.vms();
        let keyed = vms
            .values()
            .map(|vm| vm.read(|view| (key(view), read(view))));
        let mut keyed: Vec<_> = keyed.collect();
        drop(vms);
        keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
        keyed.into_iter().map(|(_, read)| read).collect()
    }

    /// What a VM uses now.
    pub async fn usage(&self, vm: &VmHandle) -> Usage {
        vm.usage(self.surroundings.host.as_ref()).await
    }

    /// What happened, and what will.
    pub fn events(&self, request: &EventRequest) -> Result<Feed, Error> {
        Feed::new(self.surroundings.store.clone(), request)
    }

    /// The VM of a target, also one that is gone already.
    pub fn event_vm(&self, target: &str) -> Result<VmId, Error> {
        match self.find(target) {
            Ok(vm) => Ok(vm.view().record.id),
            Err(Error::NotFound { .. }) => past_vm(&self.surroundings.store, target),
            Err(error) => Err(error),
        }
    }

    /// Runs a command in a VM.
    pub async fn exec(
        &self,
        vm: &VmHandle,
        request: ExecRequest,
        image: ImageUse,
    ) -> Result<ExecStream, Error> {
        let row = self.images.get(&vm.view().record.spec.image)?;
        let request = image_config::apply(request, image, &row.config);
        Ok(vm.guest().await?.exec(request).await?)
    }

    /// Makes a file of the host an image; its kernel is fetched if it has to be.
    pub async fn register_image(
        &self,
        registration: Registration,
        progress: SharedProgress,
    ) -> Result<ImageRow, Error> {
        if let Some(kernel) = &registration.kernel {
            self.kernels.ensure(kernel, progress).await?;
        }
        self.images.register(registration).await
    }

    /// Deletes an image that no VM uses.
    pub fn delete_image(&self, name: &ImageName) -> Result<(), Error> {
        self.surroundings.boots.forget_image(name)?;
        match self.images.delete(name) {
            Err(Error::Store(StoreError::ImageUsed(image))) => {
                if let Some(snapshot) = self.snapshot_of(&image) {
                    let snapshot = snapshot.to_string();
                    return Err(Error::ImageSaved { image, snapshot });
                }
                let user = self
                    .views()
                    .into_iter()
                    .find(|view| view.record.spec.image == image);
                let vm = user.map_or_else(|| "?".into(), |view| view.record.name.to_string());
                Err(Error::ImageUsed { image, vm })
            }
            other => other,
        }
    }

    /// Deletes a kernel that no VM uses.
    pub async fn delete_kernel(&self, name: &KernelName) -> Result<(), Error> {
        if let Some(vm) = self.surroundings.store.vm_with_kernel(name.as_str())? {
            return Err(Error::KernelUsed {
                kernel: name.to_string(),
                vm,
            });
        }
        self.kernels.delete(name).await
    }

    /// The host's fitness; changes nothing.
    pub async fn checks(&self) -> Vec<Check> {
        let mut checks = self.surroundings.host.checks(&self.directories.state).await;
        checks.extend(self.leftover_checks());
        checks
    }

    pub(crate) fn host(&self) -> &Arc<dyn Host> {
        &self.surroundings.host
    }

    pub(crate) fn directories(&self) -> &Directories {
        &self.directories
    }

    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    async fn spec(
        &self,
        request: &CreateRequest,
        progress: &SharedProgress,
    ) -> Result<VmSpec, Error> {
        let defaults = &self.defaults;
        let image = request
            .image
            .clone()
            .unwrap_or_else(|| defaults.image.clone().into());
        let mut choice = self
            .kernels
            .choose(request.kernel.as_ref(), defaults.kernel.as_ref())?;
        self.kernels.ensure(&choice.name, progress.clone()).await?;
        let image = self.images.ensure(&image, progress.clone()).await?;
        if let (None, Some(kernel)) = (&request.kernel, self.images.get(&image)?.kernel) {
            self.kernels.ensure(&kernel, progress.clone()).await?;
            choice = KernelChoice {
                name: kernel,
                reason: "the image was registered with it".to_owned(),
            };
        }
        let KernelChoice {
            name: kernel,
            reason: kernel_reason,
        } = choice;
        Ok(VmSpec {
            image,
            kernel,
            kernel_reason,
            vcpus: request.vcpus.unwrap_or(defaults.vcpus),
            memory: request.memory.unwrap_or(defaults.memory),
            disk: request.disk.unwrap_or(defaults.disk),
            init: request.init.clone().unwrap_or(Init::Auto),
            network: request.network.unwrap_or(Network::User),
            vmm: request.vmm,
            auto_remove: request.auto_remove,
            labels: request.labels.clone(),
            expires_at: request.expires_at,
            upkeep: request.upkeep,
        })
    }

    /// Record, act, confirm: the row first, then the disk, then the task. The VM as a whole is
    /// the caller's to confirm.
    async fn make(
        &self,
        name: Option<VmName>,
        spec: VmSpec,
        progress: &SharedProgress,
    ) -> Result<(VmHandle, Act), Error> {
        let (record, intended) = self.insert(name.as_ref(), spec)?;
        progress.report(Step {
            stage: "create",
            detail: format!("VM {}", record.name),
            done: 0,
            total: None,
        });
        // The task owns the row from here on: if this future is dropped, it removes both.
        let handle = self.spawn(record.clone());
        let unfinished = DeleteUnfinished(Some(handle.clone()));
        let (places, page) = (handle.view().places, self.page(record.id));
        let store = self.surroundings.store.clone();
        // The guard goes along: a deletion before the disk is made would miss it.
        let making = tokio::task::spawn_blocking(move || {
            let made = vm::make_disk(&places, record.spec.disk, page.journal())
                .and_then(|()| recovery::write_vm(&store, &places));
            (made, unfinished)
        });
        let (made, unfinished) = making.await.map_err(|_| Error::Ending)?;
        if let Err(error) = made {
            if let Err(left) = handle.delete(true).await {
                warn!(vm = %handle.name(), error = left.chain(), "cannot undo a creation");
            }
            return Err(error);
        }
        unfinished.disarm();
        if handle.view().record.state == VmState::Deleting {
            return Err(self.deleted_while_made(&handle).await);
        }
        Ok((handle, intended))
    }

    /// A deletion that came while the disk was being made may have missed it: what it left goes,
    /// too.
    async fn deleted_while_made(&self, handle: &VmHandle) -> Error {
        if let Err(left) = handle.delete(true).await {
            return left;
        }
        let places = handle.view().places;
        let page = self.page(places.id);
        let removed =
            tokio::task::spawn_blocking(move || vm::remove_disk(&places, page.journal())).await;
        let owner = Owner::Vm(handle.view().record.id);
        match removed {
            Ok(Ok(())) => match self.surroundings.store.strike_all(&owner) {
                Ok(()) => Error::NotFound {
                    kind: Kind::Vm,
                    target: handle.name().to_string(),
                },
                Err(left) => left.into(),
            },
            Ok(Err(left)) => left,
            Err(_) => Error::Ending,
        }
    }

    /// Whether no daemon has begun since the host started. A daemon comes and goes with the commands of
    /// its user, so its own start means nothing.
    fn is_first_of_this_boot(&self) -> Result<bool, Error> {
        let Surroundings { store, host, .. } = self.surroundings.as_ref();
        let Some(boot) = host.boot_id() else {
            return Ok(false);
        };
        Ok(store.set_fact("host-boot", &boot)? != Some(boot))
    }

    /// Whether an earlier daemon was cut short while it made this VM, or before the session
    /// began that the VM was to live for.
    fn is_half_made(&self, record: &VmRecord) -> bool {
        let Surroundings {
            assembly, ledger, ..
        } = self.surroundings.as_ref();
        let is_intention =
            |half: &JournalRow| half.stage == Stage::Intended && matches!(half.act, Act::Vm(_));
        let halves = ledger.halves_of(&Owner::Vm(record.id));
        let no_disk = || !assembly.places(record.id).disk().exists();
        halves.iter().any(is_intention)
            || record.state == VmState::Created && (record.spec.auto_remove || no_disk())
    }

    /// Seconds since the epoch, by the clock that all VMs' times are of.
    #[must_use]
    pub fn now(&self) -> Seconds {
        (self.surroundings.clock)()
    }

    /// Takes a name; the intention is in the journal before.
    fn insert(&self, name: Option<&VmName>, spec: VmSpec) -> Result<(VmRecord, Act), Error> {
        let now = self.now();
        let mut record = VmRecord {
            id: VmId::random(),
            name: name.cloned().unwrap_or_else(|| self.free_name()),
            spec,
            state: VmState::Created,
            choice: None,
            last_error: None,
            life: Life::default(),
            created_at: now,
            updated_at: now,
        };
        let page = self.page(record.id);
        loop {
            let act = Act::Vm(record.name.clone());
            page.journal().intend(&act)?;
            let inserted = self.surroundings.store.insert_vm(&record);
            if inserted.is_err() {
                page.journal().strike(&act)?;
            }
            match inserted {
                Ok(()) => return Ok((record, act)),
                // Somebody took the drawn name in between: draw again.
                Err(StoreError::VmTaken(_)) if name.is_none() => record.name = self.free_name(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn free_name(&self) -> VmName {
        let draw = |crowded| generated_name(random_bits(), crowded);
        let mut draws = (0..NAME_DRAWS).map(|_| draw(false));
        let free = draws.find(|name| self.refuse_taken(name).is_ok());
        free.unwrap_or_else(|| draw(true))
    }

    fn refuse_taken(&self, name: &VmName) -> Result<(), Error> {
        if self.vms().values().any(|handle| handle.name() == *name) {
            return Err(StoreError::VmTaken(name.clone()).into());
        }
        Ok(())
    }

    fn spawn(&self, record: VmRecord) -> VmHandle {
        let id = record.id;
        // A task holds no handle, its own least of all: it ends when the engine is dropped.
        let known = Arc::downgrade(&self.vms);
        let forget = move || {
            if let Some(vms) = known.upgrade() {
                lock(&vms).remove(&id);
            }
        };
        // Locked until the handle is in: a task that ends at once finds it to forget.
        let mut vms = self.vms();
        let handle = vm::spawn(record, self.surroundings.clone(), forget);
        vms.insert(id, handle.clone());
        handle
    }

    fn vms(&self) -> MutexGuard<'_, BTreeMap<VmId, VmHandle>> {
        lock(&self.vms)
    }
}

/// One after the other, so that they do not hold each other up.
async fn start_with_host(vms: Vec<VmHandle>) {
    for vm in vms {
        vm.looked_for().await;
        info!(vm = %vm.name(), "starting with the host");
        // Its task tells what went wrong.
        let _ = vm.start(Arc::new(Silent)).await;
    }
}

fn lock(vms: &Vms) -> MutexGuard<'_, BTreeMap<VmId, VmHandle>> {
    vms.lock().expect("no holder of the VM map's lock panics")
}

/// Deletes a VM whose making was cut short.
struct DeleteUnfinished(Option<VmHandle>);

impl DeleteUnfinished {
    fn disarm(mut self) {
        self.0 = None;
    }

    /// Deletes it now.
    async fn delete(&self) {
        let Some(handle) = &self.0 else { return };
        if let Err(left) = handle.delete(true).await {
            warn!(vm = %handle.name(), error = left.chain(), "cannot undo a creation");
        }
    }
}

impl Drop for DeleteUnfinished {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.delete_behind();
        }
    }
}

fn random_bits() -> u32 {
    getrandom::u32().expect("the kernel's random source does not fail after boot")
}

#[cfg(test)]
mod tests;
