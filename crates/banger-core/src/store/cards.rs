//! Rows as texts, for files that lie beside what the rows tell of: if the store is lost, they are
//! what it is made again from. A card has whatever columns its table had; what a newer table has
//! besides takes its default.

use rusqlite::{Connection, OptionalExtension, Row, params_from_iter, types::ValueRef};
use serde_json::{Map, Number, Value};

use super::{Store, StoreError, images, pools, query, snapshots, vms};
use crate::name::{ImageName, PoolName, SnapshotName, VmId};

/// The tables that have cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Vms,
    Images,
    Snapshots,
    Pools,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Vms => "vms",
            Self::Images => "images",
            Self::Snapshots => "snapshots",
            Self::Pools => "pools",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Vms => "id",
            Self::Images | Self::Snapshots | Self::Pools => "name",
        }
    }

    fn read(self, row: &Row<'_>) -> Result<(), StoreError> {
        match self {
            Self::Vms => vms::record(row).map(drop),
            Self::Images => images::image_row(row).map(drop),
            Self::Snapshots => snapshots::record(row).map(drop),
            Self::Pools => pools::record(row).map(drop),
        }
    }
}

/// A row as a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Card(Map<String, Value>);

impl Card {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.0).expect("a map is a JSON object");
        text.push('\n');
        text
    }

    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column)?.as_str()
    }

    /// With another text in a column.
    pub(crate) fn with(mut self, column: &str, text: &str) -> Self {
        self.0.insert(column.to_owned(), text.into());
        self
    }
}

impl Store {
    pub(crate) fn card_of_vm(&self, id: VmId) -> Result<Option<Card>, StoreError> {
        self.card(Table::Vms, &id.to_string())
    }

    pub(crate) fn card_of_image(&self, name: &ImageName) -> Result<Option<Card>, StoreError> {
        self.card(Table::Images, name.as_str())
    }

    pub(crate) fn card_of_snapshot(&self, name: &SnapshotName) -> Result<Option<Card>, StoreError> {
        self.card(Table::Snapshots, name.as_str())
    }

    pub(crate) fn card_of_pool(&self, name: &PoolName) -> Result<Option<Card>, StoreError> {
        self.card(Table::Pools, name.as_str())
    }

    fn card(&self, table: Table, key: &str) -> Result<Option<Card>, StoreError> {
        let connection = self.lock();
        let statement = format!("SELECT * FROM {} WHERE {} = ?1", table.name(), table.key());
        let read = || {
            let mut statement = connection.prepare_cached(&statement)?;
            statement.query_row([key], read_card).optional()
        };
        read().map_err(query("read a row for its card"))
    }

    /// Writes a card's row again. What is there already is not touched: its key is taken then. Nor is a row
    /// written that nobody could read: it would be in the way of all others.
    pub(crate) fn insert_card(&self, table: Table, card: &Card) -> Result<(), StoreError> {
        let connection = self.lock();
        let failed = || query("write a row of a card");
        let transaction = connection.unchecked_transaction().map_err(failed())?;
        insert(&transaction, table, card).map_err(failed())?;
        let written = transaction.last_insert_rowid();
        let statement = format!("SELECT * FROM {} WHERE rowid = ?1", table.name());
        transaction
            .query_row(&statement, [written], |row| Ok(table.read(row)))
            .map_err(failed())??;
        transaction.commit().map_err(failed())
    }
}

fn insert(connection: &Connection, table: Table, card: &Card) -> rusqlite::Result<usize> {
    let columns = columns(connection, table)?;
    let known: Vec<_> = columns
        .iter()
        .filter_map(|column| Some((column.as_str(), sql(card.0.get(column)?)?)))
        .collect();
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    let places = vec!["?"; known.len()].join(", ");
    let (table, names) = (table.name(), names.join(", "));
    let statement = format!("INSERT INTO {table} ({names}) VALUES ({places})");
    let values = known.into_iter().map(|(_, value)| value);
    connection.execute(&statement, params_from_iter(values))
}

fn columns(connection: &Connection, table: Table) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table.name()], |row| row.get(0))?;
    names.collect()
}

fn read_card(row: &Row<'_>) -> rusqlite::Result<Card> {
    let names = row.as_ref().column_names();
    let mut card = Map::new();
    for (index, name) in names.into_iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null | ValueRef::Blob(_) => Value::Null,
            ValueRef::Integer(number) => Value::Number(number.into()),
            ValueRef::Real(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
        };
        card.insert(name.to_owned(), value);
    }
    Ok(Card(card))
}

/// Nothing for what no column of ours holds.
fn sql(value: &Value) -> Option<rusqlite::types::Value> {
    use rusqlite::types::Value as Sql;
    match value {
        Value::Null => Some(Sql::Null),
        Value::Bool(truth) => Some(Sql::Integer((*truth).into())),
        Value::Number(number) => number
            .as_i64()
            .map(Sql::Integer)
            .or_else(|| number.as_f64().map(Sql::Real)),
        Value::String(text) => Some(Sql::Text(text.clone())),
        Value::Array(_) | Value::Object(_) => None,
    }
}
