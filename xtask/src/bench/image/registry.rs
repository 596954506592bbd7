//! Debian's docker-registry on the loopback, and images pushed into it with umoci and skopeo.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::BenchError;
use super::super::home::run;

const STARTING: Duration = Duration::from_secs(10);

/// Ends with this value.
#[derive(Debug)]
pub(super) struct Registry {
    directory: TempDir,
    process: Child,
    address: String,
}

impl Registry {
    pub(super) fn start() -> Result<Self, BenchError> {
        let directory =
            tempfile::tempdir().map_err(BenchError::file("make a directory in", "/tmp"))?;
        let free = TcpListener::bind("127.0.0.1:0");
        let address = free.and_then(|free| free.local_addr());
        let address = address
            .map_err(BenchError::channel("find a port"))?
            .to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    \
             rootdirectory: {}/data\nhttp:\n  addr: {address}\n",
            directory.path().display()
        );
        let file = directory.path().join("config.yml");
        fs::write(&file, config).map_err(BenchError::file("write", &file))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|source| BenchError::Spawn {
            program: "docker-registry".to_owned(),
            source,
        })?;
        let registry = Self {
            directory,
            process,
            address,
        };
        registry.wait()?;
        Ok(registry)
    }

    fn wait(&self) -> Result<(), BenchError> {
        let begin = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            if begin.elapsed() > STARTING {
                return Err(BenchError::Silent {
                    seconds: STARTING.as_secs(),
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn reference(&self, image: &str) -> String {
        format!("{}/{image}:1", self.address)
    }

    /// An image of one tar; gives the layer as the registry has it, packed.
    pub(super) fn push_base(&self, root: &Path) -> Result<PathBuf, BenchError> {
        self.push_tar(root, "base")?;
        let blobs = self.layout("base").join("blobs/sha256");
        let listed = fs::read_dir(&blobs).map_err(BenchError::file("list", &blobs))?;
        let sized = listed.flatten().filter_map(|entry| {
            let size = entry.metadata().ok()?.len();
            Some((size, entry.path()))
        });
        let largest = sized.max();
        largest.map(|(_, path)| path).ok_or(BenchError::Output {
            command: "umoci raw add-layer".to_owned(),
            wanted: "a layer".to_owned(),
        })
    }

    /// The same image with a small layer on top.
    pub(super) fn push_more(&self) -> Result<(), BenchError> {
        let (from, to) = (self.layout("base"), self.layout("more"));
        let tar = self.directory().join("more.tar");
        shell(&format!(
            "cp -r {0} {1} && mkdir {2}.d && echo more >{2}.d/more && tar -C {2}.d -cf {2} more \
             && umoci raw add-layer --image {1}:1 {2}",
            from.display(),
            to.display(),
            tar.display(),
        ))?;
        self.copy("more")
    }

    pub(super) fn push_tar(&self, tar: &Path, name: &str) -> Result<(), BenchError> {
        let layout = self.layout(name);
        let layout = layout.display();
        shell(&format!(
            "umoci init --layout {layout} && umoci new --image {layout}:1 && \
             umoci raw add-layer --image {layout}:1 {}",
            tar.display()
        ))?;
        self.copy(name)
    }

    fn layout(&self, name: &str) -> PathBuf {
        self.directory().join(format!("layout-{name}"))
    }

    fn copy(&self, name: &str) -> Result<(), BenchError> {
        shell(&format!(
            "skopeo copy --quiet --dest-tls-verify=false oci:{}:1 docker://{}",
            self.layout(name).display(),
            self.reference(name)
        ))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a line of shell to a good end.
pub(super) fn shell(line: &str) -> Result<(), BenchError> {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -o pipefail; {line}")]);
    run(command).map(drop)
}
