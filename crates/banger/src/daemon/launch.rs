//! Starts bangerd and waits for its word.

use std::{
    env,
    ffi::OsStr,
    fs::File,
    io::{Read, Seek},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
};

use super::DaemonError;

const PROGRAM: &str = "bangerd";
/// What bangerd writes when it listens.
const READY: &[u8] = b"ready\n";
/// Long enough for a loaded host; a daemon is ready within milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that is shown of what a daemon said before it gave up.
const MAX_SAID: u64 = 8 << 10;

/// Starts the daemon; it listens when this returns.
pub(super) fn start() -> Result<(), DaemonError> {
    let program = find()?;
    // A file rather than a pipe: it never blocks a daemon and never breaks under it.
    let mut said = memfd_create("bangerd-stderr", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|error| prepare("make a file for its messages")(error.into()))?;
    let stderr = said.try_clone().map_err(prepare("share a file"))?;
    // The daemon leaves our session itself.
    let mut child = Command::new(&program)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(|source| DaemonError::Spawn {
            program: program.clone(),
            source,
        })?;
    let stdout = child.stdout.take().expect("stdout was asked for");
    match await_ready(stdout, PATIENCE).map_err(prepare("listen to bangerd"))? {
        Word::Ready => Ok(()),
        Word::Ended => {
            let status = child.wait().map_err(prepare("wait for bangerd"))?;
            Err(DaemonError::Died {
                program,
                status,
                said: read(&mut said),
            })
        }
        Word::Nothing => {
            end(&mut child);
            let seconds = PATIENCE.as_secs();
            Err(DaemonError::Silent {
                program,
                seconds,
                said: read(&mut said),
            })
        }
    }
}

fn prepare(operation: &'static str) -> impl FnOnce(std::io::Error) -> DaemonError {
    move |source| DaemonError::Prepare { operation, source }
}

/// What a daemon said about its start.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Ready,
    Ended,
    Nothing,
}

fn await_ready(mut stdout: ChildStdout, patience: Duration) -> std::io::Result<Word> {
    let deadline = Instant::now() + patience;
    let mut word = Vec::with_capacity(READY.len());
    let mut buffer = [0; 64];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(Word::Nothing),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let read = stdout.read(&mut buffer)?;
        word.extend_from_slice(&buffer[..read]);
        if word.windows(READY.len()).any(|window| window == READY) {
            return Ok(Word::Ready);
        }
        if read == 0 {
            return Ok(Word::Ended);
        }
        word.drain(..word.len().saturating_sub(READY.len()));
    }
}

/// Ends our own child, which said nothing; that it is gone already is as good.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn read(said: &mut File) -> String {
    let mut bytes = Vec::new();
    // Its last words are a courtesy; the failure itself is reported without them, too.
    let _ = said
        .rewind()
        .and_then(|()| said.take(MAX_SAID).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether this process runs the very file that we would start.
pub(super) fn runs_ours(pid: u32) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let running = identity(Path::new(&format!("/proc/{pid}/exe")));
    running.is_some() && running == find().ok().and_then(|ours| identity(&ours))
}

pub(super) fn find() -> Result<PathBuf, DaemonError> {
    // The kernel names the file itself: symbolic links to banger are resolved.
    let own = env::current_exe().map_err(prepare("find banger itself"))?;
    candidates(&own, env::var_os("PATH").as_deref())
        .into_iter()
        .find(|path| is_executable(path))
        .ok_or(DaemonError::NoProgram)
}

fn candidates(own: &Path, search: Option<&OsStr>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some(directory) = own.parent() {
        found.push(directory.join(PROGRAM));
        found.extend(
            directory
                .parent()
                .map(|above| above.join("lib/banger").join(PROGRAM)),
        );
    }
    let directories = search.map(|search| env::split_paths(search).collect::<Vec<_>>());
    // A relative entry means something else in each directory: not for a daemon.
    let absolute = directories
        .into_iter()
        .flatten()
        .filter(|path| path.is_absolute());
    found.extend(absolute.map(|directory| directory.join(PROGRAM)));
    found
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_neighbour_comes_before_the_path() {
        let found = candidates(
            Path::new("/opt/b/bin/banger"),
            Some(OsStr::new("/usr/bin:rel::/x")),
        );
        let expected = [
            "/opt/b/bin/bangerd",
            "/opt/b/lib/banger/bangerd",
            "/usr/bin/bangerd",
            "/x/bangerd",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    fn check(script: &str, patience: Duration, word: &Word) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        assert_eq!(&await_ready(stdout, patience).unwrap(), word, "{script}");
        end(&mut child);
    }

    #[test]
    fn only_the_word_ready_counts() {
        check("printf rea; printf 'dy\\n'", PATIENCE, &Word::Ready);
        check("echo ready; exec tail -f /dev/null", PATIENCE, &Word::Ready);
        check("exit 3", PATIENCE, &Word::Ended);
        check("echo hello", PATIENCE, &Word::Ended);
        check("echo warning: odd; echo ready", PATIENCE, &Word::Ready);
        check("exec tail -f /dev/null", Duration::ZERO, &Word::Nothing);
    }
}
