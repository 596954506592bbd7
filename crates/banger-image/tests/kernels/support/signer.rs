//! Keys of the tests' own, and cleartext signatures made with them.

use std::time::{Duration, SystemTime};

use pgp::composed::{
    ArmorOptions, DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
    SignedSecretKey, SubkeyParamsBuilder, SubpacketConfig,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{KeyDetails, Password, SigningKey, Tag, Timestamp};
use rand::thread_rng;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A certificate with a primary key and a signing subkey, both two years old.
pub(crate) struct Signer {
    secret: SignedSecretKey,
    public: SignedPublicKey,
}

/// How to sign.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) subkey: bool,
    pub(crate) hash: HashAlgorithm,
    pub(crate) made: SystemTime,
    pub(crate) lasts: Option<Duration>,
}

impl Default for How {
    fn default() -> Self {
        Self {
            subkey: false,
            hash: HashAlgorithm::Sha256,
            made: SystemTime::now() - Duration::from_secs(60),
            lasts: None,
        }
    }
}

fn stamp(at: SystemTime) -> Timestamp {
    at.try_into().unwrap()
}

impl Signer {
    pub(crate) fn new() -> Self {
        Self::of(KeyType::Ed25519Legacy, true)
    }

    pub(crate) fn of(key_type: KeyType, can_sign: bool) -> Self {
        let created = stamp(SystemTime::now() - 2 * YEAR);
        let subkey = SubkeyParamsBuilder::default()
            .key_type(key_type.clone())
            .can_sign(can_sign)
            .created_at(created)
            .build()
            .unwrap();
        let secret = SecretKeyParamsBuilder::default()
            .key_type(key_type)
            .can_certify(true)
            .can_sign(can_sign)
            .created_at(created)
            .primary_user_id("A test <test@example.com>".into())
            .subkey(subkey)
            .build()
            .unwrap()
            .generate(thread_rng())
            .unwrap();
        let public = secret.to_public_key();
        Self { secret, public }
    }

    pub(crate) fn armored(&self) -> String {
        self.public
            .to_armored_string(ArmorOptions::default())
            .unwrap()
    }

    /// Replaces the primary key's self-signature by one that ends at `lifetime` after its birth.
    pub(crate) fn expire_primary(&mut self, lifetime: Duration) {
        let mut flags = KeyFlags::default();
        flags.set_sign(true);
        let config = self.config(
            SignatureType::CertPositive,
            vec![
                SubpacketData::KeyFlags(flags),
                SubpacketData::KeyExpirationTime(lifetime.try_into().unwrap()),
            ],
        );
        let id = &self.public.details.users[0].id;
        let primary = &self.secret.primary_key;
        let signature = config
            .sign_certification(
                primary,
                &self.public.primary_key,
                &Password::empty(),
                Tag::UserId,
                id,
            )
            .unwrap();
        self.public.details.users[0].signatures.push(signature);
    }

    pub(crate) fn expire_subkey(&mut self, lifetime: Duration) {
        let mut flags = KeyFlags::default();
        flags.set_sign(true);
        let old = &self.public.public_subkeys[0].signatures[0];
        let consent = old.embedded_signature().unwrap().clone();
        self.bind_subkey(vec![
            SubpacketData::KeyFlags(flags),
            SubpacketData::EmbeddedSignature(Box::new(consent)),
            SubpacketData::KeyExpirationTime(lifetime.try_into().unwrap()),
        ]);
    }

    /// Binds the subkey as a signing key without its own consent.
    pub(crate) fn adopt_subkey(&mut self) {
        let mut flags = KeyFlags::default();
        flags.set_sign(true);
        self.bind_subkey(vec![SubpacketData::KeyFlags(flags)]);
    }

    fn bind_subkey(&mut self, data: Vec<SubpacketData>) {
        self.sign_subkey(SignatureType::SubkeyBinding, data);
    }

    pub(crate) fn revoke_subkey(&mut self) {
        self.sign_subkey(SignatureType::SubkeyRevocation, vec![]);
    }

    fn sign_subkey(&mut self, kind: SignatureType, data: Vec<SubpacketData>) {
        let signature = self
            .config(kind, data)
            .sign_subkey_binding(
                &self.secret.primary_key,
                &self.public.primary_key,
                &Password::empty(),
                &self.public.public_subkeys[0].key,
            )
            .unwrap();
        self.public.public_subkeys[0].signatures.push(signature);
    }

    pub(crate) fn revoke_primary(&mut self) {
        let signature = self
            .config(SignatureType::KeyRevocation, vec![])
            .sign_key(
                &self.secret.primary_key,
                &Password::empty(),
                &self.public.primary_key,
            )
            .unwrap();
        self.public.details.revocation_signatures.push(signature);
    }

    fn config(&self, kind: SignatureType, data: Vec<SubpacketData>) -> SignatureConfig {
        let primary = &self.secret.primary_key;
        let mut config = SignatureConfig::v4(kind, primary.algorithm(), HashAlgorithm::Sha256);
        let common = [
            SubpacketData::SignatureCreationTime(stamp(SystemTime::now())),
            SubpacketData::IssuerFingerprint(primary.fingerprint()),
        ];
        let all = common.into_iter().chain(data);
        config.hashed_subpackets = all.map(|data| Subpacket::regular(data).unwrap()).collect();
        config
    }

    /// A cleartext-signed message.
    pub(crate) fn sign(&self, text: &str, how: How) -> String {
        frame(text, &self.signature(text, how))
    }

    /// The armored signature alone.
    pub(crate) fn signature(&self, text: &str, how: How) -> String {
        if how.subkey {
            armored_signature(&self.secret.secret_subkeys[0].key, text, how)
        } else {
            armored_signature(&self.secret.primary_key, text, how)
        }
    }
}

pub(crate) fn frame(text: &str, signature: &str) -> String {
    let escaped: String = text
        .lines()
        .map(|line| {
            if line.starts_with('-') {
                format!("- {line}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{escaped}{signature}")
}

fn armored_signature(key: &impl SigningKey, text: &str, how: How) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut data = vec![
        SubpacketData::SignatureCreationTime(stamp(how.made)),
        SubpacketData::IssuerFingerprint(key.fingerprint()),
    ];
    data.extend(
        how.lasts
            .map(|lasts| SubpacketData::SignatureExpirationTime(lasts.try_into().unwrap())),
    );
    let hashed = data
        .into_iter()
        .map(|data| Subpacket::regular(data).unwrap())
        .collect();
    DetachedSignature::sign_text_data_with_subpackets(
        thread_rng(),
        key,
        &Password::empty(),
        how.hash,
        lines.join("\r\n").as_bytes(),
        SubpacketConfig::UserDefined {
            hashed,
            unhashed: vec![],
        },
    )
    .unwrap()
    .to_armored_string(ArmorOptions::default())
    .unwrap()
}
