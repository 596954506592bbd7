//! Signals, terminals and hosts that go away, against real processes.

use super::*;

fn on_terminal(script: &str) -> ExecStart {
    ExecStart {
        tty: Some(WindowSize { cols: 77, rows: 33 }),
        ..sh(script)
    }
}

/// Waits until a process is no more.
async fn gone(pid: u32) {
    while std::fs::exists(format!("/proc/{pid}")).unwrap() {
        tokio::task::yield_now().await;
    }
}

async fn pid_of(output: &mut ExecOutput) -> u32 {
    match output.next().await.unwrap() {
        Some(ExecEvent::Started { pid }) => pid,
        other => panic!("{other:?} instead of a start"),
    }
}

#[test]
fn input_that_is_not_read_holds_up_neither_signals_nor_other_execs() {
    run(async |World { client, .. }| {
        let Exec {
            mut input,
            mut output,
            control,
        } = client
            .exec(&start(&["sleep", "1000"]), Stdin::Open)
            .await
            .unwrap();
        let feeder = tokio::task::spawn_local(async move {
            // It is refused once the process is gone.
            while input.send(Bytes::from(vec![0; 1 << 20])).await.is_ok() {}
        });
        assert_eq!(run_to_end(&client, &start(&["true"])).await.end, exited(0));
        control.signal(15).await.unwrap();
        assert_eq!(collect(&mut output).await.end, signaled(15));
        drop((output, control));
        feeder.await.unwrap();
    });
}

#[test]
fn a_signal_reaches_the_whole_group() {
    run(async |World { client, .. }| {
        let script = "trap 'echo caught; exit 3' TERM; sleep 1000 & echo ready; wait";
        let mut exec = client.exec(&sh(script), Stdin::Closed).await.unwrap();
        read_until(&mut exec.output, "ready").await;
        exec.control.signal(15).await.unwrap();
        let outcome = collect(&mut exec.output).await;
        assert_eq!(
            (outcome.stdout, outcome.end),
            (b"caught\n".to_vec(), exited(3))
        );
        // A signal for an exec that is over is no failure.
        exec.control.signal(15).await.unwrap();
        assert!(exec.control.signal(65).await.is_err());
    });
}

#[test]
fn a_lost_host_does_not_look_like_the_end_of_input() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    run(async |World { client, .. }| {
        let script = format!("trap '' HUP; echo ready; cat; touch {}", file.display());
        let mut exec = client.exec(&sh(&script), Stdin::Open).await.unwrap();
        let pid = pid_of(&mut exec.output).await;
        read_until(&mut exec.output, "ready").await;
        drop(exec);
        gone(pid).await;
        assert!(!file.exists());
        let fate = format!("process {pid} has ended: signal 9");
        while !(client.log().await.unwrap().lines.iter()).any(|line| line.text == fate) {}
    });
}

#[test]
fn what_is_hung_up_may_have_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidy");
    run(async |World { client, .. }| {
        let tidy = format!("seq 100000; seq 100000 >&2; touch {}", file.display());
        let script = format!("trap '{tidy}; exit 3' HUP; echo ready; while :; do sleep 0.01; done");
        let mut exec = client.exec(&sh(&script), Stdin::Open).await.unwrap();
        let pid = pid_of(&mut exec.output).await;
        read_until(&mut exec.output, "ready").await;
        drop(exec);
        gone(pid).await;
        assert!(file.exists());
    });
}

#[test]
fn who_does_not_stop_talking_holds_nobody_up() {
    run(async |World { client, .. }| {
        let script = "trap '' HUP; echo ready; exec yes";
        let mut exec = client.exec(&sh(script), Stdin::Open).await.unwrap();
        let pid = pid_of(&mut exec.output).await;
        read_until(&mut exec.output, "ready").await;
        drop(exec);
        assert_eq!(run_to_end(&client, &start(&["true"])).await.end, exited(0));
        gone(pid).await;
    });
}

#[test]
fn a_terminal_has_its_size_and_takes_another() {
    run(async |World { client, .. }| {
        let script =
            "stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.01; done";
        let mut exec = client
            .exec(&on_terminal(script), Stdin::Open)
            .await
            .unwrap();
        let text = read_until(&mut exec.output, "ready").await;
        assert!(text.starts_with("33 77\r\n"), "{text:?}");
        exec.control
            .resize(WindowSize {
                cols: 100,
                rows: 50,
            })
            .await
            .unwrap();
        let outcome = collect(&mut exec.output).await;
        assert!(
            outcome.stdout.ends_with(b"50 100\r\n"),
            "{:?}",
            outcome.stdout
        );
        assert_eq!(outcome.end, exited(4));
    });
}

#[test]
fn a_terminal_interprets_keys_and_the_end_of_input() {
    run(async |World { client, .. }| {
        let mut exec = client
            .exec(&on_terminal("echo ready; cat"), Stdin::Open)
            .await
            .unwrap();
        read_until(&mut exec.output, "ready").await;
        exec.input
            .send(Bytes::from_static(b"hello\n"))
            .await
            .unwrap();
        exec.input.finish();
        let outcome = collect(&mut exec.output).await;
        assert!(
            outcome.stdout.ends_with(b"hello\r\nhello\r\n"),
            "{:?}",
            outcome.stdout
        );
        assert_eq!(outcome.end, exited(0));

        let mut exec = client
            .exec(&on_terminal("echo ready; cat"), Stdin::Open)
            .await
            .unwrap();
        read_until(&mut exec.output, "ready").await;
        // Once by the terminal, once by cat: a shell defers an interrupt that comes before cat runs.
        exec.input.send(Bytes::from_static(b"x\n")).await.unwrap();
        read_until(&mut exec.output, "x\r\nx\r\n").await;
        exec.input.send(Bytes::from_static(b"\x03")).await.unwrap();
        let end = collect(&mut exec.output).await.end;
        assert!(end == signaled(2) || end == exited(130), "{end:?}");
    });
}

#[test]
fn a_dropped_exec_is_hung_up_and_killed_if_it_stays() {
    run(async |World { client, .. }| {
        let mut exec = client
            .exec(&start(&["sleep", "1000"]), Stdin::Open)
            .await
            .unwrap();
        let pid = pid_of(&mut exec.output).await;
        drop(exec);
        gone(pid).await;
        let stubborn = "trap '' HUP; echo ready; while :; do sleep 0.01; done";
        let mut exec = client.exec(&sh(stubborn), Stdin::Open).await.unwrap();
        let pid = pid_of(&mut exec.output).await;
        read_until(&mut exec.output, "ready").await;
        drop(exec);
        gone(pid).await;
    });
}

#[test]
fn a_lost_host_hangs_everything_up() {
    run(
        async |World {
                   client, connection, ..
               }| {
            let mut exec = client
                .exec(&on_terminal("echo ready; sleep 1000"), Stdin::Open)
                .await
                .unwrap();
            let pid = pid_of(&mut exec.output).await;
            read_until(&mut exec.output, "ready").await;
            connection.abort();
            gone(pid).await;
        },
    );
}
