//! What people call an image: a name of the local store or the catalog, or where it comes from.

use std::{fmt, str::FromStr};

use banger_image::reference::ImageRef;

use crate::{
    error::Error,
    name::{CatalogName, ImageName},
};

/// A name, or a reference. A plain word is a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageTarget {
    Named(ImageName),
    /// An entry of a catalog, if there is one of this name, and a reference otherwise.
    Either {
        catalog: CatalogName,
        entry: ImageName,
        reference: ImageRef,
    },
    At(ImageRef),
}

impl FromStr for ImageTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse::<ImageName>() {
            Ok(name) => Ok(Self::Named(name)),
            // What has neither a slash nor a colon was meant to be a name.
            Err(error) if !text.contains(['/', ':', '@']) => Err(error.into()),
            Err(_) => {
                let reference = text.parse()?;
                Ok(match in_catalog(text) {
                    Some((catalog, entry)) => Self::Either {
                        catalog,
                        entry,
                        reference,
                    },
                    None => Self::At(reference),
                })
            }
        }
    }
}

/// `CATALOG/NAME`; two words that could as well be a repository.
fn in_catalog(text: &str) -> Option<(CatalogName, ImageName)> {
    let (catalog, entry) = text.split_once('/')?;
    Some((catalog.parse().ok()?, entry.parse().ok()?))
}

impl From<ImageName> for ImageTarget {
    fn from(name: ImageName) -> Self {
        Self::Named(name)
    }
}

impl fmt::Display for ImageTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Either { catalog, entry, .. } => write!(f, "{catalog}/{entry}"),
            Self::At(reference) => reference.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_word_is_a_name_two_may_be_an_entry_and_the_rest_are_references() {
        let check = |text: &str, expected: &str| {
            let found = match text.parse().unwrap() {
                ImageTarget::Named(_) => "name",
                ImageTarget::Either { .. } => "either",
                ImageTarget::At(_) => "reference",
            };
            assert_eq!(found, expected, "{text}");
        };
        check("debian-bookworm", "name");
        check("alpine", "name");
        check("alpine:3", "reference");
        check("me/web", "either");
        check("me/web:1", "reference");
        check("me/my/web", "reference");
        check("localhost/web", "reference");
        check("quay.io/web", "reference");
        check("oci:/dir", "reference");
        for wrong in ["", "Alpine", "-a", "a/-b", "../x"] {
            assert!(wrong.parse::<ImageTarget>().is_err(), "{wrong}");
        }
    }
}
