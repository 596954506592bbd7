//! Builds mmdebstrap's command line. Pure but for the question who this user is.

use std::ffi::OsString;

use banger_core::{host::DebianRoot, host_error::HostError};

use crate::{logs::printable, subids};

/// For dpkg while it builds: a tree that is thrown away needs no syncing, and documentation
/// without readers is carried for nothing; licences stay.
const DPKG: [&str; 10] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/linda/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
];

/// Removes what would carry the builder's identity, or one secret, into every machine, and
/// the options that were for the building only.
const CLEAN_UP: &str = concat!(
    "--customize-hook=rm -f ",
    r#""$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/ssh/ssh_host_* "#,
    r#""$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap"#,
);

/// How mmdebstrap gets a root file system's owners right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Root,
    /// In a user namespace with ids of /etc/subuid.
    Unshare,
}

impl Mode {
    /// The mode for this user, or what an ordinary user lacks for it.
    pub(crate) fn of_this_user() -> Result<Self, HostError> {
        if rustix::process::geteuid().is_root() {
            return Ok(Self::Root);
        }
        subids::check_this_user()?;
        Ok(Self::Unshare)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Unshare => "unshare",
        }
    }
}

pub(super) fn args(root: &DebianRoot, mode: Mode) -> Result<Vec<OsString>, HostError> {
    let mut args = vec![
        "--variant=minbase".to_owned(),
        format!("--mode={}", mode.word()),
        "--format=tar".into(),
    ];
    args.extend(DPKG.iter().map(|path| format!("--dpkgopt={path}")));
    args.push(CLEAN_UP.into());
    if !root.packages.is_empty() {
        args.push(format!("--include={}", root.packages.join(",")));
    }
    let words = [root.suite.clone(), "-".into()];
    check_words(
        words
            .iter()
            .take(1)
            .chain(&root.sources)
            .chain(&root.packages),
    )?;
    args.extend(words);
    args.extend(root.sources.iter().cloned());
    Ok(args.into_iter().map(OsString::from).collect())
}

/// Words of a configuration must not turn into options.
fn check_words<'a>(words: impl Iterator<Item = &'a String>) -> Result<(), HostError> {
    for word in words {
        if word.is_empty() || word.starts_with('-') || word.chars().any(char::is_control) {
            let feature = format!("\"{}\" for mmdebstrap", printable(word));
            let reason = "a suite, source or package is not empty, has no control characters \
                          and does not begin with -";
            return Err(HostError::Unsupported {
                feature,
                reason: reason.into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> DebianRoot {
        DebianRoot {
            suite: "bookworm".into(),
            sources: vec!["deb http://mirror.test/debian bookworm main".into()],
            packages: vec!["systemd-sysv".into(), "openssh-server".into()],
        }
    }

    #[test]
    fn a_root_becomes_these_words() {
        let words = args(&root(), Mode::Unshare).unwrap();
        for word in [
            "--variant=minbase",
            "--mode=unshare",
            "--format=tar",
            "--include=systemd-sysv,openssh-server",
            "--dpkgopt=path-exclude=/usr/share/man/*",
        ] {
            assert!(words.iter().any(|have| have == word), "{word}");
        }
        let end = [
            "bookworm",
            "-",
            "deb http://mirror.test/debian bookworm main",
        ];
        assert!(words.ends_with(&end.map(OsString::from)));
    }

    #[test]
    fn a_configurations_words_cannot_become_options() {
        let check = |change: fn(&mut DebianRoot)| {
            let mut root = root();
            change(&mut root);
            assert!(args(&root, Mode::Root).is_err(), "{root:?}");
        };
        check(|root| root.suite = "--setup-hook=reboot".into());
        check(|root| root.sources.push("--aptopt=x".into()));
        check(|root| root.packages.push("-x".into()));
        check(|root| root.suite = String::new());
        check(|root| root.sources.push("deb a b\nc".into()));
    }
}
