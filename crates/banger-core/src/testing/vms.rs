//! A world for VMs without an engine: a real store, a fake host, a fake assembly.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tempfile::TempDir;

use super::{FakeHost, FakeMachine, PATIENCE, clock, reaches, silent};
use crate::{
    boots::Boots,
    error::Error,
    host::{LaunchPlan, VmPlaces, VmmChoice},
    journal::{Ledger, Owner},
    labels::Labels,
    name::{ImageName, VmId},
    record::{VmRecord, VmState},
    snapshots::Snapshots,
    spec::{Init, Network, VmSpec},
    store::Store,
    upkeep::{Life, Upkeep},
    vm::{self, Assemble, Surroundings, VmHandle},
};

/// Plans that name files which nobody opens.
struct FakeAssembly {
    root: PathBuf,
    fails: AtomicBool,
}

impl Assemble for FakeAssembly {
    fn plan(&self, vm: &VmRecord, choice: &VmmChoice) -> Result<LaunchPlan, Error> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::Ending);
        }
        Ok(LaunchPlan {
            places: self.places(vm.id),
            name: vm.name.clone(),
            vmm: choice.vmm,
            accelerator: choice.accelerator,
            kernel: "/fake/vmlinux".into(),
            initramfs: "/fake/initramfs".into(),
            timer_hz: None,
            kernel_args: Vec::new(),
            base: "/fake/base".into(),
            vcpus: vm.spec.vcpus,
            memory: vm.spec.memory,
            network: vm.spec.network,
            init: vm.spec.init.clone(),
            resume_from: None,
            yields: false,
        })
    }

    fn places(&self, id: VmId) -> VmPlaces {
        let state = self.root.join("vms").join(id.to_string());
        VmPlaces {
            id,
            state,
            runtime: self.root.join("run").join(id.short()),
        }
    }
}

pub(crate) struct VmWorld {
    root: TempDir,
    pub(crate) store: Arc<Store>,
    ledger: Arc<Ledger>,
    pub(crate) host: Arc<FakeHost>,
    assembly: Arc<FakeAssembly>,
}

impl VmWorld {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&root.path().join("state.db")).unwrap());
        let image: ImageName = "tiny".parse().unwrap();
        store.reserve_image(&image, "tiny", "test", 1).unwrap();
        store
            .publish_image(&store.image(&image).unwrap().unwrap())
            .unwrap();
        let assembly = FakeAssembly {
            root: root.path().to_owned(),
            fails: AtomicBool::new(false),
        };
        Self {
            root,
            ledger: Arc::new(Ledger::open(store.clone(), clock).unwrap()),
            store,
            host: FakeHost::new(),
            assembly: Arc::new(assembly),
        }
    }

    pub(crate) fn break_assembly(&self) {
        self.assembly.fails.store(true, Ordering::SeqCst);
    }

    /// A new VM with its row and directory.
    pub(crate) fn vm(&self, name: &str) -> VmHandle {
        self.vm_in(name, VmState::Created, false)
    }

    /// A VM that goes away with its owner.
    pub(crate) fn owned(&self, name: &str) -> VmHandle {
        self.vm_in(name, VmState::Created, true)
    }

    /// A VM whose row says that it was in a state when the daemon came.
    pub(crate) fn vm_in(&self, name: &str, state: VmState, auto_remove: bool) -> VmHandle {
        let record = VmRecord {
            id: VmId::random(),
            name: name.parse().unwrap(),
            spec: spec(auto_remove),
            state,
            choice: None,
            last_error: None,
            holder: None,
            life: Life::default(),
            created_at: clock(),
            updated_at: clock(),
        };
        self.store.insert_vm(&record).unwrap();
        let snapshots = self.root.path().join("snapshots");
        let snapshots = Snapshots::new(self.store.clone(), snapshots);
        let surroundings = Surroundings {
            store: self.store.clone(),
            ledger: self.ledger.clone(),
            host: self.host.clone(),
            assembly: self.assembly.clone(),
            patience: PATIENCE,
            boots: Boots::new(Arc::new(snapshots), None).0,
            clock,
        };
        let places = self.assembly.places(record.id);
        let page = self.ledger.page(Owner::Vm(record.id));
        vm::make_disk(&places, record.spec.disk, page.journal()).unwrap();
        vm::spawn(record, Arc::new(surroundings), || {})
    }

    /// A VM that runs, and its machine.
    pub(crate) async fn running(&self, name: &str) -> (VmHandle, Arc<FakeMachine>) {
        let vm = self.vm(name);
        vm.start(silent()).await.unwrap();
        let machine = self.host.machine(vm.view().record.id);
        (vm, machine)
    }

    /// A VM whose agent does not answer, being started by the task that is returned.
    pub(crate) async fn booting(
        &self,
        name: &str,
    ) -> (VmHandle, tokio::task::JoinHandle<Result<vm::View, Error>>) {
        self.host
            .script(|script| script.connect = super::Connect::Hangs);
        let vm = self.vm(name);
        let connects = self.host.count(super::Act::Connect);
        let start = tokio::spawn({
            let vm = vm.clone();
            async move { vm.start(silent()).await }
        });
        self.host.asked(super::Act::Connect, connects + 1).await;
        reaches(&vm, VmState::Starting).await;
        (vm, start)
    }

    /// What the store says of a VM; nothing if it is forgotten.
    pub(crate) fn row(&self, vm: &VmHandle) -> Option<VmRecord> {
        let id = vm.view().record.id;
        self.store
            .vms()
            .unwrap()
            .into_iter()
            .find(|row| row.id == id)
    }

    /// The state and the reason, which the store and the view must agree on.
    pub(crate) fn settled(&self, vm: &VmHandle) -> (VmState, Option<String>) {
        let (row, view) = (self.row(vm).expect("the VM has a row"), vm.view().record);
        assert_eq!(row, view, "the store and the view agree");
        (row.state, row.last_error)
    }

    /// Asserts that nothing of a VM is left: row, files, process.
    pub(crate) fn is_gone(&self, vm: &VmHandle) {
        assert_eq!(self.row(vm), None, "no row is left");
        let places = vm.view().places;
        assert!(places.state.starts_with(self.root.path()) && !places.state.exists());
        assert!(!places.runtime.exists(), "no socket is left");
        assert!(self.host.is_idle(), "no VMM is left");
    }
}

fn spec(auto_remove: bool) -> VmSpec {
    VmSpec {
        image: "tiny".parse().unwrap(),
        kernel: "test".parse().unwrap(),
        kernel_reason: "it was asked for".into(),
        vcpus: 1.try_into().unwrap(),
        memory: (128 << 20).try_into().unwrap(),
        disk: (64 << 20).try_into().unwrap(),
        init: Init::Auto,
        network: Network::User,
        vmm: None,
        auto_remove,
        labels: Labels::default(),
        expires_at: None,
        upkeep: Upkeep::default(),
    }
}
