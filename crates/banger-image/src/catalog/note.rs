//! Owns signed texts in one file, as <https://c2sp.org/signed-note> has them: a text, an empty line,
//! lines with signatures. Nothing of a text is looked at before its signature is found good.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{PublicKey, SecretKey};

/// What a line with a signature begins with.
const MARK: &str = "\u{2014} ";
/// No note has more.
const MOST_SIGNATURES: usize = 100;

/// Why a note is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("it is no signed text")]
    Form,
    #[error("it is not signed with the key of {wanted}, but by {}", found.join(", "))]
    Stranger { wanted: String, found: Vec<String> },
    #[error("its signature by {signer} is wrong: it was changed after it was signed")]
    Wrong { signer: String },
}

/// A text and the line that says who signed it. The text ends with a newline.
#[must_use]
pub(super) fn sign(text: &str, key: &SecretKey) -> String {
    debug_assert!(text.ends_with('\n'));
    let public = key.public();
    let signature = [&public.id()[..], &key.sign(text.as_bytes())].concat();
    let signature = STANDARD.encode(signature);
    format!("{text}\n{MARK}{} {signature}\n", public.signer())
}

/// The text of a note that a key has signed.
pub(super) fn open<'a>(note: &'a [u8], key: &PublicKey) -> Result<&'a str, NoteError> {
    let note = std::str::from_utf8(note).map_err(|_| NoteError::Form)?;
    let control = |c: char| c < ' ' && c != '\n';
    let at = note.rfind("\n\n").ok_or(NoteError::Form)?;
    let (text, lines) = (&note[..=at], &note[at + 2..]);
    if note.contains(control) || !lines.ends_with('\n') {
        return Err(NoteError::Form);
    }
    let mut found = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let signature = Line::parse(line).filter(|_| number < MOST_SIGNATURES);
        let signature = signature.ok_or(NoteError::Form)?;
        if signature.name != key.signer().to_string() || signature.id != key.id() {
            found.push(signature.name.to_owned());
        } else if key.verify(text.as_bytes(), &signature.signature) {
            return Ok(text);
        } else {
            let signer = key.signer().to_string();
            return Err(NoteError::Wrong { signer });
        }
    }
    let wanted = key.signer().to_string();
    Err(NoteError::Stranger { wanted, found })
}

/// One signature.
struct Line<'a> {
    name: &'a str,
    id: [u8; 4],
    signature: [u8; 64],
}

impl<'a> Line<'a> {
    /// Signatures of other algorithms are somebody's, but not ours to check.
    fn parse(line: &'a str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix(MARK)?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        let (id, signature) = bytes.split_first_chunk()?;
        Some(Self {
            name,
            id: *id,
            signature: signature.try_into().unwrap_or([0; 64]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SecretKey {
        SecretKey::generate(name.parse().unwrap())
    }

    #[test]
    fn what_was_signed_is_given_back() {
        let key = key("acme");
        for text in ["one\n", "\n", "one\n\ntwo\n", "\u{2014} x y\n"] {
            let note = sign(text, &key);
            assert_eq!(open(note.as_bytes(), &key.public()), Ok(text), "{note}");
        }
    }

    #[test]
    fn notes_of_other_programs_are_believed() {
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let note = format!("{text}\n{MARK}PeterNeumann {signature}\n");
        assert_eq!(open(note.as_bytes(), &key.parse().unwrap()), Ok(text));
    }

    #[test]
    fn any_change_is_seen() {
        let key = key("acme");
        let note = sign("{\"serial\": 7}\n", &key).into_bytes();
        for at in 0..note.len() {
            let mut changed = note.clone();
            changed[at] ^= 1;
            let opened = open(&changed, &key.public());
            assert!(opened.is_err(), "{at}: {opened:?}");
            assert!(open(&note[..at], &key.public()).is_err(), "{at}");
        }
    }

    #[test]
    fn a_stranger_s_signature_is_named() {
        let note = sign("text\n", &key("other"));
        let refused = open(note.as_bytes(), &key("acme").public()).unwrap_err();
        let text = "it is not signed with the key of acme, but by other";
        assert_eq!(refused.to_string(), text);
        // A key of the same name is still another key.
        let note = sign("text\n", &key("acme"));
        let refused = open(note.as_bytes(), &key("acme").public());
        assert!(matches!(refused, Err(NoteError::Stranger { .. })));
    }

    #[test]
    fn one_good_signature_of_several_will_do() {
        let (old, new) = (key("acme"), key("acme"));
        let (one, two) = (sign("text\n", &old), sign("text\n", &new));
        let both = format!("{one}{}", &two["text\n\n".len()..]);
        for key in [old, new] {
            assert_eq!(open(both.as_bytes(), &key.public()), Ok("text\n"));
        }
    }
}
