//! What Firecracker's exit codes mean. Pure.

use banger_core::host::VmmExit;

use crate::process::Ended;

/// Its own words for how it ended; a code that is not known stays a number.
pub(super) fn exit(ended: Ended) -> VmmExit {
    let meaning = match ended {
        Ended::Code(code) => meaning(code),
        Ended::Signal(_) | Ended::Gone => None,
    };
    let exit = VmmExit::from(ended);
    match meaning {
        None => exit,
        Some(meaning) => VmmExit {
            status: format!("{}, {meaning}", exit.status),
            ..exit
        },
    }
}

/// Why Firecracker would not make its machine, from its own log.
pub(super) fn refusal(ended: Ended, log: &str) -> Option<String> {
    const REFUSED: Ended = Ended::Code(1);
    const MARK: &str = "Error error: ";
    /// What it puts before the reason, which says no more than that there is one.
    const WRAPPINGS: [&str; 3] = [
        "Failed to build MicroVM from Json: ",
        "Configuration for VMM from one single json failed: ",
        "Could not Start MicroVM from one single json: ",
    ];
    if ended != REFUSED {
        return None;
    }
    let (_, rest) = log.rsplit_once(MARK)?;
    let mut reason = rest.lines().next()?;
    for wrapping in WRAPPINGS {
        reason = reason.strip_prefix(wrapping).unwrap_or(reason);
    }
    Some(reason.to_owned())
}

fn meaning(code: i32) -> Option<&'static str> {
    match code {
        148 => Some("it made a system call that its filter forbids"),
        149 => Some("its memory or a file of it went away under it"),
        150 => Some("it touched memory that is not its own"),
        151 => Some("a file of it has reached its limit"),
        152 => Some("it refused its configuration"),
        153 => Some("it did not understand its arguments"),
        154 => Some("it has used up its time of the processor"),
        155 => Some("the reader of its output went away"),
        156 => Some("its terminal hung up"),
        157 => Some("it met an instruction that the processor lacks"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_with_its_meaning() {
        let check = |ended, wanted: &str, clean| {
            let exit = exit(ended);
            assert_eq!((exit.status.as_str(), exit.clean), (wanted, clean));
        };
        check(Ended::Code(0), "exit code 0", true);
        check(
            Ended::Code(148),
            "exit code 148, it made a system call that its filter forbids",
            false,
        );
        check(Ended::Code(1), "exit code 1", false);
        check(Ended::Signal(9), "signal 9", false);
    }

    #[test]
    fn a_refusal_is_told_without_its_wrappings() {
        let check = |line: &str, wanted: Option<&str>| {
            let log = format!("{line}\nexiting with error. exit_code=1\n");
            assert_eq!(refusal(Ended::Code(1), &log).as_deref(), wanted);
            assert_eq!(refusal(Ended::Code(0), &log), None);
        };
        check(
            "2026 [x:main] RunWithApiError error: Failed to build MicroVM from Json: \
             Configuration for VMM from one single json failed: Boot source error: none",
            Some("Boot source error: none"),
        );
        check(
            "RunWithApiError error: in other words",
            Some("in other words"),
        );
        check("a thread panicked", None);
    }
}
