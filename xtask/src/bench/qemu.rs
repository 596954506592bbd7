//! A QEMU started by hand, with the command line of a VM of banger's.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    BenchError,
    argv::{Places, move_to},
    channel::Channel,
    home::run,
};

/// Longer than any boot that is worth a figure.
const PATIENCE: Duration = Duration::from_secs(60);
/// A fraction of what QEMU's start takes.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(1);

/// How to start such machines, one at a time.
#[derive(Debug)]
pub(super) struct ByHand {
    argv: Vec<String>,
    directory: PathBuf,
    /// An empty disk, as banger makes it for a new VM.
    disk: PathBuf,
}

impl ByHand {
    /// The same machine as `argv` starts, with its files in `directory` and copies of `disk`.
    pub(super) fn like(
        argv: &[String],
        directory: PathBuf,
        disk: PathBuf,
    ) -> Result<Self, BenchError> {
        let own = directory.to_string_lossy().into_owned();
        let to = Places {
            state: own.clone(),
            runtime: own,
        };
        let argv = move_to(argv, &Places::of(argv)?, &to);
        fs::create_dir_all(&directory).map_err(BenchError::file("make", directory.clone()))?;
        Ok(Self {
            argv,
            directory,
            disk,
        })
    }

    /// Starts a machine with a fresh disk; the time until its agent answers is the boot's.
    pub(super) fn boot(&self) -> Result<(Machine, f64), BenchError> {
        self.clear()?;
        let begin = Instant::now();
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let program = self.argv[0].clone();
        let child = command
            .spawn()
            .map_err(|source| BenchError::Spawn { program, source })?;
        let mut machine = Machine {
            child,
            channel: None,
        };
        let mut channel = Channel::new(self.connect(begin)?, PATIENCE)?;
        channel.greet()?;
        let took = begin.elapsed().as_secs_f64();
        machine.channel = Some(channel);
        Ok((machine, took))
    }

    /// Puts a fresh disk where the machine expects it, outside of what is timed.
    fn clear(&self) -> Result<(), BenchError> {
        for file in ["agent.sock", "qmp.sock", "console.log", "disk.ext4"] {
            // What is not there need not be removed.
            let _ = fs::remove_file(self.directory.join(file));
        }
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always")
            .arg(&self.disk)
            .arg(self.directory.join("disk.ext4"));
        run(copy).map(drop)
    }

    fn connect(&self, begin: Instant) -> Result<UnixStream, BenchError> {
        let socket = self.directory.join("agent.sock");
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

/// A machine that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Machine {
    child: Child,
    channel: Option<Channel>,
}

impl Machine {
    /// The channel to the agent, greeted.
    pub(super) fn channel(&mut self) -> &mut Channel {
        self.channel
            .as_mut()
            .expect("a machine is handed out with its channel")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
