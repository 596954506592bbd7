//! A private home of banger below `/tmp`: calls with its environment, and its end, which leaves
//! nothing. Knows no images and no stories.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    census::{Resident, residents},
    command::Call,
    outcome::shown,
    wait::within,
};

/// How long processes may take to vanish once they are asked to.
const VANISHING: Duration = Duration::from_secs(20);
const DELETE_POOLS: &str = "banger pool list | sed 1d | cut --delimiter=' ' --fields=1 | \
     xargs --no-run-if-empty banger pool delete";
const DELETE_ALL: &str = "banger vm list --quiet | xargs --no-run-if-empty banger rm --force";
/// What of a log is shown when a story fails.
const TAIL: usize = 4 << 10;

/// Variables that would lead out of the home.
const LEADING_OUT: [&str; 5] = [
    "BANGER_LOG_LEVEL",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// A directory that is `BANGER_HOME` for a while. Dropping it fails the story if anything of it
/// stays behind.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    programs: PathBuf,
}

impl Home {
    /// Its path is short: a unix socket below it has room for 107 bytes in all.
    pub(crate) fn new() -> Self {
        let programs = programs();
        let mut builder = tempfile::Builder::new();
        let made = builder.prefix("bgr-").rand_bytes(5).tempdir_in("/tmp");
        let path = made.expect("a directory can be made in /tmp").keep();
        Self { path, programs }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A call of `banger` in this home.
    pub(crate) fn banger(&self, args: &[impl AsRef<OsStr>]) -> Call {
        self.told(Call::new(&self.program("banger"), args))
    }

    /// A call of `bangerd` in this home.
    pub(crate) fn bangerd(&self) -> Call {
        let nothing: [&str; 0] = [];
        self.told(Call::new(&self.program("bangerd"), &nothing))
    }

    /// A line of shell in which `banger` is the one of this home.
    pub(crate) fn shell(&self, line: &str) -> Call {
        let path = env::var_os("PATH").unwrap_or_default();
        let directories = [self.programs.clone()]
            .into_iter()
            .chain(env::split_paths(&path));
        let path = env::join_paths(directories).expect("the build's directory has no colon");
        self.told(Call::new(Path::new("bash"), &["-c", line]))
            .env("PATH", path)
    }

    /// `banger` in this home as a plain command, for a terminal.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program("banger"));
        command.args(args).env("BANGER_HOME", &self.path);
        for name in LEADING_OUT {
            command.env_remove(name);
        }
        command
    }

    fn told(&self, call: Call) -> Call {
        let call = call.env("BANGER_HOME", &self.path);
        LEADING_OUT.into_iter().fold(call, Call::without_env)
    }

    pub(crate) fn residents(&self) -> Vec<Resident> {
        residents(&self.path)
    }

    /// Ends everything that lives here and removes the directory; says what did not vanish.
    fn close(&self) -> Result<(), String> {
        if !self.residents().is_empty() {
            // What counts is who is left afterwards.
            for line in [DELETE_POOLS, DELETE_ALL, "banger daemon stop"] {
                let _ = self.shell(line).run();
            }
        }
        let empty = || self.residents().is_empty().then_some(());
        let emptied = within(VANISHING, empty);
        let left: Vec<_> = self.residents().iter().map(evict).collect();
        let removed = match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            Ok(()) | Err(_) => Ok(()),
        };
        match (emptied, removed) {
            (Some(()), Ok(())) => Ok(()),
            (Some(()), Err(error)) => {
                Err(format!("cannot remove {}: {error}", self.path.display()))
            }
            (None, _) => Err(format!("left behind:\n{}", left.join("\n"))),
        }
    }

    /// What the daemon and the guests said last, for whoever reads about a failure.
    fn testimony(&self) -> String {
        let mut logs = vec![self.path.join("state/bangerd.log")];
        let vms = fs::read_dir(self.path.join("state/vms"))
            .into_iter()
            .flatten()
            .flatten();
        logs.extend(vms.flat_map(|vm| ["console.log", "vmm.log"].map(|log| vm.path().join(log))));
        let read = logs
            .iter()
            .filter_map(|log| Some((log, fs::read(log).ok()?)));
        let tails = read.map(|(log, bytes)| {
            let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
            format!("--- {}\n{}\n", log.display(), shown(tail))
        });
        tails.collect()
    }
}

impl Drop for Home {
    #[expect(clippy::print_stderr, reason = "a failing story tells what it knows")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.testimony());
            // The story has failed already: how its world ends cannot make it worse.
            if let Err(left) = self.close() {
                eprintln!("{left}");
            }
        } else if let Err(left) = self.close() {
            panic!("{left}");
        }
    }
}

/// Ends a process that should have ended by itself, and says which it was.
fn evict(resident: &Resident) -> String {
    if let Some(pid) = i32::try_from(resident.pid).ok().and_then(Pid::from_raw) {
        // It may be gone by now.
        let _ = kill_process(pid, Signal::KILL);
    }
    format!("{} {}", resident.pid, resident.line)
}

/// Where the release programs are.
fn programs() -> PathBuf {
    let named = env::var_os("BANGER_E2E_BIN_DIR").map(PathBuf::from);
    let directory = named.unwrap_or_else(|| target_directory().join("release"));
    for program in ["banger", "bangerd"] {
        assert!(
            directory.join(program).is_file(),
            "the stories need {program} in {}: run `make build`, or set BANGER_E2E_BIN_DIR",
            directory.display()
        );
    }
    directory
}

/// Cargo's directory for what it builds.
pub(crate) fn target_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let workspace = workspace.expect("this crate lies directly below the workspace");
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace.join(directory),
        None => workspace.join("target"),
    }
}
