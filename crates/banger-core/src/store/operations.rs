//! Rows of operations. As with the journal, a write is not waited for until it is on the disk.

use rusqlite::{OptionalExtension, Row};

use super::{
    Store, StoreError, query,
    vms::{column, parse, signed, unsigned},
};
use crate::{
    operations::{OperationId, OperationKind, OperationRow, Verdict},
    record::Seconds,
};

impl Store {
    pub(crate) fn begin_operation(
        &self,
        kind: OperationKind,
        target: &str,
        now: Seconds,
    ) -> Result<OperationId, StoreError> {
        let begun = self.without_waiting(|connection| {
            connection
                .prepare_cached(
                    "INSERT INTO operations (kind, target, began_at) VALUES (?1, ?2, ?3)",
                )?
                .execute((kind.as_str(), target, signed(now)))?;
            Ok(connection.last_insert_rowid())
        });
        let id = begun.map_err(query("begin an operation"))?;
        Ok(OperationId(u64::try_from(id).unwrap_or_default()))
    }

    pub(crate) fn set_operation_stage(
        &self,
        id: OperationId,
        stage: &str,
    ) -> Result<(), StoreError> {
        let values = (stage, signed(id.0));
        let written = self.without_waiting(|connection| {
            connection
                .prepare_cached("UPDATE operations SET stage = ?1 WHERE id = ?2")?
                .execute(values)
        });
        written.map(drop).map_err(query("write an operation"))
    }

    pub(crate) fn set_operation_target(
        &self,
        id: OperationId,
        target: &str,
    ) -> Result<(), StoreError> {
        let values = (target, signed(id.0));
        let written = self.without_waiting(|connection| {
            connection
                .prepare_cached("UPDATE operations SET target = ?1 WHERE id = ?2")?
                .execute(values)
        });
        written
            .map(drop)
            .map_err(query("name an operation's target"))
    }

    pub(crate) fn end_operation(
        &self,
        id: OperationId,
        verdict: Verdict,
        error: Option<&str>,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let values = (verdict.as_str(), error, signed(now), signed(id.0));
        let written = self.without_waiting(|connection| {
            connection
                .prepare_cached(
                    "UPDATE operations SET outcome = ?1, error = ?2, ended_at = ?3 WHERE id = ?4",
                )?
                .execute(values)
        });
        written.map(drop).map_err(query("end an operation"))
    }

    /// Ends what an earlier daemon had begun.
    pub(crate) fn cut_off_operations(&self, now: Seconds) -> Result<usize, StoreError> {
        let cut = self.without_waiting(|connection| {
            connection.execute(
                "UPDATE operations SET outcome = ?1, ended_at = ?2 WHERE outcome IS NULL",
                (Verdict::CutOff.as_str(), signed(now)),
            )
        });
        cut.map_err(query("end the operations of an earlier daemon"))
    }

    pub(crate) fn operation(&self, id: OperationId) -> Result<Option<OperationRow>, StoreError> {
        let found = self
            .lock()
            .query_row(
                "SELECT * FROM operations WHERE id = ?1",
                [signed(id.0)],
                |row| Ok(operation(row)),
            )
            .optional()
            .map_err(query("read an operation"))?;
        found.transpose()
    }

    /// All operations that are remembered, by age.
    pub(crate) fn operations(&self) -> Result<Vec<OperationRow>, StoreError> {
        let failed = "list operations";
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT * FROM operations ORDER BY id")
            .map_err(query(failed))?;
        let mut rows = statement.query([]).map_err(query(failed))?;
        let mut operations = Vec::new();
        while let Some(row) = rows.next().map_err(query(failed))? {
            operations.push(operation(row)?);
        }
        Ok(operations)
    }
}

fn operation(row: &Row<'_>) -> Result<OperationRow, StoreError> {
    let kind = column::<String>(row, "kind")?;
    let ended_at = column::<Option<i64>>(row, "ended_at")?;
    Ok(OperationRow {
        id: OperationId(unsigned(row, "id")?),
        kind: parse("kind of an operation", &kind, OperationKind::parse)?,
        target: column(row, "target")?,
        stage: column(row, "stage")?,
        began_at: unsigned(row, "began_at")?,
        ended_at: ended_at.map(|at| u64::try_from(at).unwrap_or_default()),
        verdict: match column::<Option<String>>(row, "outcome")? {
            None => None,
            Some(word) => Some(parse("outcome of an operation", &word, Verdict::parse)?),
        },
        error: column(row, "error")?,
        progress: None,
    })
}
