//! Owns the decision whose signature counts: which keys are trusted, and when such a key was fit
//! to sign. Knows no network and no meaning of what was signed.
//!
//! A signature counts when it verifies over the canonical text with a strong hash, and the key
//! that made it could sign, was neither expired nor revoked, both when it signed and now.

use std::time::{Duration, SystemTime};

use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag, Timestamp, VerifyingKey};

use super::clearsign::{FramingError, Message};

/// The archive's own keys; each has made signatures on a suite that we use.
const DEBIAN: [&str; 6] = [
    include_str!("../keys/debian-archive-bookworm-automatic.asc"),
    include_str!("../keys/debian-archive-bookworm-security-automatic.asc"),
    include_str!("../keys/debian-archive-bookworm-stable.asc"),
    include_str!("../keys/debian-archive-trixie-automatic.asc"),
    include_str!("../keys/debian-archive-trixie-security-automatic.asc"),
    include_str!("../keys/debian-archive-trixie-stable.asc"),
];

/// How far a signer's clock may be ahead of ours.
pub(super) const CLOCK_SLACK: Duration = Duration::from_secs(24 * 60 * 60);
/// The archive signs with three keys at most.
const MOST_SIGNATURES: usize = 16;

/// The keys that are trusted.
#[derive(Debug, Clone)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

/// A key that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read an OpenPGP public key")]
pub struct KeyError {
    source: pgp::errors::Error,
}

/// Why a signed message is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("cannot read it as a signed message")]
    Framing { source: FramingError },
    #[error("cannot read its signatures")]
    Armor { source: pgp::errors::Error },
    #[error("it carries more than {MOST_SIGNATURES} signatures")]
    TooMany,
    #[error("it has no valid signature by a trusted key ({})", list(.rejected))]
    NoneValid { rejected: Vec<Rejected> },
}

/// A signature that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The key that claims to have made it, in hexadecimal.
    pub key: String,
    pub reason: Reason,
}

/// Why a signature, or the key that made it, does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("not a trusted key")]
    UnknownKey,
    #[error("does not match the text")]
    Mismatch,
    #[error("weak hash algorithm")]
    WeakHash,
    #[error("not a signature over a text")]
    WrongType,
    #[error("no time of creation, or one in the future")]
    BadTime,
    #[error("signature expired")]
    SignatureExpired,
    #[error("key expired")]
    KeyExpired,
    #[error("key revoked")]
    KeyRevoked,
    #[error("key made after the signature")]
    KeyTooYoung,
    #[error("key may not sign")]
    MayNotSign,
}

fn list(rejected: &[Rejected]) -> String {
    if rejected.is_empty() {
        return "it carries none".to_owned();
    }
    let lines: Vec<String> = rejected
        .iter()
        .map(|r| format!("{}: {}", r.key, r.reason))
        .collect();
    lines.join(", ")
}

/// When a key may sign: from its creation to its expiry.
#[derive(Debug, Clone, Copy)]
struct Lifetime {
    from: SystemTime,
    until: Option<SystemTime>,
}

impl Lifetime {
    fn of(created: Timestamp, self_signature: &Signature) -> Self {
        let from = SystemTime::from(created);
        let until = self_signature
            .key_expiration_time()
            .map(Duration::from)
            .filter(|lifetime| !lifetime.is_zero())
            .map(|lifetime| from + lifetime);
        Self { from, until }
    }

    fn check(self, at: SystemTime) -> Result<(), Reason> {
        if at < self.from {
            Err(Reason::KeyTooYoung)
        } else if self.until.is_some_and(|until| at >= until) {
            Err(Reason::KeyExpired)
        } else {
            Ok(())
        }
    }
}

impl Keyring {
    /// The keys of Debian's archive that are built in.
    ///
    /// # Panics
    /// If a key that is compiled in cannot be read, which a test rules out.
    #[must_use]
    pub fn debian() -> Self {
        Self::from_armored(&DEBIAN).expect("the built-in keys are read by a test")
    }

    /// Keys from ASCII-armored blocks.
    pub fn from_armored(blocks: &[&str]) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for block in blocks {
            let (parsed, _) = SignedPublicKey::from_armor_many(block.as_bytes())
                .map_err(|source| KeyError { source })?;
            for key in parsed {
                keys.push(key.map_err(|source| KeyError { source })?);
            }
        }
        Ok(Self { keys })
    }

    /// The text of a cleartext-signed message, if at least one signature counts at `now`.
    pub fn open(&self, message: &[u8], now: SystemTime) -> Result<String, SignatureError> {
        let message =
            Message::parse(message).map_err(|source| SignatureError::Framing { source })?;
        let canonical = message.canonical();
        let mut rejected = Vec::new();
        for signature in read_signatures(message.signature())? {
            match self.judge(&signature, canonical.as_bytes(), now) {
                Ok(()) => return Ok(message.text()),
                Err(reason) => rejected.push(Rejected {
                    key: issuer(&signature),
                    reason,
                }),
            }
        }
        Err(SignatureError::NoneValid { rejected })
    }

    fn judge(&self, signature: &Signature, text: &[u8], now: SystemTime) -> Result<(), Reason> {
        let made = check_form(signature, now)?;
        let mut verdict = Err(Reason::UnknownKey);
        for key in &self.keys {
            match judge_by(key, signature, text, made, now) {
                Err(Reason::UnknownKey) => {}
                Ok(()) => return Ok(()),
                Err(reason) => verdict = Err(reason),
            }
        }
        verdict
    }
}

fn read_signatures(armored: &str) -> Result<Vec<Signature>, SignatureError> {
    let (parsed, _) = DetachedSignature::from_armor_many(armored.as_bytes())
        .map_err(|source| SignatureError::Armor { source })?;
    let mut signatures = Vec::new();
    for signature in parsed {
        if signatures.len() == MOST_SIGNATURES {
            return Err(SignatureError::TooMany);
        }
        signatures.push(
            signature
                .map_err(|source| SignatureError::Armor { source })?
                .signature,
        );
    }
    Ok(signatures)
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature
        .issuer_fingerprint()
        .first()
        .map(ToString::to_string);
    let id = || signature.issuer_key_id().first().map(ToString::to_string);
    fingerprint
        .or_else(id)
        .unwrap_or_else(|| "unnamed key".to_owned())
}

/// What can be said without a key. Returns when the signature was made.
fn check_form(signature: &Signature, now: SystemTime) -> Result<SystemTime, Reason> {
    if !matches!(
        signature.typ(),
        Some(SignatureType::Text | SignatureType::Binary)
    ) {
        return Err(Reason::WrongType);
    }
    if !is_strong(signature) {
        return Err(Reason::WeakHash);
    }
    let made = SystemTime::from(signature.created().ok_or(Reason::BadTime)?);
    if made > now + CLOCK_SLACK {
        return Err(Reason::BadTime);
    }
    let lifetime = signature.signature_expiration_time().map(Duration::from);
    if lifetime.is_some_and(|lifetime| !lifetime.is_zero() && made + lifetime <= now) {
        return Err(Reason::SignatureExpired);
    }
    Ok(made)
}

fn is_strong(signature: &Signature) -> bool {
    // The library's list is open, so that what it learns later must be admitted here first.
    matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}

/// Whether `signature` was made by this certificate's primary key or one of its subkeys, and
/// whether that key was fit to.
fn judge_by(
    certificate: &SignedPublicKey,
    signature: &Signature,
    text: &[u8],
    made: SystemTime,
    now: SystemTime,
) -> Result<(), Reason> {
    let primary = &certificate.primary_key;
    if claims(signature, primary) {
        signature
            .verify(primary, text)
            .map_err(|_| Reason::Mismatch)?;
        let own = fit_primary(certificate, made, now)?;
        return if own.key_flags().sign() {
            Ok(())
        } else {
            Err(Reason::MayNotSign)
        };
    }
    let subkey = certificate
        .public_subkeys
        .iter()
        .find(|subkey| claims(signature, &subkey.key));
    let subkey = subkey.ok_or(Reason::UnknownKey)?;
    signature
        .verify(&subkey.key, text)
        .map_err(|_| Reason::Mismatch)?;
    fit_primary(certificate, made, now)?;
    fit_subkey(certificate, subkey, made, now)
}

fn claims(signature: &Signature, key: &impl VerifyingKey) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        signature.issuer_key_id().contains(&&key.legacy_key_id())
    } else {
        fingerprints.contains(&&key.fingerprint())
    }
}

/// Checks the primary key's revocation and lifetime; returns the self-signature that rules it.
fn fit_primary(
    certificate: &SignedPublicKey,
    made: SystemTime,
    now: SystemTime,
) -> Result<&Signature, Reason> {
    let primary = &certificate.primary_key;
    let details = &certificate.details;
    if details
        .revocation_signatures
        .iter()
        .any(|s| s.verify_key(primary).is_ok())
    {
        return Err(Reason::KeyRevoked);
    }
    let direct = details
        .direct_signatures
        .iter()
        .filter(|s| s.verify_key(primary).is_ok());
    let of_users = details.users.iter().flat_map(|user| {
        let verified = |s: &&Signature| {
            s.verify_certification(primary, Tag::UserId, &user.id)
                .is_ok()
        };
        let revoked = user
            .signatures
            .iter()
            .filter(verified)
            .any(|s| s.typ() == Some(SignatureType::CertRevocation));
        user.signatures
            .iter()
            .filter(verified)
            .filter(move |_| !revoked)
    });
    let own = newest(direct.chain(of_users)).ok_or(Reason::MayNotSign)?;
    let lifetime = Lifetime::of(primary.created_at(), own);
    lifetime.check(made)?;
    lifetime.check(now)?;
    Ok(own)
}

fn fit_subkey(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    made: SystemTime,
    now: SystemTime,
) -> Result<(), Reason> {
    let primary = &certificate.primary_key;
    let verified = |s: &&Signature| s.verify_subkey_binding(primary, &subkey.key).is_ok();
    let of_type = |wanted| {
        let all = subkey.signatures.iter().filter(verified);
        all.filter(move |s: &&Signature| s.typ() == Some(wanted))
    };
    if of_type(SignatureType::SubkeyRevocation).next().is_some() {
        return Err(Reason::KeyRevoked);
    }
    let binding = newest(of_type(SignatureType::SubkeyBinding)).ok_or(Reason::MayNotSign)?;
    // Without the subkey's own consent anyone could adopt a foreign key as theirs.
    let consents = binding.embedded_signature().is_some_and(|s| {
        is_strong(s) && s.verify_primary_key_binding(&subkey.key, primary).is_ok()
    });
    if !binding.key_flags().sign() || !consents {
        return Err(Reason::MayNotSign);
    }
    let lifetime = Lifetime::of(subkey.key.created_at(), binding);
    lifetime.check(made)?;
    lifetime.check(now)
}

/// The newest of the strong self-signatures: it replaces all older ones.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures
        .filter(|s| is_strong(s))
        .max_by_key(|s| s.created())
}
