//! A world for whole engines: directories, stores and a fake host that outlive each of them,
//! and a runtime per engine, whose end is as sudden as a killed daemon's.

use std::{collections::BTreeSet, fs, io::Cursor, path::PathBuf, sync::Arc};

use banger_image::{
    digest::Sha256,
    kernel::{IfTaken, KernelName, KernelStore},
    rootfs::Source,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::{FakeHost, PATIENCE, clock, entries, files, silent, sources::image_sources, tiny_tar};
use crate::{
    assembly::{AgentBinary, Assembly},
    catalogs::Catalogs,
    debian_settings::DebianSettings,
    engine::{CreateRequest, Defaults, Directories, Engine, Parts},
    images::Images,
    journal::{Ledger, Owner},
    kernels::{KernelSources, Kernels},
    name::ImageName,
    record::VmRecord,
    store::Store,
    vm::VmHandle,
};

pub(crate) struct World {
    root: TempDir,
    pub(crate) host: Arc<FakeHost>,
    /// What saved boots may take; with none, each start boots.
    pub(crate) boots_budget: Option<u64>,
}

impl World {
    /// With a kernel `test` and an image `tiny`, which no request needs to name.
    pub(crate) fn new() -> Self {
        let world = Self {
            root: tempfile::tempdir().unwrap(),
            host: FakeHost::new(),
            boots_budget: None,
        };
        let from = world.root.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("vmlinux"), files::vmlinux()).unwrap();
        world
            .kernel_store()
            .import(&kernel(), &from, IfTaken::Refuse)
            .unwrap();
        world.publish_tiny();
        world
    }

    /// The image that no request needs to name: a row, and no file.
    pub(crate) fn publish_tiny(&self) {
        let store = self.store();
        store.reserve_image(&image(), "tiny", "test", 1).unwrap();
        let row = store.image(&image()).unwrap().unwrap();
        store.publish_image(&row).unwrap();
    }

    /// Makes an image.
    pub(crate) async fn import(&self, engine: &Engine, name: &str) {
        let source = Source::Stream(Box::new(Cursor::new(tiny_tar())));
        let name = name.parse().unwrap();
        let made = engine
            .images()
            .import(&name, source, "test".into(), silent());
        made.await.unwrap();
    }

    /// A life of a daemon: what is still in progress at its end is cut off.
    pub(crate) fn life<T>(&self, story: impl AsyncFnOnce(Engine) -> T) -> T {
        runtime().block_on(async { story(self.engine()).await })
    }

    pub(crate) fn engine(&self) -> Engine {
        let ledger = self.ledger();
        let images = Arc::new(self.images(ledger.clone()));
        let kernels = Arc::new(self.kernels_of(ledger.clone(), catalogs(ledger.store())));
        let root = self.root.path();
        let assembly = Assembly {
            ledger: ledger.clone(),
            kernels: kernels.clone(),
            images: images.clone(),
            agent: AgentBinary {
                bytes: b"agent",
                digest: Sha256::of(b"agent"),
            },
            initramfs_cache: root.join("cache"),
            vms: self.vms(),
            runtime: root.join("run"),
        };
        let directories = Directories {
            state: root.to_owned(),
            cache: root.join("cache"),
            runtime: root.join("run"),
        };
        let parts = Parts {
            ledger,
            images,
            kernels,
            assembly,
            defaults: defaults(),
            directories,
            patience: PATIENCE,
            boots_budget: self.boots_budget,
        };
        Engine::start(parts, self.host.clone(), clock).unwrap()
    }

    /// The journal of a new daemon. It is cut off with the daemon's power.
    pub(crate) fn ledger(&self) -> Arc<Ledger> {
        let store = Arc::new(self.store());
        let power = self.host.power();
        power.feed(&store);
        let ledger = Ledger::open(store, clock).unwrap();
        Arc::new(ledger.watched_by(power.clone()))
    }

    pub(crate) fn images(&self, ledger: Arc<Ledger>) -> Images {
        let catalogs = catalogs(ledger.store());
        Images::new(
            ledger,
            self.images_directory(),
            self.host.clone(),
            debian(),
            image_sources(self.root.path()),
            catalogs,
            clock,
        )
    }

    /// The kernels, with other catalogs.
    pub(crate) fn kernels_of(&self, ledger: Arc<Ledger>, catalogs: Arc<Catalogs>) -> Kernels {
        let sources = kernel_sources(catalogs);
        Kernels::new(self.kernel_store(), sources, ledger, self.host.clone())
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.root.path().join("state.db")).unwrap()
    }

    pub(crate) fn rows(&self) -> Vec<VmRecord> {
        self.store().vms().unwrap()
    }

    /// A path in the world's own directory.
    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.root.path().join(part)
    }

    pub(crate) fn vms(&self) -> PathBuf {
        self.root.path().join("vms")
    }

    pub(crate) fn images_directory(&self) -> PathBuf {
        self.root.path().join("images")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.path().join("snapshots")
    }

    /// All files, but for the store's own.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let (mut files, mut left) = (BTreeSet::new(), vec![self.root.path().to_owned()]);
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path.clone());
                }
                files.insert(path);
            }
        }
        files.retain(|path| !path.to_string_lossy().contains("state.db"));
        files
    }

    /// Asserts that no VM has left anything.
    pub(crate) fn is_empty(&self) {
        assert_eq!(self.rows(), [], "no row is left");
        assert_eq!(
            entries(&self.vms()),
            Vec::<String>::new(),
            "no directory is left"
        );
        assert_eq!(
            entries(&self.root.path().join("run")),
            Vec::<String>::new(),
            "no socket is left"
        );
        assert!(self.host.is_idle(), "no VMM is left");
        let journal = self.store().journal().unwrap();
        let of_vms = journal
            .iter()
            .filter(|row| matches!(row.owner, Owner::Vm(_)));
        assert_eq!(of_vms.count(), 0, "no entry is left: {journal:?}");
    }

    pub(crate) fn kernel_store(&self) -> KernelStore {
        KernelStore::new(self.root.path().join("kernels"))
    }
}

/// A VM of the defaults.
pub(crate) async fn create(engine: &Engine, name: &str, start: bool, rm: bool) -> VmHandle {
    engine
        .create(request(name, start, rm), silent())
        .await
        .unwrap();
    engine.find(name).unwrap()
}

pub(crate) fn request(name: &str, start: bool, auto_remove: bool) -> CreateRequest {
    let name = Some(name.parse().unwrap());
    CreateRequest {
        name,
        start,
        auto_remove,
        ..CreateRequest::default()
    }
}

/// A runtime with a paused clock.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

fn defaults() -> Defaults {
    Defaults {
        image: image(),
        kernel: Some(kernel()),
        vcpus: 1.try_into().unwrap(),
        memory: (128 << 20).try_into().unwrap(),
        disk: (64 << 20).try_into().unwrap(),
    }
}

fn image() -> ImageName {
    "tiny".parse().unwrap()
}

fn kernel() -> KernelName {
    "test".parse().unwrap()
}

pub(crate) fn catalogs(store: &Arc<Store>) -> Arc<Catalogs> {
    Arc::new(Catalogs::new(store.clone(), Vec::new(), clock))
}

/// Nothing but Debian's archive, and catalogs.
pub(crate) fn kernel_sources(catalogs: Arc<Catalogs>) -> KernelSources {
    KernelSources {
        release: None,
        directories: Vec::new(),
        catalogs,
        debian: debian(),
    }
}

/// A mirror that nobody asks: only the fake host would.
fn debian() -> DebianSettings {
    DebianSettings {
        mirror: Some("http://mirror.invalid/debian".parse().unwrap()),
        security_mirror: None,
        suite: "bookworm".parse().unwrap(),
        check_valid_until: true,
    }
}
