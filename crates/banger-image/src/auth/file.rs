//! Owns the format of credential files, which docker, podman and skopeo share.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AuthError, Credentials, DOCKER_HUB_KEY};
use crate::reference::{DOCKER_HUB, RegistryHost};

/// A user's name and password, ready to be kept.
pub struct Stored(String);

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stored")
    }
}

impl Stored {
    /// A name with a colon cannot be told from its password again.
    #[must_use]
    pub fn new(username: &str, password: &str) -> Option<Self> {
        let fits = !username.is_empty() && !username.contains(':');
        fits.then(|| Self(BASE64_STANDARD.encode(format!("{username}:{password}"))))
    }
}

/// A file's content. What we do not know in it stays as it is.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AuthFile {
    auths: BTreeMap<String, Entry>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creds_store: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(skip_serializing_if = "String::is_empty")]
    auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    identitytoken: String,
}

impl AuthFile {
    /// `None` where there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, AuthError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(AuthError::File {
                    operation: "read",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        // Docker makes empty files where secrets are kept elsewhere.
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|source| AuthError::Format {
            path: path.to_owned(),
            source,
        })
    }

    /// The helper that keeps a registry's credentials, if one does.
    pub(super) fn helper(&self, host: &RegistryHost) -> Option<&str> {
        let mut own = self.cred_helpers.iter();
        let own = own.find(|(key, _)| normal(key) == host.as_str());
        let helper = own.map(|(_, helper)| helper).or(self.creds_store.as_ref());
        helper.map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The entry that says most of the repository's path.
    pub(super) fn find(
        &self,
        host: &RegistryHost,
        repository: &str,
        path: &Path,
    ) -> Result<Option<Credentials>, AuthError> {
        let mut wanted = format!("{host}/{repository}");
        loop {
            let entry = self.auths.iter().find(|(key, _)| normal(key) == wanted);
            if let Some((key, entry)) = entry {
                let damaged = || AuthError::Entry {
                    host: key.clone(),
                    path: path.to_owned(),
                };
                match entry.credentials().ok_or_else(damaged)? {
                    // Docker leaves empty entries where a helper has the secret.
                    Credentials::Anonymous => {}
                    found => return Ok(Some(found)),
                }
            }
            match wanted.rfind('/') {
                Some(end) => wanted.truncate(end),
                None => return Ok(None),
            }
        }
    }

    pub(super) fn insert(&mut self, host: &RegistryHost, credentials: &Stored) {
        self.remove(host);
        let entry = Entry {
            auth: credentials.0.clone(),
            ..Entry::default()
        };
        self.auths.insert(host.to_string(), entry);
    }

    pub(super) fn remove(&mut self, host: &RegistryHost) -> bool {
        let before = self.auths.len();
        self.auths.retain(|key, _| normal(key) != host.as_str());
        self.auths.len() < before
    }

    /// Replaces the file in one step; nobody else can read it at any time.
    pub(super) fn write(&self, path: &Path) -> Result<(), AuthError> {
        let failed = |source| AuthError::File {
            operation: "write",
            path: path.to_owned(),
            source,
        };
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory);
        made.map_err(failed)?;
        let text = serde_json::to_vec_pretty(self).expect("text serialises");
        // Temporary files are made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        let mode = fs::Permissions::from_mode(0o600);
        let written = file.as_file().set_permissions(mode);
        let written = written.and_then(|()| file.write_all(&text));
        written.map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

impl Entry {
    /// `None` where the entry cannot be read.
    fn credentials(&self) -> Option<Credentials> {
        if !self.identitytoken.is_empty() {
            return Some(Credentials::IdentityToken(self.identitytoken.clone()));
        }
        if !self.auth.is_empty() {
            let decoded = BASE64_STANDARD.decode(self.auth.trim()).ok()?;
            let decoded = String::from_utf8(decoded).ok()?;
            let (username, password) = decoded.split_once(':')?;
            return Some(Credentials::Basic {
                username: username.to_owned(),
                // Docker on Windows once ended passwords with NULs.
                password: password.trim_end_matches('\0').to_owned(),
            });
        }
        if self.username.is_empty() {
            return Some(Credentials::Anonymous);
        }
        Some(Credentials::Basic {
            username: self.username.clone(),
            password: self.password.clone(),
        })
    }
}

/// A key as a host with an optional path, whatever its spelling.
fn normal(key: &str) -> String {
    if key == DOCKER_HUB_KEY {
        return DOCKER_HUB.to_owned();
    }
    let bare = key.strip_prefix("https://").or(key.strip_prefix("http://"));
    let bare = bare.unwrap_or(key).trim_end_matches('/');
    let bare = ["/v1", "/v2"]
        .iter()
        .find_map(|end| bare.strip_suffix(end))
        .unwrap_or(bare);
    let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
    match host.parse::<RegistryHost>() {
        Ok(host) => format!("{host}{path}"),
        Err(_) => bare.to_owned(),
    }
}
