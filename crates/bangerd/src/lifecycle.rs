//! One daemon per user: directories, lock, socket, log, the word `ready`, and the way down.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use banger_api::{client::Client, places::Places};
use rustix::fs::{FlockOperation, Mode, flock};
use tokio::{net::UnixListener, signal::unix::SignalKind, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{config::Config, limits, log, notify::Manager, reload::Held, server, wiring};

/// How long the first requests wait until all VMs are held against the host.
const LOOKING: Duration = Duration::from_secs(3);

/// What a daemon that ends may take to end what is only its own.
const ENDING: Duration = Duration::from_secs(3);

/// How long a daemon that ends may hold its locks one after the other.
const LETTING_GO: Duration = Duration::from_secs(1);

/// What ends `main`.
pub(crate) type Fatal = Box<dyn std::error::Error + Send + Sync>;

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot {operation} {path}", path = .path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot start threads; `ulimit -u` tells how many this user may have")]
    Threads { source: io::Error },
    #[error(
        "another daemon serves {state}, at {socket}: end it there, or use its XDG_RUNTIME_DIR",
        state = .state.display(), socket = .socket.display()
    )]
    Elsewhere { state: PathBuf, socket: PathBuf },
    #[error("{path} must be a directory of user {uid} that nobody else can enter", path = .path.display())]
    Exposed { path: PathBuf, uid: u32 },
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::File {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// Serves until somebody asks it to end. VMs go on.
pub(crate) fn run(places: &Places) -> Result<(), Fatal> {
    // All files and sockets are private from birth.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    for directory in [
        &places.config,
        &places.state,
        &places.cache,
        &places.runtime,
    ] {
        private_directory(directory)?;
    }
    let (config, text) = Config::read(&places.config_file())?;
    let manager = Manager::of_environment();
    let path = places.runtime.join("bangerd.lock");
    let lock = match take_lock(&path)? {
        Some(lock) => lock,
        // A service is the one that serves: another daemon makes room for it.
        None if manager.is_there() => take_over(&path, &places.socket())?,
        None => {
            // Another daemon serves already, or is about to: whoever started us is content.
            wait_for_other(&path, &places.socket())?;
            return announce();
        }
    };
    let state = own_state(places, &manager)?;
    let level = if manager.is_there() {
        log::start_service(config.log_level())?
    } else {
        log::start(&places.log(), config.log_level())?
    };
    let held = Held::new(&text, level);
    limits::take_all_files();
    limits::can_start_threads().map_err(|source| StartError::Threads { source })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::WORKERS)
        .max_blocking_threads(64)
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(places, &config, held, &manager));
    runtime.shutdown_timeout(Duration::from_secs(2));
    // The state first: who waits for the other one finds this one free.
    drop(state);
    drop(lock);
    result
}

async fn serve(
    places: &Places,
    config: &Config,
    held: Held,
    manager: &Manager,
) -> Result<(), Fatal> {
    limits::survive_large_files()?;
    let socket = places.socket();
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove the stale socket", &socket)(error).into());
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&socket).map_err(file("listen on", &socket))?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))
        .map_err(file("protect", &socket))?;
    let ending = CancellationToken::new();
    let app = Arc::new(wiring::app(
        places,
        config,
        held,
        manager.service(),
        ending.clone(),
    )?);
    // Requests wait in the socket meanwhile; a VM whose host hangs does not hold up the others.
    if timeout(LOOKING, app.engine.looked_for()).await.is_err() {
        warn!("some VMs are not yet held against the host");
    }
    // What the start took and will not need again.
    banger_host::memory::give_back();
    if manager.is_there() {
        manager.ready();
    } else {
        detach(&places.log())?;
    }
    info!(pid = std::process::id(), socket = %socket.display(), "serving");
    tokio::spawn(end_on_signals(ending.clone())?);
    server::serve(listener, app.clone(), ending).await?;
    // The socket's name goes first, so that nobody connects to a daemon that ends.
    let _ = fs::remove_file(&socket);
    manager.stopping();
    if timeout(ENDING, app.engine.end()).await.is_err() {
        warn!("a machine that was booted to be saved is left to the next daemon");
    }
    info!("ended");
    Ok(())
}

/// Ends the daemon on SIGTERM and SIGINT; a closed terminal is none of its business.
fn end_on_signals(ending: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut hangup = tokio::signal::unix::signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {}
            }
        }
        ending.cancel();
    })
}

/// Leaves the starter's session, tells it `ready`, and lets go of its streams.
fn detach(path: &Path) -> Result<(), Fatal> {
    // Fails where we lead a process group already, that is, where a shell started us.
    let _ = rustix::process::setsid();
    announce()?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(log::open(path)?)?;
    Ok(())
}

fn announce() -> Result<(), Fatal> {
    let mut stdout = io::stdout();
    // A starter that does not listen is none of our failures.
    let _ = stdout.write_all(b"ready\n").and_then(|()| stdout.flush());
    Ok(())
}

/// The lock of this user's daemon, or `None` when another holds it.
fn take_lock(path: &Path) -> Result<Option<File>, StartError> {
    let lock = open_lock(path)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(file("lock", path)(error.into())),
    }
}

/// The lock of the state directory, in which the holder names its socket: a daemon with other sockets
/// must not write to the same store.
fn own_state(places: &Places, manager: &Manager) -> Result<File, Fatal> {
    let path = places.state.join("bangerd.lock");
    let deadline = std::time::Instant::now() + LETTING_GO;
    let lock = loop {
        if let Some(lock) = take_lock(&path)? {
            break lock;
        }
        if std::time::Instant::now() > deadline {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            if manager.is_there() {
                break take_over(&path, Path::new(holder.trim()))?;
            }
            return Err(StartError::Elsewhere {
                state: places.state.clone(),
                socket: PathBuf::from(holder.trim()),
            }
            .into());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    fs::write(&path, places.socket().as_os_str().as_encoded_bytes())
        .map_err(file("write", &path))?;
    Ok(lock)
}

/// Asks the daemon that serves to end, and takes its place. VMs go on.
fn take_over(lock: &Path, socket: &Path) -> Result<File, Fatal> {
    let client = Client::new(socket.to_owned());
    let asking = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let deadline = std::time::Instant::now() + Duration::from_secs(15);
    loop {
        // One that is about to serve is asked again.
        let _ = asking.block_on(client.shutdown_daemon());
        if let Some(lock) = take_lock(lock)? {
            return Ok(lock);
        }
        if std::time::Instant::now() > deadline {
            return Err("another daemon serves, and does not end".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the other daemon listens, or is gone.
fn wait_for_other(lock: &Path, socket: &Path) -> Result<(), Fatal> {
    let deadline = std::time::Instant::now() + Duration::from_secs(15);
    loop {
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        if take_lock(lock)?.is_some() {
            return Err("another daemon was starting, and failed; its log says why".into());
        }
        if std::time::Instant::now() > deadline {
            return Err("another daemon holds the lock, but does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn open_lock(path: &Path) -> Result<File, StartError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(path).map_err(file("open the lock", path))
}

/// Makes a directory for us alone, or makes sure that an existing one is.
fn private_directory(path: &Path) -> Result<(), StartError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(file("make", path))?;
    let meta = fs::symlink_metadata(path).map_err(file("look at", path))?;
    let uid = rustix::process::getuid().as_raw();
    if !meta.is_dir() || meta.uid() != uid {
        return Err(StartError::Exposed {
            path: path.to_owned(),
            uid,
        });
    }
    if meta.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(file("protect", path))?;
    }
    Ok(())
}
