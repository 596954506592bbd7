//! The daemon's log: its own file, or the journal of the service manager that keeps it. How much it says may
//! change while it serves.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tracing_subscriber::EnvFilter;

use crate::lifecycle::Fatal;

/// Wins over the configuration.
const VARIABLE: &str = "BANGER_LOG_LEVEL";

/// One old log is kept; a daemon that lives for months starts a new one when it restarts.
const ROTATE_ABOVE: u64 = 8 << 20;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the log {path}", path = .path.display())]
pub(crate) struct LogError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

type SetFilter = dyn Fn(EnvFilter) -> Result<(), Fatal> + Send + Sync;

/// Changes how much is logged, where no variable has fixed that.
pub(crate) struct LogLevel(Option<Box<SetFilter>>);

impl LogLevel {
    pub(crate) fn set(&self, level: &str) -> Result<(), Fatal> {
        match &self.0 {
            Some(set) => set(EnvFilter::try_new(level)?),
            None => Ok(()),
        }
    }
}

/// Logs into a file of our own.
pub(crate) fn start(path: &Path, level: &str) -> Result<LogLevel, Fatal> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > ROTATE_ABOVE) {
        let rotated = fs::rename(path, path.with_extension("log.1"));
        rotated.map_err(failed("rotate", path))?;
    }
    let (fixed, filter) = filter(level)?;
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(open(path)?)
        .with_env_filter(filter)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    Ok(LogLevel((!fixed).then(|| {
        Box::new(move |filter| Ok(handle.reload(filter)?)) as _
    })))
}

/// A service's standard error is its manager's journal, which has times of its own.
pub(crate) fn start_service(level: &str) -> Result<LogLevel, Fatal> {
    let (fixed, filter) = filter(level)?;
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    Ok(LogLevel((!fixed).then(|| {
        Box::new(move |filter| Ok(handle.reload(filter)?)) as _
    })))
}

/// What is logged, and whether the environment fixes it.
fn filter(level: &str) -> Result<(bool, EnvFilter), Fatal> {
    let fixed = std::env::var(VARIABLE).ok();
    let filter = EnvFilter::try_new(fixed.as_deref().unwrap_or(level))?;
    Ok((fixed.is_some(), filter))
}

/// Opens the file, which only grows.
pub(crate) fn open(path: &Path) -> Result<File, LogError> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(path).map_err(failed("open", path))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError {
        operation,
        path,
        source,
    }
}
