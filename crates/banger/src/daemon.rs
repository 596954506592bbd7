//! Finds the daemon, starts it where it is missing and replaces it where it is outdated.
//! Knows the daemon's life; asks it for nothing else.

mod launch;

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use banger_api::{
    build::BuildInfo,
    client::{Client, ClientError},
    daemon::DaemonStatus,
    places::Places,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::time::{Instant, sleep};

use crate::{output, programs, report::Failure, unit::UNIT};

/// How long a daemon may take to end its connections.
const ENDING: Duration = Duration::from_secs(15);
/// How long the kernel may take to end a daemon that was killed.
const DYING: Duration = Duration::from_secs(2);
/// The word of a daemon that is the whole system's service.
const SYSTEM: &str = "system";
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Why there is no daemon to talk to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("the daemon is not running")]
    NotRunning,
    #[error("cannot find bangerd beside banger, in ../lib/banger or in PATH")]
    NoProgram,
    #[error("cannot {operation} to start the daemon")]
    Prepare {
        operation: &'static str,
        source: io::Error,
    },
    #[error("cannot start the daemon {program}", program = .program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("the daemon {program} did not start: {status}", program = .program.display())]
    Died {
        program: PathBuf,
        status: ExitStatus,
        said: String,
    },
    #[error("the daemon {program} said nothing for {seconds} s and was ended", program = .program.display())]
    Silent {
        program: PathBuf,
        seconds: u64,
        said: String,
    },
    #[error("the daemon with process id {pid} does not end")]
    DoesNotEnd { pid: u32 },
}

/// The program that the daemon is.
pub(crate) fn program() -> Result<PathBuf, DaemonError> {
    launch::find()
}

impl DaemonError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRunning => Some("banger daemon start"),
            Self::NoProgram => Some("install bangerd in the directory where banger is"),
            Self::Died { .. } | Self::Silent { .. } => Some("banger doctor"),
            Self::Prepare { .. } | Self::Spawn { .. } | Self::DoesNotEnd { .. } => None,
        }
    }

    /// What the daemon said before it gave up.
    pub(crate) fn log(&self) -> Vec<String> {
        match self {
            Self::Died { said, .. } | Self::Silent { said, .. } => {
                said.lines().map(str::to_owned).collect()
            }
            Self::NotRunning
            | Self::NoProgram
            | Self::Prepare { .. }
            | Self::Spawn { .. }
            | Self::DoesNotEnd { .. } => Vec::new(),
        }
    }
}

/// A daemon that answers.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) status: DaemonStatus,
}

/// The daemon, as new as we are or newer; started or replaced where that takes it.
pub(crate) async fn ensure(places: &Places) -> Result<Connected, Failure> {
    let client = Client::new(places.socket());
    match probe(&client).await? {
        // Where our own bangerd is the older one, starting it again would change nothing.
        Some(status)
            if is_outdated(&status, &BuildInfo::current()) && !launch::runs_ours(status.pid) =>
        {
            match status.service.as_deref() {
                None => retire(&client, &status).await?,
                Some(_) => return renew_service(client, status).await,
            }
        }
        Some(status) => return Ok(Connected { client, status }),
        None => {}
    }
    launch::start()?;
    let status = client.daemon().await?;
    Ok(Connected { client, status })
}

/// A service is its manager's: it is restarted there, or it stays what it is, and serves. VMs go on.
async fn renew_service(client: Client, status: DaemonStatus) -> Result<Connected, Failure> {
    if !status.replaced {
        output::remark(
            "the service is an older banger: `banger system install` puts this one in its place",
        );
        return Ok(Connected { client, status });
    }
    let system = status.service.as_deref() == Some(SYSTEM);
    match programs::systemctl(system, &["restart", UNIT]) {
        Ok(()) => {
            let status = client.daemon().await?;
            Ok(Connected { client, status })
        }
        Err(failure) => {
            output::remark(failure.render().trim_end());
            Ok(Connected { client, status })
        }
    }
}

/// The daemon if it is there; starts none.
pub(crate) async fn connect(places: &Places) -> Result<Connected, Failure> {
    let client = Client::new(places.socket());
    match probe(&client).await? {
        Some(status) => Ok(Connected { client, status }),
        None => Err(DaemonError::NotRunning.into()),
    }
}

/// Ends a daemon and waits until its process has gone. VMs go on.
pub(crate) async fn retire(client: &Client, status: &DaemonStatus) -> Result<(), Failure> {
    let process = handle(status.pid);
    match client.shutdown_daemon().await {
        // It may be gone before its answer is.
        Ok(()) | Err(ClientError::Broken { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + ENDING;
    let mut pause = Duration::from_millis(1);
    while answers(client).await? || !process.as_ref().is_none_or(has_ended) {
        if Instant::now() > deadline {
            return Err(DaemonError::DoesNotEnd { pid: status.pid }.into());
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

/// The daemon's word about itself, or `None` where nobody listens. A daemon that was killed listens
/// until the kernel is through with it, and answers nothing: it is asked again until it is gone.
async fn probe(client: &Client) -> Result<Option<DaemonStatus>, ClientError> {
    let deadline = Instant::now() + DYING;
    loop {
        match client.daemon().await {
            Ok(status) => return Ok(Some(status)),
            Err(error) if nobody_listens(&error) => return Ok(None),
            Err(ClientError::Broken { .. } | ClientError::Truncated { .. })
                if Instant::now() < deadline =>
            {
                sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether a daemon that is about to end is still there.
async fn answers(client: &Client) -> Result<bool, ClientError> {
    match probe(client).await {
        Ok(status) => Ok(status.is_some()),
        // It took the question with it: the next one will find nobody.
        Err(ClientError::Broken { .. } | ClientError::Truncated { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn nobody_listens(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { source, .. } => {
            // A daemon that ends resets the connections that it has not accepted.
            matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
            )
        }
        ClientError::Api(_) | ClientError::Broken { .. } | ClientError::Truncated { .. } => false,
    }
}

fn is_outdated(daemon: &DaemonStatus, ours: &BuildInfo) -> bool {
    daemon.replaced || daemon.build.built_at < ours.built_at
}

/// A handle on a process that the reuse of its number cannot fool.
fn handle(pid: u32) -> Option<File> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok().map(File::from)
}

fn has_ended(process: &File) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(built_at: u64, replaced: bool) -> DaemonStatus {
        DaemonStatus {
            pid: 1,
            build: BuildInfo {
                version: "1".into(),
                commit: "c".into(),
                built_at,
            },
            uptime_seconds: 0,
            socket: String::new(),
            log_path: String::new(),
            state_dir: String::new(),
            running_vms: 0,
            hidden_vms: Vec::new(),
            replaced,
            found: Default::default(),
            kept_store: None,
            service: None,
        }
    }

    #[test]
    fn only_an_older_or_replaced_daemon_is_outdated() {
        let ours = daemon(5, false).build;
        let cases = [
            (4, false, true),
            (5, false, false),
            (6, false, false),
            (6, true, true),
        ];
        for (built_at, replaced, outdated) in cases {
            assert_eq!(is_outdated(&daemon(built_at, replaced), &ours), outdated);
        }
    }

    #[test]
    fn a_process_that_runs_has_not_ended() {
        let own = handle(std::process::id()).expect("this process exists");
        assert!(!has_ended(&own));
        assert!(handle(0).is_none());
    }
}
