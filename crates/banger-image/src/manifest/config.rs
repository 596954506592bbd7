//! Owns the configuration of an image: its platform, its layers' contents, and what is to be run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ManifestError, Platform, digest};
use crate::digest::Sha256;

/// What an image says of how it is to be run. Kept as JSON beside the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// `name`, `uid`, `name:group` or `uid:gid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// `80/tcp` and the like.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The whole document, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDocument {
    /// Absent where the image does not say.
    pub platform: Option<Platform>,
    /// Of the unpacked layers, the lowest first.
    pub diff_ids: Vec<Sha256>,
    pub config: ImageConfig,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// Go writes an empty list as `null`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
}

impl ImageConfig {
    /// As it is kept beside an image.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text serialises")
    }

    /// What [`Self::to_json`] wrote; `None` where it did not.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl ConfigDocument {
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let raw: RawConfig =
            serde_json::from_slice(bytes).map_err(|source| ManifestError::Json {
                what: "configuration",
                source,
            })?;
        let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
        let known = !raw.os.is_empty() && !raw.architecture.is_empty();
        let platform = known.then_some(Platform {
            os: raw.os,
            architecture: raw.architecture,
            variant: Some(raw.variant).filter(|variant| !variant.is_empty()),
        });
        Ok(Self {
            platform,
            diff_ids: diff_ids
                .iter()
                .map(|id| digest(id))
                .collect::<Result<_, _>>()?,
            config: raw.config.unwrap_or_default().into(),
        })
    }

    /// Refuses an image that is for something else. A variant is the index's business.
    pub fn hold_to(&self, wanted: &Platform) -> Result<(), ManifestError> {
        match &self.platform {
            Some(found) if found.os != wanted.os || found.architecture != wanted.architecture => {
                Err(ManifestError::OtherPlatform {
                    wanted: wanted.clone(),
                    found: found.clone(),
                })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl From<RawRun> for ImageConfig {
    fn from(raw: RawRun) -> Self {
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let variable = |text: String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Some((name.to_owned(), value.to_owned())),
            Some(_) | None => None,
        };
        Self {
            entrypoint: raw.entrypoint.unwrap_or_default(),
            cmd: raw.cmd.unwrap_or_default(),
            env: raw
                .env
                .unwrap_or_default()
                .into_iter()
                .filter_map(variable)
                .collect(),
            user: text(raw.user),
            workdir: text(raw.working_dir),
            exposed_ports: raw.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: raw.labels.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{
        "os": "linux", "architecture": "arm64", "variant": "v8",
        "config": {
            "Entrypoint": ["/entry"], "Cmd": ["serve", ""], "Env": ["A=1=2", "B=", "C", "=D"],
            "User": "web:web", "WorkingDir": "/srv", "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Labels": {"a": "b"}, "OnBuild": null
        },
        "rootfs": {"type": "layers", "diff_ids": [
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}
    }"#;

    #[test]
    fn what_is_to_be_run_is_kept_and_survives_its_json() {
        let document = ConfigDocument::parse(FULL.as_bytes()).unwrap();
        let config = document.config.clone();
        assert_eq!(config.entrypoint, ["/entry"]);
        assert_eq!(config.cmd, ["serve", ""]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(config.env, [pair("A", "1=2"), pair("B", "")]);
        assert_eq!(config.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(document.diff_ids.len(), 1);
        assert_eq!(ImageConfig::from_json(&config.to_json()), Some(config));
        document.hold_to(&"linux/arm64".parse().unwrap()).unwrap();
        let error = document
            .hold_to(&"linux/amd64".parse().unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the image is for linux/arm64/v8, not for linux/amd64"
        );
    }

    #[test]
    fn what_is_absent_is_empty() {
        let check = |text: &str| {
            let document = ConfigDocument::parse(text.as_bytes()).unwrap();
            assert_eq!(document.config, ImageConfig::default(), "{text}");
            assert_eq!(document.platform, None);
        };
        check(r#"{"rootfs": {}}"#);
        check(r#"{"config": null, "rootfs": {"diff_ids": null}}"#);
        check(r#"{"config": {"Cmd": null, "Env": null, "User": ""}, "rootfs": {"diff_ids": []}}"#);
        assert!(ConfigDocument::parse(b"{}").is_err());
        assert!(ConfigDocument::parse(br#"{"rootfs": {"diff_ids": ["x"]}}"#).is_err());
    }
}
