//! A store that cannot be read: found out when it is opened, put aside under another name, never
//! removed. Knows nothing of what was in it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode};

use super::StoreError;
use crate::record::Seconds;

/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// Whether SQLite says that a file is no sound database.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Looks through the whole database, as far as that is quick.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let verdict: Result<String, _> =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(StoreError::Damaged {
            path: path.to_owned(),
            verdict,
        }),
        Err(error) => Err(opening(path)(error)),
    }
}

/// Whether another program keeps a database for itself.
fn is_locked(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// What an error at the opening means.
pub(super) fn opening(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| {
        let path = path.to_owned();
        if is_damage(&source) {
            let verdict = source.to_string();
            StoreError::Damaged { path, verdict }
        } else if is_locked(&source) {
            StoreError::Locked { path }
        } else {
            StoreError::Open { path, source }
        }
    }
}

/// Gives a damaged store another name, which it returns.
pub(super) fn set_aside(path: &Path, now: Seconds) -> Result<PathBuf, StoreError> {
    let kept = beside(path, &format!(".damaged-{now}"));
    for companion in COMPANIONS {
        let (from, to) = (beside(path, companion), beside(&kept, companion));
        match fs::rename(&from, to) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::SetAside { path: from, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(kept)
}

/// The path with something behind its name.
pub(super) fn beside(path: &Path, behind: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(behind);
    name.into()
}
