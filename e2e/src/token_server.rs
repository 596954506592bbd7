//! A server on the loopback that gives one token to whoever knows one password.
//! Knows HTTP as far as it goes; knows no token's content.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, OnceLock},
    thread,
};

/// `me` with the password `secret`, as a request shows it.
const BASIC: &str = "authorization: basic bwu6c2vjcmv0";

/// Gives the token once it is known.
#[derive(Debug)]
pub(crate) struct TokenServer {
    address: String,
    token: Arc<OnceLock<String>>,
}

impl TokenServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let token = Arc::<OnceLock<String>>::default();
        let serving = Arc::clone(&token);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Clients that hang up are no concern of ours.
                let _ = serve(client, serving.get().map_or("", String::as_str));
            }
        });
        Self { address, token }
    }

    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub(crate) fn set(&self, token: String) {
        self.token.set(token).expect("it is set once");
    }
}

fn serve(client: TcpStream, token: &str) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut knows = false;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        // Case is lost of what is compared, not of what is sent.
        knows |= line.to_ascii_lowercase() == BASIC;
    }
    let (status, body) = match knows {
        true => (
            "200 OK",
            format!(r#"{{"token":"{token}","expires_in":3600}}"#),
        ),
        false => ("401 Unauthorized", String::from("{}")),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    reader.get_mut().write_all(answer.as_bytes())
}
