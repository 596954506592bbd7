//! A web server on the loopback that holds what it is given and behaves as badly as it is told to.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What one request is answered with; the last of a path's answers is given for ever.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The path's content, in the range that was asked for.
    Content,
    /// These bytes instead, in the range that was asked for.
    Other(Vec<u8>),
    /// These bytes again and again, without a length.
    Endless(Vec<u8>),
    /// The content, whatever range was asked for.
    WithoutRange,
    Status(u16, Vec<(&'static str, String)>),
    /// So many bytes of what was asked for, and then the connection is gone.
    BreaksOff(usize),
    /// So many bytes, and then nothing more.
    Stalls(usize),
    /// Bytes that are as many, but others.
    Corrupt,
    /// Names a length that is shorter than the content.
    ShortLength(usize),
    /// Names a length that is longer, and ends the connection where the content ends.
    LongLength(usize),
    /// Never says anything.
    Silent,
    /// To this place.
    Redirect(String),
    /// The content, for who shows this.
    Only(String, Vec<(&'static str, String)>),
}

#[derive(Debug, Default)]
struct State {
    contents: HashMap<String, (Vec<u8>, &'static str)>,
    answers: HashMap<String, Vec<Answer>>,
    requests: Vec<Request>,
}

/// What was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
}

/// Runs until the test's runtime ends.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                // A client that hangs up is part of the tests.
                tokio::spawn(async move { server.serve(stream).await.ok() });
            }
        });
        server
    }

    /// What a path has from now on, sent as it should be.
    pub(crate) fn put(&self, path: &str, content: Vec<u8>) {
        self.put_as(path, content, "application/octet-stream");
    }

    pub(crate) fn put_as(&self, path: &str, content: Vec<u8>, kind: &'static str) {
        let mut state = self.state.lock().unwrap();
        state.contents.insert(rooted(path), (content, kind));
        state.answers.remove(&rooted(path));
    }

    /// How a path is answered from now on.
    pub(crate) fn script(&self, path: &str, answers: &[Answer]) {
        let mut state = self.state.lock().unwrap();
        state.answers.insert(rooted(path), answers.to_vec());
    }

    /// What a path has.
    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        state.contents[&rooted(path)].0.clone()
    }

    /// All paths that have something.
    pub(crate) fn paths(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.contents.keys().cloned().collect()
    }

    pub(crate) fn requests(&self, path: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        let asked = state.requests.iter();
        let asked = asked.filter(|asked| asked.path == rooted(path));
        asked.cloned().collect()
    }

    /// What was asked for, as far as its path has `part` in it.
    pub(crate) fn asked_for(&self, part: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let asked = state.requests.iter().map(|request| &request.path);
        asked.filter(|path| path.contains(part)).cloned().collect()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{}", self.address, rooted(path))
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream).await? {
            let (answer, content) = self.next(&request);
            if !reply(stream.get_mut(), &request, answer, content).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn next(&self, request: &Request) -> (Answer, Option<(Vec<u8>, &'static str)>) {
        let mut state = self.state.lock().unwrap();
        state.requests.push(request.clone());
        let path = request.path.split('?').next().unwrap().to_owned();
        let content = state.contents.get(&path).cloned();
        let answer = match state.answers.get_mut(&path) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers.first().cloned().unwrap_or(Answer::Content),
            None => Answer::Content,
        };
        (answer, content)
    }
}

fn rooted(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut request = Request::default();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(request));
        }
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                request.range = Some(value.to_owned());
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                request.authorization = Some(value.to_owned());
            }
            Some(_) => {}
            None => request.path = line.split(' ').nth(1).unwrap_or_default().to_owned(),
        }
    }
}

/// Whether the connection goes on.
async fn reply(
    stream: &mut TcpStream,
    request: &Request,
    answer: Answer,
    content: Option<(Vec<u8>, &'static str)>,
) -> std::io::Result<bool> {
    let (mut body, kind) = match &answer {
        Answer::Other(bytes) => (bytes.clone(), "application/octet-stream"),
        Answer::Endless(bytes) => return endless(stream, bytes).await,
        _ => content.unwrap_or_default(),
    };
    let missing = kind.is_empty();
    let whole = body.len();
    let begin = match (&answer, &request.range) {
        (Answer::WithoutRange, _) | (_, None) => 0,
        (_, Some(range)) => {
            let from = range.trim_start_matches("bytes=").trim_end_matches('-');
            from.parse().unwrap()
        }
    };
    body.drain(..begin);
    let length = match &answer {
        Answer::ShortLength(length) => *length,
        Answer::LongLength(more) => body.len() + more,
        _ => body.len(),
    };
    let mut head = match &answer {
        Answer::Status(status, headers) => plain_head(*status, headers),
        Answer::Redirect(place) => plain_head(307, &[("location", place.clone())]),
        Answer::Only(proof, headers) if request.authorization.as_ref() != Some(proof) => {
            plain_head(401, headers)
        }
        Answer::Silent => {
            std::future::pending::<()>().await;
            return Ok(false);
        }
        _ if missing => plain_head(404, &[]),
        _ if begin > 0 => format!(
            "HTTP/1.1 206 Partial\r\ncontent-range: bytes {begin}-{}/{whole}\r\n",
            whole - 1
        ),
        _ => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    if head.ends_with("\r\n\r\n") {
        stream.write_all(head.as_bytes()).await?;
        return Ok(true);
    }
    head.push_str(&format!(
        "content-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    ));
    stream.write_all(head.as_bytes()).await?;
    match answer {
        Answer::BreaksOff(count) => {
            stream.write_all(&body[..count.min(body.len())]).await?;
            Ok(false)
        }
        Answer::Stalls(count) => {
            stream.write_all(&body[..count.min(body.len())]).await?;
            std::future::pending::<()>().await;
            Ok(false)
        }
        Answer::Corrupt => {
            let middle = body.len() / 2;
            body[middle] ^= 0xff;
            stream.write_all(&body).await?;
            Ok(true)
        }
        Answer::ShortLength(length) => {
            stream.write_all(&body[..length]).await?;
            Ok(true)
        }
        Answer::LongLength(_) => {
            stream.write_all(&body).await?;
            Ok(false)
        }
        _ => {
            stream.write_all(&body).await?;
            Ok(true)
        }
    }
}

async fn endless(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<bool> {
    let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    stream.write_all(head).await?;
    loop {
        stream.write_all(bytes).await?;
    }
}

fn plain_head(status: u16, headers: &[(&'static str, String)]) -> String {
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let headers: String = headers.collect();
    format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: 0\r\n\r\n")
}
