//! Owns the framing of a cleartext-signed message (RFC 9580, section 7): what exactly was signed,
//! and the armored block that claims so. Knows no keys and no cryptography.
//!
//! Only [`Message::text`] was signed. Anything before, between or after the two blocks is refused
//! rather than ignored, so that no caller can read it by mistake.

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE_BEGIN: &str = "-----BEGIN PGP SIGNATURE-----";
const SIGNATURE_END: &str = "-----END PGP SIGNATURE-----";

/// A message taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    lines: Vec<String>,
    signature: String,
}

/// How the framing is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("it is not text")]
    NotText,
    #[error("it does not begin with a signed message")]
    NoMessage,
    #[error("it has a header other than Hash")]
    Header,
    #[error("it has no signature")]
    NoSignature,
    #[error("line {number} of the signed text begins with a dash that is not escaped")]
    Dash { number: usize },
    #[error("something follows the signature")]
    Trailing,
}

impl Message {
    pub fn parse(bytes: &[u8]) -> Result<Self, FramingError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FramingError::NotText)?;
        if text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        {
            return Err(FramingError::NotText);
        }
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some(BEGIN) {
            return Err(FramingError::NoMessage);
        }
        skip_headers(&mut lines)?;
        let signed = signed_lines(&mut lines)?;
        let signature = signature_block(&mut lines)?;
        if lines.any(|line| !line.trim().is_empty()) {
            return Err(FramingError::Trailing);
        }
        Ok(Self {
            lines: signed,
            signature,
        })
    }

    /// The text in the form that signatures are made over.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.lines.join("\r\n")
    }

    /// The signed text with plain line ends, for parsing.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The armored block of signatures.
    #[must_use]
    pub fn signature(&self) -> &str {
        &self.signature
    }
}

fn skip_headers<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<(), FramingError> {
    for line in lines {
        if line.trim().is_empty() {
            return Ok(());
        }
        if !line.starts_with("Hash: ") {
            return Err(FramingError::Header);
        }
    }
    Err(FramingError::NoSignature)
}

fn signed_lines<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
) -> Result<Vec<String>, FramingError> {
    let mut signed = Vec::new();
    for line in lines {
        if line.trim_end() == SIGNATURE_BEGIN {
            return Ok(signed);
        }
        let unescaped = match line.strip_prefix("- ") {
            Some(rest) => rest,
            None if line.starts_with('-') => {
                return Err(FramingError::Dash {
                    number: signed.len() + 1,
                });
            }
            None => line,
        };
        // Verifiers may take a lone carriage return for a line end; a parser of fields would not.
        if unescaped.contains('\r') {
            return Err(FramingError::NotText);
        }
        signed.push(unescaped.trim_end_matches([' ', '\t']).to_owned());
    }
    Err(FramingError::NoSignature)
}

fn signature_block<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<String, FramingError> {
    let mut block = format!("{SIGNATURE_BEGIN}\n");
    for line in lines {
        block.push_str(line);
        block.push('\n');
        if line.trim_end() == SIGNATURE_END {
            return Ok(block);
        }
    }
    Err(FramingError::NoSignature)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian \t
- - a dashed line
Suite: x
-----BEGIN PGP SIGNATURE-----

abcd
-----END PGP SIGNATURE-----
";

    fn check_refused(text: &str, expected: &FramingError) {
        assert_eq!(
            &Message::parse(text.as_bytes()).unwrap_err(),
            expected,
            "{text}"
        );
    }

    #[test]
    fn takes_the_signed_text_and_nothing_else() {
        let message = Message::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(
            message.canonical(),
            "Origin: Debian\r\n- a dashed line\r\nSuite: x"
        );
        assert_eq!(message.text(), "Origin: Debian\n- a dashed line\nSuite: x");
        assert!(message.signature().contains("abcd"));
        let windows = GOOD.replace('\n', "\r\n");
        assert_eq!(
            Message::parse(windows.as_bytes()).unwrap().canonical(),
            message.canonical()
        );
    }

    #[test]
    fn text_outside_the_blocks_is_refused() {
        check_refused(&format!("Suite: evil\n{GOOD}"), &FramingError::NoMessage);
        check_refused(&format!("{GOOD}Suite: evil\n"), &FramingError::Trailing);
        check_refused(&format!("{GOOD}{GOOD}"), &FramingError::Trailing);
        check_refused(
            &GOOD.replace("Hash:", "Suite: evil\nHash:"),
            &FramingError::Header,
        );
    }

    #[test]
    fn broken_frames_are_refused() {
        check_refused("", &FramingError::NoMessage);
        check_refused(
            &GOOD.replace("- - a", "-- a"),
            &FramingError::Dash { number: 2 },
        );
        check_refused(&GOOD.replace(SIGNATURE_END, ""), &FramingError::NoSignature);
        check_refused(
            &GOOD.replace(SIGNATURE_BEGIN, ""),
            &FramingError::Dash { number: 7 },
        );
        check_refused(&GOOD.replace("Debian", "De\0bian"), &FramingError::NotText);
        check_refused(
            &GOOD.replace("line\nSuite", "line\rSuite"),
            &FramingError::NotText,
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Message::parse(&bytes);
            let _ = Message::parse(&[BEGIN.as_bytes(), b"\n\n", &bytes].concat());
        }
    }
}
