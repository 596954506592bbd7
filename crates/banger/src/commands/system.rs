//! `system`: the daemon as a service of systemd.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use banger_api::{places::Places, vm::DeleteVm};
use serde::Serialize;

use super::prune::agreed;
use crate::{
    cli::system::{InstallArgs, ScopeArgs, StatusArgs, SystemCommand, UninstallArgs},
    daemon::{self, Connected, DaemonError, connect, ensure, retire},
    output, programs,
    report::{Failure, SUCCESS},
    table::fields,
    unit::{Owner, Scope, UNIT, Unit, owner},
};

pub(super) async fn run(command: SystemCommand, places: &Places) -> Result<u8, Failure> {
    match command {
        SystemCommand::Install(args) => install(&args),
        SystemCommand::Status(args) => status(&args, places).await,
        SystemCommand::Uninstall(args) => uninstall(&args, places).await,
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_of_system(scope: ScopeArgs) -> bool {
    scope.system || (is_root() && !scope.user)
}

fn install(args: &InstallArgs) -> Result<u8, Failure> {
    let scope = if is_of_system(args.scope) {
        Scope::System(asked_owner(args.owner.as_deref())?)
    } else {
        Scope::User
    };
    let unit = Unit {
        program: daemon::program()?,
        home: env::var_os("BANGER_HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from),
        scope,
    };
    if args.print {
        output::print(&unit.text())?;
        return Ok(SUCCESS);
    }
    let system = matches!(unit.scope, Scope::System(_));
    let path = unit_path(system)?;
    write(&path, &unit.text())?;
    output::remark(format!("wrote {}", path.display()));
    if args.no_start {
        return Ok(SUCCESS);
    }
    programs::systemctl(system, &["daemon-reload"])?;
    // A service that runs already takes up what was installed; VMs go on.
    programs::systemctl(system, &["enable", UNIT])?;
    programs::systemctl(system, &["restart", UNIT])?;
    output::remark("the service runs; its log: ".to_owned() + journal(system));
    Ok(SUCCESS)
}

fn journal(system: bool) -> &'static str {
    if system {
        "journalctl -u bangerd"
    } else {
        "journalctl --user -u bangerd"
    }
}

fn asked_owner(asked: Option<&str>) -> Result<Owner, Failure> {
    let caller = env::var("SUDO_USER").ok();
    let name = asked.or(caller.as_deref()).unwrap_or("root");
    let passwd = Path::new("/etc/passwd");
    let text = fs::read_to_string(passwd).map_err(failed("read", passwd))?;
    owner(&text, name).ok_or_else(|| Failure::NoUser {
        name: name.to_owned(),
    })
}

fn unit_path(system: bool) -> Result<PathBuf, Failure> {
    if system {
        return Ok(Path::new("/etc/systemd/system").join(UNIT));
    }
    let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.filter(|path| path.is_absolute()).or_else(|| {
        let home = env::var_os("HOME").map(PathBuf::from);
        home.map(|home| home.join(".config"))
    });
    let config = config.ok_or(Failure::Places(banger_api::places::PlacesError::NoHome))?;
    Ok(config.join("systemd/user").join(UNIT))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed("make", directory))?;
    }
    let new = path.with_extension("service.new");
    fs::write(&new, text).map_err(failed("write", &new))?;
    fs::rename(&new, path).map_err(failed("replace", path))
}

/// How the service is.
#[derive(Debug, Serialize)]
struct Status {
    scope: &'static str,
    unit: String,
    installed: bool,
    /// systemd's own words; absent where there is no systemd to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<String>,
    /// Of the daemon that serves this user, a service or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_pid: Option<u32>,
}

async fn status(args: &StatusArgs, places: &Places) -> Result<u8, Failure> {
    let system = is_of_system(args.scope);
    let path = unit_path(system)?;
    let daemon_pid = match connect(places).await {
        Ok(Connected { status, .. }) => Some(status.pid),
        Err(Failure::Daemon(DaemonError::NotRunning)) => None,
        Err(failure) => return Err(failure),
    };
    let status = Status {
        scope: if system { "system" } else { "user" },
        installed: path.exists(),
        unit: path.display().to_string(),
        enabled: programs::systemctl_word(system, "is-enabled", UNIT),
        active: programs::systemctl_word(system, "is-active", UNIT),
        daemon_pid,
    };
    if args.json.json {
        output::print_json(&status)?;
    } else {
        let yes = if status.installed { "yes" } else { "no" };
        output::print(&fields(&[
            ("scope", Some(status.scope.to_owned())),
            ("unit", Some(status.unit)),
            ("installed", Some(yes.to_owned())),
            ("enabled", status.enabled),
            ("active", status.active),
            ("daemon", status.daemon_pid.map(|pid| pid.to_string())),
        ]))?;
    }
    Ok(SUCCESS)
}

async fn uninstall(args: &UninstallArgs, places: &Places) -> Result<u8, Failure> {
    let system = is_of_system(args.scope);
    if args.purge {
        let loss = "all VMs, images, kernels and the configuration of this user";
        if !args.force && !agreed("delete all that banger has", loss)? {
            output::remark("nothing was deleted");
            return Ok(SUCCESS);
        }
        delete_vms(places).await?;
    }
    let path = unit_path(system)?;
    if path.exists() {
        programs::systemctl(system, &["disable", "--now", UNIT])?;
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        programs::systemctl(system, &["daemon-reload"])?;
        output::remark(format!("removed {}", path.display()));
    } else {
        output::remark("the service was not installed");
    }
    if args.purge {
        purge(places).await?;
    }
    Ok(SUCCESS)
}

/// First of all: what is left of a VM that cannot be deleted must stay findable.
async fn delete_vms(places: &Places) -> Result<(), Failure> {
    let Connected { client, .. } = ensure(places).await?;
    for vm in client.vms().await? {
        client.delete_vm(&vm.id, DeleteVm { force: true }).await?;
        output::remark(format!("deleted VM {}", vm.name));
    }
    Ok(())
}

/// Only directories of this user that are banger's alone.
async fn purge(places: &Places) -> Result<(), Failure> {
    match connect(places).await {
        Ok(Connected { client, status }) => retire(&client, &status).await?,
        Err(Failure::Daemon(DaemonError::NotRunning)) => {}
        Err(failure) => return Err(failure),
    }
    for directory in [
        &places.state,
        &places.cache,
        &places.runtime,
        &places.config,
    ] {
        match fs::remove_dir_all(directory) {
            Ok(()) => output::remark(format!("removed {}", directory.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed("remove", directory)(source)),
        }
    }
    Ok(())
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::File {
        operation,
        path,
        source,
    }
}
