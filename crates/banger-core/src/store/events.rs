//! Rows of events. Most are written by triggers, with the rows that they tell of (`events.sql`);
//! what has no row is noted here. Knows no follower, only when one should look again.

use rusqlite::{Connection, OptionalExtension, Row, hooks::Action, named_params};
use tokio::sync::watch;

use super::{
    Store, StoreError, query,
    vms::{column, parse, signed, unsigned},
};
use crate::{
    events::{Event, EventFilter, Subject, What},
    name::VmId,
};

/// Wakes those who follow, whenever an event was written.
pub(super) fn watched(connection: &mut Connection) -> rusqlite::Result<watch::Receiver<()>> {
    let (written, watched) = watch::channel(());
    let hook = move |action: Action, _: &str, table: &str, _: i64| {
        if action == Action::SQLITE_INSERT && table == "events" {
            written.send_replace(());
        }
    };
    connection.update_hook(Some(hook))?;
    Ok(watched)
}

impl Store {
    /// Tells of what has no row of its own.
    pub fn note(
        &self,
        subject: Subject,
        name: &str,
        what: What,
        detail: Option<&str>,
    ) -> Result<(), StoreError> {
        self.lock()
            .execute(
                "INSERT INTO events (subject, name, what, detail) VALUES (?1, ?2, ?3, ?4)",
                (subject.as_str(), name, what.as_str(), detail),
            )
            .map(drop)
            .map_err(query("note an event"))
    }

    /// The next events, by age.
    pub fn events(&self, filter: &EventFilter, most: u32) -> Result<Vec<Event>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT * FROM events WHERE seq > :after
                 AND (:vm IS NULL OR vm = :vm) ORDER BY seq LIMIT :most",
            )
            .map_err(query("read events"))?;
        let mut rows = statement
            .query(named_params! {
                ":after": signed(filter.after),
                ":vm": filter.vm.map(|id| id.to_string()),
                ":most": most,
            })
            .map_err(query("read events"))?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(query("read events"))? {
            events.push(event(row)?);
        }
        Ok(events)
    }

    /// What the filter's `after` has to be for so many events at most.
    pub fn events_tail(&self, filter: &EventFilter, most: u32) -> Result<u64, StoreError> {
        let before: Option<i64> = self
            .lock()
            .query_row(
                "SELECT seq FROM events WHERE seq > :after
                 AND (:vm IS NULL OR vm = :vm) ORDER BY seq DESC LIMIT 1 OFFSET :most",
                named_params! {
                    ":after": signed(filter.after),
                    ":vm": filter.vm.map(|id| id.to_string()),
                    ":most": most,
                },
                |row| row.get(0),
            )
            .optional()
            .map_err(query("count events"))?;
        let before = before.map(|seq| u64::try_from(seq).unwrap_or_default());
        Ok(before.unwrap_or(filter.after))
    }

    /// The number before that of the first event that is not older than this; of the latest, where all
    /// are.
    pub fn event_before(&self, ms: u64) -> Result<u64, StoreError> {
        let first: Option<i64> = self
            .lock()
            .query_row(
                "SELECT min(seq) FROM events WHERE at >= ?1",
                [signed(ms)],
                |row| row.get(0),
            )
            .map_err(query("look for an event"))?;
        match first {
            Some(seq) => Ok(u64::try_from(seq - 1).unwrap_or_default()),
            None => self.last_event(),
        }
    }

    /// Makes the latest event older.
    #[cfg(test)]
    pub(crate) fn backdate_event(&self, ms: u64) {
        let latest = "UPDATE events SET at = at - ?1 WHERE seq = (SELECT max(seq) FROM events)";
        let changed = self.lock().execute(latest, [signed(ms)]);
        changed.expect("an event can be changed");
    }

    /// The number of the latest event; 0 before the first.
    pub fn last_event(&self) -> Result<u64, StoreError> {
        let last: Option<i64> = self
            .lock()
            .query_row("SELECT max(seq) FROM events", [], |row| row.get(0))
            .map_err(query("read the last event"))?;
        Ok(last.map_or(0, |seq| u64::try_from(seq).unwrap_or_default()))
    }

    /// The VM that was called so last: by its name, or by its id. It may be gone.
    pub fn vm_of_events(&self, target: &str) -> Result<Option<VmId>, StoreError> {
        let found: Option<String> = self
            .lock()
            .query_row(
                "SELECT vm FROM events WHERE subject = 'vm' AND (name = ?1 OR vm = ?1)
                 ORDER BY seq DESC LIMIT 1",
                [target],
                |row| row.get(0),
            )
            .optional()
            .map_err(query("look for a VM's events"))?;
        found
            .map(|id| parse("VM id", &id, |text| text.parse().ok()))
            .transpose()
    }

    /// Changes whenever an event was written.
    pub fn event_written(&self) -> watch::Receiver<()> {
        self.event_written.clone()
    }
}

fn event(row: &Row<'_>) -> Result<Event, StoreError> {
    let (subject, what): (String, String) = (column(row, "subject")?, column(row, "what")?);
    Ok(Event {
        seq: unsigned(row, "seq")?,
        at_ms: unsigned(row, "at")?,
        subject: parse("event's subject", &subject, Subject::parse)?,
        vm: match column::<Option<String>>(row, "vm")? {
            None => None,
            Some(id) => Some(parse("VM id", &id, |text| text.parse().ok())?),
        },
        name: column(row, "name")?,
        what: parse("event", &what, What::parse)?,
        detail: column(row, "detail")?,
    })
}
