//! A world for whole engines: directories, stores and a fake host that outlive each of them,
//! and a runtime per engine, whose end is as sudden as a killed daemon's.

use std::{fs, path::PathBuf, sync::Arc};

use banger_image::{
    digest::Sha256,
    kernel::{IfTaken, KernelName, KernelStore},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::{FakeHost, PATIENCE, clock, entries, files, silent, sources::image_sources};
use crate::{
    assembly::{AgentBinary, Assembly},
    catalogs::Catalogs,
    debian_settings::DebianSettings,
    engine::{CreateRequest, Defaults, Directories, Engine, Parts},
    images::Images,
    kernels::{KernelSources, Kernels},
    name::ImageName,
    record::VmRecord,
    store::Store,
    vm::VmHandle,
};

pub(crate) struct World {
    root: TempDir,
    pub(crate) host: Arc<FakeHost>,
}

impl World {
    /// With a kernel `test` and an image `tiny`, which no request needs to name.
    pub(crate) fn new() -> Self {
        let world = Self {
            root: tempfile::tempdir().unwrap(),
            host: FakeHost::new(),
        };
        let from = world.root.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("vmlinux"), files::vmlinux()).unwrap();
        world
            .kernels()
            .import(&kernel(), &from, IfTaken::Refuse)
            .unwrap();
        let store = world.store();
        store.reserve_image(&image(), "tiny", "test", 1).unwrap();
        store
            .publish_image(&store.image(&image()).unwrap().unwrap())
            .unwrap();
        world
    }

    /// A life of a daemon: what is still in progress at its end is cut off.
    pub(crate) fn life<T>(&self, story: impl AsyncFnOnce(Engine) -> T) -> T {
        runtime().block_on(async { story(self.engine()).await })
    }

    pub(crate) fn engine(&self) -> Engine {
        let store = Arc::new(self.store());
        let images = Arc::new(self.images(store.clone()));
        let catalogs = catalogs(&store);
        let kernels = Kernels::new(self.kernels(), kernel_sources(catalogs), store.clone());
        let kernels = Arc::new(kernels);
        let root = self.root.path();
        let assembly = Assembly {
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
            store,
            images,
            kernels,
            assembly,
            defaults: defaults(),
            directories,
            patience: PATIENCE,
        };
        Engine::start(parts, self.host.clone(), clock).unwrap()
    }

    pub(crate) fn images(&self, store: Arc<Store>) -> Images {
        let catalogs = catalogs(&store);
        Images::new(
            store,
            self.images_directory(),
            self.host.clone(),
            debian(),
            image_sources(self.root.path()),
            catalogs,
            clock,
        )
    }

    /// The kernels, with other catalogs.
    pub(crate) fn kernels_of(&self, catalogs: Arc<Catalogs>) -> Kernels {
        let events = Arc::new(self.store());
        Kernels::new(self.kernels(), kernel_sources(catalogs), events)
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.root.path().join("state.db")).unwrap()
    }

    pub(crate) fn rows(&self) -> Vec<VmRecord> {
        self.store().vms().unwrap()
    }

    pub(crate) fn vms(&self) -> PathBuf {
        self.root.path().join("vms")
    }

    pub(crate) fn images_directory(&self) -> PathBuf {
        self.root.path().join("images")
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
    }

    fn kernels(&self) -> KernelStore {
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
