//! A proxy on the loopback that stands before a registry: it passes on what it is asked for,
//! remembers it, and stumbles where a story wants it to. Knows HTTP as far as it goes.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

/// How a path is answered whose end is known to the story; all others are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// The last byte is another.
    Corrupt,
    /// So many bytes, and the rest when the story lets go.
    Hold(usize),
}

#[derive(Debug, Default)]
struct State {
    moods: HashMap<String, Mood>,
    asked: Vec<String>,
    /// Nothing is held any more.
    is_released: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// How a connection is served.
type Serve = fn(TcpStream, &str, &Shared) -> io::Result<()>;

/// Ends, and lets go of all that it holds, with this value.
#[derive(Debug)]
pub struct Stumbler {
    address: String,
    shared: Arc<Shared>,
}

impl Stumbler {
    /// A proxy before the registry at `upstream`, whatever host is asked for.
    #[must_use]
    pub fn before(upstream: &str) -> Self {
        Self::serving(upstream, serve)
    }

    /// A proxy that leads to the encrypted registry at `upstream`, whatever host is asked for.
    #[must_use]
    pub fn leading_to(upstream: &str) -> Self {
        Self::serving(upstream, lead)
    }

    fn serving(upstream: &str, serve: Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::<Shared>::default();
        let (serving, upstream) = (Arc::clone(&shared), upstream.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, upstream) = (Arc::clone(&serving), upstream.clone());
                // Clients that hang up are part of the stories.
                thread::spawn(move || serve(client, &upstream, &shared));
            }
        });
        Self { address, shared }
    }

    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A reference through it.
    #[must_use]
    pub fn reference(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// How paths with this end are answered from now on.
    pub fn stumble(&self, end: &str, mood: Mood) {
        self.state().moods.insert(end.to_owned(), mood);
    }

    /// Lets go of all that is held, now and later.
    pub fn release(&self) {
        self.state().is_released = true;
        self.shared.changed.notify_all();
    }

    /// How often something with this in its request line was asked for.
    #[must_use]
    pub fn asked(&self, part: &str) -> usize {
        let state = self.state();
        state
            .asked
            .iter()
            .filter(|line| line.contains(part))
            .count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no holder of it panics")
    }
}

impl Drop for Stumbler {
    fn drop(&mut self) {
        self.release();
    }
}

fn serve(mut client: TcpStream, upstream: &str, shared: &Shared) -> io::Result<()> {
    let Some(head) = read_head(&mut client)? else {
        return Ok(());
    };
    let line = head.lines().next().unwrap_or_default().to_owned();
    let mood = {
        let mut state = shared.state.lock().expect("no holder of it panics");
        state.asked.push(line.clone());
        let path = line.split(' ').nth(1).unwrap_or_default();
        let mut moods = state.moods.iter();
        moods
            .find(|(end, _)| path.ends_with(*end))
            .map(|(_, mood)| *mood)
    };
    if line.starts_with("CONNECT ") {
        // There is nothing encrypted behind this proxy.
        return client
            .write_all(b"HTTP/1.1 502 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let mut answer = ask(upstream, &head)?;
    let body = find(&answer, b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    match mood {
        None => {}
        Some(Mood::Corrupt) => {
            if let Some(last) = answer[body..].last_mut() {
                *last ^= 1;
            }
        }
        Some(Mood::Hold(count)) => {
            let held = (body + count).min(answer.len());
            client.write_all(&answer[..held])?;
            answer.drain(..held);
            let state = shared.state.lock().expect("no holder of it panics");
            let waited = shared.changed.wait_while(state, |state| !state.is_released);
            drop(waited.expect("no holder of it panics"));
        }
    }
    client.write_all(&answer)?;
    client.shutdown(Shutdown::Write)
}

/// Lets the two ends talk past it, as nobody in between understands them.
fn lead(mut client: TcpStream, upstream: &str, shared: &Shared) -> io::Result<()> {
    let Some(head) = read_head(&mut client)? else {
        return Ok(());
    };
    let line = head.lines().next().unwrap_or_default().to_owned();
    let is_known = line.starts_with("CONNECT ");
    let mut state = shared.state.lock().expect("no holder of it panics");
    state.asked.push(line);
    drop(state);
    if !is_known {
        return client.write_all(b"HTTP/1.1 405 no\r\ncontent-length: 0\r\n\r\n");
    }
    let mut server = TcpStream::connect(upstream)?;
    client.write_all(b"HTTP/1.1 200 go on\r\n\r\n")?;
    let (mut asking, mut asked) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        // Its end is the other side's to notice.
        let _ = io::copy(&mut asking, &mut asked);
        asked.shutdown(Shutdown::Write)
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Write)
}

/// The whole answer to a request, which is the only one on its connection.
fn ask(upstream: &str, head: &str) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(upstream)?;
    let mut lines = head.trim_end().lines();
    let first = lines.next().unwrap_or_default();
    let mut request = format!("{}\r\nConnection: close\r\n", to_path(first));
    let kept = lines.filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("proxy-connection")
    });
    for line in kept {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    server.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let head = find(&answer, b"\r\n").map_or(answer.len(), |at| at + 2);
    answer.splice(head..head, *b"connection: close\r\n");
    Ok(answer)
}

/// A proxy is asked with a whole URL, a server with its path.
fn to_path(line: &str) -> String {
    let Some((method, rest)) = line.split_once(" http://") else {
        return line.to_owned();
    };
    let path = rest.find('/').map_or("/ HTTP/1.1", |at| &rest[at..]);
    format!("{method} {path}")
}

fn read_head(client: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while find(&head, b"\r\n\r\n").is_none() {
        if client.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_urls_become_paths() {
        let check = |line: &str, path: &str| assert_eq!(to_path(line), path);
        check("GET /v2/ HTTP/1.1", "GET /v2/ HTTP/1.1");
        check(
            "GET http://a.test:5000/v2/x?y=http://z HTTP/1.1",
            "GET /v2/x?y=http://z HTTP/1.1",
        );
    }
}
