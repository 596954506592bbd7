//! A log file as a body: what is there, or its last lines, and, for those who follow, what comes.
//! A log that is cut while it is followed is gone on with where its reader was.

use std::{
    io::{self, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use axum::body::Body;
use banger_core::{error::Error, record::VmState, vm::VmHandle};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

/// How often a followed file is looked at. Files have no asynchronous readiness, and a
/// follower is a person.
const LOOK: Duration = Duration::from_millis(200);
const CHUNK: usize = 64 << 10;
/// So much of what was read last tells where a reader was.
const TRACE: usize = 512;

/// The bytes of a log; with a VM, until that VM has ended. A log that was never begun is an
/// empty one.
pub(crate) async fn log(
    path: PathBuf,
    follow: Option<VmHandle>,
    tail: Option<u32>,
) -> Result<Body, Error> {
    let failed = |operation: &'static str, path: PathBuf| {
        move |source| Error::File {
            operation,
            path,
            source,
        }
    };
    let mut file = match File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Body::empty()),
        Err(source) => return Err(failed("open", path)(source)),
    };
    if let Some(lines) = tail {
        let sought = seek_tail(&mut file, lines).await;
        sought.map_err(failed("read", path))?;
    }
    let reader = Reader {
        file,
        vm: follow,
        seen: Vec::new(),
    };
    Ok(Body::from_stream(stream::unfold(reader, next_chunk)))
}

struct Reader {
    file: File,
    /// Whom to follow, where anybody does.
    vm: Option<VmHandle>,
    /// The last bytes that were read.
    seen: Vec<u8>,
}

async fn next_chunk(mut reader: Reader) -> Option<(io::Result<Bytes>, Reader)> {
    loop {
        // Asked before reading: what was written before the VM's end is then not missed.
        let alive = reader.vm.as_ref().is_some_and(is_alive);
        match reader.read().await {
            Ok(bytes) if bytes.is_empty() && alive => tokio::time::sleep(LOOK).await,
            Ok(bytes) if bytes.is_empty() => return None,
            Ok(bytes) => return Some((Ok(bytes), reader)),
            Err(error) => {
                reader.vm = None;
                return Some((Err(error), reader));
            }
        }
    }
}

impl Reader {
    async fn read(&mut self) -> io::Result<Bytes> {
        if self.was_cut().await? {
            self.file.rewind().await?;
            let mut kept = Vec::new();
            self.file.read_to_end(&mut kept).await?;
            let new = kept.split_off(behind(&kept, &self.seen));
            self.remember(&new);
            return Ok(new.into());
        }
        let mut buffer = BytesMut::with_capacity(CHUNK);
        self.file.read_buf(&mut buffer).await?;
        self.remember(&buffer);
        Ok(buffer.freeze())
    }

    async fn was_cut(&mut self) -> io::Result<bool> {
        let here = self.file.stream_position().await?;
        Ok(self.file.metadata().await?.len() < here)
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.seen.extend_from_slice(bytes);
        let old = self.seen.len().saturating_sub(TRACE);
        self.seen.drain(..old);
    }
}

/// Where what is kept of a log goes on for a reader who saw `seen` last; at its beginning where that is
/// not in it any more.
fn behind(kept: &[u8], seen: &[u8]) -> usize {
    if seen.is_empty() {
        return 0;
    }
    let found = kept.windows(seen.len()).rposition(|window| window == seen);
    found.map_or(0, |at| at + seen.len())
}

/// Goes to the beginning of the last lines. Logs are short: whoever writes them keeps them so.
async fn seek_tail(file: &mut File, lines: u32) -> io::Result<()> {
    let mut text = Vec::new();
    file.read_to_end(&mut text).await?;
    let at = tail_begins(&text, lines);
    file.seek(SeekFrom::Start(at as u64)).await?;
    Ok(())
}

/// Where the last lines begin; a line that has no end yet is one.
fn tail_begins(text: &[u8], lines: u32) -> usize {
    if lines == 0 {
        return text.len();
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body.iter().enumerate().rev();
    let mut ends = ends.filter(|(_, byte)| **byte == b'\n');
    ends.nth(lines as usize - 1).map_or(0, |(end, _)| end + 1)
}

fn is_alive(vm: &VmHandle) -> bool {
    match vm.view().record.state {
        VmState::Starting | VmState::Running | VmState::Paused | VmState::Stopping => true,
        VmState::Created | VmState::Stopped | VmState::Error | VmState::Deleting => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_tail_has_so_many_lines() {
        let check = |text: &str, lines: u32, expected: &str| {
            let tail = &text[tail_begins(text.as_bytes(), lines)..];
            assert_eq!(tail, expected, "{text:?} {lines}");
        };
        check("a\nb\nc\n", 1, "c\n");
        check("a\nb\nc\n", 2, "b\nc\n");
        check("a\nb\nc", 2, "b\nc");
        check("a\nb\nc\n", 3, "a\nb\nc\n");
        check("a\nb\nc\n", 100, "a\nb\nc\n");
        check("a\nb\n", 0, "");
        check("", 3, "");
        check("\n\n", 1, "\n");
    }

    #[tokio::test]
    async fn a_log_that_is_cut_is_gone_on_with() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut write = |text: &str| file.write_all(text.as_bytes()).unwrap();
        write("one\ntwo\nthree\n");
        let path = file.path().to_owned();
        let mut reader = Reader {
            file: File::open(&path).await.unwrap(),
            vm: None,
            seen: Vec::new(),
        };
        assert_eq!(reader.read().await.unwrap(), "one\ntwo\nthree\n");
        // Cut to less than was read, with a line that nobody saw.
        std::fs::write(&path, "three\nfour\n").unwrap();
        let known = reader.seen.split_off("one\ntwo\n".len());
        reader.seen = known;
        assert_eq!(reader.read().await.unwrap(), "four\n");
        std::fs::write(&path, "x\n").unwrap();
        assert_eq!(reader.read().await.unwrap(), "x\n");
        assert_eq!(reader.read().await.unwrap(), "");
    }
}
