//! Owns the reader that does not end well unless its bytes were the promised ones.

use std::io::{self, Read};

use crate::digest::{Hasher, Sha256};

/// Fails instead of ending when digest or length are others.
#[derive(Debug)]
pub(crate) struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    expected: Sha256,
}

/// Bytes that are not those of their digest.
#[derive(Debug, thiserror::Error)]
#[error("the bytes are those of {found}, not of {expected}")]
pub struct WrongDigest {
    pub expected: Sha256,
    pub found: Sha256,
}

impl<R> Verified<R> {
    pub(crate) fn new(inner: R, expected: Sha256) -> Self {
        Self {
            inner,
            hasher: Some(Hasher::default()),
            expected,
        }
    }

    /// Judges once; a reader that is read beyond its end goes on saying the same.
    fn judge(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let (expected, found) = (self.expected, hasher.clone().finish());
        if found == expected {
            return Ok(());
        }
        self.hasher = Some(hasher);
        let wrong = WrongDigest { expected, found };
        Err(io::Error::new(io::ErrorKind::InvalidData, wrong))
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match &mut self.hasher {
            Some(hasher) if count > 0 => hasher.update(&buffer[..count]),
            Some(_) if !buffer.is_empty() => self.judge()?,
            Some(_) | None => {}
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_promised_bytes_end_well() {
        let check = |bytes: &[u8], promised: &[u8]| {
            let mut reader = Verified::new(bytes, Sha256::of(promised));
            let ended = io::copy(&mut reader, &mut io::sink());
            assert_eq!(ended.is_ok(), bytes == promised);
            let again = reader.read(&mut [0; 1]);
            assert_eq!(again.is_ok(), bytes == promised, "the verdict stays");
        };
        check(b"abc", b"abc");
        check(b"", b"");
        check(b"abd", b"abc");
        check(b"ab", b"abc");
        check(b"", b"abc");
    }
}
