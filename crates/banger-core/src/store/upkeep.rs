//! The columns of a VM that its own upkeep writes, and single facts. Knows no policy.

use rusqlite::{OptionalExtension, Row, named_params};

use super::{
    Store, StoreError, query,
    vms::{column, parse, signed, unsigned},
};
use crate::{
    name::VmId,
    upkeep::{IdleStop, Life, Upkeep},
};

impl Store {
    /// Records how far a VM's upkeep has come.
    pub fn set_vm_life(&self, id: VmId, life: Life) -> Result<(), StoreError> {
        let changed = self
            .lock()
            .execute(
                "UPDATE vms SET stopped = :stopped, restarts = :restarts, restart_at = :restart_at,
                        touched_at = :touched_at WHERE id = :id",
                named_params! {
                    ":id": id.to_string(),
                    ":stopped": life.stopped,
                    ":restarts": life.restarts,
                    ":restart_at": life.restart_at.map(signed),
                    ":touched_at": life.touched_at.map(signed),
                },
            )
            .map_err(query("record a VM's upkeep"))?;
        if changed == 1 {
            Ok(())
        } else {
            Err(StoreError::NoVm(id))
        }
    }

    /// Records a fact, and gives back what it was before.
    pub fn set_fact(&self, name: &str, value: &str) -> Result<Option<String>, StoreError> {
        let mut connection = self.lock();
        let failed = || query("record a fact");
        let transaction = connection.transaction().map_err(failed())?;
        let before = transaction
            .query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| {
                row.get(0)
            })
            .optional()
            .map_err(failed())?;
        transaction
            .execute(
                "INSERT INTO facts (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [name, value],
            )
            .map_err(failed())?;
        transaction.commit().map_err(failed())?;
        Ok(before)
    }
}

pub(super) fn upkeep(row: &Row<'_>) -> Result<Upkeep, StoreError> {
    let restart: String = column(row, "restart")?;
    Ok(Upkeep {
        restart: parse("restart policy", &restart, |text| text.parse().ok())?,
        autostart: column(row, "autostart")?,
        idle_stop: IdleStop::of_seconds(seconds(row, "idle_stop")?),
    })
}

pub(super) fn life(row: &Row<'_>) -> Result<Life, StoreError> {
    let restarts = unsigned(row, "restarts")?;
    Ok(Life {
        stopped: column(row, "stopped")?,
        restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
        restart_at: seconds(row, "restart_at")?,
        touched_at: seconds(row, "touched_at")?,
    })
}

fn seconds(row: &Row<'_>, name: &str) -> Result<Option<u64>, StoreError> {
    let value: Option<i64> = column(row, name)?;
    Ok(value.map(|value| u64::try_from(value).unwrap_or_default()))
}
