//! Stories of VMMs that are no VMMs: shells, and what becomes of them.

use banger_core::host::{Accelerator, Confinement, VmmKind};

use super::*;
use crate::sys::{Fence, Privileges, Use};

fn note() -> Note {
    Note {
        vmm: VmmKind::Qemu,
        accelerator: Accelerator::Tcg,
        confinement: Confinement::Seccomp,
        command_line: "quiet".into(),
        built: None,
        copy: false,
    }
}

/// A VMM that is no VMM: the shell runs `script`.
fn stand_in(dir: &Path, script: &str) -> Detached {
    Detached {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        output: None,
        log: Log::New(dir.join("vmm.log")),
        lock: dir.join("vmm.lock"),
        note: note(),
        file_limit: 1 << 20,
        surroundings: Surroundings::default(),
        kept: Vec::new(),
    }
}

#[tokio::test]
async fn a_forgotten_vmm_is_found_again_by_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let detached = stand_in(dir.path(), "exec sleep 1000");
    let lock = detached.lock.clone();
    let first = Process::start(detached).unwrap();
    let pid = first.pid();
    drop(first);
    let (again, noted) = Process::adopt(&lock).unwrap().unwrap();
    assert_eq!((again.pid(), noted), (pid, note()));
    assert!(!again.has_ended());
    again.kill().unwrap();
    again.ended().await;
    assert!(again.has_ended());
    assert!(Process::adopt(&lock).unwrap().is_none());
    again.kill().unwrap();
}

#[tokio::test]
async fn a_machine_runs_once() {
    let dir = tempfile::tempdir().unwrap();
    let detached = || stand_in(dir.path(), "exec sleep 1000");
    let process = Process::start(detached()).unwrap();
    assert!(matches!(
        Process::start(detached()),
        Err(HostError::File { .. })
    ));
    process.kill().unwrap();
    assert_eq!(process.ended().await, Ended::Signal(9));
    let process = Process::start(detached()).unwrap();
    process.kill().unwrap();
    process.ended().await;
}

#[tokio::test]
async fn an_end_is_told_as_often_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(stand_in(dir.path(), "echo words >&2; exit 7")).unwrap();
    for _ in 0..2 {
        assert_eq!(process.ended().await, Ended::Code(7));
    }
    assert_eq!(
        std::fs::read_to_string(dir.path().join("vmm.log")).unwrap(),
        "words\n"
    );
    assert!(!VmmExit::from(Ended::Code(7)).clean);
}

#[tokio::test]
async fn a_vmm_leads_a_session_and_inherits_nothing_but_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let inherited = File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let script = "cut -d' ' -f5,6 /proc/$$/stat; echo $$; umask; ulimit -c; ls -l /proc/$$/fd";
    let process = Process::start(stand_in(dir.path(), script)).unwrap();
    assert_eq!(process.ended().await, Ended::Code(0));
    let log = std::fs::read_to_string(dir.path().join("vmm.log")).unwrap();
    let lines: Vec<_> = log.lines().collect();
    let pid = lines[1];
    assert_eq!(lines[0], format!("{pid} {pid}"), "group and session");
    assert_eq!(&lines[2..4], ["0077", "0"]);
    let targets: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split(" -> ").nth(1))
        .collect();
    let own = |target: &&&str| target.ends_with("vmm.log") || target.ends_with("vmm.lock");
    assert_eq!(targets.iter().filter(own).count(), 3, "{log}");
    assert_eq!(targets.len(), 3, "{log}");
}

#[tokio::test]
async fn no_file_of_a_vmm_grows_beyond_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let script = "head -c 3000000 /dev/zero; true";
    let process = Process::start(stand_in(dir.path(), script)).unwrap();
    assert_eq!(process.ended().await, Ended::Code(0));
    assert!(std::fs::metadata(dir.path().join("vmm.log")).unwrap().len() <= 1 << 20);
}

#[test]
fn a_childs_words_are_understood_in_any_order() {
    let number = [&[sys::NUMBER][..], &7_i64.to_ne_bytes()].concat();
    let check = |words: &[&[u8]], last: Option<Step>, grandchild: Option<i32>| {
        let told = Told::parse(&words.concat());
        assert_eq!(told.last, last, "{words:?}");
        assert_eq!(told.grandchild, grandchild.and_then(Pid::from_raw));
    };
    check(&[b"jf", &number, b"d"], Some(Step::Detach), Some(7));
    check(&[b"jfdr", &number], Some(Step::Root), Some(7));
    check(&[b"jn"], Some(Step::Network), None);
    check(&[], None, None);
}

/// What a shell needs to run at all.
const SHELLS_OWN: [&str; 5] = ["/bin", "/usr", "/lib", "/lib64", "/etc/ld.so.cache"];

#[tokio::test]
async fn a_fence_keeps_everything_else_out_of_reach() {
    if sys::landlock_version().is_none() {
        eprintln!("SKIPPED: this kernel has no Landlock");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (inner, outer) = (dir.path().join("inner"), dir.path().join("outer"));
    for file in [&inner, &outer] {
        std::fs::write(file, "word\n").unwrap();
    }
    let script = format!(
        "read word <{inner} && echo inner $word; read word <{outer} || echo no outer; \
         echo more >>{inner} || echo no more; echo new >{new} || echo no new",
        inner = inner.display(),
        outer = outer.display(),
        new = dir.path().join("new").display(),
    );
    let paths: Vec<_> = SHELLS_OWN
        .iter()
        .map(|path| (Path::new(path), Use::Execute))
        .filter(|(path, _)| path.exists())
        .chain([(inner.as_path(), Use::Read)])
        .collect();
    let mut detached = stand_in(dir.path(), &script);
    detached.surroundings.privileges = Privileges::Fewest;
    detached.surroundings.fence = Fence::around(&paths).unwrap();
    let process = Process::start(detached).unwrap();
    process.ended().await;
    let log = std::fs::read_to_string(dir.path().join("vmm.log")).unwrap();
    let said: Vec<_> = log.lines().filter(|line| !line.contains(':')).collect();
    assert_eq!(
        said,
        ["inner word", "no outer", "no more", "no new"],
        "{log}"
    );
    assert!(!dir.path().join("new").exists());
}
