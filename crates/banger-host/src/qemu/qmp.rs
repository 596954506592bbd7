//! A small client of QEMU's control socket. Every line that it reads is bounded: a VMM may
//! be in its guest's hands.

use std::{io, path::Path};

use banger_core::host_error::HostError;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

const MAX_LINE: u64 = 256 << 10;

/// A control session. QEMU talks to one client at a time, so keep it short.
#[derive(Debug)]
pub(crate) struct Qmp {
    lines: BufReader<OwnedReadHalf>,
    requests: OwnedWriteHalf,
}

/// What QEMU answers, as far as it matters.
#[derive(Debug, PartialEq)]
enum Reply {
    Done(Value),
    Refused(String),
    /// An event or a greeting.
    Aside,
}

/// What QEMU tells by itself, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The guest is stopped until somebody lets it go on.
    WriteFailed {
        no_space: bool,
    },
    Else,
}

/// `BLOCK_IO_ERROR` of QEMU's reference: `action` is what was done about it.
fn told(line: &str) -> Told {
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    let stopped = line["event"] == "BLOCK_IO_ERROR" && line["data"]["action"] == "stop";
    if stopped {
        Told::WriteFailed {
            no_space: line["data"]["nospace"] == true,
        }
    } else {
        Told::Else
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "return")]
    done: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

fn parse(line: &str) -> io::Result<Reply> {
    let line: Line = serde_json::from_str(line)?;
    Ok(match (line.done, line.error) {
        (_, Some(Refusal { desc })) => Reply::Refused(crate::logs::printable(&desc)),
        (Some(value), None) => Reply::Done(value),
        (None, None) => Reply::Aside,
    })
}

impl Qmp {
    pub(crate) async fn connect(socket: &Path) -> Result<Self, HostError> {
        let stream = UnixStream::connect(socket).await;
        let stream =
            stream.map_err(|source| crate::places::file_error("connect to", socket, source))?;
        Self::over(stream).await
    }

    /// Leaves the negotiation behind.
    pub(crate) async fn over(stream: UnixStream) -> Result<Self, HostError> {
        let (reads, requests) = stream.into_split();
        let mut qmp = Self {
            lines: BufReader::new(reads),
            requests,
        };
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Runs a command without arguments and returns its result.
    pub(crate) async fn execute(&mut self, command: &'static str) -> Result<Value, HostError> {
        self.execute_with(command, json!({})).await
    }

    pub(crate) async fn execute_with(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<Value, HostError> {
        let refused = |message: String| HostError::VmmRefused {
            command: command.into(),
            message,
        };
        match self.ask(command, arguments).await {
            Ok(Reply::Done(value)) => Ok(value),
            Ok(Reply::Refused(message)) => Err(refused(message)),
            Ok(Reply::Aside) => unreachable!("asides are skipped while asking"),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// Whether a guest stands still because something of it could not be written.
    pub(crate) async fn is_halted(&mut self) -> Result<bool, HostError> {
        let status = self.execute("query-status").await?;
        Ok(status["status"] == "io-error")
    }

    /// Waits for what QEMU tells next.
    pub(crate) async fn told(&mut self) -> Result<Told, HostError> {
        let line = self.line().await.map_err(|error| HostError::VmmRefused {
            command: "its events".into(),
            message: error.to_string(),
        })?;
        Ok(told(&line))
    }

    async fn ask(&mut self, command: &str, arguments: Value) -> io::Result<Reply> {
        let request = json!({ "execute": command, "arguments": arguments });
        let request = format!("{request}\n");
        self.requests.write_all(request.as_bytes()).await?;
        loop {
            match parse(&self.line().await?)? {
                Reply::Aside => {}
                answer @ (Reply::Done(_) | Reply::Refused(_)) => return Ok(answer),
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let count = (&mut self.lines)
            .take(MAX_LINE)
            .read_line(&mut line)
            .await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.ends_with('\n') {
            return Ok(line);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line has no end",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_events() {
        let check = |line: &str, wanted: Reply| assert_eq!(parse(line).unwrap(), wanted, "{line}");
        check(
            r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#,
            Reply::Aside,
        );
        check(
            r#"{"timestamp": {"seconds": 1}, "event": "SHUTDOWN"}"#,
            Reply::Aside,
        );
        check(r#"{"return": {}}"#, Reply::Done(json!({})));
        check(
            r#"{"error": {"class": "CommandNotFound", "desc": "no\u001b[2J"}}"#,
            Reply::Refused("no".into()),
        );
        assert!(parse("{").is_err());
    }

    #[test]
    fn only_an_error_that_stopped_the_guest_is_a_halt() {
        let check = |line: &str, expected: Told| assert_eq!(told(line), expected, "{line}");
        let error = |action: &str, nospace: bool| {
            format!(
                r#"{{"event": "BLOCK_IO_ERROR", "data": {{"device": "", "nospace": {nospace},
                "node-name": "disk", "operation": "write", "action": "{action}"}}}}"#
            )
        };
        check(&error("stop", true), Told::WriteFailed { no_space: true });
        check(&error("stop", false), Told::WriteFailed { no_space: false });
        check(&error("report", true), Told::Else);
        check(r#"{"event": "STOP"}"#, Told::Else);
        check("{", Told::Else);
    }
}
