//! The whole way of a request, from the host's typed client to real processes, in an ordinary process of the host.

mod control;

use std::rc::Rc;
use std::time::Duration;

use banger_guest_proto::Client;
use banger_guest_proto::hello::{BootMarks, HostHello, Pid1};
use banger_guest_proto::message::{
    ExecStart, ExitStatus, FailureKind, ShutdownRequest, WindowSize,
};
use banger_guest_proto::session::exec::{Exec, ExecEvent, ExecOutput, Stdin};
use banger_guest_proto::wire::Listener;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use super::serve_session;
use crate::agent::Agent;
use crate::reaper::{Reaper, Scope};

/// No wait in here takes longer unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    client: Client,
    connection: JoinHandle<()>,
    shutdowns: mpsc::Receiver<ShutdownRequest>,
}

fn run(test: impl AsyncFnOnce(World)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (host, guest) = tokio::io::duplex(64 << 10);
        let (sender, shutdowns) = mpsc::channel(1);
        let reaper = Reaper::start(Scope::Own).unwrap();
        let agent = Rc::new(Agent::new(
            reaper,
            Pid1::Other,
            BootMarks::default(),
            None,
            sender,
        ));
        tokio::task::spawn_local(async move {
            let mut listener = Listener::new(guest);
            while let Ok(session) = listener.accept().await {
                let _ = serve_session(session, &agent).await;
            }
        });
        let hello = HostHello::now().unwrap();
        let (client, agent, connection) = Client::connect(host, hello).await.unwrap();
        assert!(agent.version.contains(env!("CARGO_PKG_VERSION")));
        let connection = tokio::task::spawn_local(async move { drop(connection.await) });
        let world = World {
            client,
            connection,
            shutdowns,
        };
        tokio::time::timeout(PATIENCE, test(world))
            .await
            .expect("a wait took too long");
    });
}

fn start(argv: &[&str]) -> ExecStart {
    let argv = argv.iter().map(ToString::to_string).collect();
    // Whoever runs the tests, the guest's accounts are those of the machine.
    let user = Some(rustix::process::getuid().as_raw().to_string());
    ExecStart {
        argv,
        user,
        cwd: Some("/".into()),
        ..ExecStart::default()
    }
}

fn sh(script: &str) -> ExecStart {
    start(&["sh", "-c", script])
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: Option<ExecEvent>,
}

async fn collect(output: &mut ExecOutput) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(event) = output.next().await.unwrap() {
        match event {
            ExecEvent::Started { pid } => assert!(pid > 0),
            ExecEvent::Stdout(data) => outcome.stdout.extend(data),
            ExecEvent::Stderr(data) => outcome.stderr.extend(data),
            end @ (ExecEvent::Ended(_) | ExecEvent::Failed(_)) => outcome.end = Some(end),
        }
    }
    outcome
}

/// Reads until the output contains a word.
async fn read_until(output: &mut ExecOutput, word: &str) -> String {
    let mut text = String::new();
    while !text.contains(word) {
        match output.next().await.unwrap() {
            Some(ExecEvent::Stdout(data)) => text.push_str(&String::from_utf8_lossy(&data)),
            Some(ExecEvent::Started { .. }) => {}
            other => panic!("{other:?} before {word:?}, after {text:?}"),
        }
    }
    text
}

async fn run_to_end(client: &Client, start: &ExecStart) -> Outcome {
    let mut exec = client.exec(start, Stdin::Closed).await.unwrap();
    collect(&mut exec.output).await
}

fn exited(code: i32) -> Option<ExecEvent> {
    Some(ExecEvent::Ended(ExitStatus::Exited { code }))
}

fn signaled(signal: i32) -> Option<ExecEvent> {
    Some(ExecEvent::Ended(ExitStatus::Signaled { signal }))
}

#[test]
fn output_and_exit_status_are_exact() {
    run(async |World { client, .. }| {
        let outcome = run_to_end(&client, &sh("printf out; printf err >&2; exit 42")).await;
        let (stdout, stderr) = (b"out".to_vec(), b"err".to_vec());
        assert_eq!(
            outcome,
            Outcome {
                stdout,
                stderr,
                end: exited(42)
            }
        );
        assert_eq!(run_to_end(&client, &start(&["true"])).await.end, exited(0));
        assert_eq!(
            run_to_end(&client, &sh("kill -9 $$")).await.end,
            signaled(9)
        );
    });
}

#[test]
fn what_cannot_start_says_why() {
    run(async |World { client, .. }| {
        let check =
            async |start: ExecStart, expected: FailureKind| match run_to_end(&client, &start)
                .await
                .end
            {
                Some(ExecEvent::Failed(failure)) => assert_eq!(failure.kind, expected),
                other => panic!("{other:?} instead of {expected:?}"),
            };
        check(start(&["no-such-program"]), FailureKind::NotFound).await;
        check(start(&["/etc/passwd"]), FailureKind::NotExecutable).await;
        let cwd = Some("/no/such/directory".into());
        check(
            ExecStart {
                cwd,
                ..start(&["true"])
            },
            FailureKind::NoSuchDirectory,
        )
        .await;
        let user = Some("no-such-user".into());
        check(
            ExecStart {
                user,
                ..start(&["true"])
            },
            FailureKind::NoSuchUser,
        )
        .await;
    });
}

#[test]
fn a_script_without_its_interpreter_is_not_found_and_one_without_any_not_executable() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cases = [
        (
            script("a", "#!/no/such/interpreter\n"),
            FailureKind::NotFound,
        ),
        (
            script("b", "\x7fELF but not really"),
            FailureKind::NotExecutable,
        ),
    ];
    run(async |World { client, .. }| {
        for (path, expected) in cases {
            match run_to_end(&client, &start(&[&path])).await.end {
                Some(ExecEvent::Failed(failure)) => assert_eq!(failure.kind, expected, "{path}"),
                other => panic!("{other:?} instead of {expected:?}"),
            }
        }
    });
}

#[test]
fn sixty_four_mebibytes_come_back_through_cat() {
    run(async |World { client, .. }| {
        let data: Vec<u8> = (0..16_u32 << 20).flat_map(u32::to_le_bytes).collect();
        let Exec {
            mut input,
            mut output,
            ..
        } = client.exec(&start(&["cat"]), Stdin::Open).await.unwrap();
        let sent = Bytes::from(data.clone());
        tokio::task::spawn_local(async move {
            input.send(sent).await.unwrap();
            input.finish();
        });
        let outcome = collect(&mut output).await;
        assert_eq!(outcome.end, exited(0));
        assert!(outcome.stdout == data, "the output differs from the input");
    });
}

#[test]
fn a_process_that_closes_its_input_fails_nothing() {
    run(async |World { client, .. }| {
        let mut exec = client
            .exec(&sh("exec <&-; echo done"), Stdin::Open)
            .await
            .unwrap();
        let flood = Bytes::from(vec![0; 4 << 20]);
        // Whether the rest is swallowed or refused is up to who is faster.
        let _ = exec.input.send(flood).await;
        exec.input.finish();
        let outcome = collect(&mut exec.output).await;
        assert_eq!(
            (outcome.stdout, outcome.end),
            (b"done\n".to_vec(), exited(0))
        );
    });
}

#[test]
fn a_background_child_does_not_hold_an_exec_up_and_nothing_is_lost() {
    run(async |World { client, .. }| {
        let script = "sleep 1000 & head -c 60000 /dev/zero; exit 7";
        let begin = std::time::Instant::now();
        let outcome = run_to_end(&client, &sh(script)).await;
        assert_eq!((outcome.stdout.len(), outcome.end), (60_000, exited(7)));
        assert!(begin.elapsed() < Duration::from_secs(20));
        let chatty = "while :; do echo noise; done & exit 7";
        assert_eq!(run_to_end(&client, &sh(chatty)).await.end, exited(7));
    });
}

#[test]
fn a_slow_host_loses_no_output_of_a_process_that_has_ended() {
    run(async |World { client, .. }| {
        let script = "head -c 1000000 /dev/zero; sleep 1000 & exit 0";
        let mut exec = client.exec(&sh(script), Stdin::Closed).await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        let outcome = collect(&mut exec.output).await;
        assert_eq!((outcome.stdout.len(), outcome.end), (1_000_000, exited(0)));
    });
}

#[test]
fn output_survives_its_process_although_the_input_is_still_open() {
    run(async |World { client, .. }| {
        for _ in 0..20 {
            let script = "head -c 200000 /dev/zero";
            let mut exec = client.exec(&sh(script), Stdin::Open).await.unwrap();
            let flood = Bytes::from(vec![0; 4 << 20]);
            // It returns when the process has ended, with all of its output still on the way.
            assert!(exec.input.send(flood).await.is_err());
            let outcome = collect(&mut exec.output).await;
            assert_eq!((outcome.stdout.len(), outcome.end), (200_000, exited(0)));
        }
    });
}

#[test]
fn hundreds_of_execs_at_once_all_end() {
    run(async |World { client, .. }| {
        let execs = (0..300).map(|index| {
            let client = client.clone();
            tokio::task::spawn_local(async move {
                let outcome = run_to_end(&client, &sh(&format!("echo {index}"))).await;
                assert_eq!(outcome.stdout, format!("{index}\n").into_bytes());
                assert_eq!(outcome.end, exited(0));
            })
        });
        for exec in execs.collect::<Vec<_>>() {
            exec.await.unwrap();
        }
    });
}

#[test]
fn the_login_shell_reads_commands_from_its_input() {
    run(async |World { client, .. }| {
        let mut exec = client.exec(&start(&[]), Stdin::Open).await.unwrap();
        exec.input
            .send(Bytes::from_static(b"echo $0; exit 5\n"))
            .await
            .unwrap();
        let outcome = collect(&mut exec.output).await;
        assert!(
            outcome.stdout.starts_with(b"-"),
            "{:?}",
            String::from_utf8_lossy(&outcome.stdout)
        );
        assert_eq!(outcome.end, exited(5));
    });
}

#[test]
fn health_sync_and_shutdown_are_answered() {
    run(
        async |World {
                   client,
                   mut shutdowns,
                   ..
               }| {
            let health = client.health().await.unwrap();
            assert!(health.memory_total > health.memory_available && health.uptime_ns > 0);
            client.sync().await.unwrap();
            let request = ShutdownRequest::graceful(Duration::from_secs(5));
            client.shutdown(request).await.unwrap();
            assert_eq!(shutdowns.recv().await, Some(request));
        },
    );
}
