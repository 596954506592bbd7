//! A registry on the loopback that holds one image and behaves as it is told to.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use banger_image::auth::{Keychain, NoHelpers};
use banger_image::blobs::BlobStore;
use banger_image::digest::Sha256;
use banger_image::fetch::Patience;
use banger_image::manifest::Platform;
use banger_image::pull::{Resolved, of_registry};
use banger_image::registry::{Registries, RegistryError, Settings};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What one request is answered with; the last of a path's answers is given for ever.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The path's content, in the range that was asked for.
    Content,
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
        server.put("/v2/", b"{}".to_vec(), "application/json");
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

    pub(crate) fn put(&self, path: &str, content: Vec<u8>, kind: &'static str) {
        let mut state = self.state.lock().unwrap();
        state.contents.insert(path.to_owned(), (content, kind));
    }

    /// How a path is answered from now on.
    pub(crate) fn script(&self, path: &str, answers: &[Answer]) {
        let mut state = self.state.lock().unwrap();
        state.answers.insert(path.to_owned(), answers.to_vec());
    }

    pub(crate) fn requests(&self, path: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        let asked = state.requests.iter().filter(|asked| asked.path == path);
        asked.cloned().collect()
    }

    /// The path that was asked for last of all but the layer: the configuration's.
    pub(crate) fn config_path(&self) -> String {
        let state = self.state.lock().unwrap();
        let blobs = state.requests.iter().filter(|r| r.path.contains("/blobs/"));
        blobs.map(|request| request.path.clone()).next().unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
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
    let (mut body, kind) = content.unwrap_or_default();
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

fn plain_head(status: u16, headers: &[(&'static str, String)]) -> String {
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let headers: String = headers.collect();
    format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: 0\r\n\r\n")
}

/// An image of one layer in a registry, and somebody who pulls it.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) layer: Vec<u8>,
    pub(crate) layer_path: String,
    pub(crate) manifest_path: String,
    pub(crate) store: Arc<BlobStore>,
    pub(crate) directory: TempDir,
}

pub(crate) const SIZE: usize = 300_000;

impl World {
    pub(crate) async fn new() -> Self {
        let server = Server::start().await;
        let layer: Vec<u8> = (0..SIZE).map(|n| (n * n / 7) as u8).collect();
        let digest = Sha256::of(&layer);
        let config = format!(
            r#"{{"os":"linux","architecture":"{}","rootfs":{{"diff_ids":["{digest}"]}}}}"#,
            Platform::host().architecture
        );
        let config_digest = Sha256::of(config.as_bytes());
        let oci = "application/vnd.oci.image";
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{oci}.config.v1+json",
            "digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":
            "{oci}.layer.v1.tar","digest":"{digest}","size":{}}}]}}"#,
            config.len(),
            layer.len()
        );
        let blob = |digest: Sha256| format!("/v2/web/blobs/{digest}");
        let layer_path = blob(digest);
        server.put(&layer_path, layer.clone(), "application/octet-stream");
        server.put(
            &blob(config_digest),
            config.into_bytes(),
            "application/octet-stream",
        );
        let manifest_path = "/v2/web/manifests/1".to_owned();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        server.put(&manifest_path, manifest.into_bytes(), kind);
        let directory = tempfile::tempdir().unwrap();
        Self {
            server,
            layer,
            layer_path,
            manifest_path,
            store: Arc::new(BlobStore::new(directory.path().join("blobs"))),
            directory,
        }
    }

    /// Writes a file of credentials for the registry: `me` and `secret`.
    pub(crate) fn credentials(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("auth.json");
        let host = self.server.address;
        let text = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) async fn resolve(&self) -> Result<Resolved, RegistryError> {
        self.resolve_with(Vec::new()).await
    }

    pub(crate) async fn resolve_with(
        &self,
        files: Vec<std::path::PathBuf>,
    ) -> Result<Resolved, RegistryError> {
        let settings = Settings {
            patience: Patience {
                connect: Duration::from_secs(5),
                headers: Duration::from_millis(300),
                stall: Duration::from_millis(300),
                tries: 4,
                pause: Duration::from_millis(1),
            },
            extra_cas: Vec::new(),
            insecure: BTreeSet::new(),
        };
        let registries = Registries::new(settings, Keychain::new(files, Arc::new(NoHelpers)));
        let reference = format!("{}/web:1", self.server.address).parse().unwrap();
        of_registry(
            &registries,
            &self.store,
            &reference,
            &Platform::host(),
            false,
        )
        .await
    }
}
