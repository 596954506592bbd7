//! `daemon status`, `stop`, `start` and `openapi`.

use std::collections::BTreeMap;

use banger_api::{
    daemon::{DaemonStatus, HiddenVm},
    journal::Found,
    places::Places,
};

use crate::{
    cli::DaemonCommand,
    daemon::{Connected, DaemonError, connect, ensure, retire},
    output,
    report::{Failure, SUCCESS},
    table::fields,
    text::count,
};

pub(super) async fn run(command: DaemonCommand, places: &Places) -> Result<u8, Failure> {
    match command {
        DaemonCommand::Status(args) => {
            let Connected { status, .. } = connect(places).await?;
            if args.json {
                output::print_json(&status)?;
            } else {
                output::print(&details(&status))?;
            }
        }
        DaemonCommand::Stop => stop(places).await?,
        DaemonCommand::Start => {
            let Connected { status, .. } = ensure(places).await?;
            output::print(&details(&status))?;
        }
        DaemonCommand::Openapi => {
            let Connected { client, .. } = ensure(places).await?;
            output::print_json(&client.openapi().await?)?;
        }
    }
    Ok(SUCCESS)
}

async fn stop(places: &Places) -> Result<(), Failure> {
    let Connected { client, status } = match connect(places).await {
        Err(Failure::Daemon(DaemonError::NotRunning)) => {
            output::remark("the daemon was not running");
            return Ok(());
        }
        other => other?,
    };
    retire(&client, &status).await?;
    if status.running_vms > 0 {
        let vms = count(status.running_vms, "VM");
        output::remark(format_args!(
            "{vms} left running: the next daemon takes care of them"
        ));
    }
    Ok(())
}

fn details(status: &DaemonStatus) -> String {
    let uptime = std::time::Duration::from_secs(status.uptime_seconds);
    let replaced = "its program was replaced: the next command starts the new one";
    fields(&[
        ("pid", Some(status.pid.to_string())),
        ("build", Some(status.build.to_string())),
        (
            "uptime",
            Some(humantime::format_duration(uptime).to_string()),
        ),
        ("running VMs", Some(status.running_vms.to_string())),
        ("hidden VMs", hidden(&status.hidden_vms)),
        ("socket", Some(status.socket.clone())),
        ("log", Some(status.log_path.clone())),
        ("state", Some(status.state_dir.clone())),
        ("found", found(&status.found)),
        ("damaged", status.kept_store.clone()),
        ("service", status.service.clone()),
        ("outdated", status.replaced.then(|| replaced.to_owned())),
    ])
}

/// What banger has made by itself, each purpose with the number of its machines.
fn hidden(vms: &[HiddenVm]) -> Option<String> {
    let mut purposes: BTreeMap<&str, usize> = BTreeMap::new();
    for vm in vms {
        *purposes.entry(&vm.purpose).or_default() += 1;
    }
    let told = purposes.iter();
    let told: Vec<_> = told.map(|(what, n)| format!("{what} ({n})")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// What it found when it began, where that was anything.
fn found(found: &Found) -> Option<String> {
    let kinds = [
        (
            found.adopted,
            "running VM taken over",
            "running VMs taken over",
        ),
        (
            found.finished,
            "half-done act finished",
            "half-done acts finished",
        ),
        (
            found.undone,
            "half-done act undone",
            "half-done acts undone",
        ),
        (found.left, "half-done act left", "half-done acts left"),
    ];
    let there = kinds.iter().filter(|(number, ..)| *number > 0);
    let told = there.map(|(number, one, several)| {
        let what = if *number == 1 { one } else { several };
        format!("{number} {what}")
    });
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use banger_api::{build::BuildInfo, vm::VmState};
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn the_status_fits_a_screen() {
        let status = DaemonStatus {
            pid: 7,
            build: BuildInfo {
                version: "0.1.0".into(),
                commit: "abc".into(),
                built_at: 0,
            },
            uptime_seconds: 3_700,
            socket: "/r/bangerd.sock".into(),
            log_path: "/s/bangerd.log".into(),
            state_dir: "/s".into(),
            running_vms: 2,
            hidden_vms: [
                "waits in pool web",
                "boots to be saved",
                "waits in pool web",
            ]
            .map(|purpose| HiddenVm {
                name: "some".into(),
                state: VmState::Paused,
                purpose: purpose.into(),
            })
            .into(),
            replaced: true,
            found: Found {
                adopted: 1,
                undone: 2,
                ..Found::default()
            },
            kept_store: Some("/s/state.db.damaged-7".into()),
            service: Some("user".into()),
        };
        assert_snapshot!(details(&status), @r"
        pid          7
        build        0.1.0 (abc, built 1970-01-01T00:00:00Z)
        uptime       1h 1m 40s
        running VMs  2
        hidden VMs   boots to be saved (1), waits in pool web (2)
        socket       /r/bangerd.sock
        log          /s/bangerd.log
        state        /s
        found        1 running VM taken over, 2 half-done acts undone
        damaged      /s/state.db.damaged-7
        service      user
        outdated     its program was replaced: the next command starts the new one
        ");
    }
}
