//! Owns what a guest changes in itself when it goes on from a saved state. Runs no program: the host runs those
//! that are still needed, in the order that is told here.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use banger_guest_proto::message::{Assumed, IdentityRequest};

use crate::boot::{Card, clock, hostname, identity};
use crate::{console, system_journal};

/// Hooks of the image, run in the order of their names.
const HOOKS: &str = "etc/banger/on-fork.d";
const MOST_HOOKS: usize = 64;
const SSH: &str = "etc/ssh";

/// New keys that are made in a moment, at once; the others behind the back of whoever waits. A server that runs reads
/// them when it is told to.
const MAKE_KEYS: &str = "\
cd /etc/ssh || exit 0
for kind in ed25519 ecdsa; do
  ssh-keygen -q -t $kind -N '' -f ssh_host_${kind}_key </dev/null || exit 1
done
again() { [ ! -s /run/sshd.pid ] || kill -HUP \"$(cat /run/sshd.pid)\"; }
again
( ssh-keygen -A; again ) </dev/null >/dev/null 2>&1 &";

type Attempt = Result<(), Box<dyn Error>>;

/// Makes this guest somebody. What fails is told, and stops nothing else.
pub(crate) fn assume(request: &IdentityRequest, card: Option<Card>) -> Assumed {
    let mut assumed = at_once(request);
    assumed.problems.extend(in_files(request));
    assumed.problems.extend(on_the_network(request, card));
    assumed
}

/// The part that programs may notice at any moment, and that takes none.
pub(crate) fn at_once(request: &IdentityRequest) -> Assumed {
    let problems = failed([
        (
            "clock",
            clock::set(request.wall_clock_ns).map_err(Into::into),
        ),
        (
            "random numbers",
            clock::reseed(&request.entropy).map_err(Into::into),
        ),
        (
            "host name",
            hostname::set(&request.hostname).map_err(Into::into),
        ),
    ]);
    let mut assumed = Assumed {
        problems,
        to_run: Vec::new(),
    };
    if !request.same {
        part_from_the_origin(request, &mut assumed);
    }
    assumed
}

/// What a copy is not to have in common with anybody.
fn part_from_the_origin(request: &IdentityRequest, assumed: &mut Assumed) {
    let root = Path::new("/");
    let (mut keys, mut journal) = (false, false);
    let was = identity::machine_id(root);
    let id = request.machine_id.to_string();
    assumed.problems.extend(failed([
        (
            "journal",
            system_journal::rename(root, was.as_deref().unwrap_or(&id), &id)
                .map(|renamed| journal = renamed)
                .map_err(Into::into),
        ),
        (
            "SSH host keys",
            remove_keys(root)
                .map(|removed| keys = removed)
                .map_err(Into::into),
        ),
    ]));
    let scripts = [(keys, MAKE_KEYS), (journal, system_journal::BEGIN_AGAIN)];
    let wanted = scripts.into_iter().filter(|(wanted, _)| *wanted);
    let commands = wanted.map(|(_, script)| ["/bin/sh", "-c", script].map(str::to_owned).into());
    let hooks = hooks(root).into_iter().map(|hook| vec![hook]);
    assumed.to_run.extend(commands.chain(hooks));
}

/// The rest: the files that repeat it. The first write to a disk takes a machine without hardware virtualization
/// a twentieth of a second.
pub(crate) fn in_files(request: &IdentityRequest) -> Vec<String> {
    let machine_id = if request.same {
        Ok(())
    } else {
        identity::write_machine_id(Path::new("/"), &request.machine_id)
    };
    failed([
        (
            "host name",
            identity::write_name(&request.hostname).map_err(Into::into),
        ),
        ("machine id", machine_id.map_err(Into::into)),
    ])
}

/// The card's own address, where there is one. What a card is called is of no interest before something is sent.
pub(crate) fn on_the_network(request: &IdentityRequest, card: Option<Card>) -> Vec<String> {
    let (Some(mac), Some(card), false) = (request.mac, card, request.same) else {
        return Vec::new();
    };
    failed([("network card", card.rename(mac).map_err(Into::into))])
}

/// What did not succeed, in words.
fn failed<const N: usize>(attempts: [(&str, Attempt); N]) -> Vec<String> {
    let mut problems = Vec::new();
    for (what, result) in attempts {
        if let Err(error) = result {
            console::warn(what, &*error);
            problems.push(format!("{what}: {}", chain(&*error)));
        }
    }
    problems
}

/// Whether there were any. They are gone before anybody can meet them again.
fn remove_keys(root: &Path) -> std::io::Result<bool> {
    let mut any = false;
    let Ok(entries) = fs::read_dir(root.join(SSH)) else {
        return Ok(false);
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let key = name.strip_suffix(".pub").unwrap_or(&name);
        if key.starts_with("ssh_host_") && key.ends_with("_key") {
            fs::remove_file(entry.path())?;
            any = true;
        }
    }
    Ok(any)
}

/// The programs that the image wants to be run, by name.
fn hooks(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join(HOOKS))
        .into_iter()
        .flatten()
        .flatten();
    let runs = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let mut hooks: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| runs(path))
        .filter_map(|path| path.into_os_string().into_string().ok())
        .collect();
    hooks.sort();
    hooks.truncate(MOST_HOOKS);
    hooks
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_run_by_name_if_they_can_run() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(hooks(dir.path()), Vec::<String>::new());
        let hooks_dir = dir.path().join(HOOKS);
        fs::create_dir_all(hooks_dir.join("99-directory")).unwrap();
        for (name, mode) in [("20-b", 0o755), ("10-a", 0o700), ("30-c", 0o644)] {
            fs::write(hooks_dir.join(name), "").unwrap();
            fs::set_permissions(hooks_dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let wanted = ["10-a", "20-b"].map(|name| hooks_dir.join(name).display().to_string());
        assert_eq!(hooks(dir.path()), wanted);
    }

    #[test]
    fn host_keys_go_and_everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!remove_keys(dir.path()).unwrap());
        let ssh = dir.path().join(SSH);
        fs::create_dir_all(&ssh).unwrap();
        for name in [
            "ssh_host_rsa_key",
            "ssh_host_rsa_key.pub",
            "sshd_config",
            "ssh_host_key.conf",
        ] {
            fs::write(ssh.join(name), "").unwrap();
        }
        assert!(remove_keys(dir.path()).unwrap());
        let mut left: Vec<_> = fs::read_dir(&ssh)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["ssh_host_key.conf", "sshd_config"]);
        assert!(!remove_keys(dir.path()).unwrap());
    }
}
