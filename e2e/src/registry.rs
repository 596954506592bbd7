//! A real registry on the loopback, and images pushed into it by other people's tools.
//! Knows those tools; knows no banger.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{busybox_tar, token_server::TokenServer, wait::within};

/// What the stories with registries call; Debian's packages have these names.
const TOOLS: [&str; 3] = ["docker-registry", "skopeo", "umoci"];
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A CA that signs the loopback's certificate. `openssl` is there where `ca-certificates` is.
const CERTIFICATES: &str = "cd DIRECTORY && exec 2>/dev/null && \
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=stories \
    -days 30 -addext basicConstraints=critical,CA:TRUE && \
    openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=registry && \
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
    -extfile <(echo subjectAltName=IP:127.0.0.1,DNS:registry.invalid) -out server.pem";

/// A JSON web token that the CA's key signs.
const TOKEN: &str = r#"cd DIRECTORY && url() { base64 -w0 | tr '+/' '-_' | tr -d '='; } && now=$(date +%s) &&
    cert=$(openssl x509 -in ca.pem -outform DER | base64 -w0) &&
    head=$(printf '{"typ":"JWT","alg":"RS256","x5c":["%s"]}' "$cert" | url) &&
    what='{"type":"repository","name":"web","actions":["pull","push"]}' &&
    claims=$(printf '{"iss":"stories","sub":"me","aud":"stories","iat":%d,"nbf":%d,"exp":%d,"jti":"1","access":[%s]}' \
        $now $((now - 60)) $((now + 3600)) "$what" | url) &&
    echo "$head.$claims.$(printf %s "$head.$claims" | openssl dgst -sha256 -sign ca.key -binary | url)""#;

const STARTING: Duration = Duration::from_secs(20);

/// A registry that ends with this value.
#[derive(Debug)]
pub struct Registry {
    directory: TempDir,
    process: Child,
    address: String,
    /// Where it sends those who want a token; ends with it.
    tokens: Option<TokenServer>,
}

impl Registry {
    /// A registry for everybody; `None`, and a word about it, where a tool is missing.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// A registry for the user `me` with the password `secret`.
    #[must_use]
    pub fn with_password() -> Option<Self> {
        Self::start_with("auth:\n  htpasswd:\n    realm: stories\n    path: DIRECTORY/htpasswd\n")
    }

    /// A registry with a certificate of a CA that nobody trusts: [`Registry::ca`].
    #[must_use]
    pub fn encrypted() -> Option<Self> {
        Self::start_with(
            "  tls:\n    certificate: DIRECTORY/server.pem\n    key: DIRECTORY/server.key\n",
        )
    }

    /// A registry that takes tokens for the repository `web` only; its server of tokens gives them
    /// to the user `me` with the password `secret`.
    #[must_use]
    pub fn with_tokens() -> Option<Self> {
        let tokens = TokenServer::start();
        let more = format!(
            "auth:\n  token:\n    realm: {}\n    service: stories\n    issuer: stories\n    \
             rootcertbundle: DIRECTORY/ca.pem\n",
            tokens.realm()
        );
        let mut registry = Self::start_with(&more)?;
        tokens.set(registry.token());
        registry.tokens = Some(tokens);
        Some(registry)
    }

    #[expect(clippy::print_stderr, reason = "who skips a story says so")]
    fn start_with(more: &str) -> Option<Self> {
        for tool in TOOLS {
            if !is_here(tool) {
                eprintln!("skipped: this story needs Debian's package {tool}");
                return None;
            }
        }
        let directory = tempfile::tempdir().expect("a directory can be made");
        let root = directory.path().display().to_string();
        // bcrypt of `secret`.
        let user = "me:$2y$05$Rbvvu47a88FXw1gbrjrTiuIwFqoUBxyR.vCxwRDLH.upUbPAtlnCe\n";
        fs::write(directory.path().join("htpasswd"), user).expect("the directory is writable");
        if more.contains(".pem") {
            let _ = shell(&CERTIFICATES.replace("DIRECTORY", &root));
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    \
             rootdirectory: {root}/data\nhttp:\n  addr: {address}\n{}",
            more.replace("DIRECTORY", &root)
        );
        let file = directory.path().join("config.yml");
        fs::write(&file, config).expect("the directory is writable");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry was found a moment ago");
        let listens = || TcpStream::connect(&address).ok().map(drop);
        within(STARTING, listens).expect("the registry listens");
        Some(Self {
            directory,
            process,
            address,
            tokens: None,
        })
    }

    /// The certificate that stands behind an encrypted registry's.
    #[must_use]
    pub fn ca(&self) -> String {
        self.directory.path().join("ca.pem").display().to_string()
    }

    /// A token for everything in the repository `web`.
    fn token(&self) -> String {
        let line = TOKEN.replace("DIRECTORY", &self.directory.path().display().to_string());
        shell(&line).trim_end().to_owned()
    }

    /// Host and port, as references have them.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A reference into it.
    #[must_use]
    pub fn reference(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// A directory in OCI's layout with the busybox image, tagged `1`; umoci makes it.
    #[must_use]
    pub fn layout(&self, configure: &str) -> String {
        let tar = self.directory.path().join("root.tar");
        fs::write(&tar, busybox_tar()).expect("the directory is writable");
        self.layout_of(&tar, configure)
    }

    /// The same with any tar for its layer.
    #[must_use]
    pub fn layout_of(&self, tar: &Path, configure: &str) -> String {
        let layout = self.directory.path().join("layout");
        let image = format!("{}:1", layout.display());
        shell(&format!(
            "rm -rf {0} && umoci init --layout {0} && umoci new --image {image} && \
             umoci raw add-layer --image {image} {1} && umoci config --image {image} {configure}",
            layout.display(),
            tar.display(),
        ));
        layout.display().to_string()
    }

    /// Adds a layer with one file to a layout.
    pub fn add_layer(&self, layout: &str, name: &str, content: &[u8]) {
        let file = self.directory.path().join("content");
        fs::write(file, content).expect("the directory is writable");
        self.add_made_layer(layout, &format!("cp ../content {name}"));
    }

    /// Adds a layer with what a line of shell makes in an empty directory.
    pub fn add_made_layer(&self, layout: &str, line: &str) {
        shell(&format!(
            "cd {} && rm -rf more && mkdir more && cd more && ( {line} ) && \
             tar --sparse --owner=0 --group=0 -cf ../more.tar . && \
             umoci raw add-layer --image {layout}:1 ../more.tar",
            self.directory.path().display(),
        ));
    }

    /// The digests of an image's layers as the registry has them, the lowest first.
    #[must_use]
    pub fn layers(&self, image: &str) -> Vec<String> {
        let reference = self.reference(image);
        let text = shell(&format!(
            "skopeo inspect --tls-verify=false --format '{{{{range .Layers}}}}{{{{.}}}} {{{{end}}}}' \
             docker://{reference}"
        ));
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Pushes an index of images that are here, by their platforms.
    pub fn push_index(&self, repository: &str, tag: &str, images: &[(&str, &str)]) {
        let manifests = images.iter().map(|(architecture, image)| {
            let reference = self.reference(image);
            let line = format!("skopeo inspect --raw --tls-verify=false docker://{reference}");
            let raw = shell(&line);
            let digest = hex::encode(Sha256::digest(raw.as_bytes()));
            format!(
                r#"{{"mediaType":"{MANIFEST}","digest":"sha256:{digest}","size":{},
                "platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                raw.len()
            )
        });
        let manifests: Vec<_> = manifests.collect();
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#,
            manifests.join(",")
        );
        let mut server = TcpStream::connect(&self.address).expect("the registry listens");
        let request = format!(
            "PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nhost: {}\r\ncontent-type: {INDEX}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{index}",
            self.address,
            index.len()
        );
        server
            .write_all(request.as_bytes())
            .expect("the registry listens");
        let mut answer = String::new();
        server
            .read_to_string(&mut answer)
            .expect("the registry answers");
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// Pushes an image with skopeo, which packs its layers.
    pub fn push(&self, from: &str, to: &str, options: &str) {
        shell(&format!(
            "skopeo copy --quiet --dest-tls-verify=false {options} {from} docker://{}/{to}",
            self.address
        ));
    }

    /// Ends it now, for stories of what needs no network.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_here(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}

/// A line of shell that must succeed; what it printed.
fn shell(line: &str) -> String {
    let output = Command::new("bash").args(["-c", line]).output();
    let output = output.expect("bash is there");
    assert!(
        output.status.success(),
        "{line}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("tools print text")
}
