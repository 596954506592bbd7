//! The typed client against a small agent that echoes.

use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response, StatusCode};
use tokio::io::DuplexStream;

use super::client::{Client, ClientError};
use super::exec::{Exec, ExecEvent, ExecOutput, Stdin};
use super::frames::{FrameReceiver, FrameSender};
use crate::frame::{self, Kind};
use crate::hello::{self, AgentHello, BootMarks, GENERATION, Generations, HostHello, Pid1};
use crate::message::{ExecStart, ExitStatus, Refusal, Route, ShutdownRequest};
use crate::wire::Listener;

fn run<T>(test: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (host, guest) = tokio::io::duplex(64 << 10);
        tokio::task::spawn_local(agent(guest));
        let hello = HostHello::now().unwrap();
        let (client, agent, connection) = Client::connect(host, hello).await.unwrap();
        assert_eq!(agent.generation, Some(GENERATION));
        tokio::task::spawn_local(connection);
        test(client).await
    })
}

async fn agent(io: DuplexStream) {
    let mut listener = Listener::new(io);
    let mut session = listener.accept().await.unwrap();
    let host = hello::receive_host(&mut session).await.unwrap();
    let answer = AgentHello {
        generations: Generations::OURS,
        generation: Generations::OURS.agree(host.generations),
        version: "test".into(),
        boot_id: "test".into(),
        pid1: Pid1::Agent,
        uptime_ns: 0,
        marks: BootMarks::default(),
        assumed: None,
    };
    hello::answer(&mut session, &host, &answer).await.unwrap();
    let mut connection = super::serve(session).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(answer_one(request, respond));
    }
}

async fn answer_one(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    let route = Route::find(request.method(), request.uri().path()).unwrap();
    if !matches!(route, Route::Exec(_)) {
        let refusal = serde_json::to_vec(&Refusal {
            error: format!("no \x1b{route}"),
        })
        .unwrap();
        let response = Response::builder()
            .status(StatusCode::NOT_FOUND)
            .body(())
            .unwrap();
        let mut body = respond.send_response(response, false).unwrap();
        body.send_data(refusal.into(), true).unwrap();
        return;
    }
    let sender = FrameSender::new(respond.send_response(Response::new(()), false).unwrap());
    // The host may go away at any point, which is no concern of the echo.
    let _ = echo(FrameReceiver::new(request.into_body()), sender).await;
}

/// Gives standard input back on standard output, and the arguments' number as the exit code.
async fn echo(mut input: FrameReceiver, mut output: FrameSender) -> Option<()> {
    let start = input.next().await.ok()??;
    assert_eq!(start.kind, Kind::Start);
    let start: ExecStart = serde_json::from_slice(&start.payload).unwrap();
    output
        .queue(frame::encode(Kind::Started, br#"{"pid":7}"#))
        .ok()?;
    while let Some(piece) = input.next().await.ok()? {
        assert_eq!(piece.kind, Kind::Stdin);
        output.send(Kind::Stdout, piece.payload).await.ok()?;
    }
    let code = i32::try_from(start.argv.len()).unwrap();
    output
        .send_whole(Kind::Exited, &code.to_be_bytes(), true)
        .await
        .ok()
}

fn start(argv: &[&str]) -> ExecStart {
    ExecStart {
        argv: argv.iter().map(ToString::to_string).collect(),
        ..ExecStart::default()
    }
}

/// Reads an exec to its end: (stdout, how it ended).
async fn collect(output: &mut ExecOutput) -> (Vec<u8>, Option<ExecEvent>) {
    let (mut stdout, mut last) = (Vec::new(), None);
    while let Some(event) = output.next().await.unwrap() {
        match event {
            ExecEvent::Stdout(data) => stdout.extend(data),
            other => last = Some(other),
        }
    }
    (stdout, last)
}

fn exited(code: i32) -> Option<ExecEvent> {
    Some(ExecEvent::Ended(ExitStatus::Exited { code }))
}

#[test]
fn an_exec_without_input_ends_with_its_code() {
    run(async |client: Client| {
        let mut exec = client
            .exec(&start(&["a", "b"]), Stdin::Closed)
            .await
            .unwrap();
        assert_eq!(collect(&mut exec.output).await, (vec![], exited(2)));
        assert!(exec.input.send(Bytes::from_static(b"x")).await.is_err());
    });
}

#[test]
fn input_comes_back_as_output_while_both_flow() {
    run(async |client: Client| {
        let data: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
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
        let (got, last) = collect(&mut output).await;
        assert!(got == data, "the output differs from the input");
        assert_eq!(last, exited(1));
    });
}

#[test]
fn a_start_longer_than_every_window_arrives() {
    run(async |client: Client| {
        let long = "x".repeat(1_000_000);
        let mut exec = client.exec(&start(&[&long]), Stdin::Closed).await.unwrap();
        assert_eq!(collect(&mut exec.output).await.1, exited(1));
        let long = "x".repeat(1 << 20);
        let error = client
            .exec(&start(&[&long]), Stdin::Closed)
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::StartTooLong { .. }));
    });
}

#[test]
fn a_consumer_that_does_not_read_stops_the_sender_but_no_other_stream() {
    run(async |client: Client| {
        let mut stuck = client.exec(&start(&["cat"]), Stdin::Open).await.unwrap();
        let flood = Bytes::from(vec![7; 8 << 20]);
        let sent = tokio::time::timeout(Duration::from_millis(300), stuck.input.send(flood)).await;
        assert!(
            sent.is_err(),
            "8 MiB must not fit into the buffers of one stream"
        );
        let mut other = client.exec(&start(&["true"]), Stdin::Closed).await.unwrap();
        assert_eq!(collect(&mut other.output).await.1, exited(1));
    });
}

#[test]
fn thousands_of_execs_leave_nothing_behind() {
    run(async |client: Client| {
        for _ in 0..3000 {
            let mut exec = client.exec(&start(&["x"]), Stdin::Open).await.unwrap();
            exec.input.finish();
            assert_eq!(collect(&mut exec.output).await.1, exited(1));
            drop(
                client
                    .exec(&start(&["dropped"]), Stdin::Open)
                    .await
                    .unwrap(),
            );
        }
    });
}

#[test]
fn more_execs_than_streams_take_turns() {
    run(async |client: Client| {
        let execs = (0..1000).map(|_| {
            let client = client.clone();
            tokio::task::spawn_local(async move {
                let mut exec = client.exec(&start(&["x"]), Stdin::Closed).await.unwrap();
                collect(&mut exec.output).await.1
            })
        });
        for exec in execs.collect::<Vec<_>>() {
            assert_eq!(exec.await.unwrap(), exited(1));
        }
    });
}

#[test]
fn a_refusal_is_an_error_that_is_safe_to_print() {
    run(async |client: Client| {
        let error = client.shutdown(ShutdownRequest::force()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            r"the guest's agent refused /v1/shutdown with 404 Not Found: no \u{1b}/v1/shutdown"
        );
        let exec = client.exec(&start(&["x"]), Stdin::Open).await.unwrap();
        exec.control.signal(15).await.unwrap();
    });
}

#[test]
fn a_round_trip_can_be_measured() {
    run(async |client: Client| {
        assert!(client.ping().await.unwrap() < Duration::from_secs(5));
    });
}

#[test]
fn a_lost_agent_ends_every_wait() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (host, guest) = tokio::io::duplex(64 << 10);
        let agent = tokio::task::spawn_local(agent(guest));
        let hello = HostHello::now().unwrap();
        let (client, _, connection) = Client::connect(host, hello).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let mut exec = client.exec(&start(&["x"]), Stdin::Open).await.unwrap();
        assert_eq!(
            exec.output.next().await.unwrap(),
            Some(ExecEvent::Started { pid: 7 })
        );
        agent.abort();
        assert!(matches!(
            exec.output.next().await,
            Err(ClientError::Lost { .. })
        ));
        assert!(exec.input.send(Bytes::from_static(b"x")).await.is_err());
        assert!(client.health().await.is_err());
        drop(connection.await.unwrap());
    });
}
