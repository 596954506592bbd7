//! Owns the list of kernels that can be had by name. Knows no place: an entry says which package of
//! which suite or which file, who reads the catalog knows where that is.

use serde::{Deserialize, Serialize};

use super::bundle::Bundle;
use super::manifest::{Arch, KernelName};
use crate::debian::Suite;

const EMBEDDED: &str = include_str!("catalog.json");

/// The kernels that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Catalog {
    entries: Vec<CatalogEntry>,
}

/// A kernel that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    pub name: KernelName,
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

impl Catalog {
    /// The catalog that is built in.
    ///
    /// # Panics
    /// If the catalog that is compiled in cannot be read, which a test rules out.
    #[must_use]
    pub fn embedded() -> Self {
        serde_json::from_str(EMBEDDED).expect("the built-in catalog is read by a test")
    }

    #[must_use]
    pub fn entries(&self) -> &[CatalogEntry] {
        &self.entries
    }

    pub fn get(&self, name: &KernelName) -> Result<&CatalogEntry, UnknownKernel> {
        self.entries
            .iter()
            .find(|entry| entry.name == *name)
            .ok_or_else(|| UnknownKernel {
                name: name.clone(),
                available: self
                    .entries
                    .iter()
                    .map(|entry| entry.name.to_string())
                    .collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalog_offers_debians_kernel() {
        let catalog = Catalog::embedded();
        let entry = catalog.get(&"debian-6.1".parse().unwrap()).unwrap();
        let KernelSource::Debian(package) = &entry.source else {
            panic!("{:?}", entry.source)
        };
        assert_eq!(package.suite.as_str(), "bookworm");
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let error = Catalog::embedded()
            .get(&"hurd".parse().unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no kernel named hurd to pull; available: generic-6.12, debian-6.1"
        );
    }
}
