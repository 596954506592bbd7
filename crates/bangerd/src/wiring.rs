//! Puts the engine together out of places, configuration and the embedded agent.

use std::{
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use banger_api::{build::BuildInfo, places::Places};
use banger_core::{
    assembly::{AgentBinary, Assembly},
    auth::{self, Keychain},
    cache::ImageCache,
    catalogs::Catalogs,
    credentials::HostHelpers,
    debian::{Mirror, Suite},
    debian_settings::DebianSettings,
    digest::Sha256,
    engine::{Defaults, Directories, Engine, Parts},
    events::{Subject, What},
    fetch,
    host::Host,
    images::{ImageSources, Images},
    journal::Ledger,
    kernel::{KernelStore, Shelf},
    kernels::{KernelSources, Kernels},
    recovery,
    registry::{Registries, Settings},
    rootfs::Limits,
    spec::{DiskSize, Memory, Vcpus},
    store::Store,
    vm::Patience,
};
use banger_host::{FirecrackerSettings, HostConfig, LinuxHost, RateLimit};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::now,
    config::{Config, Debian, ImageLimits, Size},
    convert, fail_point,
    lifecycle::Fatal,
    notify::Service,
    reload::Held,
};

/// The agent, built for the guest by this crate's build script.
static AGENT: &[u8] = include_bytes!(env!("BANGER_AGENT_FILE"));

/// Of the agent, as the build script found it.
const AGENT_SHA256: &str = env!("BANGER_AGENT_SHA256");

const DEFAULT_IMAGE: &str = "debian-bookworm";
/// Where a release keeps kernels, beside the directory of its programs.
const RELEASE_KERNELS: &str = "../share/banger/kernels";
const DEFAULT_SUITE: &str = "bookworm";
const DEFAULT_VCPUS: u32 = 2;
const DEFAULT_MEMORY: u64 = 2 << 30;
const DEFAULT_DISK: u64 = 8 << 30;
/// Enough for whoever cleans up, and little on any disk of today.
const DEFAULT_RESERVE: u64 = 512 << 20;
/// Layers of images that are gone; those of images that are here cost next to nothing.
const DEFAULT_CACHE: u64 = 10 << 30;
const DEFAULT_BOOTS: u64 = 2 << 30;

/// A time without use of nothing is none.
fn boots_budget(config: &Config) -> Option<u64> {
    let budget = config
        .fast_start_budget
        .map_or(DEFAULT_BOOTS, |size| size.0);
    config.fast_start.unwrap_or(true).then_some(budget)
}

fn patience(config: &Config) -> Patience {
    let idle = config.auto_stop_stale_after.map(|span| span.0);
    Patience {
        boot: Duration::from_secs(90),
        stop: Duration::from_secs(30),
        owner: Duration::from_secs(30),
        idle: idle.filter(|idle| !idle.is_zero()),
    }
}

/// What every request needs.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) catalogs: Arc<Catalogs>,
    pub(crate) places: Places,
    /// The damaged store that was put aside.
    pub(crate) kept_store: Option<PathBuf>,
    pub(crate) started: Instant,
    /// Cancelled when the daemon ends.
    pub(crate) ending: CancellationToken,
    pub(crate) host: Arc<LinuxHost>,
    pub(crate) held: Held,
    /// Whose service this is.
    pub(crate) service: Option<Service>,
}

/// Takes up what of a configuration can change while the daemon serves.
pub(crate) fn take_up(app: &App, config: &Config) -> Result<(), Fatal> {
    app.engine.set_defaults(defaults(config)?);
    app.engine
        .images()
        .set_cache_budget(Some(cache_budget(config)));
    app.host.set_disk_reserve(disk_reserve(config));
    app.engine.set_boots_budget(boots_budget(config))?;
    Ok(())
}

fn cache_budget(config: &Config) -> u64 {
    config.cache_budget.map_or(DEFAULT_CACHE, |size| size.0)
}

fn disk_reserve(config: &Config) -> u64 {
    config.disk_reserve.map_or(DEFAULT_RESERVE, |size| size.0)
}

/// Wires everything and takes up the VMs that are there.
pub(crate) fn app(
    places: &Places,
    config: &Config,
    held: Held,
    service: Option<Service>,
    ending: CancellationToken,
) -> Result<App, Fatal> {
    let (store, kept_store) = open_store(places)?;
    let ledger = Ledger::open(store.clone(), now)?;
    let ledger = Arc::new(match fail_point::from_environment() {
        Some(watch) => ledger.watched_by(watch),
        None => ledger,
    });
    let debian = debian(&config.debian)?;
    let linux = Arc::new(LinuxHost::new(HostConfig {
        qemu: config.qemu_bin.clone(),
        vmm: config.vmm.as_deref().map(convert::vmm_kind).transpose()?,
        firecracker: firecracker(config)?,
        cache: places.cache.clone(),
        mmdebstrap: None,
        scratch: places.state.join("scratch"),
        disk_reserve: disk_reserve(config),
    }));
    let host: Arc<dyn Host> = linux.clone();
    let catalogs = Arc::new(Catalogs::new(
        store.clone(),
        config.registries.extra_ca.clone(),
        now,
    ));
    let images = Arc::new(Images::new(
        ledger.clone(),
        places.state.join("images"),
        host.clone(),
        debian.clone(),
        image_sources(places, config, host.clone())?,
        catalogs.clone(),
        now,
    ));
    let sources = KernelSources {
        release: release_kernels(),
        directories: config
            .kernel_catalogs
            .iter()
            .map(|path| Shelf::new(path.as_ref()))
            .collect(),
        catalogs: catalogs.clone(),
        debian,
    };
    let kernels = Arc::new(Kernels::new(
        KernelStore::new(places.state.join("kernels")),
        sources,
        ledger.clone(),
        host.clone(),
    ));
    let assembly = Assembly {
        ledger: ledger.clone(),
        kernels: kernels.clone(),
        images: images.clone(),
        agent: AgentBinary {
            bytes: AGENT,
            digest: agent_digest(),
        },
        initramfs_cache: places.cache.join("initramfs"),
        vms: places.state.join("vms"),
        runtime: vms_runtime(places),
    };
    let parts = Parts {
        ledger,
        images,
        kernels,
        assembly,
        defaults: defaults(config)?,
        directories: directories(places),
        patience: patience(config),
        boots_budget: boots_budget(config),
    };
    let events = parts.ledger.store().clone();
    let engine = Engine::start(parts, host, now)?;
    let build = BuildInfo::current();
    let version = format!("banger {} ({})", build.version, build.commit);
    events.note(Subject::Daemon, "bangerd", What::Started, Some(&version))?;
    Ok(App {
        engine,
        kept_store,
        catalogs,
        places: places.clone(),
        started: Instant::now(),
        ending,
        host: linux,
        held,
        service,
    })
}

/// The store, and the damaged one that it replaces. What an empty store does not know is made again
/// from its files, before anything is swept.
fn open_store(places: &Places) -> Result<(Arc<Store>, Option<PathBuf>), Fatal> {
    let path = places.state.join("state.db");
    let is_new = !path.exists();
    let (store, kept) = Store::open_or_replace(&path, now())?;
    if is_new || kept.is_some() {
        recovery::recover(&store, &directories(places).remains(), false)?;
    }
    Ok((Arc::new(store), kept))
}

fn directories(places: &Places) -> Directories {
    Directories {
        state: places.state.clone(),
        cache: places.cache.clone(),
        runtime: places.runtime.clone(),
    }
}

fn agent_digest() -> Sha256 {
    AGENT_SHA256
        .parse()
        .expect("the build script writes a digest")
}

/// The kernels of the release that this program belongs to, where it is part of one.
fn release_kernels() -> Option<Shelf> {
    let program = std::env::current_exe().ok()?;
    let directory = program.parent()?.join(RELEASE_KERNELS);
    directory.canonicalize().ok().map(Shelf::new)
}

fn image_sources(
    places: &Places,
    config: &Config,
    host: Arc<dyn Host>,
) -> Result<ImageSources, Fatal> {
    let insecure = config.registries.insecure.iter().map(|host| host.parse());
    let mirrors = config.registries.mirrors.iter();
    let mirrors = mirrors.map(|(host, mirror)| Ok::<_, Fatal>((host.parse()?, mirror.parse()?)));
    let settings = Settings {
        patience: fetch::Patience::default(),
        extra_cas: config.registries.extra_ca.clone(),
        insecure: insecure.collect::<Result<_, _>>()?,
        mirrors: mirrors.collect::<Result<_, _>>()?,
    };
    let auth_file = places.config.join("auth.json");
    let mut files = vec![auth_file.clone()];
    files.extend(auth::usual_files(|name| std::env::var_os(name)));
    let keychain = Keychain::new(files, Arc::new(HostHelpers(host)));
    Ok(ImageSources {
        registries: Registries::new(settings, keychain),
        cache: ImageCache::new(&places.state.join("image-cache")),
        cache_budget: Some(cache_budget(config)),
        limits: limits(&config.limits),
        scratch: places.state.join("scratch"),
        auth_file,
    })
}

fn limits(config: &ImageLimits) -> Limits {
    let usual = Limits::default();
    let bytes = |size: Option<Size>, usual| size.map_or(usual, |size| size.0);
    Limits {
        entries: config.entries.unwrap_or(usual.entries),
        archive_bytes: bytes(config.layer_size, usual.archive_bytes),
        content_bytes: bytes(config.content_size, usual.content_bytes),
        file_bytes: bytes(config.file_size, usual.file_bytes),
        extension_bytes: bytes(config.header_size, usual.extension_bytes),
        sparse_pieces: config.sparse_pieces.unwrap_or(usual.sparse_pieces),
        ratio: config.ratio.unwrap_or(usual.ratio),
        ratio_free: bytes(config.ratio_free, usual.ratio_free),
        path_bytes: usual.path_bytes,
    }
}

fn vms_runtime(places: &Places) -> PathBuf {
    places.runtime.join("vm")
}

fn debian(config: &Debian) -> Result<DebianSettings, Fatal> {
    let mirror =
        |text: &Option<String>| text.as_ref().map(|text| text.parse::<Mirror>()).transpose();
    let suite: Suite = config.suite.as_deref().unwrap_or(DEFAULT_SUITE).parse()?;
    Ok(DebianSettings {
        mirror: mirror(&config.mirror)?,
        security_mirror: mirror(&config.security_mirror)?,
        suite,
        check_valid_until: config.check_valid_until.unwrap_or(true),
    })
}

fn firecracker(config: &Config) -> Result<FirecrackerSettings, Fatal> {
    let own = &config.firecracker;
    Ok(FirecrackerSettings {
        program: config.firecracker_bin.clone(),
        jailer: config.jailer_bin.clone(),
        allow_emulated_kvm: config.allow_emulated_kvm,
        disk_cache: parsed(own.disk_cache.as_deref())?.unwrap_or_default(),
        disk_engine: parsed(own.disk_engine.as_deref())?.unwrap_or_default(),
        disk_limit: RateLimit::new(own.disk_bandwidth.map(|size| size.0), own.disk_operations)?,
        network_limit: RateLimit::new(own.network_bandwidth.map(|size| size.0), None)?,
        cpu_template: parsed(own.cpu_template.as_deref())?,
        mmds: own.mmds,
        metrics: own.metrics,
    })
}

fn parsed<T: FromStr>(text: Option<&str>) -> Result<Option<T>, T::Err> {
    text.map(str::parse).transpose()
}

fn defaults(config: &Config) -> Result<Defaults, Fatal> {
    let sizes = &config.vm_defaults;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let vcpus = sizes
        .vcpus
        .unwrap_or(DEFAULT_VCPUS.min(u32::try_from(cpus).unwrap_or(1)));
    Ok(Defaults {
        image: config
            .default_image
            .as_deref()
            .unwrap_or(DEFAULT_IMAGE)
            .parse()?,
        kernel: config
            .default_kernel
            .as_deref()
            .map(str::parse)
            .transpose()?,
        vcpus: Vcpus::try_from(vcpus)?,
        memory: Memory::from_bytes(sizes.memory.map_or(DEFAULT_MEMORY, |size| size.0))?,
        disk: DiskSize::try_from(sizes.disk_size.map_or(DEFAULT_DISK, |size| size.0))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_digest_is_the_one_of_its_bytes() {
        assert_eq!(agent_digest(), Sha256::of(AGENT));
    }
}
