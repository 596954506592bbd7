//! Owns SHA-256 digests as values and the adaptors that hash while bytes pass.
//! Knows no file names and no sources.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256 as Engine};

const PREFIX: &str = "sha256:";

/// A SHA-256 digest; written as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

/// What was refused as a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a sha256 digest: 64 hexadecimal digits are needed")]
pub struct ParseDigestError {
    text: String,
}

impl Sha256 {
    /// The digest of bytes that are in memory already.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Engine::digest(bytes).into())
    }

    /// The digest of all that a reader yields.
    pub fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut hasher = Hasher::default();
        io::copy(&mut reader, &mut hasher)?;
        Ok(hasher.finish())
    }

    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digits without the algorithm's name, as indices and paths want them.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Sha256 {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).unwrap_or(text);
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseDigestError {
            text: text.chars().take(100).collect(),
        })?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.to_hex())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes what is written to it.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Engine);

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    #[must_use]
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader or writer that hashes and counts what passes through it.
#[derive(Debug)]
pub struct Hashing<T> {
    inner: T,
    hasher: Hasher,
    count: u64,
}

impl<T> Hashing<T> {
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
            count: 0,
        }
    }

    /// The inner stream, the digest of what passed, and how many bytes that were.
    pub fn finish(self) -> (T, Sha256, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.passed(&buf[..n]);
        Ok(n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.passed(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_with_and_without_the_algorithm() {
        let bare: Sha256 = EMPTY.parse().unwrap();
        let full: Sha256 = format!("sha256:{EMPTY}").parse().unwrap();
        assert_eq!(bare, full);
        assert_eq!(bare, Sha256::of(b""));
        assert_eq!(bare.to_string(), format!("sha256:{EMPTY}"));
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let short = &EMPTY[1..];
        let md5 = format!("md5:{EMPTY}");
        for text in [
            "",
            "sha256:",
            short,
            &md5,
            &format!("{short}g"),
            &format!("{EMPTY}00"),
        ] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }

    #[test]
    fn travels_through_json_as_text() {
        let digest = Sha256::of(b"abc");
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{digest}\""));
        assert_eq!(serde_json::from_str::<Sha256>(&json).unwrap(), digest);
    }

    #[test]
    fn hashes_what_passes_either_way() {
        let mut reader = Hashing::new(&b"abc"[..]);
        let mut sink = Hashing::new(Vec::new());
        io::copy(&mut reader, &mut sink).unwrap();
        let (_, read, read_bytes) = reader.finish();
        let (kept, written, written_bytes) = sink.finish();
        assert_eq!(kept, b"abc");
        assert_eq!((read, read_bytes), (Sha256::of(b"abc"), 3));
        assert_eq!((written, written_bytes), (read, read_bytes));
    }
}
