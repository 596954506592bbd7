//! `vm ports`: what listens in VMs.

use banger_api::{
    client::Client,
    usage::{Listener, VmPorts},
    vm::VmState,
};
use futures_util::future::join_all;

use crate::{
    cli::vm::PortsArgs,
    exec::signals::Signals,
    output,
    report::{Failure, SUCCESS},
    table::table,
    targets::{Picked, pick},
};

pub(super) async fn run(client: &Client, args: PortsArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let picked = pick(client, &args.vms, |state| state == VmState::Running).await?;
    let asked = picked.into_iter().map(async |Picked { resolved, .. }| {
        let vm = resolved?;
        Ok::<_, Failure>(client.vm_ports(&vm).await?)
    });
    let asking = async { Ok::<_, Failure>(join_all(asked).await) };
    let answers = signals.interrupt(asking, "nothing was changed").await?;
    let (ports, failures) = parted(answers);
    if args.json.json {
        output::print_json(&ports)?;
    } else {
        output::print(&overview(&ports))?;
    }
    for more in ports.iter().filter(|ports| ports.more) {
        output::remark(format!("{} has more ports than these", more.name));
    }
    finish(failures)
}

fn parted(answers: Vec<Result<VmPorts, Failure>>) -> (Vec<VmPorts>, Vec<Failure>) {
    let (mut ports, mut failures) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(answer) => ports.push(answer),
            Err(failure) => failures.push(failure),
        }
    }
    (ports, failures)
}

/// Reports what failed. A single failure has its own exit code.
pub(super) fn finish(mut failures: Vec<Failure>) -> Result<u8, Failure> {
    match failures.len() {
        0 => Ok(SUCCESS),
        1 => Err(failures.swap_remove(0)),
        _ => {
            for failure in failures {
                output::remark(failure.render().trim_end());
            }
            Err(Failure::Told)
        }
    }
}

fn overview(vms: &[VmPorts]) -> String {
    let rows: Vec<_> = vms
        .iter()
        .flat_map(|vm| vm.listeners.iter().map(|listener| row(vm, listener)))
        .collect();
    table(["VM", "PROTO", "PORT", "ADDRESS", "PROCESS", "PID"], &rows)
}

fn row(vm: &VmPorts, listener: &Listener) -> [String; 6] {
    let unknown = || "-".to_owned();
    [
        vm.name.clone(),
        listener.protocol.clone(),
        listener.port.to_string(),
        listener.address.to_string(),
        listener.process.clone().unwrap_or_else(unknown),
        listener.pid.map_or_else(unknown, |pid| pid.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn a_guest_s_words_do_nothing_to_a_terminal() {
        let listener = |port, process: Option<&str>| Listener {
            protocol: "tcp".into(),
            address: [0, 0, 0, 0].into(),
            port,
            pid: process.map(|_| 7),
            process: process.map(str::to_owned),
        };
        let vm = VmPorts {
            id: "1".into(),
            name: "web".into(),
            listeners: vec![listener(22, Some("sshd\x1b[2J")), listener(8080, None)],
            more: false,
        };
        assert_snapshot!(overview(&[vm]), @r"
        VM   PROTO  PORT  ADDRESS  PROCESS        PID
        web  tcp    22    0.0.0.0  sshd\u{1b}[2J  7
        web  tcp    8080  0.0.0.0  -              -
        ");
    }
}
