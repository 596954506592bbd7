//! A web server on the loopback that behaves as badly as it is told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a path answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Body(Vec<u8>),
    Status(u16),
    /// Fails this often with 503, then sends the body.
    Flaky(usize, Vec<u8>),
    /// Promises more than it sends, and hangs up.
    BreaksOff(Vec<u8>),
    /// Promises more than it sends, and waits.
    Stalls(Vec<u8>),
    /// Never names a length, sends this block again and again.
    Endless(Vec<u8>),
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Answer>,
    requests: Vec<String>,
}

/// Runs until the test's runtime ends.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    address: SocketAddr,
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

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn set(&self, path: &str, answer: Answer) {
        self.state
            .lock()
            .unwrap()
            .answers
            .insert(format!("/{path}"), answer);
    }

    pub(crate) fn body(&self, path: &str) -> Vec<u8> {
        match self.state.lock().unwrap().answers.get(&format!("/{path}")) {
            Some(Answer::Body(body)) => body.clone(),
            other => panic!("{path} answers {other:?}"),
        }
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state
            .answers
            .keys()
            .map(|path| path[1..].to_owned())
            .collect()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    fn answer(&self, path: &str) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.requests.push(path.to_owned());
        match state.answers.get_mut(path) {
            None => Answer::Status(404),
            Some(Answer::Flaky(0, body)) => Answer::Body(body.clone()),
            Some(Answer::Flaky(left, _)) => {
                *left -= 1;
                Answer::Status(503)
            }
            Some(other) => other.clone(),
        }
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            if stream.read_line(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        send(stream.get_mut(), self.answer(path)).await
    }
}

async fn send(stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
    match answer {
        Answer::Body(body) => send_body(stream, body.len(), &body).await,
        Answer::Flaky(..) => unreachable!("resolved when the request came in"),
        Answer::Status(status) => {
            let head =
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await
        }
        Answer::BreaksOff(body) => send_body(stream, body.len() + 1, &body).await,
        Answer::Stalls(body) => {
            send_body(stream, body.len() + 1, &body).await?;
            std::future::pending().await
        }
        Answer::Endless(block) => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
                .await?;
            loop {
                stream.write_all(&block).await?;
            }
        }
    }
}

async fn send_body(stream: &mut TcpStream, promised: usize, body: &[u8]) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {promised}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}
