//! A machine's state on its way out of QEMU and into it again. Knows QEMU's orders for that; the
//! stream itself is `stream`'s business.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use banger_core::{
    host::{SnapshotPlaces, VmPlaces},
    host_error::HostError,
};
use serde_json::{Value, json};
use tokio::{net::UnixListener, time::timeout};

use super::{ahead, args::MEMORY, pages::Pages, qmp::Qmp, stream};
use crate::{control::Pace, places, task::blocking};

/// More than any link has: a machine that stands still is to do so for as short as can be.
const BANDWIDTH: u64 = 1 << 40;
/// What QEMU gets to open a socket that listens already.
const CONNECT: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(8);
/// Reads as large as a socket gives them.
const BUFFER: usize = 1 << 20;

/// Begins the memory's file while the guest runs.
pub(super) async fn prepare(
    places: &VmPlaces,
    pid: u32,
    into: &SnapshotPlaces,
) -> Result<Pages, HostError> {
    let mut qmp = Qmp::connect(&places::qmp_socket(places)).await?;
    let length = memory_size(&mut qmp).await?;
    let path = into.memory();
    blocking(move || {
        let mut pages = create_memory(&path, length)?;
        if let Err(error) = ahead::write(pid, &mut pages) {
            tracing::debug!(%error, pid, "cannot write all of a machine's memory ahead");
        }
        Ok(pages)
    })
    .await
}

/// Has QEMU write its machine down, and sorts what it writes. The memory's file may have been begun.
pub(super) async fn save(
    places: &VmPlaces,
    into: &SnapshotPlaces,
    begun: Option<Pages>,
) -> Result<u64, HostError> {
    let socket = places::save_socket(places);
    let outcome = stream_out(places, &socket, into, begun).await;
    places::remove(&socket)?;
    outcome
}

async fn stream_out(
    places: &VmPlaces,
    socket: &Path,
    into: &SnapshotPlaces,
    begun: Option<Pages>,
) -> Result<u64, HostError> {
    places::remove(socket)?;
    let listener = UnixListener::bind(socket);
    let listener = listener.map_err(|source| places::file_error("listen on", socket, source))?;
    let mut qmp = Qmp::connect(&places::qmp_socket(places)).await?;
    let pages = match begun {
        Some(pages) => pages,
        None => create_memory(&into.memory(), memory_size(&mut qmp).await?)?,
    };
    let limit = json!({ "max-bandwidth": BANDWIDTH });
    qmp.execute_with("migrate-set-parameters", limit).await?;
    let uri = format!("unix:{}", socket.display());
    qmp.execute_with("migrate", json!({ "uri": uri })).await?;
    let Ok(accepted) = timeout(CONNECT, listener.accept()).await else {
        return Err(migration_failed(&mut qmp).await);
    };
    let stream = accepted.and_then(|(stream, _)| {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    });
    let stream = stream.map_err(|source| places::file_error("accept on", socket, source))?;
    let files = into.clone();
    let taken = blocking(move || sort(stream, &files, pages)).await?;
    finish(&mut qmp).await?;
    Ok(taken)
}

async fn memory_size(qmp: &mut Qmp) -> Result<u64, HostError> {
    let summary = qmp.execute("query-memory-size-summary").await?;
    summary["base-memory"]
        .as_u64()
        .ok_or_else(|| unclear("query-memory-size-summary"))
}

fn create_memory(path: &Path, length: u64) -> Result<Pages, HostError> {
    Pages::create(path, length).map_err(|source| places::file_error("create", path, source))
}

fn sort(
    stream: std::os::unix::net::UnixStream,
    into: &SnapshotPlaces,
    mut pages: Pages,
) -> Result<u64, HostError> {
    let (memory, devices) = (into.memory(), into.devices());
    let rest = create(&devices).map_err(|source| places::file_error("create", &devices, source))?;
    let stream = BufReader::with_capacity(BUFFER, stream);
    stream::split(stream, MEMORY, &mut pages, BufWriter::new(rest)).map_err(|error| {
        let full = matches!(
            &error,
            stream::StreamError::Memory(source) | stream::StreamError::Devices(source)
                if source.kind() == std::io::ErrorKind::StorageFull
        );
        let kind = if full {
            std::io::ErrorKind::StorageFull
        } else {
            std::io::ErrorKind::Other
        };
        let source = std::io::Error::new(kind, error);
        places::file_error("save a machine to", &into.directory, source)
    })?;
    let taken = pages.taken();
    taken.map_err(|source| places::file_error("measure", &memory, source))
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Waits until QEMU is content with its work, too.
async fn finish(qmp: &mut Qmp) -> Result<(), HostError> {
    let mut pace = Pace::up_to(LONGEST_PAUSE);
    loop {
        let status = qmp.execute("query-migrate").await?;
        match status["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => return Err(refused(&status)),
            Some(_) | None => pace.wait().await,
        }
    }
}

async fn migration_failed(qmp: &mut Qmp) -> HostError {
    match qmp.execute("query-migrate").await {
        Ok(status) => refused(&status),
        Err(error) => error,
    }
}

fn refused(status: &Value) -> HostError {
    let why = status["error-desc"].as_str();
    HostError::VmmRefused {
        command: "to save the machine".into(),
        message: crate::logs::printable(why.unwrap_or("it does not say why")),
    }
}

fn unclear(command: &str) -> HostError {
    HostError::VmmRefused {
        command: command.into(),
        message: "its answer is not understood".into(),
    }
}

/// Lets a machine go on once QEMU has read its state.
pub(crate) async fn go_on(places: &VmPlaces) -> Result<(), HostError> {
    let stream = crate::arrivals::connect_when_there(&places::qmp_socket(places)).await;
    let mut qmp = Qmp::over(stream).await?;
    let mut pace = Pace::up_to(LONGEST_PAUSE);
    loop {
        let status = qmp.execute("query-status").await?;
        match status["status"].as_str() {
            Some("inmigrate" | "prelaunch") => pace.wait().await,
            Some(_) => return qmp.execute("cont").await.map(drop),
            None => return Err(unclear("query-status")),
        }
    }
}
