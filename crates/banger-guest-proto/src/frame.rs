//! Owns the frames inside an exec's two bodies: `[kind: u8][length: u32 big-endian][payload]`. Knows no streams.
//!
//! | kind | from | payload |
//! |---|---|---|
//! | 1 start | host | [`ExecStart`] as JSON, once and first |
//! | 2 stdin | host | bytes; the end of the body is the end of the input |
//! | 16 started | agent | [`Started`] as JSON |
//! | 17 stdout, 18 stderr | agent | bytes |
//! | 19 exited, 20 signaled | agent | the code or signal as a big-endian `i32`, last |
//! | 21 failed | agent | [`Failure`] as JSON, last |
//!
//! [`ExecStart`]: crate::message::ExecStart
//! [`Failure`]: crate::message::Failure

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The longest start frame.
pub const MAX_START: usize = 1 << 20;
/// The longest frame of input or output.
pub const MAX_DATA: usize = 64 << 10;
/// The longest of all other frames.
pub const MAX_CONTROL: usize = 16 << 10;
/// What a frame costs beside its payload.
pub const HEADER_LEN: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Start = 1,
    Stdin = 2,
    Started = 16,
    Stdout = 17,
    Stderr = 18,
    Exited = 19,
    Signaled = 20,
    Failed = 21,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Start,
        Self::Stdin,
        Self::Started,
        Self::Stdout,
        Self::Stderr,
        Self::Exited,
        Self::Signaled,
        Self::Failed,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The longest payload.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::Start => MAX_START,
            Self::Stdin | Self::Stdout | Self::Stderr => MAX_DATA,
            Self::Started | Self::Exited | Self::Signaled | Self::Failed => MAX_CONTROL,
        }
    }

    /// Whether the payload is a stretch of a byte stream, where a frame's borders mean nothing.
    #[must_use]
    pub fn is_data(self) -> bool {
        match self {
            Self::Stdin | Self::Stdout | Self::Stderr => true,
            Self::Start | Self::Started | Self::Exited | Self::Signaled | Self::Failed => false,
        }
    }
}

/// The process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub pid: u32,
}

/// A body that is no sequence of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("a frame of {kind:?} has {length} bytes, more than {}", kind.limit())]
    TooLong { kind: Kind, length: usize },
    #[error("the body ends inside a frame")]
    Truncated,
}

/// The bytes in front of a payload of `length` bytes.
///
/// # Panics
/// When `length` exceeds the kind's limit: the sender checks that before.
#[must_use]
pub fn header(kind: Kind, length: usize) -> [u8; HEADER_LEN] {
    assert!(
        length <= kind.limit(),
        "a sender keeps to the limits of its frames"
    );
    let mut header = [kind as u8; HEADER_LEN];
    let length = u32::try_from(length).expect("all limits fit into 32 bits");
    header[1..].copy_from_slice(&length.to_be_bytes());
    header
}

/// A whole frame.
///
/// # Panics
/// When the payload exceeds the kind's limit: the sender checks that before.
#[must_use]
pub fn encode(kind: Kind, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_LEN + payload.len());
    frame.put_slice(&header(kind, payload.len()));
    frame.put_slice(payload);
    frame.freeze()
}

/// Something that the decoder took out of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub kind: Kind,
    /// For data a part of the payload, as it arrived; for all other kinds the whole of it.
    pub payload: Bytes,
}

/// Takes frames apart without copying data and without holding more than one control frame.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER_LEN],
        have: usize,
    },
    Data {
        kind: Kind,
        left: usize,
    },
    Control {
        kind: Kind,
        left: usize,
        payload: BytesMut,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Header {
            bytes: [0; HEADER_LEN],
            have: 0,
        }
    }
}

impl Decoder {
    /// Adds input; all pieces of earlier input must have been taken.
    pub fn push(&mut self, input: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = input;
    }

    /// Takes the next piece; `None` when more input is needed.
    ///
    /// # Errors
    /// Fails when the input is no frame.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, FrameError> {
        loop {
            match &mut self.state {
                State::Header { bytes, have } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let count = self.input.len().min(HEADER_LEN - *have);
                    self.input.copy_to_slice(&mut bytes[*have..*have + count]);
                    *have += count;
                    if *have == HEADER_LEN {
                        self.state = begin(*bytes)?;
                    }
                }
                State::Data { left: 0, .. } => self.state = State::default(),
                State::Data { kind, left } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let payload = self.input.split_to(self.input.len().min(*left));
                    *left -= payload.len();
                    return Ok(Some(Piece {
                        kind: *kind,
                        payload,
                    }));
                }
                State::Control {
                    kind,
                    left: 0,
                    payload,
                } => {
                    let piece = Piece {
                        kind: *kind,
                        payload: payload.split().freeze(),
                    };
                    self.state = State::default();
                    return Ok(Some(piece));
                }
                State::Control { left, payload, .. } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let part = self.input.split_to(self.input.len().min(*left));
                    *left -= part.len();
                    payload.extend_from_slice(&part);
                }
            }
        }
    }

    /// Says whether the body may end here.
    ///
    /// # Errors
    /// Fails inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        match &self.state {
            State::Header { have: 0, .. } | State::Data { left: 0, .. } => Ok(()),
            State::Header { .. } | State::Data { .. } | State::Control { .. } => {
                Err(FrameError::Truncated)
            }
        }
    }
}

fn begin(header: [u8; HEADER_LEN]) -> Result<State, FrameError> {
    let [kind, length @ ..] = header;
    let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
    let left = u32::from_be_bytes(length) as usize;
    if left > kind.limit() {
        return Err(FrameError::TooLong { kind, length: left });
    }
    Ok(if kind.is_data() {
        State::Data { kind, left }
    } else {
        State::Control {
            kind,
            left,
            payload: BytesMut::new(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes a body that arrives in chunks; neighbouring data of one kind is joined.
    fn decode(body: &[u8], chunk: usize) -> Result<Vec<(Kind, Vec<u8>)>, FrameError> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::<(Kind, Vec<u8>)>::new());
        for chunk in body.chunks(chunk) {
            decoder.push(Bytes::copy_from_slice(chunk));
            while let Some(Piece { kind, payload }) = decoder.next_piece()? {
                match frames.last_mut() {
                    Some((last, joined)) if *last == kind && kind.is_data() => {
                        joined.extend(payload);
                    }
                    Some(_) | None => frames.push((kind, payload.to_vec())),
                }
            }
        }
        decoder.finish()?;
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_survive_any_chunking(
            sent in proptest::collection::vec(
                (0..Kind::ALL.len(), proptest::collection::vec(any::<u8>(), 0..200)), 0..10),
            chunk in 1_usize..64,
        ) {
            let (mut body, mut expected) = (Vec::new(), Vec::<(Kind, Vec<u8>)>::new());
            for (kind, payload) in sent {
                let kind = Kind::ALL[kind];
                body.extend(encode(kind, &payload));
                match expected.last_mut() {
                    Some((last, joined)) if *last == kind && kind.is_data() => joined.extend(payload),
                    _ if kind.is_data() && payload.is_empty() => {}
                    _ => expected.push((kind, payload)),
                }
            }
            prop_assert_eq!(decode(&body, chunk), Ok(expected));
        }

        #[test]
        fn garbage_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300), chunk in 1_usize..64) {
            let _ = decode(&body, chunk);
        }
    }

    #[test]
    fn a_frame_above_its_limit_is_refused_by_its_header() {
        let body = [
            &[Kind::Stdout as u8][..],
            &(MAX_DATA as u32 + 1).to_be_bytes(),
        ]
        .concat();
        assert_eq!(
            decode(&body, 64).unwrap_err().to_string(),
            "a frame of Stdout has 65537 bytes, more than 65536"
        );
    }

    #[test]
    fn a_body_that_ends_inside_a_frame_is_refused() {
        let frame = encode(Kind::Exited, &[0, 0, 0, 1]);
        for end in 1..frame.len() {
            assert_eq!(
                decode(&frame[..end], 64),
                Err(FrameError::Truncated),
                "{end}"
            );
        }
    }
}
