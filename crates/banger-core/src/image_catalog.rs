//! The images that banger can make by itself.

use crate::{host::DebianRoot, name::ImageName};
use banger_image::debian::ArchiveConfig;

/// Where an image of the catalog may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// mmdebstrap, with these packages beside the essential ones.
    Debian {
        suite: &'static str,
        packages: &'static [&'static str],
    },
    /// An image of a registry.
    Registry { reference: &'static str },
}

/// One image of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogImage {
    pub name: &'static str,
    pub description: &'static str,
    /// In the order in which they are asked; one that this host cannot use is passed over.
    pub sources: &'static [Source],
}

impl CatalogImage {
    /// Where it comes from, in the order of asking.
    #[must_use]
    pub fn sources_for_people(&self) -> String {
        let sources = self.sources.iter().map(|source| match source {
            Source::Debian { suite, .. } => format!("Debian {suite}, mmdebstrap"),
            Source::Registry { reference } => (*reference).to_owned(),
        });
        sources.collect::<Vec<_>>().join("; ")
    }
}

/// The whole catalog.
pub const CATALOG: &[CatalogImage] = &[CatalogImage {
    name: "debian-bookworm",
    description: "Debian 12 with systemd and a developer's everyday tools",
    sources: &[
        Source::Debian {
            suite: "bookworm",
            packages: &[
                "systemd-sysv",
                "dbus",
                "iproute2",
                "iputils-ping",
                "procps",
                "ca-certificates",
                "curl",
                "git",
                "less",
                "openssh-client",
                "sudo",
                "tmux",
                "vim-tiny",
                "xz-utils",
            ],
        },
        // Smaller and without systemd, but it needs nothing of the host.
        Source::Registry {
            reference: "docker.io/library/debian:bookworm",
        },
    ],
}];

/// The catalog's entry of a name.
#[must_use]
pub fn find(name: &ImageName) -> Option<&'static CatalogImage> {
    CATALOG.iter().find(|image| image.name == name.as_str())
}

/// What mmdebstrap is told: the release, its updates and its security updates.
#[must_use]
pub fn debian_root(packages: &[&str], archive: &ArchiveConfig) -> DebianRoot {
    let ArchiveConfig {
        mirror,
        security_mirror,
        suite,
        ..
    } = archive;
    let mut sources = vec![
        format!("deb {mirror} {suite} main"),
        format!("deb {mirror} {suite}-updates main"),
    ];
    if let Some(security) = security_mirror {
        sources.push(format!("deb {security} {} main", suite.security()));
    }
    DebianRoot {
        suite: suite.to_string(),
        sources,
        packages: packages.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use banger_image::{debian::Suite, reference::ImageRef};

    use super::*;

    #[test]
    fn catalog_names_and_references_can_be_read() {
        for image in CATALOG {
            for source in image.sources {
                match source {
                    Source::Debian { suite, .. } => drop(suite.parse::<Suite>().unwrap()),
                    Source::Registry { reference } => {
                        drop(reference.parse::<ImageRef>().unwrap());
                    }
                }
            }
            let name: ImageName = image.name.parse().unwrap();
            assert_eq!(find(&name), Some(image));
        }
    }
}
