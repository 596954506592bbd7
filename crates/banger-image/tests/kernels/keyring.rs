//! Whose signature counts, and when.

use std::time::{Duration, SystemTime};

use banger_image::debian::Keyring;
use banger_image::debian::keyring::{Reason, SignatureError};
use pgp::armor::BlockType;
use pgp::composed::{Deserializable as _, DetachedSignature, KeyType};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::PacketTrait as _;
use pgp::ser::Serialize;

use crate::support::signer::{How, Signer, frame};

const TEXT: &str = "Suite: x\n- dashed \nDate: y";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn open(signer: &Signer, message: &str) -> Result<String, SignatureError> {
    let keyring = Keyring::from_armored(&[&signer.armored()]).unwrap();
    keyring.open(message.as_bytes(), SystemTime::now())
}

fn check_refused(signer: &Signer, how: How, expected: Reason) {
    match open(signer, &signer.sign(TEXT, how)).unwrap_err() {
        SignatureError::NoneValid { rejected } => {
            assert_eq!(rejected.len(), 1);
            assert_eq!(rejected[0].reason, expected, "{how:?}");
        }
        other => panic!("{other:?}"),
    }
}

fn check_accepted(signer: &Signer, how: How) {
    assert_eq!(
        open(signer, &signer.sign(TEXT, how)).unwrap(),
        "Suite: x\n- dashed\nDate: y"
    );
}

fn by_subkey() -> How {
    How {
        subkey: true,
        ..How::default()
    }
}

#[test]
fn the_built_in_keys_can_be_read() {
    let _ = Keyring::debian();
}

#[test]
fn a_primary_key_and_its_signing_subkey_both_count() {
    let signer = Signer::new();
    check_accepted(&signer, How::default());
    check_accepted(&signer, by_subkey());
    check_accepted(
        &signer,
        How {
            hash: HashAlgorithm::Sha512,
            ..How::default()
        },
    );
}

#[test]
fn a_changed_text_does_not_count() {
    let signer = Signer::new();
    let message = signer.sign(TEXT, How::default());
    for (from, to) in [
        ("Suite: x", "Suite: z"),
        ("Date: y", "Date: y\nMore: z"),
        ("dashed", ""),
    ] {
        let error = open(&signer, &message.replacen(from, to, 1)).unwrap_err();
        assert!(
            error.to_string().contains("does not match the text"),
            "{error}"
        );
    }
}

#[test]
fn a_stranger_does_not_count_even_beside_nobody() {
    let signer = Signer::new();
    let error = open(&signer, &Signer::new().sign(TEXT, How::default())).unwrap_err();
    assert!(error.to_string().contains("not a trusted key"), "{error}");
}

#[test]
fn one_good_signature_among_strangers_is_enough() {
    let (stranger, friend) = (Signer::new(), Signer::new());
    let signatures = [&stranger, &friend].map(|signer| signer.signature(TEXT, How::default()));
    let joined = join(&signatures);
    assert!(open(&friend, &frame(TEXT, &joined)).is_ok());
    assert!(open(&Signer::new(), &frame(TEXT, &joined)).is_err());
}

/// The packets of several signatures, to be armored as one block, as the archive does it.
struct Packets(Vec<u8>);

impl Serialize for Packets {
    fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
        writer.write_all(&self.0)?;
        Ok(())
    }

    fn write_len(&self) -> usize {
        self.0.len()
    }
}

fn join(blocks: &[String]) -> String {
    let mut packets = Packets(Vec::new());
    for block in blocks {
        let (parsed, _) = DetachedSignature::from_string(block).unwrap();
        parsed
            .signature
            .to_writer_with_header(&mut packets.0)
            .unwrap();
    }
    let mut armored = Vec::new();
    pgp::armor::write(&packets, BlockType::Signature, &mut armored, None, true).unwrap();
    String::from_utf8(armored).unwrap()
}

#[test]
fn weak_hashes_do_not_count() {
    // Keys of other kinds refuse to make such signatures in the first place.
    let signer = Signer::of(KeyType::Rsa(2048), true);
    for hash in [
        HashAlgorithm::Md5,
        HashAlgorithm::Sha1,
        HashAlgorithm::Sha224,
    ] {
        let how = How {
            hash,
            ..How::default()
        };
        check_refused(&signer, how, Reason::WeakHash);
    }
}

#[test]
fn a_signature_has_its_own_time() {
    let signer = Signer::new();
    let made = SystemTime::now() + 3 * DAY;
    check_refused(
        &signer,
        How {
            made,
            ..How::default()
        },
        Reason::BadTime,
    );
    let made = SystemTime::now() - 3 * DAY;
    let lasts = Some(DAY);
    check_refused(
        &signer,
        How {
            made,
            lasts,
            ..How::default()
        },
        Reason::SignatureExpired,
    );
    check_accepted(
        &signer,
        How {
            made,
            lasts: Some(9 * DAY),
            ..How::default()
        },
    );
}

#[test]
fn a_key_counts_only_during_its_life() {
    let before_birth = SystemTime::now() - 900 * DAY;
    let early = How {
        made: before_birth,
        ..How::default()
    };
    check_refused(&Signer::new(), early, Reason::KeyTooYoung);

    let mut signer = Signer::new();
    signer.expire_primary(2000 * DAY);
    check_accepted(&signer, How::default());
    signer.expire_primary(100 * DAY);
    check_refused(&signer, How::default(), Reason::KeyExpired);
    check_refused(&signer, by_subkey(), Reason::KeyExpired);
    // Made while the key was alive, but read after its death.
    let made = SystemTime::now() - 700 * DAY;
    check_refused(
        &signer,
        How {
            made,
            ..How::default()
        },
        Reason::KeyExpired,
    );
}

#[test]
fn a_subkey_dies_alone() {
    let mut signer = Signer::new();
    signer.expire_subkey(100 * DAY);
    check_refused(&signer, by_subkey(), Reason::KeyExpired);
    check_accepted(&signer, How::default());

    let mut signer = Signer::new();
    signer.revoke_subkey();
    check_refused(&signer, by_subkey(), Reason::KeyRevoked);
    check_accepted(&signer, How::default());
}

#[test]
fn a_revoked_key_takes_its_subkeys_along() {
    let mut signer = Signer::new();
    signer.revoke_primary();
    check_refused(&signer, How::default(), Reason::KeyRevoked);
    check_refused(&signer, by_subkey(), Reason::KeyRevoked);
}

#[test]
fn keys_that_may_not_sign_do_not_count() {
    let signer = Signer::of(KeyType::Ed25519Legacy, false);
    check_refused(&signer, How::default(), Reason::MayNotSign);
    check_refused(&signer, by_subkey(), Reason::MayNotSign);
}

#[test]
fn a_subkey_must_consent_to_its_binding() {
    let mut signer = Signer::new();
    signer.adopt_subkey();
    check_refused(&signer, by_subkey(), Reason::MayNotSign);
}

#[test]
fn what_is_not_signed_at_all_is_refused() {
    let signer = Signer::new();
    assert!(matches!(
        open(&signer, TEXT),
        Err(SignatureError::Framing { .. })
    ));
    let broken = signer
        .sign(TEXT, How::default())
        .replace("\n\n", "\n\n\u{0}");
    assert!(open(&signer, &broken).is_err());
}
