//! What people call an image: a name of the local store or the catalog, or where it comes from.

use std::{fmt, str::FromStr};

use banger_image::reference::ImageRef;

use crate::{error::Error, name::ImageName};

/// A name, or a reference. A plain word is a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageTarget {
    Named(ImageName),
    At(ImageRef),
}

impl FromStr for ImageTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse::<ImageName>() {
            Ok(name) => Ok(Self::Named(name)),
            // What has neither a slash nor a colon was meant to be a name.
            Err(error) if !text.contains(['/', ':', '@']) => Err(error.into()),
            Err(_) => Ok(Self::At(text.parse()?)),
        }
    }
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
            Self::At(reference) => reference.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_word_is_a_name_and_the_rest_are_references() {
        let check = |text: &str, named: bool| {
            let target: ImageTarget = text.parse().unwrap();
            assert_eq!(matches!(target, ImageTarget::Named(_)), named, "{text}");
        };
        check("debian-bookworm", true);
        check("alpine", true);
        check("alpine:3", false);
        check("me/web", false);
        check("oci:/dir", false);
        for wrong in ["", "Alpine", "-a", "a/-b", "../x"] {
            assert!(wrong.parse::<ImageTarget>().is_err(), "{wrong}");
        }
    }
}
