//! What each command does: from arguments to requests, from answers to output.

mod catalog;
mod config;
mod create;
mod daemon;
mod df;
mod doctor;
mod events;
mod host;
mod image;
mod image_cache;
mod kernel;
mod man;
mod operations;
mod pool;
mod ports;
mod prune;
mod recover;
mod registry;
mod run;
mod show;
mod snapshot;
mod stats;
mod system;
mod vm;
mod wait;

use banger_api::{build::BuildInfo, client::Client, places::Places};

use crate::{
    cli::{Command, JsonArgs, vm::VmCommand},
    complete,
    daemon::ensure,
    output,
    report::{Failure, Role, SUCCESS},
};

/// Does what was asked, and gives back the exit code.
pub(crate) fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Version(args) => version(args),
        Command::Completion(args) => complete::script(args.shell),
        Command::Config(command) => config::run(command, &Places::from_env()?),
        Command::Man(args) => man::run(&args.directory),
        Command::Run(_)
        | Command::Exec(_)
        | Command::Ps(_)
        | Command::Rm(_)
        | Command::Vm(_)
        | Command::Pool(_)
        | Command::Image(_)
        | Command::Kernel(_)
        | Command::Registry(_)
        | Command::Catalog(_)
        | Command::Events(_)
        | Command::System(_)
        | Command::Df(_)
        | Command::Prune(_)
        | Command::Daemon(_)
        | Command::Host(_)
        | Command::Operations(_)
        | Command::Recover(_)
        | Command::Doctor(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|source| Failure::Host {
                    operation: "start the runtime",
                    source,
                })?;
            runtime.block_on(talk(command))
        }
    }
}

/// What the exit code of a command stands for.
pub(crate) fn role(command: &Command) -> Role {
    match command {
        Command::Run(args) | Command::Vm(VmCommand::Run(args)) if !args.detach => {
            Role::GuestCommand
        }
        Command::Exec(_) | Command::Vm(VmCommand::Exec(_)) => Role::GuestCommand,
        Command::Run(_)
        | Command::Ps(_)
        | Command::Rm(_)
        | Command::Vm(_)
        | Command::Pool(_)
        | Command::Image(_)
        | Command::Kernel(_)
        | Command::Registry(_)
        | Command::Catalog(_)
        | Command::Events(_)
        | Command::System(_)
        | Command::Df(_)
        | Command::Prune(_)
        | Command::Daemon(_)
        | Command::Host(_)
        | Command::Operations(_)
        | Command::Recover(_)
        | Command::Doctor(_)
        | Command::Version(_)
        | Command::Config(_)
        | Command::Man(_)
        | Command::Completion(_) => Role::Ordinary,
    }
}

/// The commands that need the daemon, one way or another.
async fn talk(command: Command) -> Result<u8, Failure> {
    let places = Places::from_env()?;
    match command {
        Command::Daemon(command) => daemon::run(command, &places).await,
        Command::Host(command) => host::run(&client(&places).await?, command).await,
        Command::Operations(command) => operations::run(&client(&places).await?, command).await,
        Command::Recover(args) => recover::run(&client(&places).await?, args).await,
        Command::Doctor(args) => doctor::run(args, &places).await,
        Command::Run(args) => run::run(&client(&places).await?, args).await,
        Command::Exec(args) => run::exec(&client(&places).await?, args).await,
        Command::Ps(args) => {
            let all = args.list.all;
            show::list(&client(&places).await?, &args.list, all).await
        }
        Command::Rm(args) => vm::delete(&client(&places).await?, args).await,
        Command::Vm(command) => vm_command(&client(&places).await?, command).await,
        Command::Pool(command) => pool::run(&client(&places).await?, command).await,
        Command::Image(command) => image::run(&client(&places).await?, command).await,
        Command::Registry(command) => registry::run(&client(&places).await?, command).await,
        Command::Catalog(command) => catalog::run(&client(&places).await?, &places, command).await,
        Command::Kernel(command) => kernel::run(&client(&places).await?, command).await,
        Command::Df(args) => df::run(&client(&places).await?, args).await,
        Command::Prune(args) => prune::all(&client(&places).await?, &args).await,
        Command::Events(args) => events::run(&client(&places).await?, args).await,
        Command::System(command) => system::run(command, &places).await,
        Command::Version(_) | Command::Completion(_) | Command::Config(_) | Command::Man(_) => {
            Ok(SUCCESS)
        }
    }
}

async fn vm_command(client: &Client, command: VmCommand) -> Result<u8, Failure> {
    match command {
        VmCommand::Run(args) => run::run(client, args).await,
        VmCommand::Create(args) => create::run(client, args).await,
        VmCommand::Start(args) => vm::start(client, args).await,
        VmCommand::Stop(args) => vm::stop(client, args).await,
        VmCommand::Restart(args) => vm::restart(client, args).await,
        VmCommand::Kill(args) => vm::kill(client, args).await,
        VmCommand::Prune(args) => prune::vms(client, &args).await,
        VmCommand::Rename(args) => vm::rename(client, args).await,
        VmCommand::Set(args) => vm::set(client, args).await,
        VmCommand::Wait(args) => wait::run(client, args).await,
        VmCommand::Pause(args) => vm::pause(client, args).await,
        VmCommand::Resume(args) => vm::resume(client, args).await,
        VmCommand::Delete(args) => vm::delete(client, args).await,
        VmCommand::List(args) => show::list(client, &args, true).await,
        VmCommand::Show(args) => show::show(client, &args).await,
        VmCommand::Exec(args) => run::exec(client, args).await,
        VmCommand::Snapshot(command) => snapshot::run(client, command).await,
        VmCommand::Restore(args) => snapshot::restore(client, args).await,
        VmCommand::Fork(args) => snapshot::fork(client, args).await,
        VmCommand::Logs(args) => vm::logs(client, args).await,
        VmCommand::Stats(args) => stats::run(client, args).await,
        VmCommand::Ports(args) => ports::run(client, args).await,
        VmCommand::Events(args) => events::of_vm(client, args).await,
    }
}

async fn client(places: &Places) -> Result<Client, Failure> {
    Ok(ensure(places).await?.client)
}

fn version(args: JsonArgs) -> Result<u8, Failure> {
    let build = BuildInfo::current();
    if args.json {
        output::print_json(&build)?;
    } else {
        let fields = [
            ("version", Some(build.version.clone())),
            ("commit", Some(build.commit.clone())),
            ("built", Some(build.built_at_text())),
        ];
        output::print(&crate::table::fields(&fields))?;
    }
    Ok(SUCCESS)
}
