//! The whole of banger behind one value: makes VMs, finds them, and takes them up again
//! after a restart. Knows tasks and stores; knows no HTTP.

mod boots;
mod making;
mod orphan;
mod pools;
mod preview;
mod recover;
mod snapshots;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, RwLock},
};

use banger_image::{
    kernel::KernelName,
    progress::{SharedProgress, Silent},
};
use making::{DeleteUnfinished, Making};
use pools::Pools;
pub use pools::{PoolRequest, PoolView};
pub use snapshots::{ForkRequest, Forked};
use tokio::task::{JoinHandle, JoinSet};
use tracing::info;

use crate::{
    assembly::Assembly,
    boots::Boots,
    error::{Error, Kind},
    events::{EventRequest, Feed, past_vm},
    exec::{ExecRequest, ExecStream},
    holder::Holder,
    host::{Check, Host, VmmKind},
    image_config::{self, ImageUse},
    image_target::ImageTarget,
    images::{Images, Registration},
    journal::{Act, Ledger, Owner, Page, Stage},
    kernels::{KernelChoice, Kernels},
    labels::Labels,
    name::{ImageName, PoolName, SnapshotName, VmId, VmName},
    operations::Operations,
    pool::PoolRecord,
    record::{Seconds, VmRecord, VmState},
    recovery::{self, Remains},
    snapshot::Frozen,
    snapshots::Snapshots,
    spec::{DiskSize, Init, Memory, Network, Vcpus, VmSpec},
    store::{ImageRow, JournalRow, StoreError},
    target,
    upkeep::{self, Upkeep},
    vm::{Patience, Surroundings, Usage, View, VmHandle},
};

pub use preview::{Planned, Preview};

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
    /// The pool that it comes from, ready to be used.
    pub pool: Option<PoolName>,
    /// It boots, whatever has been saved.
    pub cold: bool,
    pub start: bool,
    pub auto_remove: bool,
}

impl CreateRequest {
    /// What it says of the machine itself: one that is there already is what it is.
    fn chosen_parts(&self) -> impl Iterator<Item = &'static str> {
        let parts = [
            ("image", self.image.is_some()),
            ("kernel", self.kernel.is_some()),
            ("number of processors", self.vcpus.is_some()),
            ("memory", self.memory.is_some()),
            ("disk", self.disk.is_some()),
            ("init", self.init.is_some()),
            ("network", self.network.is_some()),
            ("VMM", self.vmm.is_some()),
        ];
        parts
            .into_iter()
            .filter_map(|(part, chosen)| chosen.then_some(part))
    }
}

/// Where the engine keeps things.
#[derive(Debug, Clone)]
pub struct Directories {
    pub state: PathBuf,
    pub cache: PathBuf,
    pub runtime: PathBuf,
}

impl Directories {
    /// Where everything is that has a card.
    #[must_use]
    pub fn remains(&self) -> Remains {
        let [vms, images, snapshots, pools] =
            ["vms", "images", "snapshots", "pools"].map(|part| self.state.join(part));
        Remains {
            vms,
            images,
            snapshots,
            pools,
        }
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
    pools: Arc<Pools>,
    /// Saves boots for whoever comes next; ends with the engine.
    saving: Mutex<JoinSet<()>>,
    defaults: RwLock<Defaults>,
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
        let (boots, ordered) = Boots::new(snapshots.clone(), boots_budget);
        let surroundings = Arc::new(Surroundings {
            store: ledger.store().clone(),
            ledger,
            host,
            assembly,
            patience,
            boots,
            clock,
        });
        let vms: Arc<Vms> = Arc::default();
        let making = Making {
            surroundings: surroundings.clone(),
            vms: vms.clone(),
        };
        let mut saving = JoinSet::new();
        saving.spawn(boots::serve(making, ordered));
        let engine = Self {
            surroundings,
            vms,
            orphans: Mutex::default(),
            images,
            kernels,
            snapshots,
            operations: Arc::new(operations),
            pools: Arc::new(Pools::new(directories.remains().pools)),
            saving: Mutex::new(saving),
            defaults: RwLock::new(defaults),
            directories,
        };
        let pools = engine.surroundings.store.pools()?;
        let mut with_host = Vec::new();
        for mut record in engine.surroundings.store.vms()? {
            if engine.is_half_made(&record) || is_nobodys(&record, &pools) {
                record.state = VmState::Deleting;
            }
            let autostart = upkeep::with_host(record.spec.upkeep, record.life, record.state);
            let Surroundings {
                store, assembly, ..
            } = &*engine.surroundings;
            if record.state != VmState::Deleting {
                // One of an earlier version has none. Before its task begins, which may remove it.
                recovery::write_missing(store, &assembly.places(record.id));
            }
            let vm = engine.spawn(record);
            if autostart {
                with_host.push(vm);
            }
        }
        engine.take_up_pools(pools)?;
        if engine.is_first_of_this_boot()? {
            tokio::spawn(start_with_host(with_host));
        }
        engine.forget_orphans()?;
        Ok(engine)
    }

    /// The saved boots of those that are gone go, too.
    fn take_up_pools(&self, pools: Vec<PoolRecord>) -> Result<(), Error> {
        let (making, boots) = (self.making(), &self.surroundings.boots);
        for pool in pools {
            if self.pools.has(&pool.name) {
                continue;
            }
            self.write_card_of(&pool.name);
            let left = making.held_by(&pool.name);
            for vm in &left {
                if let Some(Holder::Pool { kind, .. }) = vm.view().record.holder {
                    boots.hold_for(&pool.name, kind);
                }
            }
            self.pools.begin(pool, making.clone(), left);
        }
        boots.keep_to_budget()
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

    /// Ends what only this daemon is for: nobody knows of a machine that boots to be saved, or to wait
    /// in a pool, so none goes on without a daemon. All others do.
    pub async fn end(&self) {
        let mut saving = {
            let saving = self.saving.lock();
            std::mem::take(&mut *saving.expect("no holder of this lock panics"))
        };
        saving.shutdown().await;
        self.pools.end().await;
        boots::end_all(&self.making()).await;
    }

    /// What saved boots may take from now on; with none, no boot is saved, and the one that is being
    /// saved goes.
    pub fn set_boots_budget(&self, budget: Option<u64>) -> Result<(), Error> {
        self.surroundings.boots.set_budget(budget)
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
        if let Some(pool) = request.pool.clone() {
            return self.create_of_pool(&pool, request, progress).await;
        }
        self.surroundings.host.choose_vmm(request.vmm).await?;
        let spec = self.spec(&request, &progress).await?;
        let name = request.name.as_ref();
        let (handle, made) = self.making().make(name, spec, None, &progress).await?;
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
        // What is held is nobody's yet: only its whole name is a word for it.
        let known = vms.iter().filter(|(id, handle)| {
            let is_held = handle.is_held();
            !is_held || handle.name().as_str() == target || id.to_string() == target
        });
        let known = known.map(|(id, handle)| (*id, handle.name()));
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

    /// All VMs, by age; also those that are nobody's yet.
    #[must_use]
    pub fn views(&self) -> Vec<View> {
        self.each_view(View::clone)
    }

    /// How many VMs are so. Every command of the CLI asks for one such number.
    pub fn count(&self, are: impl Fn(&View) -> bool) -> usize {
        let vms = self.vms();
        vms.values().filter(|vm| vm.read(&are)).count()
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
    pub async fn delete_image(&self, name: &ImageName) -> Result<(), Error> {
        let of_it = |machine: &Frozen| machine.image == *name;
        if !self.is_needed(of_it)? {
            // What banger has made of it by itself comes back with it.
            self.let_pools_go_of(name).await?;
            boots::give_up(&self.making(), of_it).await?;
        }
        match self.images.delete(name) {
            Err(Error::Store(StoreError::ImageUsed(image))) => {
                if let Some(snapshot) = self.snapshot_of(of_it)? {
                    return Err(Error::ImageSaved { image, snapshot });
                }
                let users = self.each_view(|view| {
                    let record = &view.record;
                    (record.spec.image == image).then(|| record.name.to_string())
                });
                let vm = users.into_iter().flatten().next();
                let vm = vm.unwrap_or_else(|| "?".into());
                Err(Error::ImageUsed { image, vm })
            }
            other => other,
        }
    }

    /// Whether somebody's VM or snapshot is such a machine.
    fn is_needed(&self, is: impl Fn(&Frozen) -> bool) -> Result<bool, Error> {
        let used = self.count(|view| {
            let record = &view.record;
            record.holder.is_none() && is(&Frozen::of(&record.spec))
        });
        Ok(used > 0 || self.snapshot_of(is)?.is_some())
    }

    /// Deletes a kernel that no VM uses, and no snapshot: its machine boots with it one day.
    pub async fn delete_kernel(&self, name: &KernelName) -> Result<(), Error> {
        let of_it = |machine: &Frozen| machine.kernel == *name;
        if let Some(snapshot) = self.snapshot_of(of_it)? {
            let kernel = name.to_string();
            return Err(Error::KernelSaved { kernel, snapshot });
        }
        if !self.is_needed(of_it)? {
            boots::give_up(&self.making(), of_it).await?;
        }
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
        checks.extend(self.pool_checks());
        checks
    }

    pub(crate) fn host(&self) -> &Arc<dyn Host> {
        &self.surroundings.host
    }

    pub(crate) fn directories(&self) -> &Directories {
        &self.directories
    }

    #[must_use]
    pub fn defaults(&self) -> Defaults {
        let defaults = self.defaults.read();
        defaults
            .expect("no holder of the defaults' lock panics")
            .clone()
    }

    /// What new VMs get from now on.
    pub fn set_defaults(&self, defaults: Defaults) {
        let mut held = self.defaults.write();
        **held
            .as_mut()
            .expect("no holder of the defaults' lock panics") = defaults;
    }

    async fn spec(
        &self,
        request: &CreateRequest,
        progress: &SharedProgress,
    ) -> Result<VmSpec, Error> {
        let defaults = self.defaults();
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

    /// What makes VMs.
    fn making(&self) -> Making {
        Making {
            surroundings: self.surroundings.clone(),
            vms: self.vms.clone(),
        }
    }

    fn insert(&self, name: Option<&VmName>, spec: VmSpec) -> Result<(VmRecord, Act), Error> {
        self.making().insert(name, spec, None)
    }

    fn free_name(&self) -> VmName {
        self.making().free_name()
    }

    fn refuse_taken(&self, name: &VmName) -> Result<(), Error> {
        self.making().refuse_taken(name)
    }

    fn spawn(&self, record: VmRecord) -> VmHandle {
        self.making().spawn(record)
    }

    fn vms(&self) -> MutexGuard<'_, BTreeMap<VmId, VmHandle>> {
        lock(&self.vms)
    }
}

/// Whether a VM was held by somebody who is not there any more.
fn is_nobodys(record: &VmRecord, pools: &[PoolRecord]) -> bool {
    match &record.holder {
        None => false,
        Some(Holder::Boots) => true,
        Some(Holder::Pool { pool, .. }) => !pools.iter().any(|known| known.name == *pool),
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

#[cfg(test)]
mod tests;
