//! Owns the choice of process 1 and the handing over to it. Knows systemd only through `systemd`.

mod notify;
mod systemd;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use banger_guest_proto::boot::Init;
use banger_guest_proto::hello::Pid1;

pub(crate) use notify::Notifications;

/// Where systemd is, on distributions of all ages.
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
const SBIN_INIT: &str = "/sbin/init";

/// Who is going to be process 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The agent stays.
    Agent,
    /// The agent hands over to this program.
    Program { path: PathBuf, kind: Pid1 },
}

/// An init that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("the image has no systemd")]
    NoSystemd,
    #[error("the image has no executable {}", .0.display())]
    NoProgram(PathBuf),
    #[error("cannot execute {}", path.display())]
    Exec {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {step}")]
    HandOver {
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Decides by what was asked for and what the image has, below `root`.
pub(crate) fn choose(wanted: &Init, root: &Path) -> Result<Choice, InitError> {
    let systemd = || {
        let path = find_systemd(root)?;
        Some(Choice::Program {
            path,
            kind: Pid1::Systemd,
        })
    };
    match wanted {
        Init::Agent => Ok(Choice::Agent),
        Init::Auto => Ok(systemd().unwrap_or(Choice::Agent)),
        Init::Systemd => systemd().ok_or(InitError::NoSystemd),
        Init::Path(path) => {
            let path = PathBuf::from(path);
            if !is_program(&below(root, &path)) {
                return Err(InitError::NoProgram(path));
            }
            let kind = if is_systemd(root, &path) {
                Pid1::Systemd
            } else {
                Pid1::Other
            };
            Ok(Choice::Program { path, kind })
        }
    }
}

/// Prefers the distribution's own name for its init.
fn find_systemd(root: &Path) -> Option<PathBuf> {
    let init = Path::new(SBIN_INIT);
    if is_systemd(root, init) {
        return Some(init.into());
    }
    SYSTEMD
        .iter()
        .map(PathBuf::from)
        .find(|path| is_program(&below(root, path)))
}

fn is_systemd(root: &Path, path: &Path) -> bool {
    let resolved = std::fs::canonicalize(below(root, path));
    resolved.is_ok_and(|path| path.file_name() == Some(OsStr::new("systemd")) && is_program(&path))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Turns this process into the chosen init. Returns only where that fails.
pub(crate) fn become_init(path: &Path, kind: Pid1) -> Result<Infallible, InitError> {
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("TERM", "linux")
        .env("HOME", "/")
        .current_dir("/");
    match kind {
        Pid1::Systemd => {
            systemd::trim(Path::new("/"));
            command.env("NOTIFY_SOCKET", notify::SOCKET);
        }
        Pid1::Agent | Pid1::Other => {
            command.env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            );
        }
    }
    let source = command.exec();
    Err(InitError::Exec {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Image(tempfile::TempDir);

    impl Image {
        fn new(programs: &[&str], links: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let place = |path: &str| {
                let path = below(dir.path(), Path::new(path));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                path
            };
            for program in programs {
                std::fs::write(place(program), "").unwrap();
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(place(program), mode).unwrap();
            }
            for (link, target) in links {
                std::os::unix::fs::symlink(target, place(link)).unwrap();
            }
            Self(dir)
        }

        fn check(&self, wanted: &Init, expected: Option<(&str, Pid1)>) {
            let choice = choose(wanted, self.0.path()).ok();
            let expected = expected.map(|(path, kind)| match kind {
                Pid1::Agent => Choice::Agent,
                Pid1::Systemd | Pid1::Other => Choice::Program {
                    path: path.into(),
                    kind,
                },
            });
            assert_eq!(choice, expected, "{wanted:?}");
        }
    }

    const AGENT: Option<(&str, Pid1)> = Some(("", Pid1::Agent));

    #[test]
    fn an_image_with_systemd_boots_it_unless_told_otherwise() {
        let image = Image::new(
            &["/lib/systemd/systemd"],
            &[("/sbin/init", "../lib/systemd/systemd")],
        );
        image.check(&Init::Auto, Some(("/sbin/init", Pid1::Systemd)));
        image.check(&Init::Systemd, Some(("/sbin/init", Pid1::Systemd)));
        image.check(&Init::Agent, AGENT);
        image.check(
            &Init::Path("/sbin/init".into()),
            Some(("/sbin/init", Pid1::Systemd)),
        );
        image.check(&Init::Path("/sbin/other".into()), None);
    }

    #[test]
    fn systemd_without_the_usual_link_is_found() {
        let image = Image::new(&["/usr/lib/systemd/systemd"], &[]);
        image.check(
            &Init::Auto,
            Some(("/usr/lib/systemd/systemd", Pid1::Systemd)),
        );
    }

    #[test]
    fn an_image_without_systemd_keeps_the_agent() {
        let image = Image::new(&["/bin/busybox"], &[("/sbin/init", "../bin/busybox")]);
        image.check(&Init::Auto, AGENT);
        image.check(&Init::Systemd, None);
        image.check(
            &Init::Path("/sbin/init".into()),
            Some(("/sbin/init", Pid1::Other)),
        );
        Image::new(&[], &[("/sbin/init", "/lib/nowhere/systemd")]).check(&Init::Auto, AGENT);
    }
}
