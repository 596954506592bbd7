//! Owns the requests: their routes and JSON documents. Knows no HTTP/2 and runs nothing.
//!
//! | route | request | response |
//! |---|---|---|
//! | `GET /v1/health` | | [`Health`] |
//! | `GET /v1/ports` | | [`Listeners`] |
//! | `GET /v1/log` | | [`AgentLog`] |
//! | `POST /v1/disk/grow` | [`GrowRequest`] | nothing, once the file system has grown |
//! | `POST /v1/exec/ID` | frames: [`ExecStart`], then standard input until the body ends | frames, see [`crate::frame`] |
//! | `POST /v1/exec/ID/signal` | [`SignalRequest`] | nothing |
//! | `POST /v1/exec/ID/resize` | [`WindowSize`] | nothing |
//! | `POST /v1/sync` | | nothing, once all file systems are written out |
//! | `POST /v1/identity` | [`IdentityRequest`], from generation 2 on | [`Assumed`] |
//! | `POST /v1/clock` | [`ClockRequest`], from generation 2 on | nothing, once the clock is right |
//! | `POST /v1/shutdown` | [`ShutdownRequest`] | nothing, before the machine goes down |
//!
//! The host chooses the id of an exec; it names it within one session. Signals and window sizes have streams of their
//! own, so that they are never stuck behind input that the process does not read.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::boot::Hostname;
use crate::hello::{Entropy, MAX_HELLO, Pid1};
use crate::mac::MacAddress;

/// The generation that brought [`Route::Identity`] and [`Route::Clock`].
pub const IDENTITY_GENERATION: u32 = 2;

/// The longest JSON document in a body, other than an [`ExecStart`].
pub const MAX_DOCUMENT: usize = 64 << 10;

/// Names an exec within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecId(pub u32);

/// Everything that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    Health,
    Ports,
    Log,
    GrowDisk,
    Exec(ExecId),
    Signal(ExecId),
    Resize(ExecId),
    Sync,
    Identity,
    Clock,
    Shutdown,
}

impl Route {
    /// The HTTP method that goes with the route.
    #[must_use]
    pub fn method(self) -> http::Method {
        match self {
            Self::Health | Self::Ports | Self::Log => http::Method::GET,
            Self::GrowDisk
            | Self::Exec(_)
            | Self::Signal(_)
            | Self::Resize(_)
            | Self::Sync
            | Self::Identity
            | Self::Clock
            | Self::Shutdown => http::Method::POST,
        }
    }

    /// Finds the route of a request.
    ///
    /// # Errors
    /// Fails when there is no such path, or it wants another method.
    pub fn find(method: &http::Method, path: &str) -> Result<Self, RouteError> {
        let route = Self::parse(path).ok_or(RouteError::NoSuchPath)?;
        if route.method() == *method {
            Ok(route)
        } else {
            Err(RouteError::WrongMethod(route))
        }
    }

    fn parse(path: &str) -> Option<Self> {
        let mut words = path.strip_prefix("/v1/")?.split('/');
        let route = match (words.next()?, words.next(), words.next()) {
            ("health", None, None) => Self::Health,
            ("ports", None, None) => Self::Ports,
            ("log", None, None) => Self::Log,
            ("disk", Some("grow"), None) => Self::GrowDisk,
            ("sync", None, None) => Self::Sync,
            ("identity", None, None) => Self::Identity,
            ("clock", None, None) => Self::Clock,
            ("shutdown", None, None) => Self::Shutdown,
            ("exec", Some(id), None) => Self::Exec(exec_id(id)?),
            ("exec", Some(id), Some("signal")) => Self::Signal(exec_id(id)?),
            ("exec", Some(id), Some("resize")) => Self::Resize(exec_id(id)?),
            _ => return None,
        };
        words.next().is_none().then_some(route)
    }
}

fn exec_id(text: &str) -> Option<ExecId> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok().map(ExecId))?
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Health => write!(f, "/v1/health"),
            Self::Ports => write!(f, "/v1/ports"),
            Self::Log => write!(f, "/v1/log"),
            Self::GrowDisk => write!(f, "/v1/disk/grow"),
            Self::Exec(ExecId(id)) => write!(f, "/v1/exec/{id}"),
            Self::Signal(ExecId(id)) => write!(f, "/v1/exec/{id}/signal"),
            Self::Resize(ExecId(id)) => write!(f, "/v1/exec/{id}/resize"),
            Self::Sync => write!(f, "/v1/sync"),
            Self::Identity => write!(f, "/v1/identity"),
            Self::Clock => write!(f, "/v1/clock"),
            Self::Shutdown => write!(f, "/v1/shutdown"),
        }
    }
}

/// A request that no route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("no such path")]
    NoSuchPath,
    #[error("{0} wants another method")]
    WrongMethod(Route),
}

/// The body of every response that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
}

/// How far the guest's init has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitState {
    /// Started, and has not said that it is done.
    Starting,
    /// Said that it is done, or is the agent, which has nothing to start.
    Running,
    /// Shuts down.
    Stopping,
    /// An init that says nothing.
    Unknown,
}

/// How the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub uptime_ns: u64,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f32; 3],
    pub memory_total: u64,
    pub memory_available: u64,
    pub pid1: Pid1,
    pub init_state: InitState,
    /// When init said that it is done, on the guest's monotonic clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_running_ns: Option<u64>,
}

/// How a socket listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A socket of the guest that waits for others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    pub protocol: Protocol,
    pub port: u16,
    pub address: IpAddr,
    /// Whose it is, where that could be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}

/// So many sockets are told at most: they fit into a document.
pub const MAX_LISTENERS: usize = 256;

/// What listens in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    pub listeners: Vec<Listener>,
    /// There are more.
    #[serde(default)]
    pub more: bool,
}

/// Asks that the file system of the machine's own disk fills a disk that has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrowRequest {
    /// What the disk has now; the guest may see that a moment later.
    pub bytes: u64,
}

/// Something that the agent did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// On the guest's monotonic clock.
    pub uptime_ms: u64,
    pub text: String,
}

/// The end of what the agent did since the boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLog {
    pub lines: Vec<LogLine>,
}

/// A terminal's size in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub cols: u16,
    pub rows: u16,
}

/// What to run and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecStart {
    /// The program and its arguments; empty means the user's login shell.
    pub argv: Vec<String>,
    /// Variables that are added to the defaults, or replace them.
    pub env: Vec<(String, String)>,
    /// The working directory; the user's home directory where it exists, else `/`, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// `name`, `uid`, `name:group` or `uid:gid`; root when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Present when the process gets a terminal, which then carries all of its input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<WindowSize>,
}

/// A signal for an exec's process group, or a terminal's foreground group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRequest {
    /// Linux's number, 1 to 64.
    pub signal: i32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    Exited { code: i32 },
    Signaled { signal: i32 },
}

/// Why a process could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    NotFound,
    NotExecutable,
    NoSuchUser,
    NoSuchDirectory,
    NoShell,
    Other,
}

/// Why a process could not be started, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

/// 128 bits as 32 lower-case hexadecimal digits, as `machine-id(5)` has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

/// A text that is no machine id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a machine id has 32 hexadecimal digits")]
pub struct MachineIdError;

impl TryFrom<String> for MachineId {
    type Error = MachineIdError;

    fn try_from(text: String) -> Result<Self, MachineIdError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(digit) {
            Ok(Self(text))
        } else {
            Err(MachineIdError)
        }
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.0
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a guest somebody that may be another's copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRequest {
    pub hostname: Hostname,
    pub machine_id: MachineId,
    /// The host's clock, in nanoseconds since 1970.
    pub wall_clock_ns: u64,
    /// What the guest draws from now on has to depend on it.
    pub entropy: Entropy,
    /// What the network card that the host made is to be called from now on. An agent that does not know of it
    /// ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Whether this is a state that the machine itself was in: what it has of its own stays. An agent that does not
    /// know of it takes it for a copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same: bool,
}

impl Assumed {
    /// Whether it has room in a greeting, beside the rest of it.
    #[must_use]
    pub fn fits_a_greeting(&self) -> bool {
        serde_json::to_vec(self).is_ok_and(|json| json.len() <= MAX_HELLO as usize / 2)
    }
}

/// Tells a guest that stood still what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRequest {
    /// The host's clock, in nanoseconds since 1970.
    pub wall_clock_ns: u64,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Assumed {
    /// What could not be changed, in words for people.
    pub problems: Vec<String>,
    /// Commands that the host is to run in the guest, in this order, before anything else.
    pub to_run: Vec<Vec<String>>,
}

/// How thoroughly to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownMode {
    /// Ask everything to end, then write everything out.
    Graceful,
    /// Write everything out and go down at once.
    Force,
}

/// Asks the machine to go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownRequest {
    pub mode: ShutdownMode,
    /// How long a graceful shutdown may take before it turns into a forced one.
    pub timeout_ms: u64,
}

impl ShutdownRequest {
    #[must_use]
    pub fn graceful(timeout: Duration) -> Self {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Self {
            mode: ShutdownMode::Graceful,
            timeout_ms,
        }
    }

    #[must_use]
    pub fn force() -> Self {
        Self {
            mode: ShutdownMode::Force,
            timeout_ms: 0,
        }
    }

    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_route_is_found_by_its_path(id: u32) {
            let id = ExecId(id);
            for route in [
                Route::Health, Route::Ports, Route::Log, Route::GrowDisk, Route::Exec(id), Route::Signal(id), Route::Resize(id), Route::Sync,
                Route::Identity, Route::Clock, Route::Shutdown,
            ] {
                prop_assert_eq!(Route::find(&route.method(), &route.to_string()), Ok(route));
            }
        }

        #[test]
        fn no_path_panics(path in ".{0,40}") {
            let _ = Route::find(&Method::GET, &path);
        }
    }

    #[test]
    fn other_requests_are_refused() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v1/exec",
            "/v1/exec/",
            "/v1/exec/+1",
            "/v1/exec/-1",
        ] {
            assert_eq!(
                Route::find(&Method::POST, path),
                Err(RouteError::NoSuchPath),
                "{path}"
            );
        }
        for path in [
            "/v1/exec/4294967296",
            "/v1/exec/1/kill",
            "/v1/exec/1/signal/",
            "/v2/health",
        ] {
            assert_eq!(
                Route::find(&Method::POST, path),
                Err(RouteError::NoSuchPath),
                "{path}"
            );
        }
        assert_eq!(
            Route::find(&Method::POST, "/v1/health"),
            Err(RouteError::WrongMethod(Route::Health))
        );
    }

    #[test]
    fn a_machine_id_is_what_the_manual_says() {
        let check = |text: &str, good: bool| {
            assert_eq!(MachineId::try_from(text.to_owned()).is_ok(), good, "{text}");
        };
        check("00112233445566778899aabbccddeeff", true);
        check("00112233445566778899AABBCCDDEEFF", false);
        check("00112233445566778899aabbccddeef", false);
        check("../../../../../../../etc/passwd0", false);
        check("", false);
    }

    #[test]
    fn an_exec_needs_nothing_but_defaults() {
        let start: ExecStart = serde_json::from_str("{}").unwrap();
        assert_eq!(start, ExecStart::default());
    }
}
