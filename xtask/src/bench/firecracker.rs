//! A Firecracker started by hand that goes on from the files of a machine that banger saved: in a root
//! of its own with nothing else in it, as the state names its files there. Only root can make one.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{BenchError, channel::Channel, home::run};

/// Longer than any start that is worth a figure.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer may be lost, too, which nobody is told.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// A fraction of what is measured.
const BETWEEN_ATTEMPTS: Duration = Duration::from_micros(200);
const AGENT_PORT: u32 = 1024;

/// How to start such machines, one at a time.
#[derive(Debug)]
pub(super) struct ByHand {
    root: PathBuf,
    /// The disk that each of them gets a copy of.
    disk: PathBuf,
}

impl ByHand {
    /// Machines that go on from `files`, reading `base`.
    pub(super) fn going_on(
        root: PathBuf,
        program: &Path,
        base: &Path,
        files: &Path,
    ) -> Result<Self, BenchError> {
        for directory in ["dev", "run"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(BenchError::file("make", path))?;
        }
        let copies = [(program, "firecracker"), (base, "base.ext4")];
        let state = ["memory", "devices"].map(|name| (files.join(name), name));
        let state = state.iter().map(|(path, name)| (path.as_path(), *name));
        for (from, to) in copies.into_iter().chain(state) {
            let mut copy = Command::new("cp");
            run({
                copy.arg("--sparse=always").arg(from).arg(root.join(to));
                copy
            })?;
        }
        for (device, minor) in [("kvm", "232"), ("urandom", "9")] {
            let major = if device == "kvm" { "10" } else { "1" };
            let mut make = Command::new("mknod");
            make.arg(root.join("dev").join(device));
            make.args(["c", major, minor]);
            run(make)?;
        }
        Ok(Self {
            root,
            disk: files.join("disk.ext4"),
        })
    }

    /// Starts a machine with a fresh disk; what is told is the time until its agent answers.
    pub(super) fn start(&self) -> Result<(Machine, f64), BenchError> {
        self.clear()?;
        let begin = Instant::now();
        let mut command = Command::new("chroot");
        command
            .arg(&self.root)
            .args(["/firecracker", "--api-sock", "/run/api.sock"])
            .args(["--level", "Off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let program = "chroot".to_owned();
        let child = command
            .spawn()
            .map_err(|source| BenchError::Spawn { program, source })?;
        let machine = Machine(child);
        self.load(begin)?;
        // With this call the guest hears that its connections are gone, and this one goes, too.
        drop(self.call_agent(begin)?);
        let mut patience = FIRST_PATIENCE;
        loop {
            let mut channel = Channel::new(self.call_agent(begin)?, patience)?;
            match channel.greet() {
                Ok(()) => return Ok((machine, begin.elapsed().as_secs_f64())),
                Err(error) if begin.elapsed() > PATIENCE => return Err(error),
                Err(_) => patience *= 2,
            }
        }
    }

    /// Puts a fresh disk where the machine expects it, outside of what is timed.
    fn clear(&self) -> Result<(), BenchError> {
        for socket in ["run/api.sock", "run/agent.sock"] {
            let path = self.root.join(socket);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(BenchError::file("remove", path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").arg(&self.disk);
        copy.arg(self.root.join("disk.ext4"));
        run(copy).map(drop)
    }

    fn load(&self, begin: Instant) -> Result<(), BenchError> {
        let failed = || BenchError::channel("load a machine");
        let mut api = self.connect("run/api.sock", begin)?;
        let order = json!({
            "snapshot_path": "/devices",
            "mem_backend": {"backend_type": "File", "backend_path": "/memory"},
            "resume_vm": true,
        });
        let order = order.to_string();
        let request = format!(
            "PUT /snapshot/load HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{order}",
            order.len()
        );
        api.write_all(request.as_bytes()).map_err(failed())?;
        let mut answer = [0; 512];
        let length = api.read(&mut answer).map_err(failed())?;
        if answer[..length].starts_with(b"HTTP/1.1 204") {
            return Ok(());
        }
        Err(BenchError::Output {
            command: "PUT /snapshot/load".to_owned(),
            wanted: "204".to_owned(),
        })
    }

    /// Until the guest's agent listens, connections are refused or hung up.
    fn call_agent(&self, begin: Instant) -> Result<UnixStream, BenchError> {
        loop {
            let mut stream = self.connect("run/agent.sock", begin)?;
            let mut line = [0; 32];
            let called = stream
                .write_all(format!("CONNECT {AGENT_PORT}\n").as_bytes())
                .and_then(|()| read_line(&mut stream, &mut line));
            match called {
                Ok(length) if line[..length].starts_with(b"OK ") => return Ok(stream),
                Ok(_) | Err(_) if begin.elapsed() < PATIENCE => sleep(BETWEEN_ATTEMPTS),
                Ok(_) | Err(_) => {
                    let seconds = PATIENCE.as_secs();
                    return Err(BenchError::Silent { seconds });
                }
            }
        }
    }

    fn connect(&self, file: &str, begin: Instant) -> Result<UnixStream, BenchError> {
        let socket = self.root.join(file);
        loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => return Ok(stream),
                Err(source) if begin.elapsed() > PATIENCE => {
                    return Err(BenchError::file("connect to", socket)(source));
                }
                Err(_) => sleep(BETWEEN_ATTEMPTS),
            }
        }
    }
}

/// Byte by byte: what follows the line is the agent's.
fn read_line(stream: &mut UnixStream, line: &mut [u8]) -> io::Result<usize> {
    for length in 0..line.len() {
        stream.read_exact(&mut line[length..=length])?;
        if line[length] == b'\n' {
            return Ok(length);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// A machine that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
