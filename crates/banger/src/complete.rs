//! Completion in shells: the scripts, and live names from the daemon where it runs.
//! Starts no daemon and reports nothing: who presses Tab wants names or silence.

use std::{collections::BTreeSet, env, io, path::Path, time::Duration};

use banger_api::{
    client::{Client, ClientError},
    config::KEYS,
    places::Places,
    vm::VmState,
};
use clap::CommandFactory;
use clap_complete::{CompleteEnv, engine::CompletionCandidate, env::Shells};

use crate::{
    cli::{Cli, Shell, values::RestartPolicy},
    output,
    report::{Failure, SUCCESS},
};

/// Set by the scripts when they ask us for words.
const VARIABLE: &str = "BANGER_COMPLETE";
/// Nobody waits longer for Tab.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers a script and ends the process, if it was a script that started us.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .complete();
}

/// Prints a shell's script.
pub(crate) fn script(shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    Shells::builtins()
        .completer(name(shell))
        .expect("every shell that we name is built in")
        .write_registration(VARIABLE, "banger", "banger", &program(), &mut script)
        .map_err(|source| Failure::Host {
            operation: "write the completion script",
            source,
        })?;
    output::print_bytes(&script)?;
    Ok(SUCCESS)
}

fn name(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
        Shell::Elvish => "elvish",
        Shell::Powershell => "powershell",
    }
}

/// How the script calls us: by name if we were found by name.
fn program() -> String {
    let called = env::args().next().unwrap_or_default();
    let absolute = || {
        env::current_exe()?
            .into_os_string()
            .into_string()
            .map_err(|_| io::ErrorKind::InvalidData.into())
    };
    if Path::new(&called).components().count() > 1 {
        absolute().unwrap_or_else(|_: io::Error| called.clone())
    } else {
        "banger".to_owned()
    }
}

pub(crate) fn vms() -> Vec<CompletionCandidate> {
    ask(async |client| {
        Ok(client
            .overview()
            .await?
            .into_iter()
            .map(|vm| vm.name)
            .collect())
    })
}

pub(crate) fn running_vms() -> Vec<CompletionCandidate> {
    vms_that(|state| state == VmState::Running)
}

/// Those with a memory, also one that stands still.
pub(crate) fn live_vms() -> Vec<CompletionCandidate> {
    vms_that(|state| matches!(state, VmState::Running | VmState::Paused))
}

fn vms_that(are: impl Fn(VmState) -> bool) -> Vec<CompletionCandidate> {
    ask(async |client| {
        let vms = client.overview().await?.into_iter();
        Ok(vms.filter(|vm| are(vm.state)).map(|vm| vm.name).collect())
    })
}

pub(crate) fn images() -> Vec<CompletionCandidate> {
    ask(async |client| {
        Ok(client
            .images()
            .await?
            .into_iter()
            .map(|image| image.name)
            .collect())
    })
}

pub(crate) fn kernels() -> Vec<CompletionCandidate> {
    ask(async |client| {
        Ok(client
            .kernels()
            .await?
            .into_iter()
            .map(|kernel| kernel.name)
            .collect())
    })
}

pub(crate) fn available_kernels() -> Vec<CompletionCandidate> {
    ask(async |client| {
        let kernels = client.available_kernels().await?.into_iter();
        let names = kernels.flat_map(|kernel| names(kernel.name, kernel.catalog));
        Ok(distinct(names))
    })
}

pub(crate) fn available_images() -> Vec<CompletionCandidate> {
    ask(async |client| {
        let images = client.available_images().await?.into_iter();
        let names = images.flat_map(|image| names(image.name, image.catalog));
        Ok(distinct(names))
    })
}

/// Those that take names need one behind them, which nobody can guess.
pub(crate) fn config_keys() -> Vec<CompletionCandidate> {
    let keys = KEYS.iter();
    keys.map(|key| CompletionCandidate::new(key.name).help(Some(key.about.into())))
        .collect()
}

pub(crate) fn restart_policies() -> Vec<CompletionCandidate> {
    let words = RestartPolicy::WORDS.into_iter();
    words.map(CompletionCandidate::new).collect()
}

pub(crate) fn snapshots() -> Vec<CompletionCandidate> {
    ask(async |client| {
        let snapshots = client.snapshots().await?.into_iter();
        Ok(snapshots.map(|snapshot| snapshot.name).collect())
    })
}

pub(crate) fn pools() -> Vec<CompletionCandidate> {
    ask(async |client| {
        let pools = client.pools().await?.into_iter();
        Ok(pools.map(|pool| pool.name).collect())
    })
}

pub(crate) fn catalogs() -> Vec<CompletionCandidate> {
    ask(async |client| {
        let catalogs = client.catalogs().await?.into_iter();
        Ok(catalogs.map(|catalog| catalog.name).collect())
    })
}

/// What an entry can be called.
fn names(name: String, catalog: Option<String>) -> Vec<String> {
    let exact = catalog.map(|catalog| format!("{catalog}/{name}"));
    [Some(name), exact].into_iter().flatten().collect()
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

fn ask(
    question: impl AsyncFnOnce(Client) -> Result<Vec<String>, ClientError>,
) -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (Ok(runtime), Ok(places)) = (runtime, Places::from_env()) else {
        return Vec::new();
    };
    let client = Client::new(places.socket());
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, question(client)).await });
    match answer {
        Ok(Ok(names)) => names.into_iter().map(CompletionCandidate::new).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}
