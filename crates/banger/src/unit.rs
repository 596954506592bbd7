//! The unit that makes the daemon a service of systemd (systemd.service(5)). Pure: facts go in, a text comes
//! out.

use std::{fmt::Write, path::PathBuf};

/// The name of the unit.
pub(crate) const UNIT: &str = "bangerd.service";

/// Whose service it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Of the user who calls.
    User,
    /// Of the system, on behalf of a user.
    System(Owner),
}

impl Scope {
    /// What the unit tells the daemon of itself.
    fn word(&self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System(_) => "system",
        }
    }
}

/// A user as the system's files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) uid: u32,
}

/// What a unit is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) scope: Scope,
    pub(crate) program: PathBuf,
    /// Where everything is, where that is not the usual place.
    pub(crate) home: Option<PathBuf>,
}

impl Unit {
    pub(crate) fn text(&self) -> String {
        let mut unit = String::from("[Unit]\nDescription=banger, virtual machines");
        let mut environment = Vec::new();
        let mut user = String::new();
        let wanted_by = match &self.scope {
            Scope::User => {
                unit.push('\n');
                "default.target"
            }
            Scope::System(Owner { name, uid }) => {
                // The directory of its sockets, which the owner's own commands look into.
                let runtime = format!("user-runtime-dir@{uid}.service");
                // Writing to a string does not fail.
                let _ = writeln!(unit, " of {name}\nRequires={runtime}\nAfter={runtime}");
                environment.push(format!("XDG_RUNTIME_DIR=/run/user/{uid}"));
                let _ = writeln!(user, "User={name}");
                "multi-user.target"
            }
        };
        environment.push(format!("BANGER_SERVICE={}", self.scope.word()));
        if let Some(home) = &self.home {
            environment.push(format!("BANGER_HOME={}", home.display()));
        }
        let environment = environment
            .iter()
            .map(|pair| format!("Environment={}\n", quoted(pair)));
        let environment: String = environment.collect();
        let program = quoted(&self.program.to_string_lossy()).replace('$', "$$");
        let _ = write!(
            unit,
            "Documentation=man:banger(1)

[Service]
Type=notify
ExecStart={program}
{user}{environment}\
# Machines outlive the daemon: only its own process is ended, and gently.
KillMode=process
SendSIGKILL=no
# A machine that runs out of memory is not the daemon's end.
OOMPolicy=continue
Restart=on-failure
RestartSec=1
TimeoutStartSec=60
TasksMax=infinity
# Machines have control groups of their own below the service's.
Delegate=yes

[Install]
WantedBy={wanted_by}
"
        );
        unit
    }
}

/// A word with nothing in it that systemd would replace (systemd.syntax(7), systemd.unit(5)).
fn quoted(text: &str) -> String {
    let text = text.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@%$".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The user of a name in a text like `/etc/passwd` (passwd(5)).
pub(crate) fn owner(passwd: &str, name: &str) -> Option<Owner> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next().filter(|found| *found == name)?;
        Some(Owner {
            name: found.to_owned(),
            uid: fields.nth(1)?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn a_users_unit_and_a_systems_differ_in_whose_they_are() {
        let mut unit = Unit {
            scope: Scope::User,
            program: "/usr/local/bin/bangerd".into(),
            home: None,
        };
        assert_snapshot!(unit.text(), @r"
        [Unit]
        Description=banger, virtual machines
        Documentation=man:banger(1)

        [Service]
        Type=notify
        ExecStart=/usr/local/bin/bangerd
        Environment=BANGER_SERVICE=user
        # Machines outlive the daemon: only its own process is ended, and gently.
        KillMode=process
        SendSIGKILL=no
        # A machine that runs out of memory is not the daemon's end.
        OOMPolicy=continue
        Restart=on-failure
        RestartSec=1
        TimeoutStartSec=60
        TasksMax=infinity
        # Machines have control groups of their own below the service's.
        Delegate=yes

        [Install]
        WantedBy=default.target
        ");
        unit.scope = Scope::System(Owner {
            name: "ann".into(),
            uid: 1000,
        });
        let text = unit.text();
        for line in [
            "Description=banger, virtual machines of ann",
            "After=user-runtime-dir@1000.service",
            "User=ann",
            "Environment=XDG_RUNTIME_DIR=/run/user/1000",
            "Environment=BANGER_SERVICE=system",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_path_stays_one_word() {
        let check = |text: &str, expected: &str| assert_eq!(quoted(text), expected);
        check("/opt/b/bangerd", "/opt/b/bangerd");
        check("/a b/100%", "\"/a b/100%%\"");
        check("/a\"b", "\"/a\\\"b\"");
    }

    #[test]
    fn an_owner_is_found_by_the_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/sh\nbad:x\n";
        let check = |name: &str, uid: Option<u32>| {
            assert_eq!(owner(passwd, name).map(|owner| owner.uid), uid, "{name}");
        };
        check("ann", Some(1000));
        check("an", None);
        check("bad", None);
    }
}
