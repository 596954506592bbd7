//! Speaks to an agent by hand, as far as it takes to know that it is there and how long a round
//! trip is: the reset, the greeting, and HTTP/2's ping.
//!
//! Written down again rather than shared with the product, so that a measurement does not change
//! with what it measures.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;

use super::BenchError;

/// What a reset begins with; a nonce follows.
const RESET: &[u8; 16] = b"\xf5BANGER\x00\r\n\x1a\nrst\x01";
const NONCE: usize = 16;
/// The one byte that a nonce must not have.
const FORBIDDEN: u8 = RESET[0];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
/// Frames of a greeting are far below this.
const LONGEST: usize = 64 << 10;

/// One client's end of an agent's channel.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    patience: Duration,
}

impl Channel {
    pub(super) fn new(stream: UnixStream, patience: Duration) -> Result<Self, BenchError> {
        stream
            .set_read_timeout(Some(patience))
            .map_err(BenchError::channel("set a limit"))?;
        Ok(Self { stream, patience })
    }

    /// Starts a session and waits for the agent's greeting.
    pub(super) fn greet(&mut self) -> Result<(), BenchError> {
        let nonce = nonce(random()?);
        let sent = [&RESET[..], &nonce, &greeting(random()?)].concat();
        self.send(&sent, "send a greeting")?;
        self.skip_to(&[&RESET[..], &nonce].concat())?;
        let mut length = [0; 4];
        self.receive(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        let mut answer = vec![0; length.min(LONGEST)];
        self.receive(&mut answer)
    }

    /// Starts HTTP/2, so that pings are answered.
    pub(super) fn open(&mut self) -> Result<(), BenchError> {
        self.send(
            &[PREFACE, &frame(SETTINGS, 0, &[])].concat(),
            "start HTTP/2",
        )
    }

    /// Seconds from a ping to its answer.
    pub(super) fn ping(&mut self) -> Result<f64, BenchError> {
        let begin = Instant::now();
        self.send(&frame(PING, 0, b"measured"), "ping")?;
        loop {
            let (kind, flags) = self.frame()?;
            match (kind, flags) {
                (PING, ACK) => return Ok(begin.elapsed().as_secs_f64()),
                (SETTINGS, 0) => self.send(&frame(SETTINGS, ACK, &[]), "agree on HTTP/2")?,
                _ => {}
            }
        }
    }

    /// Reads a frame and tells its kind and flags.
    fn frame(&mut self) -> Result<(u8, u8), BenchError> {
        let mut head = [0; 9];
        self.receive(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length.min(LONGEST)];
        self.receive(&mut payload)?;
        Ok((head[3], head[4]))
    }

    /// Reads, and forgets, up to the end of `marker`.
    fn skip_to(&mut self, marker: &[u8]) -> Result<(), BenchError> {
        let mut last = Vec::new();
        let mut byte = [0];
        while !last.ends_with(marker) {
            self.receive(&mut byte)?;
            last.push(byte[0]);
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8], operation: &'static str) -> Result<(), BenchError> {
        self.stream
            .write_all(bytes)
            .map_err(BenchError::channel(operation))
    }

    fn receive(&mut self, into: &mut [u8]) -> Result<(), BenchError> {
        match self.stream.read_exact(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BenchError::Silent {
                seconds: self.patience.as_secs(),
            }),
            read => read.map_err(BenchError::channel("receive an answer")),
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], BenchError> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(BenchError::file("read", "/dev/urandom"))?;
    Ok(bytes)
}

fn nonce(random: [u8; NONCE]) -> [u8; NONCE] {
    random.map(|byte| if byte == FORBIDDEN { 0 } else { byte })
}

/// The host's greeting of generation 1: a length and a document.
fn greeting(entropy: [u8; 32]) -> Vec<u8> {
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let entropy: String = entropy.iter().map(|byte| format!("{byte:02x}")).collect();
    let document = json!({
        "generations": [1, 1],
        "wall_clock_ns": u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        "entropy": entropy,
    });
    let document = document.to_string();
    let length = u32::try_from(document.len()).expect("a greeting is short");
    [&length.to_be_bytes(), document.as_bytes()].concat()
}

/// A frame of HTTP/2's stream 0 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("our frames are short");
    let [_, a, b, c] = length.to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, 0], payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_has_its_form() {
        let wanted = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(frame(PING, 0, &[1, 2, 3, 4, 5, 6, 7, 8]), wanted);
    }

    #[test]
    fn a_nonce_never_looks_like_a_reset() {
        assert!(!nonce([FORBIDDEN; NONCE]).contains(&FORBIDDEN));
    }

    #[test]
    fn an_agent_that_answers_is_heard_behind_what_was_left_over() {
        let (host, mut agent) = UnixStream::pair().unwrap();
        let answering = std::thread::spawn(move || {
            let mut reset = [0; RESET.len() + NONCE];
            agent.read_exact(&mut reset).unwrap();
            let mut length = [0; 4];
            agent.read_exact(&mut length).unwrap();
            let mut document = vec![0; u32::from_be_bytes(length) as usize];
            agent.read_exact(&mut document).unwrap();
            let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(document["generations"], json!([1, 1]));
            agent
                .write_all(&[b"left over", &reset[..], &[0, 0, 0, 2], b"{}"].concat())
                .unwrap();
            let mut ping = vec![0; PREFACE.len() + 9 + 17];
            agent.read_exact(&mut ping).unwrap();
            agent.write_all(&frame(SETTINGS, 0, &[0; 6])).unwrap();
            agent.write_all(&frame(PING, ACK, b"measured")).unwrap();
            agent
        });
        let mut channel = Channel::new(host, Duration::from_secs(60)).unwrap();
        channel.greet().unwrap();
        channel.open().unwrap();
        assert!(channel.ping().unwrap() > 0.0);
        answering.join().unwrap();
    }
}
