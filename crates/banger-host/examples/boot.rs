//! Boots one machine from given files through [`LinuxHost`], runs commands in it and tells
//! what took how long. A tool for developers: nothing of the product uses it.
//!
//! `boot KERNEL INITRAMFS BASE STATE [adopt|keep|bulk|pty|CMD...]`; STATE has a `disk.ext4`.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use banger_core::{
    exec::{ExecInput, ExecOutput, ExecRequest, WindowSize},
    host::{Guest, Host, LaunchPlan, Machine, VmPlaces},
    spec::{Init, Memory, Network, Vcpus},
};
use banger_host::{HostConfig, LinuxHost};
use bytes::Bytes;

type Outcome<T> = Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(60);

fn plan(args: &[String]) -> Outcome<LaunchPlan> {
    let state = PathBuf::from(&args[3]);
    Ok(LaunchPlan {
        places: VmPlaces {
            id: "00112233445566778899aabbccddeeff".parse()?,
            runtime: state.join("run"),
            state,
        },
        name: "calm-otter".parse()?,
        vmm: banger_core::host::VmmKind::Qemu,
        accelerator: banger_core::host::Accelerator::Tcg,
        kernel: PathBuf::from(&args[0]),
        initramfs: PathBuf::from(&args[1]),
        kernel_args: Vec::new(),
        base: PathBuf::from(&args[2]),
        vcpus: Vcpus::try_from(1)?,
        memory: Memory::from_bytes(512 << 20)?,
        network: Network::User,
        init: Init::try_from(std::env::var("INIT").unwrap_or("auto".into()))?,
    })
}

/// Runs a command to its end; what it wrote to its output comes back.
async fn run(guest: &dyn Guest, request: ExecRequest, input: u64) -> Outcome<(String, u64)> {
    let mut stream = guest.exec(request).await?;
    let sender = stream.input.clone();
    let feeding = tokio::spawn(async move {
        let chunk = Bytes::from(vec![7; 64 << 10]);
        for _ in 0..input / chunk.len() as u64 {
            if sender.send(ExecInput::Stdin(chunk.clone())).await.is_err() {
                return;
            }
        }
        let _ = sender.send(ExecInput::StdinEof).await;
    });
    let (mut text, mut count) = (String::new(), 0);
    while let Some(output) = stream.output.recv().await {
        match output? {
            ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes) => {
                count += bytes.len() as u64;
                if text.len() < 4096 {
                    text.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
            ExecOutput::Started { .. } => {}
            ExecOutput::Ended(status) => {
                text.push_str(&format!("[{status:?}]"));
                break;
            }
            ExecOutput::Failed { kind, message } => {
                text.push_str(&format!("[{kind:?}: {message}]"));
                break;
            }
        }
    }
    feeding.abort();
    Ok((text, count))
}

fn command(words: &[&str]) -> ExecRequest {
    ExecRequest {
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Default::default()
    }
}

async fn machine(host: &LinuxHost, plan: &LaunchPlan, adopt: bool) -> Outcome<Arc<dyn Machine>> {
    if adopt {
        return Ok(host
            .adopt(&plan.places)
            .await?
            .ok_or("no VMM holds the lock")?);
    }
    host.admit(plan).await?;
    Ok(host.launch(plan).await?)
}

/// Bytes in one direction and in both, with this process's memory after each.
async fn bulk(guest: &dyn Guest) -> Outcome<()> {
    const AMOUNT: u64 = 100 << 20;
    for (what, script, input) in [
        ("out", "head -c 104857600 /dev/zero", 0),
        ("in", "cat > /dev/null", AMOUNT),
        ("through cat", "cat", AMOUNT),
    ] {
        let start = Instant::now();
        let (end, count) = run(guest, command(&["sh", "-c", script]), input).await?;
        let (took, end) = (
            start.elapsed(),
            end.chars().rev().take(9).collect::<String>(),
        );
        println!(
            "100 MiB {what}: {count} bytes back in {took:?}, {end:?}, {}",
            resident()?
        );
    }
    Ok(())
}

fn resident() -> Outcome<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let lines = status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    Ok(lines.collect::<Vec<_>>().join(", "))
}

async fn pty(guest: &dyn Guest) -> Outcome<()> {
    let tty = Some(WindowSize { cols: 91, rows: 31 });
    let request = ExecRequest {
        tty,
        ..command(&["sh", "-c", "tty; stty size"])
    };
    println!("pty: {:?}", run(guest, request, 0).await?.0);
    Ok(())
}

async fn latency(guest: &dyn Guest) -> Outcome<()> {
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        run(guest, command(&["true"]), 0).await?;
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "exec true: median {:?}, best {:?}, worst {:?}",
        times[25], times[0], times[49]
    );
    let start = Instant::now();
    println!(
        "health: {:?} in {:?}",
        guest.health().await?,
        start.elapsed()
    );
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.len() < 4 {
        let host = LinuxHost::new(HostConfig {
            cache: std::env::temp_dir(),
            ..HostConfig::default()
        });
        let start = Instant::now();
        let choice = host.choose_vmm(None).await?;
        println!("{choice:?} in {:?}", start.elapsed());
        let start = Instant::now();
        for check in host.checks(Path::new("/")).await {
            println!(
                "{:?} {}: {} {:?}",
                check.verdict, check.name, check.detail, check.hint
            );
        }
        println!("checks took {:?}", start.elapsed());
        return Ok(());
    }
    let host = LinuxHost::new(HostConfig {
        cache: args[3].clone().into(),
        ..HostConfig::default()
    });
    let plan = plan(&args)?;
    let words: Vec<&str> = args[4..].iter().map(String::as_str).collect();
    let start = Instant::now();
    let machine = machine(&host, &plan, words.first() == Some(&"adopt")).await?;
    println!("{:?} after {:?}", machine.process(), start.elapsed());
    let guest = match machine.connect(PATIENCE).await {
        Ok(guest) => guest,
        Err(error) => {
            machine.kill().await?;
            println!("{error}: {error:#?}");
            return Err(error.into());
        }
    };
    println!(
        "agent answered after {:?}: {:?}",
        start.elapsed(),
        guest.info()
    );
    match words.as_slice() {
        [] => {}
        ["keep"] => loop {
            guest.closed().await;
        },
        ["adopt"] | ["all"] => {
            latency(&*guest).await?;
            pty(&*guest).await?;
            bulk(&*guest).await?;
        }
        words => println!("{}", run(&*guest, command(words), 0).await?.0),
    }
    let stop = Instant::now();
    guest.shutdown(Duration::from_secs(10)).await?;
    println!(
        "ended with {:?}, {:?} after asking",
        machine.exited().await,
        stop.elapsed()
    );
    host.sweep(&plan.places).await?;
    Ok(())
}
