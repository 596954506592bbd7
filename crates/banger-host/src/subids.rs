//! Tells whether an ordinary user may have a user namespace with several ids, and what to
//! do when not. Reads the host's tables, changes nothing.

use std::fs;

use banger_core::host_error::HostError;

use crate::process;

/// Ids that a Debian root file system needs: all 16 bits of them.
const NEEDED: u64 = 65_536;

/// Succeeds when this user can make a root file system without being root.
pub(crate) fn check_this_user() -> Result<(), HostError> {
    let refuse = |reason: String| {
        let feature = "mmdebstrap as an ordinary user".to_owned();
        Err(HostError::Unsupported { feature, reason })
    };
    if process::find("newuidmap").is_none() || process::find("newgidmap").is_none() {
        let program = "newuidmap".to_owned();
        return Err(HostError::ProgramMissing {
            program,
            package: "uidmap",
        });
    }
    for (file, option, wanted) in SWITCHES {
        if fs::read_to_string(file).is_ok_and(|text| text.trim() != wanted) {
            return refuse(format!(
                "user namespaces are switched off; run: sudo sysctl {option}={wanted}"
            ));
        }
    }
    let uid = rustix::process::getuid().as_raw();
    let name = user_name(&read("/etc/passwd"), uid).unwrap_or_else(|| uid.to_string());
    for (file, option) in [
        ("/etc/subuid", "--add-subuids"),
        ("/etc/subgid", "--add-subgids"),
    ] {
        if granted(&read(file), &name, uid) < NEEDED {
            return refuse(format!(
                "{file} does not give {NEEDED} ids to {name}; run: \
                 sudo usermod {option} 100000-165535 {name}"
            ));
        }
    }
    Ok(())
}

/// Distributions' own switches, which are absent elsewhere.
const SWITCHES: [(&str, &str, &str); 2] = [
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "kernel.unprivileged_userns_clone",
        "1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "kernel.apparmor_restrict_unprivileged_userns",
        "0",
    ),
];

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// How many ids the table gives to the user, by name or number.
fn granted(table: &str, name: &str, uid: u32) -> u64 {
    let uid = uid.to_string();
    let counts = table.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let count: u64 = fields.nth(1)?.trim().parse().ok()?;
        (owner == name || owner == uid).then_some(count)
    });
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_counted_for_a_name_and_its_number() {
        let check = |table, wanted| assert_eq!(granted(table, "ada", 1000), wanted, "{table:?}");
        check("", 0);
        check("bob:100000:65536\n", 0);
        check("ada:100000:65536\n", 65_536);
        check("bob:1:2\n1000:100000:1000\nada:200000:65536\n", 66_536);
        check("ada:100000\nada:x:y\n", 0);
    }

    #[test]
    fn a_number_has_a_name_where_the_table_has_one() {
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(user_name(passwd, 1001), None);
    }
}
