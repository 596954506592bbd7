//! Where an image comes from, as people type it. Knows which forms name paths; whether there is
//! such an image is the daemon's business.

use std::{env, io, path::Path, str::FromStr};

/// The forms whose paths are seen from our own working directory.
const OF_THIS_HOST: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", "tar:"];

/// A name of the store or the catalog, or an image reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageReference(String);

/// Why a text cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImageReferenceError {
    #[error(
        "write an image's name, or a reference such as docker.io/library/alpine:3, oci:DIR[:TAG], \
         oci-archive:FILE, docker-archive:FILE or tar:FILE"
    )]
    Empty,
    #[error("standard input is imported: banger image import NAME tar:-")]
    StandardInput,
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        if text.trim().is_empty() || OF_THIS_HOST.contains(&text) {
            return Err(ImageReferenceError::Empty);
        }
        if text == "tar:-" {
            return Err(ImageReferenceError::StandardInput);
        }
        Ok(Self(text.to_owned()))
    }
}

impl ImageReference {
    /// What the daemon is told, whose working directory is another.
    pub(crate) fn resolve(&self) -> io::Result<String> {
        let transport = OF_THIS_HOST.into_iter().find(|t| self.0.starts_with(t));
        match transport {
            Some(transport) => Ok(absolute(transport, &self.0, &env::current_dir()?)),
            None => Ok(self.0.clone()),
        }
    }
}

/// The path ends at the first colon, except that of a tar, which has nothing behind it.
fn absolute(transport: &str, text: &str, directory: &Path) -> String {
    let rest = &text[transport.len()..];
    let (path, name) = match rest.find(':') {
        Some(colon) if transport != "tar:" => rest.split_at(colon),
        Some(_) | None => (rest, ""),
    };
    format!("{transport}{}{name}", directory.join(path).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_here() {
        let check = |transport: &str, text: &str, expected: &str| {
            assert_eq!(absolute(transport, text, Path::new("/here")), expected);
        };
        check("oci:", "oci:dir", "oci:/here/dir");
        check("oci:", "oci:dir:v1", "oci:/here/dir:v1");
        check(
            "docker-archive:",
            "docker-archive:/x:a/b:1",
            "docker-archive:/x:a/b:1",
        );
        check("tar:", "tar:a:b", "tar:/here/a:b");
        let named: ImageReference = "docker.io/library/alpine".parse().unwrap();
        assert_eq!(named.resolve().unwrap(), "docker.io/library/alpine");
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for wrong in ["", " ", "oci:", "tar:", "tar:-"] {
            assert!(wrong.parse::<ImageReference>().is_err(), "{wrong:?}");
        }
    }
}
