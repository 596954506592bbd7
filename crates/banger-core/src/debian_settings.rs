//! Which Debian archive is used: what the configuration says, else what this host's own apt
//! uses. Knows no packages.

use banger_image::debian::{ArchiveConfig, Mirror, SourcesError, Suite};

/// The configured part; what is absent is looked up when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianSettings {
    pub mirror: Option<Mirror>,
    pub security_mirror: Option<Mirror>,
    pub suite: Suite,
    pub check_valid_until: bool,
}

impl DebianSettings {
    /// The archive to ask now.
    pub fn archive(&self) -> Result<ArchiveConfig, SourcesError> {
        let Self {
            mirror,
            security_mirror,
            suite,
            check_valid_until,
        } = self.clone();
        match mirror {
            Some(mirror) => Ok(ArchiveConfig {
                mirror,
                security_mirror,
                suite,
                check_valid_until,
            }),
            None => {
                let host = ArchiveConfig::of_host(suite)?;
                let security_mirror = security_mirror.or(host.security_mirror);
                Ok(ArchiveConfig {
                    security_mirror,
                    check_valid_until,
                    ..host
                })
            }
        }
    }
}
