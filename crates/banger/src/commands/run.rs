//! `vm run` and `vm exec`: commands of a guest, and what becomes of its VM afterwards.

use std::{
    cell::OnceCell,
    env,
    io::{self, IsTerminal},
    time::Duration,
};

use banger_api::{
    client::{Client, ClientError},
    error::ErrorCode,
    exec::{ExecStart, ImageUse},
    vm::{CreateVm, DeleteVm, Vm, VmState},
};
use tokio::time::timeout;

use super::create::{create, request};
use crate::{
    cli::vm::{ExecArgs, ProcessArgs, RunArgs},
    exec::{self, signals::Signals, terminal},
    output,
    progress::Display,
    report::{Failure, Role, SUCCESS},
};

/// How long a VM that is not needed any more may take to vanish before we say so and end.
const REMOVAL: Duration = Duration::from_secs(10);

pub(super) async fn run(client: &Client, args: RunArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let request = CreateVm {
        start: true,
        auto_remove: args.rm,
        ..request(args.spec)?
    };
    let quiet = args.quiet.quiet || args.json;
    let display = Display::new(quiet);
    let mut vm = create(client, &request, &display, &mut signals).await?;
    if args.detach {
        if args.json {
            output::print_json(&vm)?;
        } else {
            output::print(&format!("{}\n", vm.name))?;
        }
        return Ok(SUCCESS);
    }
    let mut start = start(args.process, args.command);
    start.image = ImageUse::Command {
        entrypoint: args.entrypoint,
    };
    start.owner = args.rm;
    let boot = OnceCell::new();
    let ended = exec::run(client, &vm.id, &start, &mut signals, &boot).await;
    if args.json {
        vm.boot = boot.into_inner().or(vm.boot);
        tell(&vm, &ended);
    }
    if args.rm {
        remove(client, &vm, &mut signals).await;
    } else if !quiet && worth_reminding(&start, &ended) {
        remind(client, &vm).await;
    }
    ended
}

pub(super) async fn exec(client: &Client, args: ExecArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let start = start(args.process, args.command);
    let target: &str = args.target.as_ref();
    exec::run(client, target, &start, &mut signals, &OnceCell::new()).await
}

/// What `--json` tells when the command has ended.
#[derive(serde::Serialize)]
struct Told<'a> {
    vm: &'a Vm,
    exit_code: u8,
}

fn tell(vm: &Vm, ended: &Result<u8, Failure>) {
    let exit_code = match ended {
        Ok(code) => *code,
        Err(failure) => failure.exit_code(Role::GuestCommand),
    };
    let told = Told { vm, exit_code };
    output::remark(serde_json::to_string(&told).expect("wire types serialise"));
}

/// What to run and how, with our own terminal where there is one.
fn start(process: ProcessArgs, argv: Vec<String>) -> ExecStart {
    let tty = terminal::wanted(process.tty, process.no_tty).then(terminal::window);
    let given = process.env.into_iter();
    let given = given.filter_map(|variable| variable.resolve(|key| env::var_os(key)));
    // Later values win: what the user gives comes behind what we know of the terminal.
    let kind = tty
        .and_then(|_| terminal::kind())
        .map(|kind| ("TERM".to_owned(), kind));
    ExecStart {
        argv,
        env: kind.into_iter().chain(given).collect(),
        cwd: process.workdir,
        user: process.user,
        tty,
        stdin: true,
        image: ImageUse::Surroundings,
        owner: false,
    }
}

/// Deletes the VM of `--rm`. The daemon does so, too, when its owner's stream ends: a
/// deletion that comes second may fail in any way, as long as the VM is gone.
async fn remove(client: &Client, vm: &Vm, signals: &mut Signals) {
    let query = DeleteVm { force: true };
    let deletion = signals.interrupt(client.delete_vm(&vm.id, query), "");
    let failure = match timeout(REMOVAL, deletion).await {
        Ok(Ok(())) => return,
        Ok(Err(Failure::Interrupted { .. })) | Err(_) => {
            format!("banger: the daemon goes on deleting VM {}", vm.name)
        }
        Ok(Err(failure)) => failure.render(),
    };
    if !is_gone(client, vm).await {
        output::remark(failure.trim_end());
    }
}

async fn is_gone(client: &Client, vm: &Vm) -> bool {
    let shown = timeout(REMOVAL, client.vm(&vm.id)).await;
    let Ok(Err(ClientError::Api(error))) = shown else {
        return false;
    };
    error.code == ErrorCode::NotFound
}

/// Scripts know that the VM stays; people, and whoever reads about a failure, are told.
fn worth_reminding(start: &ExecStart, ended: &Result<u8, Failure>) -> bool {
    let read = start.tty.is_some() || io::stderr().is_terminal() || ended.is_err();
    read && !matches!(ended, Err(Failure::PipeClosed))
}

async fn remind(client: &Client, vm: &Vm) {
    // A shell may have ended with its machine; and a reminder is not worth an error.
    let running = client
        .vm(&vm.id)
        .await
        .is_ok_and(|vm| vm.state == VmState::Running);
    if running {
        output::remark(reminder(&vm.name));
    }
}

fn reminder(name: &str) -> String {
    format!("VM {name} is still running: banger exec {name} -- CMD, banger rm -f {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reminder_says_what_can_be_done() {
        let expected = "VM calm-otter is still running: banger exec calm-otter -- CMD, banger rm -f calm-otter";
        assert_eq!(reminder("calm-otter"), expected);
    }
}
