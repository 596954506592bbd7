//! Rows of the journal. A write is not waited for until it is on the disk: it is to survive the
//! daemon, and what it tells of survives no end of the host either, or is named by another row. Only that a
//! VM as a whole is confirmed is waited for.

use rusqlite::{Connection, Row};

use super::{
    Store, StoreError, query,
    vms::{column, parse, signed, unsigned},
};
use crate::{
    journal::{Act, Entry, Owner, Stage},
    record::Seconds,
};

/// What is written of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    pub owner: Owner,
    pub act: Act,
    pub stage: Stage,
    /// When it was written.
    pub at: Seconds,
}

const INTEND: &str = "INSERT INTO journal (owner_kind, owner, act, operand, stage, at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (owner_kind, owner, act, operand) DO UPDATE SET stage = ?5, at = ?6";
const MOVE: &str = "UPDATE journal SET stage = ?5, at = ?6
    WHERE owner_kind = ?1 AND owner = ?2 AND act = ?3 AND operand = ?4";
const STRIKE: &str = "DELETE FROM journal
    WHERE owner_kind = ?1 AND owner = ?2 AND act = ?3 AND operand = ?4";

impl Store {
    /// Writes what is now true of an act.
    pub(crate) fn write_journal(
        &self,
        owner: &Owner,
        act: &Act,
        entry: Entry,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let (kind, name) = (owner.word(), owner.name());
        let (word, operand) = (act.word(), act.operand());
        let write = |connection: &Connection| match entry {
            Entry::At(stage) => {
                let statement = match stage {
                    Stage::Intended => INTEND,
                    Stage::Confirmed | Stage::Undoing => MOVE,
                };
                let values = (kind, name, word, operand, stage.as_str(), signed(now));
                connection.prepare_cached(statement)?.execute(values)
            }
            Entry::Struck => {
                let values = (kind, name, word, operand);
                connection.prepare_cached(STRIKE)?.execute(values)
            }
        };
        // Whoever asked for a VM is told next that it is there: without this the next daemon would take
        // it for one whose creation was cut short.
        let is_promise = matches!((act, entry), (Act::Vm(_), Entry::At(Stage::Confirmed)));
        let written = match is_promise {
            true => write(&self.lock()),
            false => self.without_waiting(write),
        };
        written.map(drop).map_err(query("write the journal"))
    }

    /// Everything that is written, in the order in which it was intended.
    pub fn journal(&self) -> Result<Vec<JournalRow>, StoreError> {
        read(&self.lock(), "SELECT * FROM journal ORDER BY position", [])
    }

    /// What is written for an owner.
    pub(crate) fn journal_of(&self, owner: &Owner) -> Result<Vec<JournalRow>, StoreError> {
        read(
            &self.lock(),
            "SELECT * FROM journal WHERE owner_kind = ?1 AND owner = ?2 ORDER BY position",
            (owner.word(), owner.name()),
        )
    }

    /// Forgets all that was done for an owner that is no more.
    pub(crate) fn strike_all(&self, owner: &Owner) -> Result<(), StoreError> {
        let values = (owner.word(), owner.name());
        let struck = self.without_waiting(|connection| {
            connection.execute(
                "DELETE FROM journal WHERE owner_kind = ?1 AND owner = ?2",
                values,
            )
        });
        struck.map(drop).map_err(query("strike from the journal"))
    }

    /// Ids of VMs that have entries and no row.
    pub(crate) fn journaled_orphans(&self) -> Result<Vec<Owner>, StoreError> {
        let rows = read(
            &self.lock(),
            "SELECT * FROM journal WHERE owner_kind = 'vm' AND owner NOT IN (SELECT id FROM vms)",
            [],
        )?;
        let mut owners: Vec<Owner> = rows.into_iter().map(|row| row.owner).collect();
        owners.dedup();
        Ok(owners)
    }

    pub(super) fn without_waiting<T>(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let connection = self.lock();
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let written = write(&connection);
        let restored = connection.pragma_update(None, "synchronous", "FULL");
        written.and_then(|written| restored.map(|()| written))
    }
}

fn read(
    connection: &Connection,
    statement: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<JournalRow>, StoreError> {
    let failed = "read the journal";
    let mut statement = connection
        .prepare_cached(statement)
        .map_err(query(failed))?;
    let mut rows = statement.query(values).map_err(query(failed))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(query(failed))? {
        entries.push(journal_row(row)?);
    }
    Ok(entries)
}

fn journal_row(row: &Row<'_>) -> Result<JournalRow, StoreError> {
    let text = |name: &'static str| column::<String>(row, name);
    let owner = text("owner")?;
    let operand = text("operand")?;
    Ok(JournalRow {
        owner: parse("owner of an act", &text("owner_kind")?, |kind| {
            Owner::parse(kind, &owner)
        })?,
        act: parse("act", &text("act")?, |word| Act::parse(word, &operand))?,
        stage: parse("stage of an act", &text("stage")?, Stage::parse)?,
        at: unsigned(row, "at")?,
    })
}
