//! Owns the logs that a VMM and its guest write: beginning them, reading their ends, cutting them.
//! Treats every byte as hostile; does not know what the lines mean.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use banger_core::{
    host::VmPlaces,
    host_error::{HostError, LogTail},
};

use crate::{boot_failure, places::file_error};

const TAIL_BYTES: u64 = 16 << 10;
const TAIL_LINES: usize = 25;
const LINE_CHARS: usize = 400;
/// A log that has grown beyond this is cut down to what is worth keeping of it.
const LOG_LIMIT: u64 = 1 << 20;
const LOG_KEPT: u64 = 256 << 10;

/// The ends of a VM's logs, fit to be shown. A log that cannot be read has no lines.
pub(crate) fn tails(places: &VmPlaces) -> LogTail {
    LogTail {
        console: tail(&places.console()),
        vmm: tail(&places.vmm_log()),
    }
}

fn tail(path: &Path) -> Vec<String> {
    match read_end(path, TAIL_BYTES) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(_) => Vec::new(),
    }
}

/// The end of a log as it is, for a machine to read.
pub(crate) fn end(path: &Path) -> String {
    let bytes = read_end(path, TAIL_BYTES).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines of a text with nothing in them that a terminal would act upon. Where they
/// follow from an earlier line, as a stack follows a panic, the lines begin with that one.
pub(crate) fn last_lines(text: &str) -> Vec<String> {
    let shown = text.lines().map(|line| printable(line.trim_end()));
    let mut lines: Vec<_> = shown.filter(|line| !line.is_empty()).collect();
    let last = lines.len().saturating_sub(TAIL_LINES);
    let cause = lines
        .iter()
        .rposition(|line| boot_failure::begins_the_end(line));
    let mut lines = lines.split_off(cause.map_or(last, |cause| cause.min(last)));
    lines.truncate(TAIL_LINES);
    lines
}

/// A line without colours and cursor movements; other control characters are escaped.
pub(crate) fn printable(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line.chars().take(4 * LINE_CHARS).peekable();
    while let Some(c) = rest.next() {
        if shown.len() >= LINE_CHARS {
            shown.push('…');
            break;
        }
        match c {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.find(|&c| c != '[' && ('\u{40}'..='\u{7e}').contains(&c));
            }
            '\t' => shown.push(' '),
            '\r' => {}
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// Begins a new console log, which nobody but this user can read: guests print secrets.
pub(crate) fn start_console(path: &Path) -> Result<(), HostError> {
    let mut options = OpenOptions::new();
    let opened = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    opened
        .map(drop)
        .map_err(|source| file_error("create", path, source))
}

/// At most `limit` bytes from the end of a file.
pub(crate) fn read_end(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cuts a log that has become too long down to its end.
///
/// Its writer appends, so it goes on behind what is kept. What it writes between the
/// reading and the cutting is lost.
pub(crate) fn cut(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    if length <= LOG_LIMIT {
        return Ok(());
    }
    let mut kept = vec![0; LOG_KEPT as usize];
    file.read_exact_at(&mut kept, length - LOG_KEPT)?;
    let from_line = kept
        .iter()
        .position(|&b| b == b'\n')
        .map_or(0, |end| end + 1);
    file.write_all_at(&kept[from_line..], 0)?;
    file.set_len((kept.len() - from_line) as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn nothing_in_a_tail_acts_upon_a_terminal() {
        let check = |line: &str, wanted: &str| assert_eq!(printable(line), wanted, "{line:?}");
        check("plain \"text\" \\ it's", "plain \"text\" \\ it's");
        check("\u{1b}[0;32m  OK  \u{1b}[0m done", "  OK   done");
        check("a\tb\r", "a b");
        check(
            "\u{7}bell \u{1b}]0;title\u{7}",
            "\\u{7}bell \\u{1b}]0;title\\u{7}",
        );
        check("\u{202e}right to left", "\\u{202e}right to left");
        check("\u{1b}[", "");
        assert!(printable(&"x".repeat(100_000)).len() <= LINE_CHARS + 3);
    }

    #[test]
    fn a_tail_has_few_lines_and_reads_few_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (0..100_000).map(|n| format!("line {n}\r\n\r\n")).collect();
        std::fs::write(&path, text).unwrap();
        let lines = tail(&path);
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().unwrap(), "line 99999");
        assert!(tail(&dir.path().join("absent")).is_empty());
    }

    #[test]
    fn a_tail_begins_with_the_panic_that_the_rest_follows_from() {
        let stack: String = (0..40).map(|n| format!("[ 1.1]  frame {n}\n")).collect();
        let panic = "[ 1.0] Kernel panic - not syncing: Out of memory";
        let lines = last_lines(&format!("[ 0.9] before\n{panic}\n{stack}"));
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines[0], panic);
        let lines = last_lines(&format!("{stack}{panic}\n"));
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().unwrap(), panic);
    }

    #[test]
    fn a_long_log_is_cut_and_its_writer_goes_on_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        for n in 0..200_000 {
            writeln!(writer, "line {n}").unwrap();
        }
        cut(&path).unwrap();
        writeln!(writer, "the end").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() as u64 <= LOG_KEPT + 100);
        assert!(text.starts_with("line "));
        assert!(text.ends_with("line 199999\nthe end\n"));
    }
}
