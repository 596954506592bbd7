//! Makes a guest's console readable on a terminal: colours go, and whatever else a terminal
//! would obey is shown. Works on a stream, so that a chunk may end anywhere.

use crate::text::push_escaped;

/// The longest colour sequence that is taken for one.
const MAX_SEQUENCE: usize = 32;

/// The state between two chunks.
#[derive(Debug, Default)]
pub(crate) struct Readable {
    /// Bytes that may be the beginning of a character or a colour sequence.
    pending: Vec<u8>,
}

impl Readable {
    /// What can be shown after this chunk.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> String {
        self.pending.extend_from_slice(chunk);
        let mut shown = String::with_capacity(self.pending.len());
        let mut rest = self.pending.as_slice();
        while let Some(used) = take(rest, &mut shown) {
            rest = &rest[used..];
        }
        self.pending = rest.to_vec();
        shown
    }

    /// What is left when the stream ends.
    pub(crate) fn finish(self) -> String {
        let mut shown = String::new();
        for c in String::from_utf8_lossy(&self.pending).chars() {
            push_escaped(&mut shown, c);
        }
        shown
    }
}

/// Shows what `bytes` begins with and gives back its length, unless it may be incomplete.
fn take(bytes: &[u8], shown: &mut String) -> Option<usize> {
    match *bytes {
        [] => None,
        [0x1b, ..] => match colour(bytes) {
            Colour::Complete(length) => Some(length),
            Colour::Incomplete => None,
            Colour::No => {
                push_escaped(shown, '\x1b');
                Some(1)
            }
        },
        // Consoles end lines with both.
        [b'\r', ..] => Some(1),
        [c @ (b'\n' | b'\t' | b' '..=b'~'), ..] => {
            shown.push(char::from(c));
            Some(1)
        }
        [..] => character(bytes, shown),
    }
}

fn character(bytes: &[u8], shown: &mut String) -> Option<usize> {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(error) => {
            let length = error.error_len()?;
            shown.push(char::REPLACEMENT_CHARACTER);
            return Some(length);
        }
    };
    let first = valid.chars().next()?;
    push_escaped(shown, first);
    Some(first.len_utf8())
}

enum Colour {
    Complete(usize),
    Incomplete,
    No,
}

/// Whether this is `ESC [ digits and semicolons m` (ECMA-48, SGR).
fn colour(bytes: &[u8]) -> Colour {
    match bytes.get(1) {
        None => return Colour::Incomplete,
        Some(b'[') => {}
        Some(_) => return Colour::No,
    }
    let parameters = bytes[2..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b';')
        .count();
    match bytes.get(2 + parameters) {
        Some(b'm') => Colour::Complete(3 + parameters),
        None if parameters < MAX_SEQUENCE => Colour::Incomplete,
        Some(_) | None => Colour::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], expected: &str) {
        for size in 1..=input.len() {
            let mut readable = Readable::default();
            let mut shown = String::new();
            for chunk in input.chunks(size) {
                shown += &readable.push(chunk);
            }
            shown += &readable.finish();
            assert_eq!(shown, expected, "in chunks of {size}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_wherever_chunks_end() {
        check(b"[ 0.1] plain\r\n\ttab\n", "[ 0.1] plain\n\ttab\n");
        check(b"[\x1b[0;32m  OK  \x1b[0m] up\n", "[  OK  ] up\n");
        check(b"\x1bc\x1b[2Jx", "\\u{1b}c\\u{1b}[2Jx");
        check("ä日\u{9b}1m".as_bytes(), "ä日\\u{9b}1m");
        check(b"\xff\xfe|\xe6\x97", "\u{fffd}\u{fffd}|\u{fffd}");
        check(b"end\x1b[3", "end\\u{1b}[3");
    }

    #[test]
    fn an_endless_sequence_is_not_kept() {
        let mut readable = Readable::default();
        let digits = [b"\x1b[".as_slice(), &[b'1'; 4096]].concat();
        let _ = readable.push(&digits);
        assert!(readable.pending.len() <= MAX_SEQUENCE + 2);
    }
}
