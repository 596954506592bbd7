//! `doctor`: our own view of the host, then the daemon's.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use banger_api::{
    build::BuildInfo,
    client::Client,
    daemon::DaemonStatus,
    doctor::{Check, Verdict},
    places::Places,
};

use crate::{
    cli::DoctorArgs,
    daemon::{Connected, ensure},
    fdio::colours,
    output,
    report::{Failure, SUCCESS, in_one_line},
    text::{count, escape},
};

pub(super) async fn run(args: DoctorArgs, places: &Places) -> Result<u8, Failure> {
    if args.fix {
        mend(places).await?;
    }
    let mut checks = vec![runtime_directory(&places.runtime)];
    match ensure(places).await {
        Ok(Connected { client, status }) => {
            checks.push(daemon_answers(&status));
            checks.push(same_build(&status.build, &BuildInfo::current()));
            checks.extend(daemon_checks(&client).await);
        }
        Err(failure) => checks.push(failed("daemon", &failure)),
    }
    if args.json.json {
        output::print_json(&checks)?;
    } else {
        output::print(&render(&checks, colours(&io::stdout())))?;
    }
    let fit = checks.iter().all(|check| check.verdict != Verdict::Fail);
    if fit { Ok(SUCCESS) } else { Err(Failure::Told) }
}

/// Tells what it does; what is wrong afterwards, the checks say.
async fn mend(places: &Places) -> Result<(), Failure> {
    if close(&places.runtime).map_err(failed_to_close(&places.runtime))? {
        output::remark(format!("closed {}", places.runtime.display()));
    }
    let Connected { client, .. } = ensure(places).await?;
    for mended in client.mend().await? {
        let path = escape(&mended.path);
        output::remark(match mended.problem {
            None => format!("{} {path}", escape(&mended.act)),
            Some(problem) => format!("{path} stays: {}", escape(&problem)),
        });
    }
    Ok(())
}

/// Shuts others out of a directory of ours, if they could enter it.
fn close(path: &Path) -> io::Result<bool> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        meta => meta?,
    };
    let own = rustix::process::getuid().as_raw();
    if !meta.is_dir() || meta.uid() != own || meta.mode() & 0o077 == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    Ok(true)
}

fn failed_to_close(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::File {
        operation: "protect",
        path,
        source,
    }
}

async fn daemon_checks(client: &Client) -> Vec<Check> {
    match client.doctor().await {
        Ok(checks) => checks,
        Err(error) => vec![failed("daemon's checks", &error.into())],
    }
}

fn check(name: &str, verdict: Verdict, detail: String) -> Check {
    Check {
        name: name.into(),
        verdict,
        detail,
        hint: None,
    }
}

fn failed(name: &str, failure: &Failure) -> Check {
    let mut detail = in_one_line(failure);
    if let Failure::Daemon(error) = failure {
        for line in error.log() {
            detail.push_str("; ");
            detail.push_str(&line);
        }
    }
    check(name, Verdict::Fail, detail)
}

/// Who can enter this directory can drive our VMs.
fn runtime_directory(path: &Path) -> Check {
    let shown = path.display();
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let detail = format!("{shown} is made when the daemon starts");
            return check("runtime directory", Verdict::Pass, detail);
        }
        Err(error) => {
            let detail = format!("cannot look at {shown}: {error}");
            return check("runtime directory", Verdict::Fail, detail);
        }
    };
    let own = rustix::process::getuid().as_raw();
    let (verdict, detail, hint) = judge(meta.is_dir(), meta.uid(), meta.mode(), own);
    Check {
        hint: hint.map(|hint| format!("{hint} {shown}")),
        ..check("runtime directory", verdict, format!("{shown} {detail}"))
    }
}

fn judge(
    is_directory: bool,
    owner: u32,
    mode: u32,
    own: u32,
) -> (Verdict, String, Option<&'static str>) {
    if !is_directory {
        (Verdict::Fail, "is no directory".into(), Some("remove"))
    } else if owner != own {
        (
            Verdict::Fail,
            format!("belongs to user {owner}, not to you"),
            Some("remove"),
        )
    } else if mode & 0o077 != 0 {
        let detail = format!("can be entered by others (mode {:o})", mode & 0o7777);
        (Verdict::Warn, detail, Some("chmod 700"))
    } else {
        (Verdict::Pass, "is yours alone".into(), None)
    }
}

fn daemon_answers(status: &DaemonStatus) -> Check {
    let running = count(status.running_vms, "running VM");
    let detail = format!("process {}, {running}, log {}", status.pid, status.log_path);
    check("daemon", Verdict::Pass, detail)
}

fn same_build(daemon: &BuildInfo, own: &BuildInfo) -> Check {
    if daemon == own {
        check("build", Verdict::Pass, own.to_string())
    } else {
        let detail = format!("banger is {own}, the daemon {daemon}");
        Check {
            hint: Some("install banger and bangerd of one release".into()),
            ..check("build", Verdict::Warn, detail)
        }
    }
}

fn render(checks: &[Check], colours: bool) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let (name, detail) = (escape(&check.name), escape(&check.detail));
        let word = word(check.verdict, colours);
        text.push_str(&format!("{word}  {name:width$}  {detail}\n"));
        if let Some(hint) = &check.hint {
            text.push_str(&format!("      {:width$}  hint: {}\n", "", escape(hint)));
        }
    }
    text
}

fn word(verdict: Verdict, colours: bool) -> String {
    let (word, colour) = match verdict {
        Verdict::Pass => ("PASS", 32),
        Verdict::Warn => ("WARN", 33),
        Verdict::Fail => ("FAIL", 31),
    };
    if colours {
        format!("\x1b[{colour}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::daemon::DaemonError;

    #[test]
    fn the_runtime_directory_is_nobody_elses() {
        let cases = [
            (true, 7, 0o40700, Verdict::Pass),
            (true, 7, 0o40755, Verdict::Warn),
            (true, 8, 0o40700, Verdict::Fail),
            (false, 7, 0o100_600, Verdict::Fail),
        ];
        for (is_directory, owner, mode, verdict) in cases {
            assert_eq!(judge(is_directory, owner, mode, 7).0, verdict);
        }
    }

    #[test]
    fn rows_are_aligned_and_hints_stand_below() {
        let own = BuildInfo {
            version: "0.1.0".into(),
            commit: "abc".into(),
            built_at: 0,
        };
        let newer = BuildInfo {
            built_at: 9,
            ..own.clone()
        };
        let dead = Failure::Daemon(DaemonError::NoProgram);
        let checks = [
            check("runtime directory", Verdict::Pass, "fine\x1b".into()),
            same_build(&own, &own),
            same_build(&newer, &own),
            failed("daemon", &dead),
        ];
        assert_snapshot!(render(&checks, false), @r"
        PASS  runtime directory  fine\u{1b}
        PASS  build              0.1.0 (abc, built 1970-01-01T00:00:00Z)
        WARN  build              banger is 0.1.0 (abc, built 1970-01-01T00:00:00Z), the daemon 0.1.0 (abc, built 1970-01-01T00:00:09Z)
                                 hint: install banger and bangerd of one release
        FAIL  daemon             cannot find bangerd beside banger, in ../lib/banger or in PATH
        ");
        assert!(render(&checks, true).starts_with("\x1b[32mPASS\x1b[0m  "));
    }
}
