//! Owns what an exec comes down to: program, arguments, variables, directory, user. Decides everything, does nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use banger_guest_proto::message::{ExecStart, Failure, FailureKind, WindowSize};

use super::program::{self, DEFAULT_PATH, Missing};
use super::user::{self, User};

/// The terminal type for who does not say it.
const DEFAULT_TERM: &str = "xterm-256color";

/// Everything that starting a process needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) program: PathBuf,
    /// The arguments, the zeroth included.
    pub(super) argv: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    pub(super) user: User,
    pub(super) tty: Option<WindowSize>,
}

/// Plans a request, with the guest's /etc for the user's sake.
pub(super) fn plan(start: ExecStart, etc: &Path) -> Result<Plan, Failure> {
    check_text(&start)?;
    let user = user::find(start.user.as_deref(), etc)
        .map_err(|error| failure(FailureKind::NoSuchUser, error.to_string()))?;
    let directory = directory(start.cwd.as_deref(), &user)?;
    let shell = program::shell(user.shell.as_deref());
    let env = environment(&user, shell.as_deref(), &start);
    let (program, argv) = if start.argv.is_empty() {
        login(shell)?
    } else {
        let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        (find(&start.argv[0], path, &directory)?, start.argv)
    };
    Ok(Plan {
        program,
        argv,
        env,
        directory,
        user,
        tty: start.tty,
    })
}

pub(super) fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message }
}

/// The kernel's texts end at a NUL, and a variable's name at an equals sign.
fn check_text(start: &ExecStart) -> Result<(), Failure> {
    let other = |message: &str| Err(failure(FailureKind::Other, message.into()));
    let texts = start
        .argv
        .iter()
        .chain(start.env.iter().flat_map(|(name, value)| [name, value]));
    if texts.chain(&start.cwd).any(|text| text.contains('\0')) {
        return other("an argument or variable contains a NUL byte");
    }
    if start
        .env
        .iter()
        .any(|(name, _)| name.is_empty() || name.contains('='))
    {
        return other("a variable's name is empty or contains an equals sign");
    }
    Ok(())
}

fn directory(wanted: Option<&str>, user: &User) -> Result<PathBuf, Failure> {
    match wanted {
        Some(cwd) => {
            let directory = Path::new("/").join(cwd);
            if directory.is_dir() {
                return Ok(directory);
            }
            Err(failure(
                FailureKind::NoSuchDirectory,
                format!("no such directory: {cwd}"),
            ))
        }
        None => {
            let home = PathBuf::from(&user.home);
            Ok(if home.is_dir() { home } else { "/".into() })
        }
    }
}

fn environment(user: &User, shell: Option<&Path>, start: &ExecStart) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    set("PATH", DEFAULT_PATH);
    set("HOME", &user.home);
    if let Some(name) = &user.name {
        set("USER", name);
        set("LOGNAME", name);
    }
    if let Some(shell) = shell.and_then(Path::to_str) {
        set("SHELL", shell);
    }
    if start.tty.is_some() {
        set("TERM", DEFAULT_TERM);
    }
    env.extend(start.env.iter().cloned());
    env
}

/// A login shell is told so by a dash in front of its name.
fn login(shell: Option<PathBuf>) -> Result<(PathBuf, Vec<String>), Failure> {
    let shell = shell.ok_or_else(|| {
        failure(
            FailureKind::NoShell,
            "the image has no shell, neither the user's nor /bin/sh".into(),
        )
    })?;
    let name = shell.file_name().unwrap_or_default().to_string_lossy();
    let argv = vec![format!("-{name}")];
    Ok((shell, argv))
}

fn find(name: &str, path: &str, directory: &Path) -> Result<PathBuf, Failure> {
    program::find(name, path, directory).map_err(|missing| match missing {
        Missing::NotFound => failure(FailureKind::NotFound, format!("no such program: {name}")),
        Missing::NotExecutable => failure(
            FailureKind::NotExecutable,
            format!("not executable: {name}"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_for(start: ExecStart) -> Result<Plan, FailureKind> {
        let etc = tempfile::tempdir().unwrap();
        let passwd = "root:x:0:0:root:/:/bin/sh\ndev:x:1000:1000::/nonexistent:/bin/nosuchshell\n";
        std::fs::write(etc.path().join("passwd"), passwd).unwrap();
        plan(start, etc.path()).map_err(|failure| failure.kind)
    }

    fn start(argv: &[&str]) -> ExecStart {
        ExecStart {
            argv: argv.iter().map(ToString::to_string).collect(),
            ..ExecStart::default()
        }
    }

    #[test]
    fn a_program_gets_its_users_variables_and_the_requests_own() {
        let env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("X".into(), "a=b".into()),
        ];
        let plan = plan_for(ExecStart {
            env,
            ..start(&["sh", "-c", "x"])
        })
        .unwrap();
        assert!(plan.program.ends_with("bin/sh"));
        assert_eq!(plan.argv, ["sh", "-c", "x"]);
        let get = |name: &str| plan.env.get(name).map(String::as_str);
        assert_eq!(get("PATH"), Some("/usr/bin:/bin"));
        assert_eq!(
            (get("X"), get("HOME"), get("USER")),
            (Some("a=b"), Some("/"), Some("root"))
        );
        assert_eq!((get("SHELL"), get("TERM")), (Some("/bin/sh"), None));
    }

    #[test]
    fn a_login_shell_is_the_users_or_one_that_exists() {
        let plan = plan_for(ExecStart {
            user: Some("dev".into()),
            ..start(&[])
        })
        .unwrap();
        assert!(plan.argv[0].starts_with('-'), "{:?}", plan.argv);
        assert_eq!(
            plan.directory,
            Path::new("/"),
            "a home that is missing is replaced"
        );
    }

    #[test]
    fn mistakes_have_kinds() {
        let check = |start: ExecStart, kind| assert_eq!(plan_for(start), Err(kind));
        check(start(&["no-such-program"]), FailureKind::NotFound);
        check(start(&["/etc/passwd"]), FailureKind::NotExecutable);
        check(start(&["/"]), FailureKind::NotExecutable);
        check(
            ExecStart {
                user: Some("x".into()),
                ..start(&["sh"])
            },
            FailureKind::NoSuchUser,
        );
        check(
            ExecStart {
                cwd: Some("/x/y".into()),
                ..start(&["sh"])
            },
            FailureKind::NoSuchDirectory,
        );
        check(
            ExecStart {
                env: vec![("A=".into(), "b".into())],
                ..start(&["sh"])
            },
            FailureKind::Other,
        );
        check(start(&["sh", "a\0b"]), FailureKind::Other);
    }
}
