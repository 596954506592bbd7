//! The images that banger can make by itself.

use crate::{host::DebianRoot, name::ImageName};
use banger_image::debian::ArchiveConfig;

/// How an image of the catalog comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// mmdebstrap, with these packages beside the essential ones.
    Debian {
        suite: &'static str,
        packages: &'static [&'static str],
    },
}

/// One image of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogImage {
    pub name: &'static str,
    pub description: &'static str,
    pub recipe: Recipe,
}

/// The whole catalog.
pub const CATALOG: &[CatalogImage] = &[CatalogImage {
    name: "debian-bookworm",
    description: "Debian 12 with systemd and a developer's everyday tools",
    recipe: Recipe::Debian {
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
    use super::*;

    #[test]
    fn catalog_names_are_image_names() {
        for image in CATALOG {
            let name: ImageName = image.name.parse().unwrap();
            assert_eq!(find(&name), Some(image));
        }
    }
}
