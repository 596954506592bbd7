//! Collects what a stream says while others wait for parts of it.
//! Knows bytes; knows no process and no terminal.

use std::{
    io::Read,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Instant,
};

/// What a stream has said so far, collected by a thread of its own.
#[derive(Debug, Clone)]
pub(crate) struct Capture {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::<Shared>::default();
        let collected = shared.clone();
        thread::spawn(move || collect(stream, &collected));
        Self { shared }
    }

    /// Everything so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Everything, once the stream is at its end; `None` when it is not in time.
    pub(crate) fn finish(&self, deadline: Instant) -> Option<Vec<u8>> {
        let mut said = self.wait(deadline, |said| said.ended);
        said.ended.then(|| std::mem::take(&mut said.bytes))
    }

    /// Waits for a text behind the first `from` bytes, and gives back where it ends; `None`
    /// when it has not come in time, or cannot come any more.
    pub(crate) fn find(&self, text: &str, from: usize, deadline: Instant) -> Option<usize> {
        let end = |said: &Said| {
            let mut windows = said.bytes[from..].windows(text.len());
            let at = windows.position(|window| window == text.as_bytes())?;
            Some(from + at + text.len())
        };
        let said = self.wait(deadline, |said| said.ended || end(said).is_some());
        end(&said)
    }

    fn wait(&self, deadline: Instant, done: impl Fn(&Said) -> bool) -> MutexGuard<'_, Said> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .shared
            .more
            .wait_timeout_while(self.lock(), left, |said| !done(said));
        waited.expect("the collecting thread does not panic").0
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        let said = self.shared.said.lock();
        said.expect("the collecting thread does not panic")
    }
}

fn collect(mut stream: impl Read, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // A pseudo-terminal that nobody holds any more ends with an error.
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let Ok(mut said) = shared.said.lock() else {
            return;
        };
        said.bytes.extend_from_slice(&buffer[..count]);
        said.ended = count == 0;
        shared.more.notify_all();
        if said.ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Write, pipe},
        time::Duration,
    };

    use super::*;

    #[test]
    fn texts_are_found_as_they_come_and_only_once() {
        let (reader, mut writer) = pipe().unwrap();
        let capture = Capture::of(reader);
        let soon = || Instant::now() + Duration::from_secs(60);
        writer.write_all(b"one two").unwrap();
        assert_eq!(capture.find("one", 0, soon()), Some(3));
        assert_eq!(capture.find("one", 3, Instant::now()), None);
        writer.write_all(b" one").unwrap();
        assert_eq!(capture.find("one", 3, soon()), Some(11));
        assert_eq!(capture.finish(Instant::now()), None);
        drop(writer);
        assert_eq!(capture.finish(soon()).as_deref(), Some(&b"one two one"[..]));
        assert_eq!(capture.find("never", 0, soon()), None);
    }
}
