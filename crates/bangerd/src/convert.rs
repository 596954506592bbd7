//! Between the wire's types and the domain's, in both directions.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use banger_api::{
    catalog::{AvailableImage, Catalog as WireCatalog, Published as WirePublished},
    doctor,
    error::ApiError,
    event::Event as WireEvent,
    exec as wire_exec,
    image::{
        Image as WireImage, ImageConfig as WireConfig, PullSummary as WireSummary, PulledImage,
    },
    kernel::{AvailableKernel, Kernel as WireKernel, KernelSource as WireSource},
    progress::{rfc3339, rfc3339_millis},
    snapshot::{Forked as WireForked, Snapshot},
    usage::{GuestStats, HostStats, Listener as WireListener, VmPorts, VmStats},
    vm::{
        Agent, Boot, Built, ChangeVm, CreateVm, Vm, VmBrief, VmState as WireState, VmUpkeep,
        WaitFor,
    },
};
use banger_core::{
    catalogs::{Found, Known, Published},
    engine::{CreateRequest, Forked},
    error::Error,
    events::Event,
    exec::{ExecFailure, ExecRequest, ExecStatus, WindowSize},
    host::{Check, Listeners, LogLine, SnapshotPlaces, Verdict, VmmKind},
    image_config::ImageUse,
    images::{ImageOffer, PullSummary},
    kernel::{Arch, DebianPackage, Kernel, KernelName, KernelSource, Origin},
    kernels::Offer,
    manifest::ImageConfig,
    record::{Seconds, VmRecord, VmState},
    snapshot::SnapshotRecord,
    spec::{Init, Network, SpecChange, SpecError, expiry},
    store::ImageRow,
    upkeep::{Life, RestartPolicy, Upkeep, UpkeepError},
    vm::{Timeline, Usage, View},
};

/// Parses a request for a VM: whatever is wrong with it is found here.
pub(crate) fn create_request(request: CreateVm, now: Seconds) -> Result<CreateRequest, Error> {
    let upkeep = Upkeep {
        restart: parsed(request.restart.as_deref())?.unwrap_or_default(),
        autostart: request.autostart,
        idle_stop: parsed(request.idle_stop.as_deref())?.unwrap_or_default(),
    };
    if request.auto_remove && upkeep.restart != RestartPolicy::No {
        return Err(SpecError::from(UpkeepError::AutoRemove).into());
    }
    Ok(CreateRequest {
        upkeep,
        name: request.name.map(|name| name.parse()).transpose()?,
        image: request.image.map(|image| image.parse()).transpose()?,
        kernel: request.kernel.map(|kernel| kernel.parse()).transpose()?,
        vcpus: request.vcpus.map(TryInto::try_into).transpose()?,
        memory: request.memory_bytes.map(TryInto::try_into).transpose()?,
        disk: request.disk_bytes.map(TryInto::try_into).transpose()?,
        init: request.init.map(Init::try_from).transpose()?,
        network: request.network.map(|word| network(&word)).transpose()?,
        vmm: request.vmm.map(|word| vmm_kind(&word)).transpose()?,
        labels: request.labels.try_into().map_err(SpecError::from)?,
        expires_at: expiry(request.ttl_seconds.unwrap_or(0), now)?,
        cold: request.cold,
        snapshot: request.snapshot.map(|name| name.parse()).transpose()?,
        pool: request.pool.map(|name| name.parse()).transpose()?,
        start: request.start,
        auto_remove: request.auto_remove,
    })
}

/// Parses a change of a VM, as [`create_request`] does.
pub(crate) fn spec_change(request: ChangeVm, now: Seconds) -> Result<SpecChange, Error> {
    Ok(SpecChange {
        vcpus: request.vcpus.map(TryInto::try_into).transpose()?,
        memory: request.memory_bytes.map(TryInto::try_into).transpose()?,
        disk: request.disk_bytes.map(TryInto::try_into).transpose()?,
        network: request.network.map(|word| network(&word)).transpose()?,
        set_labels: request.set_labels,
        remove_labels: request.remove_labels,
        expires_at: request
            .ttl_seconds
            .map(|ttl| expiry(ttl, now))
            .transpose()?,
        restart: parsed(request.restart.as_deref())?,
        autostart: request.autostart,
        idle_stop: parsed(request.idle_stop.as_deref())?,
    })
}

fn parsed<T: FromStr<Err = UpkeepError>>(text: Option<&str>) -> Result<Option<T>, SpecError> {
    Ok(text.map(str::parse).transpose()?)
}

fn upkeep(upkeep: Upkeep, life: Life) -> VmUpkeep {
    VmUpkeep {
        restart: upkeep.restart.to_string(),
        autostart: upkeep.autostart,
        idle_stop: upkeep.idle_stop.to_string(),
        restarts: life.restarts,
        restart_at: life.restart_at.map(rfc3339),
    }
}

fn network(word: &str) -> Result<Network, SpecError> {
    let all = [Network::User, Network::None];
    let found = all.into_iter().find(|network| network.as_str() == word);
    found.ok_or_else(|| SpecError::Network(bounded(word)))
}

pub(crate) fn vmm_kind(word: &str) -> Result<VmmKind, SpecError> {
    let all = [VmmKind::Qemu, VmmKind::Firecracker];
    let found = all.into_iter().find(|vmm| vmm.as_str() == word);
    found.ok_or_else(|| SpecError::Vmm(bounded(word)))
}

fn bounded(word: &str) -> String {
    word.chars().take(40).collect()
}

/// A boot as clients see it.
pub(crate) fn boot(timeline: &Timeline) -> Boot {
    let since_1970 = timeline
        .requested_at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let ms = |stage: Option<Duration>| {
        stage.map(|stage| u64::try_from(stage.as_millis()).unwrap_or(u64::MAX))
    };
    Boot {
        requested_at: rfc3339(since_1970.as_secs()),
        vmm_started_ms: ms(timeline.vmm_started),
        kernel_entered_ms: ms(timeline.kernel_entered),
        init_entered_ms: ms(timeline.init_entered),
        modules_loaded_ms: ms(timeline.modules_loaded),
        root_mounted_ms: ms(timeline.root_mounted),
        agent_ready_ms: ms(timeline.agent_ready),
        connected_ms: ms(timeline.connected),
        command_started_ms: ms(timeline.command_started),
    }
}

/// A VM as clients see it.
pub(crate) fn vm(view: View) -> Vm {
    let View {
        record,
        places,
        process,
        guest: _,
        agent,
        timeline,
        looked_for: _,
    } = view;
    let spec = record.spec;
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let (vmm, accelerator, vmm_reason) = match record.choice {
        None => (None, None, None),
        Some(choice) => {
            let accelerator = choice.accelerator.as_str().to_owned();
            (
                Some(choice.vmm.as_str().to_owned()),
                Some(accelerator),
                Some(choice.reason),
            )
        }
    };
    let built = process.as_ref().and_then(|process| process.built);
    let now = built
        .filter(|built| built.holds(&spec) != spec)
        .map(|built| Built {
            vcpus: built.vcpus.get(),
            memory_bytes: built.memory.bytes(),
            network: built.network.as_str().to_owned(),
        });
    Vm {
        id: record.id.to_string(),
        name: record.name.to_string(),
        state: state(record.state),
        image: spec.image.to_string(),
        kernel: spec.kernel.to_string(),
        kernel_reason: spec.kernel_reason,
        vcpus: spec.vcpus.get(),
        memory_bytes: spec.memory.bytes(),
        disk_bytes: spec.disk.bytes(),
        init: spec.init.into(),
        network: spec.network.as_str().to_owned(),
        vmm,
        accelerator,
        vmm_reason,
        confinement: process
            .as_ref()
            .map(|process| process.confinement.as_str().to_owned()),
        kernel_command_line: process.as_ref().map(|process| process.command_line.clone()),
        now,
        pid: process.as_ref().map(|process| process.pid),
        disk_path: path(places.disk()),
        console_path: path(places.console()),
        vmm_log_path: path(places.vmm_log()),
        agent: agent.map(|agent| Agent {
            version: agent.version.clone(),
            generation: agent.generation,
            boot_id: agent.boot_id.clone(),
            init: agent.init.clone(),
        }),
        last_error: record.last_error,
        auto_remove: spec.auto_remove,
        upkeep: upkeep(spec.upkeep, record.life),
        labels: spec.labels.into(),
        expires_at: spec.expires_at.map(rfc3339),
        boot: timeline.as_deref().map(boot),
        created_at: rfc3339(record.created_at),
        updated_at: rfc3339(record.updated_at),
    }
}

/// A VM as lists show it.
pub(crate) fn brief(view: &View) -> VmBrief {
    let record = &view.record;
    let choice = record.choice.as_ref();
    VmBrief {
        id: record.id.to_string(),
        name: record.name.to_string(),
        state: state(record.state),
        image: record.spec.image.to_string(),
        vcpus: record.spec.vcpus.get(),
        memory_bytes: record.spec.memory.bytes(),
        disk_bytes: record.spec.disk.bytes(),
        vmm: choice.map(|choice| choice.vmm.as_str().to_owned()),
        accelerator: choice.map(|choice| choice.accelerator.as_str().to_owned()),
        labels: record.spec.labels.clone().into(),
        created_at: rfc3339(record.created_at),
    }
}

/// A snapshot as clients see it.
pub(crate) fn snapshot(files: &SnapshotPlaces, record: SnapshotRecord) -> Snapshot {
    let (machine, binding) = (record.machine, record.binding);
    Snapshot {
        name: record.name.to_string(),
        vm: record.origin.to_string(),
        vm_id: record.origin_id.to_string(),
        image: machine.image.to_string(),
        image_digest: record.image_digest,
        kernel: machine.kernel.to_string(),
        vcpus: machine.vcpus.get(),
        guest_memory_bytes: machine.memory.bytes(),
        guest_disk_bytes: machine.disk.bytes(),
        init: machine.init.into(),
        network: machine.network.as_str().to_owned(),
        vmm: binding.vmm.as_str().to_owned(),
        vmm_version: binding.version,
        accelerator: binding.accelerator.as_str().to_owned(),
        processor: binding.processor,
        agent_generation: record.agent_generation,
        agent_version: record.agent_version,
        memory_bytes: record.memory_bytes,
        disk_bytes: record.disk_bytes,
        paused_ms: whole_ms(record.paused_for),
        path: files.directory.to_string_lossy().into_owned(),
        created_at: rfc3339(record.created_at),
    }
}

/// The copies of a VM as clients see them.
pub(crate) fn forked(forked: Forked) -> WireForked {
    WireForked {
        vms: forked.views.into_iter().map(vm).collect(),
        paused_ms: whole_ms(forked.paused_for),
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn state(state: VmState) -> WireState {
    match state {
        VmState::Created => WireState::Created,
        VmState::Starting => WireState::Starting,
        VmState::Running => WireState::Running,
        VmState::Paused => WireState::Paused,
        VmState::Stopping => WireState::Stopping,
        VmState::Deleting => WireState::Deleting,
        VmState::Stopped => WireState::Stopped,
        VmState::Error => WireState::Error,
    }
}

/// The states that end a client's waiting: the one that it wants, and those from which it would not
/// come by itself.
pub(crate) fn wanted(wanted: WaitFor) -> impl Fn(&VmRecord) -> bool {
    move |record| match record.state {
        VmState::Created | VmState::Stopped => wanted == WaitFor::Stopped,
        VmState::Running => wanted == WaitFor::Running,
        // One that is started again by itself may still run.
        VmState::Error if wanted == WaitFor::Running => record.life.restart_at.is_none(),
        VmState::Error => wanted != WaitFor::Deleted,
        VmState::Starting | VmState::Paused | VmState::Stopping | VmState::Deleting => false,
    }
}

/// What a VM uses, as clients see it, at a moment of a clock that never jumps.
pub(crate) fn stats(usage: Usage, clock: Duration) -> VmStats {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let Usage {
        record,
        host,
        guest,
        disk_used,
    } = usage;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    VmStats {
        id: record.id.to_string(),
        name: record.name.to_string(),
        state: state(record.state),
        vcpus: record.spec.vcpus.get(),
        time: rfc3339_millis(ms(since_1970.unwrap_or_default())),
        clock_ms: ms(clock),
        disk_used_bytes: disk_used,
        disk_bytes: record.spec.disk.bytes(),
        host: host.map(|host| HostStats {
            cpu_ms: ms(host.cpu),
            memory_bytes: host.memory,
            memory_limit_bytes: host.memory_limit,
            threads: host.threads,
            read_bytes: host.read,
            written_bytes: host.written,
        }),
        guest: guest.map(|guest| GuestStats {
            uptime_ms: ms(guest.uptime),
            load: guest.load,
            memory_total_bytes: guest.memory_total,
            memory_available_bytes: guest.memory_available,
            init_state: guest.init_state,
        }),
    }
}

/// What listens in a VM, as clients see it.
pub(crate) fn ports(record: &VmRecord, told: Listeners) -> VmPorts {
    let listeners = told.listeners.into_iter().map(|listener| WireListener {
        protocol: listener.protocol.as_str().to_owned(),
        address: listener.address,
        port: listener.port,
        pid: listener.pid,
        process: listener.process,
    });
    VmPorts {
        id: record.id.to_string(),
        name: record.name.to_string(),
        listeners: listeners.collect(),
        more: told.more,
    }
}

/// An agent's log as text, or the end of it.
pub(crate) fn agent_log(lines: &[LogLine], tail: Option<u32>) -> String {
    let most = tail.map_or(usize::MAX, |tail| tail as usize);
    let lines = &lines[lines.len().saturating_sub(most)..];
    let line = |line: &LogLine| format!("{:10.3} {}\n", line.uptime.as_secs_f64(), line.text);
    lines.iter().map(line).collect()
}

/// An event as clients see it.
pub(crate) fn event(event: Event) -> WireEvent {
    WireEvent {
        seq: event.seq,
        time: rfc3339_millis(event.at_ms),
        subject: event.subject.as_str().to_owned(),
        id: event.vm.map(|id| id.to_string()),
        name: event.name,
        what: event.what.as_str().to_owned(),
        detail: event.detail,
    }
}

/// An image as clients see it.
pub(crate) fn image(row: ImageRow, rootfs: &std::path::Path, vms: Vec<String>) -> WireImage {
    WireImage {
        name: row.name.to_string(),
        rootfs_path: rootfs.to_string_lossy().into_owned(),
        size_bytes: row.size_bytes,
        content_bytes: row.content_bytes,
        entries: row.entries,
        digest: row.digest,
        source: row.source,
        os: row.os,
        has_systemd: row.has_systemd,
        has_shell: row.has_shell,
        created_at: rfc3339(row.created_at),
        vms,
        managed: row.rootfs.is_none(),
        reference: row.reference,
        platform: row.platform,
        kernel: row.kernel.map(|kernel| kernel.to_string()),
        config: image_config(row.config),
    }
}

fn image_config(config: ImageConfig) -> WireConfig {
    WireConfig {
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        user: config.user,
        workdir: config.workdir,
        exposed_ports: config.exposed_ports,
        labels: config.labels,
    }
}

/// A pull as clients see it.
pub(crate) fn pulled(image: WireImage, summary: PullSummary) -> PulledImage {
    PulledImage {
        image,
        pull: WireSummary {
            was_here: summary.was_here,
            layers: summary.layers,
            reused_layers: summary.reused_layers,
            layer_bytes: summary.layer_bytes,
            fetched_bytes: summary.fetched_bytes,
        },
    }
}

/// A kernel as clients see it.
pub(crate) fn kernel(kernel: Kernel) -> WireKernel {
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let manifest = kernel.manifest;
    WireKernel {
        name: manifest.name.to_string(),
        version: manifest.version,
        arch: arch(manifest.arch),
        source: match manifest.source {
            Origin::Debian {
                url,
                package,
                package_version,
                sha256,
            } => {
                let digest = sha256.to_string();
                WireSource::Debian {
                    package,
                    package_version,
                    url,
                    digest,
                }
            }
            Origin::Bundle {
                catalog,
                file,
                sha256,
            } => WireSource::Bundle {
                catalog,
                file,
                digest: sha256.to_string(),
            },
            Origin::Import { directory } => WireSource::Directory {
                path: path(directory),
            },
        },
        vmlinux_digest: manifest.sha256.to_string(),
        vmlinux_path: path(kernel.vmlinux),
        modules_path: kernel.modules.map(path),
        cmdline: manifest.cmdline.to_string(),
        size_bytes: manifest.size_bytes,
        imported_at: manifest.imported_at,
    }
}

pub(crate) fn available_kernel(offer: &Offer, present: &[KernelName]) -> AvailableKernel {
    let entry = &offer.entry;
    let source = match (&entry.source, &offer.place) {
        (KernelSource::Debian(DebianPackage { package, suite, .. }), _) => {
            format!("Debian {suite}, {package}")
        }
        (KernelSource::Bundle(_), Some(place)) => place.to_string(),
        (KernelSource::Bundle(_), None) | (KernelSource::Built, _) => "make kernel".to_owned(),
    };
    AvailableKernel {
        name: entry.name.to_string(),
        arch: entry.arch.to_string(),
        catalog: offer.catalog.as_ref().map(ToString::to_string),
        description: entry.description.clone(),
        source,
        present: present.contains(&entry.name),
    }
}

fn arch(arch: Arch) -> String {
    match arch {
        Arch::X86_64 => "x86_64".to_owned(),
    }
}

pub(crate) fn available_image(offer: ImageOffer, rows: &[ImageRow]) -> AvailableImage {
    match offer {
        ImageOffer::Own(image) => AvailableImage {
            name: image.name.to_owned(),
            description: image.description.to_owned(),
            catalog: None,
            source: image.sources_for_people(),
            bytes: None,
            image_bytes: None,
            present: rows.iter().any(|row| row.name.as_str() == image.name),
        },
        ImageOffer::Entry(found) => {
            let Found {
                catalog,
                place,
                entry,
            } = *found;
            let pulled_by = Some(format!("{catalog}/{}", entry.name));
            AvailableImage {
                present: rows.iter().any(|row| row.reference == pulled_by),
                name: entry.name.to_string(),
                description: entry.description,
                catalog: Some(catalog.to_string()),
                source: place.to_string(),
                bytes: Some(entry.bundle.bytes),
                image_bytes: Some(entry.image_bytes),
            }
        }
    }
}

/// A catalog as clients see it.
pub(crate) fn catalog(known: Known, problem: Option<ApiError>) -> WireCatalog {
    let Known { row, catalog } = known;
    WireCatalog {
        name: row.name.to_string(),
        url: row.place.to_string(),
        key: row.key.to_string(),
        serial: row.serial,
        expires: catalog.expires.map(|expiry| expiry.to_string()),
        images: catalog.images().count() as u64,
        kernels: catalog.kernels().count() as u64,
        added_at: rfc3339(row.added_at),
        seen_at: rfc3339(row.seen_at),
        problem,
    }
}

/// What was published, as clients see it.
pub(crate) fn published(published: &Published) -> WirePublished {
    WirePublished {
        file: published.bundle.file.to_string(),
        digest: published.bundle.sha256.to_string(),
        bytes: published.bundle.bytes,
        serial: published.serial,
        key: published.key.to_string(),
    }
}

pub(crate) fn check(check: Check) -> doctor::Check {
    doctor::Check {
        name: check.name.to_owned(),
        verdict: match check.verdict {
            Verdict::Pass => doctor::Verdict::Pass,
            Verdict::Warn => doctor::Verdict::Warn,
            Verdict::Fail => doctor::Verdict::Fail,
        },
        detail: check.detail,
        hint: check.hint,
    }
}

pub(crate) fn exec_request(start: wire_exec::ExecStart) -> ExecRequest {
    ExecRequest {
        argv: start.argv,
        env: start.env,
        cwd: start.cwd,
        user: start.user,
        tty: start.tty.map(window),
    }
}

pub(crate) fn image_use(usage: wire_exec::ImageUse) -> ImageUse {
    match usage {
        wire_exec::ImageUse::Surroundings => ImageUse::Surroundings,
        wire_exec::ImageUse::Command { entrypoint } => ImageUse::Command { entrypoint },
    }
}

pub(crate) fn window(window: wire_exec::Window) -> WindowSize {
    WindowSize {
        cols: window.cols,
        rows: window.rows,
    }
}

pub(crate) fn exec_end(status: ExecStatus) -> wire_exec::ExecEvent {
    match status {
        ExecStatus::Code(code) => wire_exec::ExecEvent::Exited { code },
        ExecStatus::Signal(signal) => wire_exec::ExecEvent::Signaled { signal },
    }
}

pub(crate) fn not_started(kind: ExecFailure, message: String) -> wire_exec::ExecEvent {
    let reason = match kind {
        ExecFailure::NotFound => wire_exec::NotStarted::NotFound,
        ExecFailure::NotExecutable => wire_exec::NotStarted::NotExecutable,
        ExecFailure::NoSuchUser => wire_exec::NotStarted::NoSuchUser,
        ExecFailure::NoSuchDirectory => wire_exec::NotStarted::NoSuchDirectory,
        ExecFailure::NoShell => wire_exec::NotStarted::NoShell,
        ExecFailure::Other => wire_exec::NotStarted::Other,
    };
    wire_exec::ExecEvent::NotStarted { reason, message }
}
