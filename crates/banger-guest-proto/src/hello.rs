//! Owns the greeting: one length-bounded JSON document from each side, the host's first. Knows no streams or requests.
//!
//! The greeting lies below the generations: its framing and the fields `generations` and `generation` never change.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::message::{Assumed, IdentityRequest};

/// The generation that this code speaks; see the crate's documentation before touching it.
pub const GENERATION: u32 = 2;

/// The oldest generation that this code still speaks.
pub const OLDEST_GENERATION: u32 = 1;

/// The longest greeting that either side accepts, in bytes of JSON.
pub const MAX_HELLO: u32 = 16 << 10;

/// The longest text that a greeting may carry in one field.
const MAX_TEXT: usize = 128;

/// An inclusive range of generations; JSON `[min, max]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub struct Generations {
    pub min: u32,
    pub max: u32,
}

impl Generations {
    /// What this code speaks.
    pub const OURS: Self = Self {
        min: OLDEST_GENERATION,
        max: GENERATION,
    };

    /// The newest generation that both sides speak.
    #[must_use]
    pub fn agree(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

impl From<(u32, u32)> for Generations {
    fn from((min, max): (u32, u32)) -> Self {
        Self { min, max }
    }
}

impl From<Generations> for (u32, u32) {
    fn from(range: Generations) -> Self {
        (range.min, range.max)
    }
}

impl std::fmt::Display for Generations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

/// Random bytes for the guest's pool; not shown in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Entropy(pub [u8; 32]);

impl Entropy {
    /// Draws from the system's random source.
    ///
    /// # Errors
    /// Fails when the system has none.
    pub fn fresh() -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}

impl From<Entropy> for String {
    fn from(entropy: Entropy) -> Self {
        hex::encode(entropy.0)
    }
}

impl TryFrom<String> for Entropy {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// What the host says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHello {
    pub generations: Generations,
    /// The host's clock, in nanoseconds since 1970; the agent sets a guest clock that is far off.
    pub wall_clock_ns: u64,
    /// Mixed into the guest's pool, so that forks of one snapshot do not share secrets.
    pub entropy: Entropy,
    /// Where the guest is another's copy: who it is to be, said a round trip earlier than by
    /// [`Route::Identity`](crate::message::Route::Identity). An agent that does not know of it ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityRequest>,
}

impl HostHello {
    /// A greeting with this instant's clock and fresh entropy.
    ///
    /// # Errors
    /// Fails when the system gives no random bytes.
    pub fn now() -> io::Result<Self> {
        let since_1970 = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or(Duration::ZERO);
        Ok(Self {
            generations: Generations::OURS,
            wall_clock_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
            entropy: Entropy::fresh()?,
            identity: None,
        })
    }
}

/// Which program is the guest's process 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pid1 {
    /// The agent itself supervises and reaps.
    Agent,
    /// The agent handed over to systemd.
    Systemd,
    /// The agent handed over to another init.
    Other,
}

/// When the boot's stages were reached, on the guest's monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootMarks {
    /// The agent's first instruction as process 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_entered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules_loaded: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_mounted: Option<u64>,
    /// The agent listens on the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<u64>,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHello {
    pub generations: Generations,
    /// The generation of this session; absent when there is none that both speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    pub version: String,
    /// The guest kernel's boot id: differs after every boot, not after a reconnect.
    pub boot_id: String,
    pub pid1: Pid1,
    pub uptime_ns: u64,
    #[serde(default)]
    pub marks: BootMarks,
    /// Where the host's greeting named an identity: the guest has it by the time that the first request is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumed: Option<Assumed>,
}

/// A greeting that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    #[error("cannot send the greeting")]
    Send(#[source] io::Error),
    #[error("cannot receive the peer's greeting")]
    Receive(#[source] io::Error),
    #[error("the peer's greeting has {length} bytes, more than {MAX_HELLO}")]
    TooLong { length: u32 },
    #[error("the peer's greeting is not understood")]
    Syntax(#[source] serde_json::Error),
    #[error("the peer's greeting has a bad {field}")]
    Field { field: &'static str },
    #[error(
        "host and agent have no common protocol generation: the host speaks {host}, the agent {agent}"
    )]
    Generation {
        host: Generations,
        agent: Generations,
    },
}

/// The host's half: greets and waits for the answer.
///
/// # Errors
/// Fails when the channel fails, the answer is malformed, or no generation is common.
pub async fn greet<IO>(io: &mut IO, hello: &HostHello) -> Result<AgentHello, HelloError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    send(io, hello).await?;
    let answer: AgentHello = receive(io).await?;
    check(hello.generations, answer)
}

/// The agent's first half: reads the host's greeting.
///
/// # Errors
/// Fails when the channel fails or the greeting is malformed.
pub async fn receive_host<IO: AsyncRead + Unpin>(io: &mut IO) -> Result<HostHello, HelloError> {
    receive(io).await
}

/// The agent's second half: answers. A missing generation is sent too, so that the host can say what is wrong.
///
/// # Errors
/// Fails when the channel fails, or when no generation is common.
pub async fn answer<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    host: &HostHello,
    answer: &AgentHello,
) -> Result<u32, HelloError> {
    send(io, answer).await?;
    answer.generation.ok_or(HelloError::Generation {
        host: host.generations,
        agent: answer.generations,
    })
}

/// Believes only a generation that was offered, and only texts that can be shown.
fn check(host: Generations, answer: AgentHello) -> Result<AgentHello, HelloError> {
    let chosen = answer
        .generation
        .filter(|chosen| (host.min..=host.max).contains(chosen));
    if chosen.is_none() {
        return Err(HelloError::Generation {
            host,
            agent: answer.generations,
        });
    }
    let presentable = |text: &str| {
        text.len() <= MAX_TEXT
            && text
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic())
    };
    if !presentable(&answer.version) {
        return Err(HelloError::Field { field: "version" });
    }
    if !presentable(&answer.boot_id) {
        return Err(HelloError::Field { field: "boot_id" });
    }
    Ok(answer)
}

async fn send<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    document: &impl Serialize,
) -> Result<(), HelloError> {
    let json = serde_json::to_vec(document).map_err(HelloError::Syntax)?;
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    if length > MAX_HELLO {
        return Err(HelloError::TooLong { length });
    }
    let message = [&length.to_be_bytes(), json.as_slice()].concat();
    io.write_all(&message).await.map_err(HelloError::Send)?;
    io.flush().await.map_err(HelloError::Send)
}

async fn receive<IO: AsyncRead + Unpin, T: DeserializeOwned>(io: &mut IO) -> Result<T, HelloError> {
    let length = io.read_u32().await.map_err(HelloError::Receive)?;
    if length > MAX_HELLO {
        return Err(HelloError::TooLong { length });
    }
    let mut json = vec![0; length as usize];
    io.read_exact(&mut json)
        .await
        .map_err(HelloError::Receive)?;
    serde_json::from_slice(&json).map_err(HelloError::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(generation: Option<u32>) -> AgentHello {
        AgentHello {
            generations: Generations::OURS,
            generation,
            version: "0.1.0 (abc)".into(),
            boot_id: "0f6bb4a1-1b0f-4b6e-8a83-1d1a1d4a9f7e".into(),
            pid1: Pid1::Systemd,
            uptime_ns: 7,
            marks: BootMarks {
                ready: Some(5),
                ..BootMarks::default()
            },
            assumed: None,
        }
    }

    fn exchange(reply: &AgentHello) -> Result<AgentHello, HelloError> {
        let (mut host, mut guest) = tokio::io::duplex(64);
        let hello = HostHello::now().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let agent = async {
                let heard = receive_host(&mut guest).await.unwrap();
                assert_eq!(heard, hello);
                answer(&mut guest, &heard, reply).await.is_ok()
            };
            let (result, agreed) = tokio::join!(greet(&mut host, &hello), agent);
            assert_eq!(agreed, reply.generation.is_some());
            result
        })
    }

    #[test]
    fn both_sides_learn_of_each_other() {
        assert_eq!(exchange(&agent(Some(1))).unwrap(), agent(Some(1)));
    }

    #[test]
    fn a_mismatch_names_both_ranges() {
        let mut reply = agent(None);
        reply.generations = Generations { min: 3, max: 5 };
        assert_eq!(
            exchange(&reply).unwrap_err().to_string(),
            "host and agent have no common protocol generation: the host speaks 1 to 2, the agent 3 to 5"
        );
    }

    #[test]
    fn a_generation_that_was_not_offered_is_refused() {
        assert!(matches!(
            exchange(&agent(Some(GENERATION + 1))),
            Err(HelloError::Generation { .. })
        ));
    }

    #[test]
    fn a_text_that_could_mislead_a_terminal_is_refused() {
        for version in ["\x1b[2J", "a\nb", &"x".repeat(200)] {
            let mut reply = agent(Some(1));
            reply.version = version.into();
            assert!(matches!(
                exchange(&reply),
                Err(HelloError::Field { field: "version" })
            ));
        }
    }

    #[test]
    fn an_endless_greeting_is_refused_before_it_is_read() {
        let (mut host, mut guest) = tokio::io::duplex(64);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            host.write_u32(MAX_HELLO + 1).await.unwrap();
            let error = receive_host(&mut guest).await.unwrap_err();
            assert!(matches!(error, HelloError::TooLong { .. }));
        });
    }

    #[test]
    fn the_newest_common_generation_is_chosen() {
        let check = |ours, theirs, chosen| {
            assert_eq!(
                Generations::from(ours).agree(Generations::from(theirs)),
                chosen
            );
        };
        check((1, 1), (1, 1), Some(1));
        check((1, 4), (2, 9), Some(4));
        check((3, 4), (1, 3), Some(3));
        check((1, 2), (3, 4), None);
        check((3, 4), (1, 2), None);
    }
}
