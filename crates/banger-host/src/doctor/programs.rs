//! Checks QEMU by asking it: its version and its machines.

use std::path::Path;

use banger_core::host::{Check, Verdict};

use super::{advised, row};
use crate::{process, qemu};

const OLDEST: (u32, u32) = (7, 0);
const INSTALL: &str = "sudo apt install qemu-system-x86";

pub(super) fn qemu(configured: Option<&Path>) -> Vec<Check> {
    let Some(program) = process::locate(configured, qemu::PROGRAM) else {
        let error = process::missing(configured, qemu::PROGRAM, qemu::PACKAGE);
        return vec![advised("qemu", Verdict::Fail, error.to_string(), INSTALL)];
    };
    let (version, machines) = std::thread::scope(|scope| {
        let machines = scope.spawn(|| process::ask(&program, &["-machine", "help"]));
        (process::ask(&program, &["--version"]), machines.join())
    });
    let version = match version {
        Ok(text) => version_row(&text),
        Err(error) => {
            let detail = format!("{} does not run: {error}", program.display());
            return vec![advised("qemu", Verdict::Fail, detail, INSTALL)];
        }
    };
    let machines = machines.ok().and_then(Result::ok).unwrap_or_default();
    vec![version, machine_row(&machines)]
}

fn version_row(text: &str) -> Check {
    let line = crate::logs::printable(text.lines().next().unwrap_or_default());
    match parse_version(text) {
        Some(version) if version >= OLDEST => row("qemu", Verdict::Pass, line),
        Some(_) => advised(
            "qemu",
            Verdict::Fail,
            line,
            "banger needs QEMU 7.0 or newer",
        ),
        None => advised("qemu", Verdict::Warn, line, "its version is not understood"),
    }
}

fn machine_row(text: &str) -> Check {
    let has_microvm = text
        .lines()
        .any(|line| line.split_whitespace().next() == Some("microvm"));
    if has_microvm {
        return row("qemu microvm", Verdict::Pass, "machine type available");
    }
    let detail = "this QEMU is built without the machine type".to_owned();
    advised("qemu microvm", Verdict::Fail, detail, INSTALL)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split_once(" version ")?.1;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_qemu_fails() {
        let check = |text: &str, wanted| assert_eq!(version_row(text).verdict, wanted, "{text}");
        check(
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright",
            Verdict::Pass,
        );
        check("QEMU emulator version 10.0.2", Verdict::Pass);
        check("QEMU emulator version 6.2.0", Verdict::Fail);
        check("something else", Verdict::Warn);
    }

    #[test]
    fn a_qemu_without_microvm_fails() {
        let list = "Supported machines are:\nmicrovm              microvm (i386)\npc  x";
        assert_eq!(machine_row(list).verdict, Verdict::Pass);
        assert_eq!(
            machine_row("pc  Standard PC (alias of microvm)").verdict,
            Verdict::Fail
        );
    }
}
