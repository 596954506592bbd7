//! Rows of catalogs: who is trusted about what, and how far they were read.

use banger_image::catalog::{Place, PublicKey};
use rusqlite::{OptionalExtension, Row, ffi};

use super::{
    Store, StoreError, breaches, query,
    vms::{column, parse, signed, unsigned},
};
use crate::{name::CatalogName, record::Seconds};

/// What is recorded of a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogRow {
    pub name: CatalogName,
    pub place: Place,
    pub key: PublicKey,
    /// Of the newest that was seen; an older one is refused.
    pub serial: u64,
    /// The newest itself, signature and all.
    pub note: String,
    pub added_at: Seconds,
    /// When it was last looked at.
    pub seen_at: Seconds,
}

impl Store {
    /// Trusts a catalog from now on, behind those that were added before.
    pub fn insert_catalog(&self, catalog: &CatalogRow) -> Result<(), StoreError> {
        let inserted = self.lock().execute(
            "INSERT INTO catalogs (name, place, key, serial, note, added_at, seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (
                catalog.name.as_str(),
                catalog.place.to_string(),
                catalog.key.to_string(),
                signed(catalog.serial),
                &catalog.note,
                signed(catalog.added_at),
                signed(catalog.seen_at),
            ),
        );
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if breaches(&error, ffi::SQLITE_CONSTRAINT_UNIQUE) => {
                Err(StoreError::CatalogTaken(catalog.name.clone()))
            }
            Err(error) => Err(query("insert a catalog")(error)),
        }
    }

    /// Remembers the newest state of a catalog. One that is older than the newest changes nothing:
    /// two requests may have looked at the same time.
    pub fn renew_catalog(
        &self,
        name: &CatalogName,
        serial: u64,
        note: &str,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let renewed = self.lock().execute(
            "UPDATE catalogs SET serial = ?2, note = ?3, seen_at = ?4
             WHERE name = ?1 AND serial <= ?2",
            (name.as_str(), signed(serial), note, signed(now)),
        );
        renewed.map(drop).map_err(query("renew a catalog"))
    }

    /// Trusts a catalog no longer.
    pub fn delete_catalog(&self, name: &CatalogName) -> Result<(), StoreError> {
        let deleted = self
            .lock()
            .execute("DELETE FROM catalogs WHERE name = ?1", [name.as_str()])
            .map_err(query("delete a catalog"))?;
        match deleted {
            0 => Err(StoreError::NoCatalog(name.clone())),
            _ => Ok(()),
        }
    }

    pub fn catalog(&self, name: &CatalogName) -> Result<Option<CatalogRow>, StoreError> {
        let connection = self.lock();
        let found = connection
            .query_row(
                "SELECT * FROM catalogs WHERE name = ?1",
                [name.as_str()],
                |row| Ok(catalog_row(row)),
            )
            .optional()
            .map_err(query("read a catalog"))?;
        found.transpose()
    }

    /// All catalogs, in the order in which they were added.
    pub fn catalogs(&self) -> Result<Vec<CatalogRow>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT * FROM catalogs ORDER BY position")
            .map_err(query("list catalogs"))?;
        let mut rows = statement.query([]).map_err(query("list catalogs"))?;
        let mut catalogs = Vec::new();
        while let Some(row) = rows.next().map_err(query("list catalogs"))? {
            catalogs.push(catalog_row(row)?);
        }
        Ok(catalogs)
    }
}

fn catalog_row(row: &Row<'_>) -> Result<CatalogRow, StoreError> {
    let text = |name: &'static str| column::<String>(row, name);
    Ok(CatalogRow {
        name: parse("catalog name", &text("name")?, |text| text.parse().ok())?,
        place: parse("catalog place", &text("place")?, |text| text.parse().ok())?,
        key: parse("catalog key", &text("key")?, |text| text.parse().ok())?,
        serial: unsigned(row, "serial")?,
        note: text("note")?,
        added_at: unsigned(row, "added_at")?,
        seen_at: unsigned(row, "seen_at")?,
    })
}
