//! Owns the marker: how payload is kept free of it and how it is found. Pure bytes in, bytes out; knows no I/O.
//!
//! The stream consists of payload bytes and control sequences. A control sequence is the fixed fifteen-byte
//! [`PREFIX`] and one byte that says which one it is:
//!
//! * [`RESET`], then a nonce: a new session begins here;
//! * [`STUFF`]: the fifteen bytes were payload;
//! * [`IDLE`]: nothing. A sender that flushes while its payload ends like the prefix begins sends one, because a
//!   receiver must otherwise hold these last bytes back until it knows what follows.
//!
//! A sender may die at any byte and its successor starts with a reset, so the receiver must find the prefix behind
//! any part of any sequence. That works because the prefix's first byte occurs nowhere else in a sequence: not
//! in the rest of the prefix, not among the final bytes, and not in a nonce.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// The first byte cannot occur in UTF-8, so text never even begins to look like a control sequence.
pub(super) const PREFIX: [u8; 15] = *b"\xf5BANGER\x00\r\n\x1a\nrst";
const RESET: u8 = 1;
const STUFF: u8 = 2;
const IDLE: u8 = 3;

/// Bytes in front of a control sequence's end, the nonce included.
pub(super) const LONGEST_SEQUENCE: usize = PREFIX.len() + 1 + NONCE_LEN;
const NONCE_LEN: usize = 16;

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&PREFIX));

/// Tells one session from the next; free of the marker's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    /// Makes a nonce from random bytes, replacing the one byte that must not occur.
    pub(super) fn from_random(mut bytes: [u8; NONCE_LEN]) -> Self {
        for byte in &mut bytes {
            if *byte == PREFIX[0] {
                *byte = 0;
            }
        }
        Self(bytes)
    }
}

/// How many bytes at the end of `bytes` are the beginning of a prefix.
fn prefix_begun(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(PREFIX.len() - 1)..];
    // The first byte does not recur in the prefix, so only its last occurrence can begin one.
    match memchr::memrchr(PREFIX[0], tail) {
        Some(at) if PREFIX.starts_with(&tail[at..]) => tail.len() - at,
        Some(_) | None => 0,
    }
}

/// Turns payload into stream bytes. Remembers across calls how much of a prefix the payload has just spelt.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    begun: usize,
}

impl Encoder {
    /// Appends `payload` to `out`, with stuff bytes where they are needed.
    pub(super) fn encode(&mut self, mut payload: &[u8], out: &mut Vec<u8>) {
        payload = self.finish_begun(payload, out);
        if payload.is_empty() {
            return;
        }
        while let Some(at) = FINDER.find(payload) {
            let (head, rest) = payload.split_at(at + PREFIX.len());
            out.extend_from_slice(head);
            out.push(STUFF);
            payload = rest;
        }
        out.extend_from_slice(payload);
        self.begun = prefix_begun(payload);
    }

    /// Emits what continues a prefix begun by earlier payload and returns the rest.
    fn finish_begun<'a>(&mut self, payload: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let wanted = &PREFIX[self.begun..];
        let len = wanted.len().min(payload.len());
        if self.begun == 0 || payload[..len] != wanted[..len] {
            if !payload.is_empty() {
                self.begun = 0;
            }
            return payload;
        }
        let (head, rest) = payload.split_at(len);
        out.extend_from_slice(head);
        self.begun += len;
        if self.begun == PREFIX.len() {
            out.push(STUFF);
            self.begun = 0;
        }
        rest
    }

    /// Appends what lets the receiver decide about everything sent so far.
    pub(super) fn settle(&mut self, out: &mut Vec<u8>) {
        if self.begun > 0 {
            out.extend_from_slice(&PREFIX);
            out.push(IDLE);
            self.begun = 0;
        }
    }

    /// Appends the start of a new session.
    pub(super) fn reset(&mut self, nonce: Nonce, out: &mut Vec<u8>) {
        self.begun = 0;
        out.extend_from_slice(&PREFIX);
        out.push(RESET);
        out.extend_from_slice(&nonce.0);
    }
}

/// What the decoder found next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// [`Decoder::payload`] is not empty.
    Payload,
    /// A session starts.
    Reset(Nonce),
    /// A control sequence was cut off: what follows is not the continuation of what came before.
    Broken,
    /// More input is needed.
    Nothing,
}

/// Turns stream bytes into payload and resets, out of a buffer of fixed size.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: Box<[u8]>,
    start: usize,
    /// Bytes from `start` up to here are payload.
    clean: usize,
    end: usize,
}

impl Decoder {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(2 * LONGEST_SEQUENCE);
        Self {
            buffer: vec![0; capacity].into(),
            start: 0,
            clean: 0,
            end: 0,
        }
    }

    /// Where the next input goes; never empty once [`Decoder::next`] has returned [`Found::Nothing`].
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.clean -= self.start;
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// Takes over `count` bytes that were written to [`Decoder::space`].
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.buffer.len());
    }

    /// Payload that waits to be consumed.
    pub(super) fn payload(&self) -> &[u8] {
        &self.buffer[self.start..self.clean]
    }

    /// Drops the first `count` bytes of the payload.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.payload().len());
        self.start += count;
    }

    /// Drops all payload found so far.
    pub(super) fn discard(&mut self) {
        self.start = self.clean;
    }

    /// Looks at the buffered input up to the next event.
    pub(super) fn next(&mut self) -> Found {
        loop {
            if self.clean > self.start {
                return Found::Payload;
            }
            let input = &self.buffer[self.start..self.end];
            let payload = match FINDER.find(input) {
                Some(0) => match self.control() {
                    Some(found) => return found,
                    None => continue,
                },
                Some(at) => at,
                None => input.len() - prefix_begun(input),
            };
            self.clean = self.start + payload;
            if payload == 0 {
                return Found::Nothing;
            }
        }
    }

    /// Interprets the control sequence at `start`; `None` when it meant nothing or payload.
    fn control(&mut self) -> Option<Found> {
        let rest = &self.buffer[self.start + PREFIX.len()..self.end];
        let (skipped, found) = match rest.split_first() {
            None => return Some(Found::Nothing),
            Some((&STUFF, _)) => return self.unstuff(),
            Some((&IDLE, _)) => (PREFIX.len() + 1, None),
            Some((&RESET, rest)) => {
                let nonce = &rest[..rest.len().min(NONCE_LEN)];
                match (memchr::memchr(PREFIX[0], nonce), nonce.try_into()) {
                    (Some(at), _) => (PREFIX.len() + 1 + at, Some(Found::Broken)),
                    (None, Ok(nonce)) => (LONGEST_SEQUENCE, Some(Found::Reset(Nonce(nonce)))),
                    (None, Err(_)) => return Some(Found::Nothing),
                }
            }
            Some(_) => (PREFIX.len(), Some(Found::Broken)),
        };
        self.start += skipped;
        self.clean = self.start;
        found
    }

    /// Moves the prefix over its stuff byte, so that it lies there as the payload that it is.
    fn unstuff(&mut self) -> Option<Found> {
        self.start += 1;
        self.clean = self.start + PREFIX.len();
        self.buffer[self.start..self.clean].copy_from_slice(&PREFIX);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: Nonce = Nonce(*b"0123456789abcdef");

    /// Payload that is full of whole, partial and doubled prefixes.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            (0..=PREFIX.len()).prop_map(|len| PREFIX[..len].to_vec()),
            Just([PREFIX.as_slice(), &[RESET]].concat()),
            Just([PREFIX.as_slice(), &[STUFF]].concat()),
            Just([PREFIX.as_slice(), &[IDLE]].concat()),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    fn chunks(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut rest = bytes;
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*size).min(rest.len()));
            chunks.push(head.to_vec());
            rest = tail;
        }
        chunks
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(1_usize..50, 1..6)
    }

    /// What a receiver makes of a stream: the payload since the last reset, and the resets.
    fn decode(stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Vec<Nonce>, bool) {
        let mut decoder = Decoder::new(0);
        let (mut payload, mut resets, mut broken) = (Vec::new(), Vec::new(), false);
        for mut chunk in chunks(stream, sizes) {
            while !chunk.is_empty() {
                let space = decoder.space();
                let len = space.len().min(chunk.len());
                assert!(len > 0, "the decoder must always have room for more");
                space[..len].copy_from_slice(&chunk[..len]);
                chunk.drain(..len);
                decoder.filled(len);
                loop {
                    match decoder.next() {
                        Found::Payload => {
                            payload.extend_from_slice(decoder.payload());
                            decoder.discard();
                        }
                        Found::Reset(nonce) => {
                            resets.push(nonce);
                            payload.clear();
                        }
                        Found::Broken => broken = true,
                        Found::Nothing => break,
                    }
                }
            }
        }
        (payload, resets, broken)
    }

    fn encode(payload: &[u8], sizes: &[usize], settle: bool) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        for chunk in chunks(payload, sizes) {
            encoder.encode(&chunk, &mut out);
            if settle {
                encoder.settle(&mut out);
            }
        }
        encoder.settle(&mut out);
        out
    }

    #[test]
    fn the_first_byte_occurs_nowhere_else_in_a_sequence() {
        assert!(!PREFIX[1..].contains(&PREFIX[0]));
        assert!(![RESET, STUFF, IDLE].contains(&PREFIX[0]));
        assert!(!Nonce::from_random([PREFIX[0]; 16]).0.contains(&PREFIX[0]));
    }

    proptest! {
        #[test]
        fn any_payload_in_any_chunks_arrives_exactly(
            payload in payload(), send in sizes(), receive in sizes(), settle: bool,
        ) {
            let stream = encode(&payload, &send, settle);
            prop_assert_eq!(decode(&stream, &receive), (payload, vec![], false));
        }

        #[test]
        fn payload_never_contains_a_reset(payload in payload(), send in sizes()) {
            let stream = encode(&payload, &send, false);
            let reset = [PREFIX.as_slice(), &[RESET]].concat();
            prop_assert!(memchr::memmem::find(&stream, &reset).is_none());
        }

        #[test]
        fn a_reset_is_found_behind_any_cut(
            old in payload(), new in payload(), send in sizes(), receive in sizes(), cut: prop::sample::Index,
        ) {
            let mut stream = Vec::new();
            Encoder::default().reset(Nonce(*b"FEDCBA9876543210"), &mut stream);
            stream.extend(encode(&old, &send, true));
            Encoder::default().reset(Nonce(*b"XXXXXXXXXXXXXXXX"), &mut stream);
            stream.truncate(cut.index(stream.len() + 1));
            Encoder::default().reset(NONCE, &mut stream);
            stream.extend(encode(&new, &send, true));
            let (payload, resets, _) = decode(&stream, &receive);
            prop_assert_eq!(payload, new);
            prop_assert_eq!(resets.last(), Some(&NONCE));
        }

        #[test]
        fn a_reset_is_found_behind_any_garbage(
            garbage in payload(), new in payload(), receive in sizes(),
        ) {
            let mut stream = garbage;
            Encoder::default().reset(NONCE, &mut stream);
            stream.extend(encode(&new, &[7], false));
            let (payload, resets, _) = decode(&stream, &receive);
            prop_assert_eq!(payload, new);
            prop_assert_eq!(resets.last(), Some(&NONCE));
        }

        #[test]
        fn settled_payload_is_delivered_without_waiting_for_more(payload in payload(), send in sizes()) {
            let (mut encoder, mut out, mut sent) = (Encoder::default(), Vec::new(), Vec::new());
            for chunk in chunks(&payload, &send) {
                encoder.encode(&chunk, &mut out);
                encoder.settle(&mut out);
                sent.extend(chunk);
                prop_assert_eq!(&decode(&out, &[11]).0, &sent);
            }
        }
    }
}
