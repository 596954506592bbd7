//! Owns the names of the directories that systemd's journal lies in, which are its machine's id: whoever
//! gets another id would not find what was written before. Knows no journal's contents.

use std::fs;
use std::io;
use std::path::Path;

const PLACES: [&str; 2] = ["run/log/journal", "var/log/journal"];

/// A service that knows the machine's id from its start. It is told behind the back of whoever waits; what is
/// written meanwhile is kept.
pub(crate) const BEGIN_AGAIN: &str =
    "( systemctl --no-block restart systemd-journald.service ) </dev/null >/dev/null 2>&1 &";

/// Whether there was a journal. It is under its new name before anybody can look for it.
pub(crate) fn rename(root: &Path, old: &str, new: &str) -> io::Result<bool> {
    let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut any = false;
    if old == new || !is_id(old) || !is_id(new) {
        return Ok(any);
    }
    for place in PLACES {
        let place = root.join(place);
        match fs::rename(place.join(old), place.join(new)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => {
                renamed?;
                any = true;
            }
        }
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_found_under_the_new_id() {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = ("0".repeat(32), "1".repeat(32));
        assert!(!rename(root.path(), &old, &new).unwrap());
        let place = root.path().join(PLACES[0]);
        fs::create_dir_all(place.join(&old)).unwrap();
        fs::write(place.join(&old).join("system.journal"), "kept").unwrap();
        assert!(!rename(root.path(), "..", &new).unwrap());
        assert!(rename(root.path(), &old, &new).unwrap());
        let kept = fs::read_to_string(place.join(&new).join("system.journal"));
        assert_eq!(kept.unwrap(), "kept");
    }
}
