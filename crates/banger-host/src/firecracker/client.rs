//! The way to Firecracker's API: HTTP over its socket, one connection for all calls. Believes
//! no length and no time that the VMM offers.

use std::{path::Path, time::Duration};

use banger_core::host_error::HostError;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::api::{Fault, State};
use crate::{logs::printable, task::Leashed};

/// No answer of the API is longer, its whole configuration included.
const MAX_ANSWER: usize = 256 << 10;
/// The longest call maps the guest's memory and loads a kernel.
const ANSWER: Duration = Duration::from_secs(30);
/// Its machine's memory goes to a disk, or comes from one, within a call. Disks can be slow, and who
/// gives up earlier takes a guest for dead that is not.
const ANSWER_OF_A_DISK: Duration = Duration::from_secs(900);

/// A connection to the API.
#[derive(Debug)]
pub(crate) struct Client {
    requests: SendRequest<Full<Bytes>>,
    patience: Duration,
    _connection: Leashed,
}

impl Client {
    /// Connects to a socket that is there.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, HostError> {
        let stream = UnixStream::connect(socket).await;
        let stream =
            stream.map_err(|source| crate::places::file_error("connect to", socket, source))?;
        Self::over(stream).await
    }

    pub(crate) async fn over(stream: UnixStream) -> Result<Self, HostError> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (requests, connection) = handshake.map_err(|error| broken("connect", &error))?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to Firecracker's API ended");
            }
        });
        Ok(Self {
            requests,
            patience: ANSWER,
            _connection: Leashed(connection),
        })
    }

    /// Waits for answers that a disk may hold up.
    pub(crate) fn patient(self) -> Self {
        Self {
            patience: ANSWER_OF_A_DISK,
            ..self
        }
    }

    /// Changes the machine's state; a refusal is told with Firecracker's own reason.
    pub(crate) async fn change(&mut self, state: State) -> Result<(), HostError> {
        const PATH: &str = "/vm";
        let body = serde_json::to_vec(&state).expect("a state is plain data");
        let request = Request::builder().method("PATCH").uri(PATH);
        self.ask("PATCH /vm", request, body).await.map(drop)
    }

    /// Has the VMM do or take something; a refusal is told with Firecracker's own reason.
    pub(crate) async fn put<T: Serialize>(
        &mut self,
        path: &'static str,
        body: &T,
    ) -> Result<(), HostError> {
        let name = format!("PUT {path}");
        let body = serde_json::to_vec(body).expect("what is put is plain data");
        let request = Request::builder().method("PUT").uri(path);
        self.ask(&name, request, body).await.map(drop)
    }

    /// Reads what the API tells at `path`.
    pub(crate) async fn get<T: DeserializeOwned>(
        &mut self,
        path: &'static str,
    ) -> Result<T, HostError> {
        let name = format!("GET {path}");
        let request = Request::builder().method("GET").uri(path);
        let answer = self.ask(&name, request, Vec::new()).await?;
        serde_json::from_slice(&answer).map_err(|error| refused(&name, &error.to_string()))
    }

    async fn ask(
        &mut self,
        name: &str,
        request: http::request::Builder,
        body: Vec<u8>,
    ) -> Result<Bytes, HostError> {
        let request = request
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("our own paths and headers are valid");
        let answered = timeout(self.patience, async {
            // Between two calls the connection's own task may not have caught up yet.
            let ready = self.requests.ready().await;
            ready.map_err(|error| broken(name, &error))?;
            let response = self.requests.send_request(request).await;
            let response = response.map_err(|error| broken(name, &error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            let body = body.map_err(|error| broken(name, error.as_ref()))?;
            Ok::<_, HostError>((status, body.to_bytes()))
        });
        let (status, body) = answered
            .await
            .map_err(|_| refused(name, "it did not answer in time"))??;
        judge(name, status, body)
    }
}

fn judge(name: &str, status: StatusCode, body: Bytes) -> Result<Bytes, HostError> {
    if status.is_success() {
        return Ok(body);
    }
    match serde_json::from_slice::<Fault>(&body) {
        Ok(fault) => Err(refused(name, &fault.fault_message)),
        Err(_) => Err(refused(name, status.as_str())),
    }
}

fn refused(command: &str, message: &str) -> HostError {
    HostError::VmmRefused {
        command: command.to_owned(),
        message: printable(message.trim()),
    }
}

fn broken(command: &str, error: &dyn std::error::Error) -> HostError {
    refused(command, &format!("the connection broke: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_vmms_words() {
        let check = |status: u16, body: &'static str, wanted: Option<&str>| {
            let status = StatusCode::from_u16(status).unwrap();
            let judged = judge("PUT /x", status, Bytes::from_static(body.as_bytes()));
            let told = judged.err().map(|error| error.to_string());
            let wanted = wanted.map(|text| format!("the VMM refused PUT /x: {text}"));
            assert_eq!(told, wanted);
        };
        check(204, "", None);
        check(
            400,
            r#"{"fault_message":"no such file"}"#,
            Some("no such file"),
        );
        check(400, "{\"fault_message\":\"a\\u001b[2Jb\"}", Some("ab"));
        check(500, "<html>", Some("500"));
    }
}
