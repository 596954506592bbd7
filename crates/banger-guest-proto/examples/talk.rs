//! Talks to the agent of a running guest by hand: through the unix socket of QEMU's chardev, without a daemon.
//!
//!     talk SOCKET hello                  greet, show the agent's answer and health
//!     talk SOCKET exec [-t] CMD...       run a command (no CMD: the login shell), standard input passed on
//!     talk SOCKET times N CMD...         run a command N times, show the times
//!     talk SOCKET echo MIB               random bytes through `cat` and back, compared by hash
//!     talk SOCKET flood MIB              zeros out of the guest
//!     talk SOCKET reconnect N            drop the connection amid transfers N times, and check the next session
//!     talk SOCKET sync | shutdown | kill

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a command line tool"
)]

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use banger_guest_proto::hello::HostHello;
use banger_guest_proto::message::{ExecStart, ExitStatus, ShutdownRequest, WindowSize};
use banger_guest_proto::session::exec::{Exec, ExecEvent, ExecInput, ExecOutput, Stdin};
use banger_guest_proto::{Client, ClientError};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut error: Option<&dyn Error> = Some(&*error);
            while let Some(cause) = error {
                eprintln!("talk: {cause}");
                error = cause.source();
            }
            ExitCode::from(125)
        }
    }
}

async fn run(args: &[&str]) -> Result<u8> {
    match *args {
        [socket, "hello"] => hello(socket).await?,
        [socket, "exec", "-t", ref argv @ ..] => return exec(socket, argv, true).await,
        [socket, "exec", ref argv @ ..] => return exec(socket, argv, false).await,
        [socket, "times", count, ref argv @ ..] => times(socket, count.parse()?, argv).await?,
        [socket, "echo", mib] => echo(&connect(socket).await?.0, mib.parse()?).await?,
        [socket, "flood", mib] => flood(&connect(socket).await?.0, mib.parse()?).await?,
        [socket, "reconnect", count] => reconnect(socket, count.parse()?).await?,
        [socket, "sync"] => connect(socket).await?.0.sync().await?,
        [socket, "shutdown"] => {
            let request = ShutdownRequest::graceful(Duration::from_secs(30));
            connect(socket).await?.0.shutdown(request).await?;
        }
        [socket, "kill"] => {
            connect(socket)
                .await?
                .0
                .shutdown(ShutdownRequest::force())
                .await?;
        }
        _ => return Err("see the top of talk.rs for its use".into()),
    }
    Ok(0)
}

/// Connects, waiting for the socket to appear; the agent's own boot is waited for by the greeting.
async fn connect(socket: &str) -> Result<(Client, JoinHandle<()>)> {
    let stream = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let (client, _, connection) = Client::connect(stream, HostHello::now()?).await?;
    let task = tokio::spawn(async {
        // What breaks the session breaks the request that is under way, which tells.
        let _ = connection.await;
    });
    Ok((client, task))
}

async fn hello(socket: &str) -> Result<()> {
    let stream = UnixStream::connect(socket).await?;
    let start = Instant::now();
    let (client, agent, connection) = Client::connect(stream, HostHello::now()?).await?;
    println!("greeted after {:?}: {agent:#?}", start.elapsed());
    tokio::spawn(connection);
    println!("{:#?}", client.health().await?);
    for _ in 0..3 {
        println!("round trip {:?}", client.ping().await?);
    }
    Ok(())
}

fn start(argv: &[&str]) -> ExecStart {
    ExecStart {
        argv: argv.iter().map(ToString::to_string).collect(),
        ..ExecStart::default()
    }
}

async fn exec(socket: &str, argv: &[&str], tty: bool) -> Result<u8> {
    let (client, _) = connect(socket).await?;
    let mut start = start(argv);
    start.tty = tty.then_some(WindowSize { cols: 80, rows: 24 });
    let Exec {
        input,
        mut output,
        control: _control,
    } = client.exec(&start, Stdin::Open).await?;
    tokio::spawn(pass_stdin(input));
    while let Some(event) = output.next().await? {
        match event {
            ExecEvent::Started { .. } => {}
            ExecEvent::Stdout(data) => std::io::stdout().write_all(&data)?,
            ExecEvent::Stderr(data) => std::io::stderr().write_all(&data)?,
            ExecEvent::Ended(ExitStatus::Exited { code }) => return Ok(u8::try_from(code)?),
            ExecEvent::Ended(ExitStatus::Signaled { signal }) => {
                return Ok(128 + u8::try_from(signal)?);
            }
            ExecEvent::Failed(failure) => return Err(format!("{failure:?}").into()),
        }
    }
    Err("the output ended early".into())
}

async fn pass_stdin(mut input: ExecInput) {
    loop {
        let read = tokio::task::spawn_blocking(|| {
            let mut chunk = vec![0; 64 << 10];
            let count = std::io::stdin().read(&mut chunk).unwrap_or(0);
            chunk.truncate(count);
            chunk
        });
        let chunk = read.await.unwrap_or_default();
        if chunk.is_empty() {
            return input.finish();
        }
        if input.send(chunk.into()).await.is_err() {
            return;
        }
    }
}

async fn times(socket: &str, count: usize, argv: &[&str]) -> Result<()> {
    let (client, _) = connect(socket).await?;
    let (mut pings, mut healths) = (Vec::new(), Vec::new());
    let mut times = Vec::new();
    for _ in 0..count {
        pings.push(client.ping().await?);
        let start_time = Instant::now();
        client.health().await?;
        healths.push(start_time.elapsed());
        let start_time = Instant::now();
        let mut exec = client.exec(&start(argv), Stdin::Closed).await?;
        expect_success(&mut exec.output).await?;
        times.push(start_time.elapsed());
    }
    report("ping", pings);
    report("health", healths);
    report(&argv.join(" "), times);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    if let (Some(min), Some(max)) = (times.first(), times.last()) {
        println!(
            "{what}: min {min:?} median {:?} max {max:?}",
            times[times.len() / 2]
        );
    }
}

/// Reads an exec to its successful end; returns the hash and length of its standard output.
async fn expect_success(output: &mut ExecOutput) -> Result<(Vec<u8>, u64)> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    while let Some(event) = output.next().await? {
        match event {
            ExecEvent::Started { .. } => {}
            ExecEvent::Stdout(data) => {
                length += data.len() as u64;
                hash.update(&data);
            }
            ExecEvent::Stderr(data) => std::io::stderr().write_all(&data)?,
            ExecEvent::Ended(ExitStatus::Exited { code: 0 }) => {
                return Ok((hash.finalize().to_vec(), length));
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    Err("the output ended early".into())
}

/// Bytes that do not compress or repeat, cheaply.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.rotate_left(17).to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

async fn echo(client: &Client, mib: usize) -> Result<()> {
    let begin = Instant::now();
    let Exec {
        mut input,
        mut output,
        ..
    } = client.exec(&start(&["cat"]), Stdin::Open).await?;
    let sender = tokio::spawn(async move {
        let mut hash = Sha256::new();
        for index in 0..mib {
            let data = noise(index as u64, 1 << 20);
            hash.update(&data);
            if input.send(data).await.is_err() {
                break;
            }
        }
        input.finish();
        hash.finalize().to_vec()
    });
    let (received, length) = expect_success(&mut output).await?;
    if sender.await? != received || length != (mib as u64) << 20 {
        return Err(format!("{length} bytes came back, and they differ").into());
    }
    rate("there and back", mib, begin);
    Ok(())
}

async fn flood(client: &Client, mib: usize) -> Result<()> {
    let begin = Instant::now();
    let command = format!("dd if=/dev/zero bs=65536 count={} 2>/dev/null", mib * 16);
    let mut exec = client
        .exec(&start(&["sh", "-c", &command]), Stdin::Closed)
        .await?;
    let (_, length) = expect_success(&mut exec.output).await?;
    if length != (mib as u64) << 20 {
        return Err(format!("{length} bytes came out").into());
    }
    rate("out", mib, begin);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "it is for people")]
fn rate(what: &str, mib: usize, begin: Instant) {
    let time = begin.elapsed();
    println!(
        "{mib} MiB {what} in {time:?}: {:.1} MiB/s",
        mib as f64 / time.as_secs_f64()
    );
}

async fn reconnect(socket: &str, count: usize) -> Result<()> {
    let mut times = Vec::new();
    for round in 0..count {
        let begin = Instant::now();
        let (client, connection) = connect(socket).await?;
        let (agent, flood) = (client.clone(), client.clone());
        echo_quietly(&client).await?;
        times.push(begin.elapsed());
        let up =
            tokio::spawn(async move { endless_input(&agent).await.map_err(|e| e.to_string()) });
        let down =
            tokio::spawn(async move { endless_output(&flood).await.map_err(|e| e.to_string()) });
        tokio::time::sleep(Duration::from_millis(5 + 7 * (round as u64 % 13))).await;
        // The socket closes in the middle of whatever is under way.
        connection.abort();
        let _ = connection.await;
        up.abort();
        down.abort();
    }
    report("connect and echo", times);
    Ok(())
}

async fn echo_quietly(client: &Client) -> Result<()> {
    let Exec {
        mut input,
        mut output,
        ..
    } = client.exec(&start(&["cat"]), Stdin::Open).await?;
    let data = noise(7, 100_000);
    let expected = Sha256::digest(&data).to_vec();
    input.send(data).await?;
    input.finish();
    let (received, _) = expect_success(&mut output).await?;
    if received == expected {
        Ok(())
    } else {
        Err("what came back differs".into())
    }
}

async fn endless_input(client: &Client) -> std::result::Result<(), ClientError> {
    let mut exec = client.exec(&start(&["cat"]), Stdin::Open).await?;
    while exec.input.send(noise(3, 1 << 18)).await.is_ok() {}
    Ok(())
}

async fn endless_output(client: &Client) -> std::result::Result<(), ClientError> {
    let mut exec = client
        .exec(&start(&["cat", "/dev/zero"]), Stdin::Closed)
        .await?;
    while exec.output.next().await?.is_some() {}
    Ok(())
}
