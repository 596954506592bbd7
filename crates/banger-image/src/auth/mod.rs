//! Owns the search for a registry's credentials: docker's and containers' files, credential
//! helpers, and our own file, which it writes. Sends nothing; starts no process itself.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

pub use file::Stored;

use crate::reference::{DOCKER_HUB, RegistryHost};
use file::AuthFile;

/// Docker's own key for Docker Hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// A helper that has a token instead of a password gives this as the user.
const TOKEN_USER: &str = "<token>";

/// What a registry is told of who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Anonymous,
    Basic {
        username: String,
        password: String,
    },
    /// Exchanged for an access token, as OAuth 2 has it.
    IdentityToken(String),
}

/// Secrets are never shown.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => f.debug_tuple("Basic").field(username).finish(),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
        }
    }
}

/// Why credentials could not be found or kept.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("cannot {operation} the credentials in {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no file of credentials", path.display())]
    Format {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the credentials for {host} in {} are damaged", path.display())]
    Entry { host: String, path: PathBuf },
    #[error("{:?} cannot be the name of a credential helper", name)]
    HelperName { name: String },
    #[error("the credential helper {helper} gave no credentials for {server}")]
    Helper {
        helper: String,
        server: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the credential helper {helper} gave an answer for {server} that is none")]
    HelperAnswer { helper: String, server: String },
}

/// Asks programs that keep credentials. The implementation starts processes.
#[async_trait]
pub trait Helpers: Send + Sync {
    /// What `docker-credential-NAME get` prints for a server; `None` where it has nothing.
    async fn get(
        &self,
        name: &str,
        server: &str,
    ) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Knows no helper, and so has nothing of any.
#[derive(Debug, Clone, Copy)]
pub struct NoHelpers;

#[async_trait]
impl Helpers for NoHelpers {
    async fn get(
        &self,
        _: &str,
        _: &str,
    ) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(None)
    }
}

/// Where credentials may be, the first place that has some wins.
#[derive(Clone)]
pub struct Keychain {
    files: Vec<PathBuf>,
    helpers: Arc<dyn Helpers>,
}

impl std::fmt::Debug for Keychain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keychain")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Keychain {
    #[must_use]
    pub fn new(files: Vec<PathBuf>, helpers: Arc<dyn Helpers>) -> Self {
        Self { files, helpers }
    }

    /// What to say to a registry about a repository.
    pub async fn find(
        &self,
        host: &RegistryHost,
        repository: &str,
    ) -> Result<Credentials, AuthError> {
        for path in &self.files {
            let Some(file) = AuthFile::read(path)? else {
                continue;
            };
            if let Some(helper) = file.helper(host)
                && let Some(found) = self.ask(helper, host).await?
            {
                return Ok(found);
            }
            if let Some(found) = file.find(host, repository, path)? {
                return Ok(found);
            }
        }
        Ok(Credentials::Anonymous)
    }

    async fn ask(
        &self,
        helper: &str,
        host: &RegistryHost,
    ) -> Result<Option<Credentials>, AuthError> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if helper.is_empty() || !helper.bytes().all(plain) {
            return Err(AuthError::HelperName {
                name: helper.to_owned(),
            });
        }
        let server = if host.as_str() == DOCKER_HUB {
            DOCKER_HUB_KEY
        } else {
            host.as_str()
        };
        let answer = self.helpers.get(helper, server).await;
        let answer = answer.map_err(|source| AuthError::Helper {
            helper: helper.to_owned(),
            server: server.to_owned(),
            source,
        })?;
        let parsed = answer.map(|bytes| helper_answer(&bytes).ok_or(()));
        parsed.transpose().map_err(|()| AuthError::HelperAnswer {
            helper: helper.to_owned(),
            server: server.to_owned(),
        })
    }
}

fn helper_answer(bytes: &[u8]) -> Option<Credentials> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let Answer { username, secret } = serde_json::from_slice(bytes).ok()?;
    Some(if username == TOKEN_USER {
        Credentials::IdentityToken(secret)
    } else {
        Credentials::Basic {
            username,
            password: secret,
        }
    })
}

/// Where docker, podman and skopeo keep credentials, in the order in which they are asked.
#[must_use]
pub fn usual_files(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Vec<PathBuf> {
    let directory = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = directory("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let containers = "containers/auth.json";
    let config = directory("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = directory("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    [
        directory("REGISTRY_AUTH_FILE"),
        directory("XDG_RUNTIME_DIR").map(|dir| dir.join(containers)),
        config.map(|dir| dir.join(containers)),
        docker.map(|dir| dir.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Keeps credentials for a registry in a file of ours, readable by its owner alone.
pub fn store(path: &Path, host: &RegistryHost, credentials: &Stored) -> Result<(), AuthError> {
    let mut file = AuthFile::read(path)?.unwrap_or_default();
    file.insert(host, credentials);
    file.write(path)
}

/// Forgets a registry's credentials; whether there were any.
pub fn forget(path: &Path, host: &RegistryHost) -> Result<bool, AuthError> {
    let Some(mut file) = AuthFile::read(path)? else {
        return Ok(false);
    };
    let known = file.remove(host);
    if known {
        file.write(path)?;
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct One(&'static str);

    #[async_trait]
    impl Helpers for One {
        async fn get(
            &self,
            name: &str,
            server: &str,
        ) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error + Send + Sync>> {
            let answer = self.0.replace("SERVER", server).replace("NAME", name);
            Ok((!answer.is_empty()).then(|| answer.into_bytes()))
        }
    }

    async fn find(
        files: &[&str],
        helper: &'static str,
        host: &str,
    ) -> Result<Credentials, AuthError> {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let path = directory.path().join(index.to_string());
                fs::write(&path, text).unwrap();
                path
            })
            .collect();
        let keychain = Keychain::new(paths, Arc::new(One(helper)));
        keychain.find(&host.parse().unwrap(), "library/web").await
    }

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic {
            username: username.into(),
            password: password.into(),
        }
    }

    #[tokio::test]
    async fn the_first_file_that_knows_the_registry_wins() {
        // `a:b`, `c:d`
        let first = r#"{"auths":{"other.io":{"auth":"YTpi"}}}"#;
        let second =
            r#"{"auths":{"quay.io":{"auth":"Yzpk"},"quay.io/library/web":{"auth":"YTpi"}}}"#;
        assert_eq!(
            find(&[first, second], "", "quay.io").await.unwrap(),
            basic("a", "b")
        );
        assert_eq!(
            find(&[second, first], "", "other.io").await.unwrap(),
            basic("a", "b")
        );
        assert_eq!(
            find(&[first], "", "quay.io").await.unwrap(),
            Credentials::Anonymous
        );
        assert_eq!(
            find(&[], "", "quay.io").await.unwrap(),
            Credentials::Anonymous
        );
    }

    #[tokio::test]
    async fn docker_hub_goes_by_its_old_name() {
        let file = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"}}}"#;
        assert_eq!(
            find(&[file], "", "docker.io").await.unwrap(),
            basic("a", "b")
        );
        let file = r#"{"credsStore":"x"}"#;
        let helper = r#"{"Username":"NAME","Secret":"SERVER"}"#;
        assert_eq!(
            find(&[file], helper, "docker.io").await.unwrap(),
            basic("x", DOCKER_HUB_KEY)
        );
    }

    #[tokio::test]
    async fn helpers_are_asked_before_the_file() {
        let file = r#"{"auths":{"quay.io":{"auth":"YTpi"}},"credHelpers":{"quay.io":"h"}}"#;
        let token = r#"{"Username":"<token>","Secret":"t"}"#;
        let found = find(&[file], token, "quay.io").await.unwrap();
        assert_eq!(found, Credentials::IdentityToken("t".into()));
        assert_eq!(find(&[file], "", "quay.io").await.unwrap(), basic("a", "b"));
        assert!(find(&[file], "nonsense", "quay.io").await.is_err());
        let evil = r#"{"credsStore":"../../bin/sh"}"#;
        let error = find(&[evil], token, "quay.io").await.unwrap_err();
        assert!(matches!(error, AuthError::HelperName { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn damaged_files_are_named_and_secrets_never_shown() {
        let error = find(&["{"], "", "quay.io").await.unwrap_err();
        assert!(matches!(error, AuthError::Format { .. }), "{error:?}");
        let error = find(&[r#"{"auths":{"quay.io":{"auth":"!"}}}"#], "", "quay.io").await;
        assert!(matches!(error, Err(AuthError::Entry { .. })), "{error:?}");
        let shown = format!("{:?}", basic("me", "geheim"));
        assert!(!shown.contains("geheim"), "{shown}");
    }

    #[tokio::test]
    async fn what_is_stored_is_found_and_private_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/auth.json");
        let host: RegistryHost = "127.0.0.1:5000".parse().unwrap();
        let stored = Stored::new("me", "p:w").unwrap();
        store(&path, &host, &stored).unwrap();
        store(&path, &"quay.io".parse().unwrap(), &stored).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let keychain = Keychain::new(vec![path.clone()], Arc::new(NoHelpers));
        assert_eq!(
            keychain.find(&host, "a/b").await.unwrap(),
            basic("me", "p:w")
        );
        assert!(forget(&path, &host).unwrap());
        assert!(!forget(&path, &host).unwrap());
        assert_eq!(
            keychain.find(&host, "a/b").await.unwrap(),
            Credentials::Anonymous
        );
        let other = "quay.io".parse().unwrap();
        assert_eq!(
            keychain.find(&other, "a/b").await.unwrap(),
            basic("me", "p:w")
        );
        assert!(Stored::new("a:b", "c").is_none());
    }

    #[test]
    fn the_usual_files_follow_the_environment() {
        let check = |set: &[(&str, &str)], expected: &[&str]| {
            let variable = |name: &str| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| value.into())
            };
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(usual_files(variable), expected);
        };
        check(&[], &[]);
        check(
            &[("HOME", "/h")],
            &["/h/.config/containers/auth.json", "/h/.docker/config.json"],
        );
        check(
            &[
                ("HOME", "/h"),
                ("DOCKER_CONFIG", "/d"),
                ("REGISTRY_AUTH_FILE", "/r"),
                ("XDG_RUNTIME_DIR", "/x"),
            ],
            &[
                "/r",
                "/x/containers/auth.json",
                "/h/.config/containers/auth.json",
                "/d/config.json",
            ],
        );
    }
}
