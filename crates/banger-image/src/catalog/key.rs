//! Owns the keys that catalogs are signed with: their text, as C2SP's signed notes have it, and
//! their files. Knows no catalog.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::digest::Sha256;

/// The number of Ed25519 among the algorithms of signed notes.
const ED25519: u8 = 1;
const SECRET: &str = "PRIVATE+KEY+";
/// No key's file is longer.
const LONGEST: u64 = 4096;

/// Who signs: a word that stands in keys and beside signatures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignerName(String);

/// What a signature is checked with: `NAME+ID+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: SignerName,
    key: VerifyingKey,
}

/// What signs.
pub struct SecretKey {
    name: SignerName,
    key: SigningKey,
}

/// Why a text or a file is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{text:?} is no public key of a catalog: NAME+ID+BASE64 is needed")]
    Public { text: String },
    #[error("{text:?} is no signer's name: 1 to 63 letters, digits, dots, dashes, underscores")]
    Name { text: String },
    #[error("{} holds no secret key of a catalog", path.display())]
    Secret { path: PathBuf },
    #[error("the secret key {} can be read by others", path.display())]
    Exposed { path: PathBuf },
    #[error("cannot {operation} the key {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// Tells keys of one name apart.
fn id(name: &SignerName, key: &VerifyingKey) -> [u8; 4] {
    let mut text = name.0.clone().into_bytes();
    text.extend([b'\n', ED25519]);
    text.extend(key.as_bytes());
    let [a, b, c, d, ..] = *Sha256::of(&text).as_bytes();
    [a, b, c, d]
}

fn encode(key: &[u8; 32]) -> String {
    STANDARD.encode([&[ED25519][..], key].concat())
}

fn decode(text: &str) -> Option<[u8; 32]> {
    let bytes = STANDARD.decode(text).ok()?;
    let (algorithm, key) = bytes.split_first()?;
    (*algorithm == ED25519).then(|| key.try_into().ok())?
}

/// The three parts of a key's text.
fn parts(text: &str) -> Option<(SignerName, [u8; 4], [u8; 32])> {
    let mut parts = text.splitn(3, '+');
    let name = parts.next()?.parse().ok()?;
    let mut id = [0; 4];
    hex::decode_to_slice(parts.next()?, &mut id).ok()?;
    Some((name, id, decode(parts.next()?)?))
}

impl PublicKey {
    #[must_use]
    pub fn signer(&self) -> &SignerName {
        &self.name
    }

    pub(super) fn id(&self) -> [u8; 4] {
        id(&self.name, &self.key)
    }

    pub(super) fn verify(&self, text: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.key.verify_strict(text, &signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = parts(text.trim()).and_then(|(name, stated, key)| {
            let key = VerifyingKey::from_bytes(&key).ok()?;
            let good = !key.is_weak() && id(&name, &key) == stated;
            good.then_some(Self { name, key })
        });
        key.ok_or_else(|| KeyError::Public {
            text: text.chars().take(200).collect(),
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = hex::encode(self.id());
        write!(f, "{}+{id}+{}", self.name, encode(self.key.as_bytes()))
    }
}

impl SecretKey {
    /// A new key from the kernel's random source.
    #[must_use]
    pub fn generate(name: SignerName) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the kernel's random source does not fail after boot");
        let key = SigningKey::from_bytes(&seed);
        Self { name, key }
    }

    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey {
            name: self.name.clone(),
            key: self.key.verifying_key(),
        }
    }

    pub(super) fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.key.sign(text).to_bytes()
    }

    /// Writes the key for its owner alone, and the public one beside it. Replaces nothing.
    pub fn save(&self, path: &Path) -> Result<PathBuf, KeyError> {
        let id = hex::encode(self.public().id());
        let text = format!(
            "{SECRET}{}+{id}+{}\n",
            self.name,
            encode(&self.key.to_bytes())
        );
        write_new(path, 0o600, &text)?;
        let mut public = path.as_os_str().to_owned();
        public.push(".pub");
        let public = PathBuf::from(public);
        write_new(&public, 0o644, &format!("{}\n", self.public()))?;
        Ok(public)
    }

    /// Reads a key that nobody else can read.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |operation| {
            move |source| KeyError::File {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        let file = File::open(path).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("look at"))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            let path = path.to_owned();
            return Err(KeyError::Exposed { path });
        }
        let mut text = String::new();
        let read = file.take(LONGEST).read_to_string(&mut text);
        read.map_err(failed("read"))?;
        Self::parse(&text).ok_or_else(|| KeyError::Secret {
            path: path.to_owned(),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, stated, seed) = parts(text.trim().strip_prefix(SECRET)?)?;
        let key = SigningKey::from_bytes(&seed);
        (id(&name, &key.verifying_key()) == stated).then_some(Self { name, key })
    }
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let mut file = options.open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| KeyError::File {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

/// Secrets are never shown.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl FromStr for SignerName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            let text = text.chars().take(80).collect();
            Err(KeyError::Name { text })
        }
    }
}

impl fmt::Display for SignerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey {
            name: "acme".parse().unwrap(),
            key: SigningKey::from_bytes(&[seed; 32]),
        }
    }

    #[test]
    fn keys_of_other_programs_are_read_and_written() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(text.parse::<PublicKey>().unwrap().to_string(), text);
        let own = key(7).public();
        assert_eq!(own.to_string().parse::<PublicKey>().unwrap(), own);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = key(7).public().to_string();
        let other_name = good.replace("acme", "acne");
        let cut = &good[..good.len() - 4];
        let weak = format!("acme+00000000+{}", encode(&[0; 32]));
        for text in ["", "acme", "acme+0+", &other_name, cut, &weak] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_file_is_its_owner_s_alone_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let public = key(7).save(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            SecretKey::read(&path).unwrap().public(),
            std::fs::read_to_string(public).unwrap().parse().unwrap()
        );
        assert!(matches!(key(8).save(&path), Err(KeyError::File { .. })));
        let open = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(&path, open).unwrap();
        let refused = SecretKey::read(&path).unwrap_err();
        assert!(matches!(refused, KeyError::Exposed { .. }), "{refused}");
    }

    #[test]
    fn a_secret_key_is_not_shown() {
        let shown = format!("{:?}", key(7));
        assert_eq!(shown, "SecretKey { name: SignerName(\"acme\"), .. }");
    }
}
