//! A QEMU started by hand, with the command line of a VM of banger's.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
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
    /// The disk that each of them gets a copy of.
    disk: PathBuf,
    /// What they go on from, where they do not boot.
    devices: Option<PathBuf>,
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
            devices: None,
        })
    }

    /// The same for machines that go on from saved devices, which QEMU reads from its standard input.
    pub(super) fn going_on(mut self, devices: PathBuf) -> Self {
        if let Some(at) = self.argv.iter().position(|word| word == "-incoming") {
            self.argv[at + 1] = "fd:0".to_owned();
        }
        self.devices = Some(devices);
        self
    }

    /// Starts a machine with a fresh disk; what is told is the time until its agent answers.
    pub(super) fn boot(&self) -> Result<(Machine, f64), BenchError> {
        self.clear()?;
        let begin = Instant::now();
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .stdin(self.input()?)
            .stdout(Stdio::null());
        let program = self.argv[0].clone();
        let child = command
            .spawn()
            .map_err(|source| BenchError::Spawn { program, source })?;
        let mut machine = Machine {
            child,
            channel: None,
        };
        let stream = self.connect("agent.sock", begin)?;
        if self.devices.is_some() {
            self.go_on(begin)?;
        }
        let mut channel = Channel::new(stream, PATIENCE)?;
        channel.greet()?;
        let took = begin.elapsed().as_secs_f64();
        machine.channel = Some(channel);
        Ok((machine, took))
    }

    /// Puts a fresh disk where the machine expects it, outside of what is timed.
    fn clear(&self) -> Result<(), BenchError> {
        let failed = || BenchError::file("clear", &self.directory);
        for file in fs::read_dir(&self.directory).map_err(failed())? {
            fs::remove_file(file.map_err(failed())?.path()).map_err(failed())?;
        }
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always")
            .arg(&self.disk)
            .arg(self.directory.join("disk.ext4"));
        run(copy).map(drop)
    }

    fn input(&self) -> Result<Stdio, BenchError> {
        match &self.devices {
            Some(path) => {
                let file = fs::File::open(path).map_err(BenchError::file("read", path))?;
                Ok(file.into())
            }
            None => Ok(Stdio::null()),
        }
    }

    /// Lets a machine go on that has read its devices: until then QEMU refuses.
    fn go_on(&self, begin: Instant) -> Result<(), BenchError> {
        let failed = || BenchError::channel("speak to QEMU");
        let mut qemu = self.connect("qmp.sock", begin)?;
        let answers = qemu.try_clone().map_err(failed())?;
        let mut answers = BufReader::new(answers).lines();
        let mut next = |wanted: &str| -> Result<String, BenchError> {
            loop {
                let line = answers.next().ok_or(BenchError::CommandLine("qmp.sock"))?;
                let line = line.map_err(failed())?;
                if line.contains(wanted) {
                    return Ok(line);
                }
            }
        };
        next("QMP")?;
        qemu.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")
            .map_err(failed())?;
        next("return")?;
        loop {
            qemu.write_all(b"{\"execute\":\"query-status\"}\n")
                .map_err(failed())?;
            if !next("\"return\"")?.contains("inmigrate") {
                break;
            }
            sleep(BETWEEN_ATTEMPTS);
        }
        qemu.write_all(b"{\"execute\":\"cont\"}\n")
            .map_err(failed())?;
        next("\"return\"").map(drop)
    }

    fn connect(&self, file: &str, begin: Instant) -> Result<UnixStream, BenchError> {
        let socket = self.directory.join(file);
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
