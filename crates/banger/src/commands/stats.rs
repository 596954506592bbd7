//! `vm stats`: what VMs use. The daemon tells what was used since the start; what is used now is the
//! difference of two answers.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use banger_api::{client::Client, size::format_size, usage::VmStats, vm::VmState};
use futures_util::future::join_all;
use serde::Serialize;

use super::ports::finish;
use crate::{
    cli::vm::{StatsArgs, TargetsArgs},
    exec::signals::Signals,
    output,
    report::Failure,
    table::table,
    targets::{Picked, pick},
};

/// Between two answers of which one difference is made.
const GLANCE: Duration = Duration::from_millis(300);
const PACE: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(super) async fn run(client: &Client, args: StatsArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let vms = TargetsArgs {
        all: args.targets.is_empty(),
        targets: args.targets,
    };
    let watching = watch(client, &vms, args.watch, args.json.json);
    signals.interrupt(watching, "nothing was changed").await
}

async fn watch(client: &Client, vms: &TargetsArgs, on: bool, json: bool) -> Result<u8, Failure> {
    let mut before = ask(client, vms).await?.stats;
    tokio::time::sleep(GLANCE).await;
    loop {
        let Asked { stats, failures } = ask(client, vms).await?;
        let now: Vec<_> = stats.iter().map(|stats| Now::of(stats, &before)).collect();
        show(&now, on, json)?;
        if !on || (!failures.is_empty() && now.is_empty()) {
            return finish(failures);
        }
        before = stats;
        tokio::time::sleep(PACE).await;
    }
}

struct Asked {
    stats: Vec<VmStats>,
    failures: Vec<Failure>,
}

async fn ask(client: &Client, vms: &TargetsArgs) -> Result<Asked, Failure> {
    let picked = pick(client, vms, |state| match state {
        VmState::Starting | VmState::Running | VmState::Paused | VmState::Stopping => true,
        VmState::Created | VmState::Stopped | VmState::Error | VmState::Deleting => false,
    });
    let asked = picked.await?.into_iter();
    let asked = asked.map(async |Picked { resolved, .. }| {
        let vm = resolved?;
        Ok::<_, Failure>(client.vm_stats(&vm).await?)
    });
    let (mut stats, mut failures) = (Vec::new(), Vec::new());
    for answer in join_all(asked).await {
        match answer {
            Ok(answer) => stats.push(answer),
            Err(failure) => failures.push(failure),
        }
    }
    Ok(Asked { stats, failures })
}

/// What is used now, and all that is known.
#[derive(Debug, Clone, Serialize)]
struct Now<'a> {
    #[serde(flatten)]
    stats: &'a VmStats,
    /// Of one processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
}

impl<'a> Now<'a> {
    fn of(stats: &'a VmStats, before: &[VmStats]) -> Self {
        let before = before.iter().find(|before| before.id == stats.id);
        Self {
            stats,
            cpu_percent: before.and_then(|before| cpu_percent(before, stats)),
        }
    }
}

/// Nothing where it did not run all the time, or was started anew.
fn cpu_percent(before: &VmStats, now: &VmStats) -> Option<f64> {
    let used = |stats: &VmStats| Some(stats.host.as_ref()?.cpu_ms);
    let used = used(now)?.checked_sub(used(before)?)?;
    let passed = now
        .clock_ms
        .checked_sub(before.clock_ms)
        .filter(|ms| *ms > 0)?;
    let percent = used as f64 * 100.0 / passed as f64;
    Some((percent * 10.0).round() / 10.0)
}

fn show(now: &[Now<'_>], watch: bool, json: bool) -> Result<(), Failure> {
    match (json, watch) {
        (true, false) => output::print_json(&now),
        (true, true) => output::print_line(&now),
        (false, false) => output::print(&overview(now)),
        (false, true) if io::stdout().is_terminal() => {
            output::print(&format!("{CLEAR}{}", overview(now)))
        }
        (false, true) => output::print(&format!("{}\n", overview(now))),
    }
}

fn overview(now: &[Now<'_>]) -> String {
    let header = [
        "NAME", "STATE", "CPU", "MEM", "GUEST", "LOAD", "DISK", "READ", "WRITTEN",
    ];
    let rows: Vec<_> = now.iter().map(row).collect();
    table(header, &rows)
}

fn row(now: &Now<'_>) -> [String; 9] {
    let unknown = || "-".to_owned();
    let stats = now.stats;
    let (host, guest) = (stats.host.as_ref(), stats.guest.as_ref());
    let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, format_size);
    let of = |part: u64, whole: u64| format!("{} / {}", format_size(part), format_size(whole));
    [
        stats.name.clone(),
        stats.state.as_str().to_owned(),
        now.cpu_percent
            .map_or_else(unknown, |percent| format!("{percent:.1}%")),
        bytes(host.map(|host| host.memory_bytes)),
        guest.map_or_else(unknown, |guest| {
            let total = guest.memory_total_bytes;
            of(total.saturating_sub(guest.memory_available_bytes), total)
        }),
        guest.map_or_else(unknown, |guest| format!("{:.2}", guest.load[0])),
        of(stats.disk_used_bytes, stats.disk_bytes),
        bytes(host.and_then(|host| host.read_bytes)),
        bytes(host.and_then(|host| host.written_bytes)),
    ]
}

#[cfg(test)]
mod tests {
    use banger_api::usage::{GuestStats, HostStats};
    use insta::assert_snapshot;

    use super::*;

    fn stats(clock_ms: u64, cpu_ms: u64) -> VmStats {
        VmStats {
            id: "1".into(),
            name: "web".into(),
            state: VmState::Running,
            vcpus: 2,
            time: "1970-01-01T00:00:00.000Z".into(),
            clock_ms,
            disk_used_bytes: 5 << 20,
            disk_bytes: 8 << 30,
            host: Some(HostStats {
                cpu_ms,
                memory_bytes: 300 << 20,
                memory_limit_bytes: None,
                threads: 4,
                read_bytes: Some(1 << 20),
                written_bytes: None,
            }),
            guest: Some(GuestStats {
                uptime_ms: 7,
                load: [0.5, 0.0, 0.0],
                memory_total_bytes: 512 << 20,
                memory_available_bytes: 384 << 20,
                init_state: "running".into(),
            }),
        }
    }

    #[test]
    fn processors_are_used_in_a_time() {
        let check = |before: (u64, u64), now: (u64, u64), expected: Option<f64>| {
            let (before, now) = (stats(before.0, before.1), stats(now.0, now.1));
            assert_eq!(cpu_percent(&before, &now), expected, "{before:?} {now:?}");
        };
        check((1000, 50), (2000, 550), Some(50.0));
        check((1000, 50), (1300, 650), Some(200.0));
        // Started anew in between, or asked twice in one moment.
        check((1000, 550), (2000, 50), None);
        check((1000, 50), (1000, 50), None);
        let stopped = VmStats {
            host: None,
            ..stats(2000, 0)
        };
        assert_eq!(cpu_percent(&stats(1000, 0), &stopped), None);
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let (before, running) = (stats(1000, 50), stats(2000, 300));
        let stopped = VmStats {
            name: "db".into(),
            state: VmState::Stopped,
            host: None,
            guest: None,
            ..stats(2000, 0)
        };
        let before = [before];
        let now = [Now::of(&running, &before), Now::of(&stopped, &[])];
        assert_snapshot!(overview(&now), @r"
        NAME  STATE    CPU    MEM      GUEST              LOAD  DISK           READ   WRITTEN
        web   running  25.0%  300 MiB  128 MiB / 512 MiB  0.50  5 MiB / 8 GiB  1 MiB  -
        db    stopped  -      -        -                  -     5 MiB / 8 GiB  -      -
        ");
        let json = serde_json::to_value(&now[0]).unwrap();
        assert_eq!(
            (&json["cpu_percent"], &json["name"]),
            (&25.0.into(), &"web".into())
        );
    }
}
