//! How a command ended, and the words in which stories say how it should have.
//! Every expectation that does not hold fails with the whole outcome.

use std::{fmt, process::ExitStatus, time::Duration};

use serde::de::DeserializeOwned;

/// Beyond this a stream is shown by its two ends.
const SHOWN: usize = 4 << 10;

/// A command that has ended.
#[derive(Debug)]
pub struct Outcome {
    pub(crate) shown: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) took: Duration,
}

impl Outcome {
    /// Whether it succeeded, for a story that goes two ways.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// It succeeded.
    #[track_caller]
    pub fn ok(&self) -> &Self {
        self.code(0)
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn code(&self, wanted: i32) -> &Self {
        self.expect(self.status.code() == Some(wanted), || {
            format!("exit code {wanted}")
        })
    }

    /// Standard output is exactly this.
    #[track_caller]
    pub fn stdout(&self, wanted: impl AsRef<[u8]>) -> &Self {
        let wanted = wanted.as_ref();
        self.expect(self.stdout == wanted, || {
            format!("stdout {:?}", lossy(wanted))
        })
    }

    /// Standard error is exactly this.
    #[track_caller]
    pub fn stderr(&self, wanted: impl AsRef<[u8]>) -> &Self {
        let wanted = wanted.as_ref();
        self.expect(self.stderr == wanted, || {
            format!("stderr {:?}", lossy(wanted))
        })
    }

    /// Standard output contains all of these.
    #[track_caller]
    pub fn stdout_has<const N: usize>(&self, wanted: [&str; N]) -> &Self {
        self.contains("stdout", &self.stdout, wanted)
    }

    /// Standard error contains all of these, upper or lower case.
    #[track_caller]
    pub fn stderr_has<const N: usize>(&self, wanted: [&str; N]) -> &Self {
        self.contains("stderr", &self.stderr, wanted)
    }

    /// Standard output as text, without the line end at its end.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> String {
        let text = str::from_utf8(&self.stdout);
        self.expect(text.is_ok(), || "text on stdout".into());
        text.unwrap_or_default().trim_end().to_owned()
    }

    /// Standard output as a document.
    #[track_caller]
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        self.document(&self.stdout)
    }

    /// Standard error as a document.
    #[track_caller]
    #[must_use]
    pub fn stderr_json<T: DeserializeOwned>(&self) -> T {
        self.document(&self.stderr)
    }

    #[track_caller]
    fn document<T: DeserializeOwned>(&self, said: &[u8]) -> T {
        match serde_json::from_slice(said) {
            Ok(document) => document,
            Err(error) => panic!("expected another document: {error}\n{self}"),
        }
    }

    /// The bytes of standard output.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// From the start of the command to its end.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    #[track_caller]
    fn contains<const N: usize>(&self, stream: &str, said: &[u8], wanted: [&str; N]) -> &Self {
        let said = lossy(said).to_lowercase();
        for wanted in wanted {
            self.expect(said.contains(&wanted.to_lowercase()), || {
                format!("{wanted:?} on {stream}")
            });
        }
        self
    }

    #[track_caller]
    fn expect(&self, holds: bool, wanted: impl FnOnce() -> String) -> &Self {
        assert!(holds, "expected {}\n{self}", wanted());
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.shown)?;
        writeln!(f, "{}, after {:.2?}", self.status, self.took)?;
        writeln!(f, "stdout: {}", shown(&self.stdout))?;
        write!(f, "stderr: {}", shown(&self.stderr))
    }
}

/// A stream for people: what cannot be shown is escaped, the middle of a long one left out.
pub(crate) fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN {
        return escaped(bytes);
    }
    let (head, tail) = (&bytes[..SHOWN / 2], &bytes[bytes.len() - SHOWN / 2..]);
    let left_out = bytes.len() - SHOWN;
    format!("{}\n[{left_out} bytes]\n{}", escaped(head), escaped(tail))
}

fn escaped(bytes: &[u8]) -> String {
    let keep = |c: char| c == '\n' || !c.is_control();
    let text = lossy(bytes);
    let parts = text.chars().map(|c| {
        if keep(c) {
            c.to_string()
        } else {
            c.escape_default().to_string()
        }
    });
    parts.collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn outcome(stdout: &[u8]) -> Outcome {
        Outcome {
            shown: "banger version".into(),
            status: ExitStatus::from_raw(3 << 8),
            stdout: stdout.to_vec(),
            stderr: b"banger: No\x1b[2J".to_vec(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn what_holds_can_be_said_in_a_row() {
        let outcome = outcome(b"[1,2]\n");
        outcome.code(3).stdout("[1,2]\n").stderr_has(["no"]);
        assert_eq!(outcome.json::<Vec<u8>>(), [1, 2]);
        assert_eq!(outcome.text(), "[1,2]");
    }

    #[test]
    #[should_panic(expected = "expected exit code 0\n$ banger version\nexit status: 3")]
    fn what_does_not_hold_fails_with_the_whole_outcome() {
        outcome(b"").ok();
    }

    #[test]
    fn a_long_or_strange_stream_is_shown_safely() {
        assert!(shown(b"a\x1b[2J\nb").starts_with("a\\u{1b}[2J\nb"));
        let long = shown(&vec![b'x'; 5 << 20]);
        assert!(long.len() < 2 * SHOWN && long.contains("bytes]"), "{long}");
    }
}
