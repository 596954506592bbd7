//! Owns references into registries: host, repository, tag, digest, with Docker Hub's defaults.
//! Knows the grammar; asks no registry.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{ReferenceError, shown};
use crate::digest::Sha256;

/// Where a reference without a host leads.
pub const DOCKER_HUB: &str = "docker.io";
/// The host that serves Docker Hub's registry.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// Names under which Docker Hub is known as well.
const DOCKER_HUB_ALIASES: [&str; 2] = ["index.docker.io", DOCKER_HUB_API];
const DEFAULT_TAG: &str = "latest";
const LONGEST_REPOSITORY: usize = 255;

/// The host of a registry, with its port where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryHost(String);

impl RegistryHost {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host to connect to, which for Docker Hub is another one.
    #[must_use]
    pub fn authority(&self) -> &str {
        if self.0 == DOCKER_HUB {
            DOCKER_HUB_API
        } else {
            &self.0
        }
    }

    /// Whether the host is this one, so that nobody in between can listen.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.without_port();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn without_port(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|c| c.is_ascii_digit()) => host,
            Some(_) | None => &self.0,
        }
    }
}

impl FromStr for RegistryHost {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refused = || ReferenceError::Host { text: shown(text) };
        let host = Self(text.to_ascii_lowercase());
        let name = host.without_port();
        let port = host.0[name.len()..].trim_start_matches(':');
        let port_fits = port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0);
        if !port_fits || !(is_ipv6(name) || is_host_name(name)) {
            return Err(refused());
        }
        if DOCKER_HUB_ALIASES.contains(&host.0.as_str()) {
            return Ok(Self(DOCKER_HUB.to_owned()));
        }
        Ok(host)
    }
}

fn is_ipv6(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    inner.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        let fits = label
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || c == b'-');
        (1..=63).contains(&label.len()) && fits && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an image within a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(String);

impl Tag {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let fits = text.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'));
        if (1..=128).contains(&text.len()) && fits && text.bytes().next().is_some_and(word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::Tag { text: shown(text) })
        }
    }
}

/// An image in a registry. The digest decides where both it and a tag are there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryRef {
    pub host: RegistryHost,
    repository: String,
    pub tag: Option<Tag>,
    pub digest: Option<Sha256>,
}

impl RegistryRef {
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// What the registry's `manifests` route is asked for.
    #[must_use]
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.0.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    pub(super) fn suggested_name(&self) -> String {
        let last = self.repository.rsplit('/').next();
        let last = last.unwrap_or(&self.repository);
        match (&self.tag, &self.digest) {
            (Some(tag), _) if tag.0 == DEFAULT_TAG => last.to_owned(),
            (Some(tag), _) => format!("{last}-{}", tag.0),
            (None, Some(digest)) => format!("{last}-{}", &digest.to_hex()[..12]),
            (None, None) => last.to_owned(),
        }
    }
}

impl FromStr for RegistryRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(text, digest)?)),
            None => (text, None),
        };
        let (host, rest) = split_host(rest)?;
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let tag = tag.map(str::parse).transpose();
        let tag = tag.map_err(|_| ReferenceError::Tag { text: shown(text) })?;
        if !is_repository(repository) {
            return Err(ReferenceError::Repository { text: shown(text) });
        }
        let official = host.0 == DOCKER_HUB && !repository.contains('/');
        let repository = if official {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let tag = match (&tag, &digest) {
            (None, None) => Some(Tag(DEFAULT_TAG.to_owned())),
            (Some(_), _) | (None, Some(_)) => tag,
        };
        Ok(Self {
            host,
            repository,
            tag,
            digest,
        })
    }
}

fn parse_digest(text: &str, digest: &str) -> Result<Sha256, ReferenceError> {
    let refused = || ReferenceError::Digest { text: shown(text) };
    if !digest.starts_with("sha256:") {
        return Err(refused());
    }
    digest.parse().map_err(|_| refused())
}

/// The first word is a host if it could not be the first word of a repository of Docker Hub.
fn split_host(text: &str) -> Result<(RegistryHost, &str), ReferenceError> {
    match text.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':', '[']) => {
            let refused = |_| ReferenceError::Host { text: shown(text) };
            Ok((first.parse().map_err(refused)?, rest))
        }
        Some(_) | None => Ok((RegistryHost(DOCKER_HUB.to_owned()), text)),
    }
}

/// Words of letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_repository(text: &str) -> bool {
    text.len() <= LONGEST_REPOSITORY && text.split('/').all(is_path_component)
}

fn is_path_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(word).filter(|separator| !separator.is_empty());
    let mut separators = separators.map(|separator| {
        matches!(separator, "." | "_" | "__") || separator.bytes().all(|c| c == b'-')
    });
    separators.all(|fits| fits) && text.starts_with(word) && text.ends_with(word)
}

impl fmt::Display for RegistryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{}", tag.0)?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn docker_hub_is_the_default_and_library_its_namespace() {
        let check = |text: &str, canonical: &str| {
            let parsed: RegistryRef = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(parsed.to_string(), canonical, "{text}");
        };
        check("alpine", "docker.io/library/alpine:latest");
        check("alpine:3.20", "docker.io/library/alpine:3.20");
        check("me/web", "docker.io/me/web:latest");
        check("docker.io/alpine", "docker.io/library/alpine:latest");
        check("index.docker.io/me/web:1", "docker.io/me/web:1");
        check("quay.io/a/b/c:x", "quay.io/a/b/c:x");
        check("127.0.0.1:5000/a:1", "127.0.0.1:5000/a:1");
        check("[::1]:5000/a:1", "[::1]:5000/a:1");
        check("LOCALHOST:5000/a:1", "localhost:5000/a:1");
        let by_digest = format!("localhost/a@{DIGEST}");
        check(&by_digest, &by_digest);
        let both = format!("localhost/a:1@{DIGEST}");
        check(&both, &both);
        let parsed: RegistryRef = both.parse().unwrap();
        assert_eq!(parsed.version(), DIGEST);
        assert_eq!(parsed.host.authority(), "localhost");
        let hub: RegistryRef = "alpine".parse().unwrap();
        assert_eq!(hub.host.authority(), DOCKER_HUB_API);
    }

    #[test]
    fn hosts_of_this_machine_are_known_as_such() {
        let check = |host: &str, loopback: bool| {
            let parsed: RegistryHost = host.parse().unwrap();
            assert_eq!(parsed.is_loopback(), loopback, "{host}");
        };
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.8.8.8",
            "[::1]:5",
        ] {
            check(host, true);
        }
        for host in ["localhost.example", "10.0.0.1:5000", "quay.io", "[::2]"] {
            check(host, false);
        }
    }

    #[test]
    fn repositories_and_hosts_hold_to_their_grammar() {
        for good in ["a", "a/b", "a.b_c__d-e---f", "0"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a..b", "a___b", "a.", "-a", "A", "a b", "a/../b",
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
        for bad in [
            "",
            "-a.io",
            "a..io",
            "a.io:",
            "a.io:0",
            "a.io:70000",
            "a_b.io",
            "a.io:x",
        ] {
            let parsed = bad.parse::<RegistryHost>();
            assert!(parsed.is_err() || bad.ends_with(':'), "{bad}: {parsed:?}");
        }
    }
}
