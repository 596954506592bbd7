//! A real registry on the loopback, and images pushed into it by other people's tools.
//! Knows those tools; knows no banger.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{busybox_tar, wait::within};

/// What the stories with registries call; Debian's packages have these names.
const TOOLS: [&str; 3] = ["docker-registry", "skopeo", "umoci"];
const STARTING: Duration = Duration::from_secs(20);

/// A registry that ends with this value.
#[derive(Debug)]
pub struct Registry {
    directory: TempDir,
    process: Child,
    address: String,
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
        })
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
        let layout = self.directory.path().join("layout");
        let tar = self.directory.path().join("root.tar");
        fs::write(&tar, busybox_tar()).expect("the directory is writable");
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
        let directory = self.directory.path().join("more");
        fs::create_dir_all(&directory).expect("the directory is writable");
        fs::write(directory.join(name), content).expect("the directory is writable");
        let tar = self.directory.path().join("more.tar");
        shell(&format!(
            "tar -C {} -cf {} {name} && umoci raw add-layer --image {layout}:1 {}",
            directory.display(),
            tar.display(),
            tar.display(),
        ));
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

/// A line of shell that must succeed.
fn shell(line: &str) {
    let output = Command::new("bash").args(["-c", line]).output();
    let output = output.expect("bash is there");
    assert!(
        output.status.success(),
        "{line}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
