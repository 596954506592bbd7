//! Rewrites the command line of a VM of banger's into that of a QEMU of our own: other sockets,
//! another disk, another console, everything else to the letter. Pure.

use std::path::Path;

use super::BenchError;

/// The places that two machines must not share, in banger's order of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// Holds `disk.ext4` and `console.log`.
    pub(super) state: String,
    /// Holds `agent.sock` and `qmp.sock`.
    pub(super) runtime: String,
}

impl Places {
    /// Where a VM's files are, read off its command line.
    pub(super) fn of(argv: &[String]) -> Result<Self, BenchError> {
        let directory = |key: &str, file: &'static str| {
            let value = argv.iter().find_map(|word| value_of(word, key, file));
            let directory = value.and_then(|path| Path::new(path).parent()?.to_str());
            directory
                .map(str::to_owned)
                .ok_or(BenchError::CommandLine(file))
        };
        Ok(Self {
            state: directory("filename=", "disk.ext4")?,
            runtime: directory("path=", "agent.sock")?,
        })
    }
}

/// The value of `key` in an option, if it is a path that ends in `file`.
fn value_of<'a>(word: &'a str, key: &str, file: &str) -> Option<&'a str> {
    let value = word.split(',').find_map(|part| part.strip_prefix(key))?;
    value.ends_with(&format!("/{file}")).then_some(value)
}

/// Splits what `/proc/PID/cmdline` holds.
pub(super) fn split(cmdline: &[u8]) -> Vec<String> {
    let words = cmdline
        .strip_suffix(b"\0")
        .unwrap_or(cmdline)
        .split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The same command line with the files of another machine.
pub(super) fn move_to(argv: &[String], from: &Places, to: &Places) -> Vec<String> {
    let moved = argv.iter().map(|word| {
        let word = word.replace(&format!("{}/", from.state), &format!("{}/", to.state));
        word.replace(&format!("{}/", from.runtime), &format!("{}/", to.runtime))
    });
    moved.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(state: &str, runtime: &str) -> Vec<String> {
        [
            "/usr/bin/qemu-system-x86_64".to_owned(),
            "-chardev".to_owned(),
            format!("socket,id=control,server=on,wait=off,path={runtime}/qmp.sock"),
            format!("file,id=console,append=on,path={state}/console.log"),
            format!("socket,id=agent,server=on,wait=off,path={runtime}/agent.sock"),
            "file,node-name=base,read-only=on,filename=/h/state/images/i/rootfs.ext4".to_owned(),
            format!("file,node-name=disk,discard=unmap,filename={state}/disk.ext4"),
            "-append".to_owned(),
            "console=ttyS0 quiet".to_owned(),
        ]
        .to_vec()
    }

    fn places(state: &str, runtime: &str) -> Places {
        Places {
            state: state.to_owned(),
            runtime: runtime.to_owned(),
        }
    }

    #[test]
    fn only_what_is_a_machines_own_is_moved() {
        let line = argv("/h/state/vms/a", "/h/run/vm/a");
        let from = Places::of(&line).unwrap();
        assert_eq!(from, places("/h/state/vms/a", "/h/run/vm/a"));
        let to = places("/o/s", "/o/r");
        assert_eq!(move_to(&line, &from, &to), argv("/o/s", "/o/r"));
    }

    #[test]
    fn a_command_line_without_disk_is_not_one_of_ours() {
        let line = vec!["qemu-system-x86_64".to_owned(), "-m".to_owned()];
        assert!(matches!(
            Places::of(&line),
            Err(BenchError::CommandLine("disk.ext4"))
        ));
    }

    #[test]
    fn words_may_have_blanks_and_be_empty() {
        assert_eq!(split(b"a\0b c\0\0d\0"), ["a", "b c", "", "d"]);
    }
}
