//! Owns what catalogs say of kernels, and the list that is built in. Knows no place: an entry says
//! which package of which suite or which file, who reads the catalog knows where that is.

use serde::{Deserialize, Serialize};

use super::manifest::KernelName;
use crate::bundle::Bundle;
use crate::catalog::{Arch, Catalog};
use crate::debian::Suite;

const EMBEDDED: &str = include_str!("catalog.json");

/// A kernel that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    pub name: KernelName,
    #[serde(default)]
    pub description: String,
    pub arch: Arch,
    pub source: KernelSource,
}

/// What a kernel is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KernelSource {
    Debian(DebianPackage),
    /// A file beside the catalog.
    Bundle(Bundle),
    /// Nobody offers it; whoever has banger's source can build it.
    Built,
}

/// A package of Debian's archive, or the one that it depends on where it is a meta package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebianPackage {
    pub package: String,
    /// Upstream versions to accept: `6.1` is any 6.1.x.
    pub series: String,
    /// The suite to take it from unless the configuration names another.
    pub suite: Suite,
}

/// A name that the catalog does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kernel named {name} to pull; available: {}", available.join(", "))]
pub struct UnknownKernel {
    pub name: KernelName,
    pub available: Vec<String>,
}

/// The catalog that is built in.
///
/// # Panics
/// If the catalog that is compiled in cannot be read, which a test rules out.
#[must_use]
pub fn embedded() -> Catalog {
    Catalog::parse(EMBEDDED.as_bytes()).expect("the built-in catalog is read by a test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalog_offers_debians_kernel() {
        let catalog = embedded();
        let entry = catalog.kernel(&"debian-6.1".parse().unwrap()).unwrap();
        let KernelSource::Debian(package) = &entry.source else {
            panic!("{:?}", entry.source)
        };
        assert_eq!(package.suite.as_str(), "bookworm");
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let error = embedded().kernel(&"hurd".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no kernel named hurd to pull; available: generic-6.12, debian-6.1"
        );
    }
}
