//! What a user may choose about Firecracker, with the limits that hold. Knows no file format
//! and no VM.

use std::{path::PathBuf, str::FromStr};

use super::api;

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("a cache is writeback or unsafe, not \"{0}\"")]
    Cache(String),
    #[error("an I/O engine is sync or async, not \"{0}\"")]
    Engine(String),
    #[error("a limit is 1 or more a second; without a limit the setting is left out")]
    Limit,
    #[error("a CPU template is one of C3, T2, T2S, T2CL, T2A, not \"{0}\"")]
    Template(String),
}

/// The whole of it. The default is what Firecracker does when it is not told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirecrackerSettings {
    /// Its program; found in the PATH when absent.
    pub program: Option<PathBuf>,
    /// Its jailer; found beside the program, or in the PATH, when absent.
    pub jailer: Option<PathBuf>,
    /// Also where /dev/kvm only emulates: few guests work there, and slowly.
    pub allow_emulated_kvm: bool,
    pub disk_cache: CacheMode,
    pub disk_engine: IoEngine,
    pub disk_limit: RateLimit,
    pub network_limit: RateLimit,
    pub cpu_template: Option<CpuTemplate>,
    /// The guest can read a metadata service at 169.254.169.254.
    pub mmds: bool,
    /// The VMM's own counters, once a minute, in a file beside its log.
    pub metrics: bool,
}

/// What a guest's wish to have its writes on the disk is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// A flush in the guest reaches the host's disk.
    #[default]
    Writeback,
    /// A flush is ignored: fast, and a crash of the host may break the guest's file system.
    Unsafe,
}

/// How the VMM reads and writes files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IoEngine {
    #[default]
    Sync,
    /// With io_uring, which the host's kernel must offer.
    Async,
}

/// At most this much a second; absent is without a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    bytes: Option<u64>,
    operations: Option<u64>,
}

/// One of Firecracker's own static templates, which hide what differs between processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuTemplate {
    C3,
    T2,
    T2S,
    T2CL,
    T2A,
}

impl CpuTemplate {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::C3 => "C3",
            Self::T2 => "T2",
            Self::T2S => "T2S",
            Self::T2CL => "T2CL",
            Self::T2A => "T2A",
        }
    }
}

impl FromStr for CpuTemplate {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let all = [Self::C3, Self::T2, Self::T2S, Self::T2CL, Self::T2A];
        let found = all.into_iter().find(|template| template.as_str() == text);
        found.ok_or_else(|| SettingsError::Template(text.to_owned()))
    }
}

impl FromStr for CacheMode {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        match text {
            "writeback" => Ok(Self::Writeback),
            "unsafe" => Ok(Self::Unsafe),
            _ => Err(SettingsError::Cache(text.to_owned())),
        }
    }
}

impl FromStr for IoEngine {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        match text {
            "sync" => Ok(Self::Sync),
            "async" => Ok(Self::Async),
            _ => Err(SettingsError::Engine(text.to_owned())),
        }
    }
}

impl From<CacheMode> for api::CacheType {
    fn from(mode: CacheMode) -> Self {
        match mode {
            CacheMode::Writeback => Self::Writeback,
            CacheMode::Unsafe => Self::Unsafe,
        }
    }
}

impl From<IoEngine> for api::Engine {
    fn from(engine: IoEngine) -> Self {
        match engine {
            IoEngine::Sync => Self::Sync,
            IoEngine::Async => Self::Async,
        }
    }
}

impl RateLimit {
    /// Refuses zero, which Firecracker would take for no limit at all.
    pub fn new(bytes: Option<u64>, operations: Option<u64>) -> Result<Self, SettingsError> {
        if bytes == Some(0) || operations == Some(0) {
            return Err(SettingsError::Limit);
        }
        Ok(Self { bytes, operations })
    }

    /// Nothing where there is no limit.
    pub(crate) fn limiter(self) -> Option<api::RateLimiter> {
        const SECOND: u64 = 1000;
        let bucket = |size| api::TokenBucket {
            size,
            refill_time: SECOND,
        };
        (self != Self::default()).then(|| api::RateLimiter {
            bandwidth: self.bytes.map(bucket),
            ops: self.operations.map(bucket),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_as_they_are_written() {
        assert_eq!("writeback".parse(), Ok(CacheMode::Writeback));
        assert_eq!("async".parse(), Ok(IoEngine::Async));
        assert_eq!("T2CL".parse(), Ok(CpuTemplate::T2CL));
        // That one is for processors of another architecture.
        for other in ["t2", "V1N1"] {
            assert!(other.parse::<CpuTemplate>().is_err());
        }
        assert!("none".parse::<CacheMode>().is_err());
    }

    #[test]
    fn no_limit_is_no_limiter() {
        assert_eq!(RateLimit::default().limiter(), None);
        let limit = RateLimit::new(Some(1 << 20), None).unwrap();
        let limiter = limit.limiter().unwrap();
        let bandwidth = limiter.bandwidth.unwrap();
        assert_eq!((bandwidth.size, bandwidth.refill_time), (1 << 20, 1000));
        assert_eq!(limiter.ops, None);
        for (bytes, operations) in [(Some(0), None), (None, Some(0))] {
            let refused = RateLimit::new(bytes, operations);
            assert_eq!(refused, Err(SettingsError::Limit));
        }
    }
}
