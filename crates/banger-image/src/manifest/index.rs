//! Owns the choice of one image out of an index.

use serde::Deserialize;

use super::{Descriptor, MOST_MANIFESTS, ManifestError, Platform, RawDescriptor};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Images for several platforms, or of several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    descriptor: Descriptor,
    platform: Option<Platform>,
    name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RawEntry {
    #[serde(flatten)]
    descriptor: RawDescriptor,
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Index {
    pub(super) fn new(raw: &[RawEntry]) -> Result<Self, ManifestError> {
        if raw.len() > MOST_MANIFESTS {
            return Err(ManifestError::TooMany {
                what: "manifests of an index",
                most: MOST_MANIFESTS,
            });
        }
        // Attestations travel as manifests of no platform.
        let images = raw.iter().filter(|entry| {
            let annotations = entry.annotations.as_ref();
            !annotations.is_some_and(|all| all.contains_key(REFERENCE_TYPE))
        });
        let entries = images.map(RawEntry::parse).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// The image for a platform: the best fit, the first of equals.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let ranked = self.entries.iter().filter_map(|entry| {
            // A layout's only entry often says nothing of its platform.
            let rank = match &entry.platform {
                Some(platform) => platform.fits(wanted)?,
                None => u32::MAX,
            };
            Some((rank, &entry.descriptor))
        });
        let best = ranked.min_by_key(|(rank, _)| *rank);
        best.map(|(_, descriptor)| descriptor)
            .ok_or_else(|| ManifestError::NoPlatform {
                wanted: wanted.clone(),
                available: self.platforms(),
            })
    }

    /// Only the entries of a name; all where none is asked for.
    #[must_use]
    pub fn named(&self, name: Option<&str>) -> Self {
        let named = |entry: &&Entry| name.is_none() || entry.name.as_deref() == name;
        Self {
            entries: self.entries.iter().filter(named).cloned().collect(),
        }
    }

    /// The names of the entries, each once.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.entries.iter().filter_map(|entry| entry.name.clone());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.dedup();
        names
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn platforms(&self) -> Vec<String> {
        let platforms = self.entries.iter().filter_map(|e| e.platform.as_ref());
        platforms.map(ToString::to_string).collect()
    }
}

impl RawEntry {
    fn parse(&self) -> Result<Entry, ManifestError> {
        let platform = self.platform.as_ref().filter(|p| !p.os.is_empty());
        let annotations = self.annotations.as_ref();
        Ok(Entry {
            descriptor: self.descriptor.parse()?,
            platform: platform.map(RawPlatform::parse),
            name: annotations.and_then(|all| all.get(REF_NAME)).cloned(),
        })
    }
}

impl RawPlatform {
    fn parse(&self) -> Platform {
        let word = |text: &str| text.chars().take(40).collect::<String>();
        let variant = self.variant.as_deref().filter(|v| !v.is_empty());
        Platform {
            os: word(&self.os),
            architecture: word(&self.architecture),
            variant: variant.map(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::manifest::Document;

    fn index(entries: &[(u8, &str, &str)]) -> Index {
        let entries: Vec<_> = entries
            .iter()
            .map(|(byte, platform, more)| {
                let digest = Sha256::from_bytes([*byte; 32]);
                let mut words = platform.split('/');
                let platform = match (words.next(), words.next(), words.next()) {
                    (Some(os), Some(arch), variant) => format!(
                        r#","platform":{{"os":"{os}","architecture":"{arch}","variant":"{}"}}"#,
                        variant.unwrap_or_default()
                    ),
                    _ => String::new(),
                };
                format!(r#"{{"mediaType":"m","digest":"{digest}","size":1{platform}{more}}}"#)
            })
            .collect();
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entries.join(",")
        );
        match Document::parse(text.as_bytes(), None) {
            Ok(Document::Index(index)) => index,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_best_fit_is_chosen_and_attestations_never() {
        let attestation = r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#;
        let all = index(&[
            (1, "unknown/unknown", attestation),
            (2, "linux/arm/v6", ""),
            (3, "linux/arm/v7", ""),
            (4, "linux/amd64/v3", ""),
            (5, "linux/amd64", ""),
        ]);
        let check = |wanted: &str, byte: Option<u8>| {
            let chosen = all.choose(&wanted.parse().unwrap()).ok();
            let digest = byte.map(|byte| Sha256::from_bytes([byte; 32]));
            assert_eq!(chosen.map(|d| d.digest), digest, "{wanted}");
        };
        check("linux/amd64", Some(5));
        check("linux/amd64/v3", Some(4));
        check("linux/arm", Some(3));
        check("linux/arm/v6", Some(2));
        check("linux/riscv64", None);
        let error = all.choose(&"plan9/386".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("linux/amd64"), "{error}");
        assert!(!error.to_string().contains("unknown"), "{error}");
    }

    #[test]
    fn entries_have_names() {
        let name = |name: &str| {
            format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#)
        };
        let all = index(&[(1, "", &name("a")), (2, "", &name("b"))]);
        assert_eq!(all.names(), ["a", "b"]);
        let chosen = all.named(Some("b"));
        let host = Platform::host();
        let digest = Sha256::from_bytes([2; 32]);
        assert_eq!(chosen.choose(&host).unwrap().digest, digest);
        assert!(all.named(Some("c")).is_empty());
    }
}
