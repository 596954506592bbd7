//! A mirror of a small archive: truthful as made, so that a test can spoil exactly one thing.

use std::time::{Duration, SystemTime};

use banger_image::debian::{ArchiveConfig, Keyring};
use banger_image::digest::Sha256;
use banger_image::kernel::Upstream;

use super::fakes;
use super::signer::{How, Signer};
use crate::web::{Answer, Server};

pub(crate) const META: &str = "linux-image-cloud-amd64";
pub(crate) const IMAGE: &str = "linux-image-6.1.0-9-cloud-amd64";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The archive's state: change a field, publish, and the mirror says so.
pub(crate) struct Mirror {
    pub(crate) server: Server,
    pub(crate) signer: Signer,
}

/// One suite of the archive.
#[derive(Debug, Clone)]
pub(crate) struct Dist {
    pub(crate) base: &'static str,
    pub(crate) suite: String,
    pub(crate) codename: String,
    pub(crate) version: String,
    pub(crate) date: SystemTime,
    pub(crate) valid_until: Option<SystemTime>,
    pub(crate) by_hash: bool,
    pub(crate) members: Vec<(String, Vec<u8>)>,
}

impl Dist {
    pub(crate) fn new(base: &'static str, suite: &str, version: &str) -> Self {
        let now = SystemTime::now();
        Self {
            base,
            suite: suite.to_owned(),
            codename: suite.to_owned(),
            version: version.to_owned(),
            date: now - DAY,
            valid_until: Some(now + DAY),
            by_hash: true,
            members: fakes::kernel_members(),
        }
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.base)
    }

    pub(crate) fn in_release(&self) -> String {
        self.path(&format!("dists/{}/InRelease", self.suite))
    }

    pub(crate) fn index(&self) -> String {
        self.path(&format!(
            "dists/{}/main/binary-amd64/Packages.xz",
            self.suite
        ))
    }

    pub(crate) fn index_by_hash(&self, index: &[u8]) -> String {
        let hex = Sha256::of(index).to_hex();
        self.path(&format!(
            "dists/{}/main/binary-amd64/by-hash/SHA256/{hex}",
            self.suite
        ))
    }

    pub(crate) fn pool(&self) -> String {
        format!("pool/{}.deb", self.version)
    }

    /// The packages as the index describes them, around a noise of others.
    pub(crate) fn packages(&self, deb: &[u8]) -> String {
        let version = &self.version;
        let paragraph = |name: &str, depends: &str| {
            format!(
                "Package: {name}\nVersion: {version}\nDepends: {depends}\nFilename: {}\n\
                 Size: {}\nSHA256: {}\n\n",
                self.pool(),
                deb.len(),
                Sha256::of(deb).to_hex()
            )
        };
        [
            paragraph("apt", "libc6"),
            paragraph(IMAGE, "kmod, linux-base"),
            paragraph(META, &format!("{IMAGE} (= {version})")),
            paragraph("zsh", "libc6"),
        ]
        .concat()
    }

    pub(crate) fn release(&self, packages: &str, index: &[u8]) -> String {
        let valid = self
            .valid_until
            .map(|at| format!("Valid-Until: {}\n", rfc822(at)));
        format!(
            "Origin: Test\nSuite: oldstable\nCodename: {}\nDate: {}\n{}Acquire-By-Hash: {}\n\
             SHA256:\n {} {} main/binary-amd64/Packages\n {} {} main/binary-amd64/Packages.xz\n",
            self.codename,
            rfc822(self.date),
            valid.unwrap_or_default(),
            if self.by_hash { "yes" } else { "no" },
            Sha256::of(packages.as_bytes()).to_hex(),
            packages.len(),
            Sha256::of(index).to_hex(),
            index.len(),
        )
    }
}

/// The archive's form of a date. The weekday is not looked at, so any will do.
fn rfc822(at: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let stamp = humantime::format_rfc3339_seconds(at).to_string();
    let month: usize = stamp[5..7].parse().unwrap();
    format!(
        "Sat, {} {} {} {} UTC",
        &stamp[8..10],
        MONTHS[month - 1],
        &stamp[..4],
        &stamp[11..19]
    )
}

impl Mirror {
    pub(crate) async fn start() -> Self {
        Self {
            server: Server::start().await,
            signer: Signer::new(),
        }
    }

    /// A mirror with one suite on it.
    pub(crate) async fn with(dist: &Dist) -> Self {
        let mirror = Self::start().await;
        mirror.publish(dist);
        mirror
    }

    pub(crate) fn publish(&self, dist: &Dist) {
        let deb = fakes::deb(&dist.members);
        let packages = dist.packages(&deb);
        self.server.put(&dist.path(&dist.pool()), deb);
        self.publish_index(dist, &packages);
    }

    /// Signs whatever index this is.
    pub(crate) fn publish_index(&self, dist: &Dist, packages: &str) {
        let index = fakes::xz(packages.as_bytes());
        if dist.by_hash {
            self.server.put(&dist.index_by_hash(&index), index.clone());
        }
        self.server.put(&dist.index(), index.clone());
        self.publish_release(dist, &dist.release(packages, &index));
    }

    pub(crate) fn publish_release(&self, dist: &Dist, release: &str) {
        let signed = self.signer.sign(release, How::default());
        self.server.put(&dist.in_release(), signed.into_bytes());
    }

    /// Replaces every file whose path contains `part`.
    pub(crate) fn spoil(&self, part: &str, answer: &Answer) {
        let paths: Vec<String> = self
            .server
            .paths()
            .into_iter()
            .filter(|path| path.contains(part))
            .collect();
        assert!(!paths.is_empty(), "nothing to spoil in {part}");
        for path in paths {
            self.server.script(&path, std::slice::from_ref(answer));
        }
    }

    pub(crate) fn upstream(&self, security: bool) -> Upstream {
        let mirror = |base: &str| self.server.url(base).parse().unwrap();
        Upstream {
            fetcher: super::fetcher(),
            keyring: Keyring::from_armored(&[&self.signer.armored()]).unwrap(),
            config: ArchiveConfig {
                mirror: mirror("debian"),
                security_mirror: security.then(|| mirror("security")),
                suite: "bookworm".parse().unwrap(),
                check_valid_until: true,
            },
        }
    }
}
