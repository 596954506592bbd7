//! The schema, as ordered steps. Forward only; a step that was released never changes.

use std::{fs, io, path::Path};

use rusqlite::Connection;

use super::{StoreError, damage::beside};

/// Step `n` brings `user_version` from `n` to `n + 1`.
const STEPS: &[&str] = &[
    "
    CREATE TABLE images (
        name          TEXT PRIMARY KEY,
        directory     TEXT NOT NULL UNIQUE,
        stage         TEXT NOT NULL,
        source        TEXT NOT NULL,
        digest        TEXT NOT NULL DEFAULT '',
        size_bytes    INTEGER NOT NULL DEFAULT 0,
        content_bytes INTEGER NOT NULL DEFAULT 0,
        entries       INTEGER NOT NULL DEFAULT 0,
        os            TEXT,
        has_systemd   INTEGER NOT NULL DEFAULT 0,
        has_shell     INTEGER NOT NULL DEFAULT 0,
        created_at    INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE vms (
        id          TEXT PRIMARY KEY,
        name        TEXT NOT NULL UNIQUE,
        image       TEXT NOT NULL REFERENCES images (name) ON DELETE RESTRICT,
        kernel      TEXT NOT NULL,
        vcpus       INTEGER NOT NULL,
        memory      INTEGER NOT NULL,
        disk        INTEGER NOT NULL,
        init        TEXT NOT NULL,
        network     TEXT NOT NULL,
        wanted_vmm  TEXT,
        auto_remove INTEGER NOT NULL,
        state       TEXT NOT NULL,
        vmm         TEXT,
        accelerator TEXT,
        vmm_reason  TEXT,
        last_error  TEXT,
        created_at  INTEGER NOT NULL,
        updated_at  INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX vms_by_image ON vms (image);
",
    "ALTER TABLE vms ADD COLUMN kernel_reason TEXT NOT NULL DEFAULT 'it was the default';",
    "
    ALTER TABLE images ADD COLUMN reference TEXT;
    ALTER TABLE images ADD COLUMN platform TEXT;
    ALTER TABLE images ADD COLUMN config TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE images ADD COLUMN rootfs TEXT;
    ALTER TABLE images ADD COLUMN kernel TEXT;
    CREATE INDEX images_by_reference ON images (reference);
",
    "
    ALTER TABLE vms ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE vms ADD COLUMN expires_at INTEGER;
",
    "
    CREATE TABLE catalogs (
        position INTEGER PRIMARY KEY,
        name     TEXT NOT NULL UNIQUE,
        place    TEXT NOT NULL,
        key      TEXT NOT NULL,
        serial   INTEGER NOT NULL,
        note     TEXT NOT NULL,
        added_at INTEGER NOT NULL,
        seen_at  INTEGER NOT NULL
    ) STRICT;
",
    include_str!("events.sql"),
    include_str!("upkeep.sql"),
    "
    CREATE TABLE journal (
        position   INTEGER PRIMARY KEY,
        owner_kind TEXT NOT NULL,
        owner      TEXT NOT NULL,
        act        TEXT NOT NULL,
        operand    TEXT NOT NULL,
        stage      TEXT NOT NULL,
        at         INTEGER NOT NULL,
        UNIQUE (owner_kind, owner, act, operand)
    ) STRICT;
",
    "
    CREATE TABLE snapshots (
        name             TEXT PRIMARY KEY,
        directory        TEXT NOT NULL UNIQUE,
        origin           TEXT NOT NULL,
        origin_id        TEXT NOT NULL,
        image            TEXT NOT NULL REFERENCES images (name) ON DELETE RESTRICT,
        image_digest     TEXT NOT NULL,
        kernel           TEXT NOT NULL,
        vcpus            INTEGER NOT NULL,
        memory           INTEGER NOT NULL,
        disk             INTEGER NOT NULL,
        init             TEXT NOT NULL,
        network          TEXT NOT NULL,
        vmm              TEXT NOT NULL,
        accelerator      TEXT NOT NULL,
        vmm_version      TEXT NOT NULL,
        processor        TEXT NOT NULL,
        clock_khz        INTEGER NOT NULL,
        agent_generation INTEGER NOT NULL,
        agent_version    TEXT NOT NULL,
        paused_ms        INTEGER NOT NULL,
        memory_bytes     INTEGER NOT NULL,
        disk_bytes       INTEGER NOT NULL,
        created_at       INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX snapshots_by_image ON snapshots (image);
",
    "ALTER TABLE snapshots ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;",
    include_str!("operations.sql"),
    include_str!("pools.sql"),
    include_str!("snapshots.sql"),
    "
    CREATE TRIGGER pool_changed AFTER UPDATE OF size ON pools WHEN NEW.size IS NOT OLD.size BEGIN
        INSERT INTO events (subject, name, what, detail)
        VALUES ('pool', NEW.name, 'changed', 'from ' || OLD.size || ' to ' || NEW.size);
    END;
",
];

/// Runs the missing steps, each in a transaction with its version number. Before the first of them
/// a store that holds something is copied beside itself.
pub(super) fn apply(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = u32::try_from(STEPS.len()).expect("few migrations");
    let version = |connection: &Connection| -> Result<u32, rusqlite::Error> {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0))
    };
    let found = version(connection).map_err(super::query("read the schema version"))?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    if (1..known).contains(&found) {
        copy(connection, &beside(path, &format!(".schema-{found}")))?;
    }
    for (from, step) in (found..known).zip(&STEPS[found as usize..]) {
        let failed = |source| StoreError::Migrate {
            version: from + 1,
            source,
        };
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(step).map_err(failed)?;
        transaction
            .pragma_update(None, "user_version", from + 1)
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

/// Copies the store as it is, in place of an earlier copy.
fn copy(connection: &Connection, to: &Path) -> Result<(), StoreError> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "an earlier copy of the store stays");
        }
        Ok(()) | Err(_) => {}
    }
    let copied = connection.execute("VACUUM INTO ?1", [to.to_string_lossy()]);
    copied.map(drop).map_err(|source| StoreError::Copy {
        path: to.to_owned(),
        source,
    })
}
