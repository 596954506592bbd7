//! The configuration's text: what it says, what is wrong with it, and how it changes while everything that
//! people wrote around it stays. Text goes in, text comes out; opens no file.

use std::fmt;

use banger_api::config::{self, Found, Key, UnknownKey, WrongForm};
use toml_edit::{Document, DocumentMut, Item, TableLike, TomlError, Value};

/// A key that the text sets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// With the name behind it, where it takes one.
    pub(crate) name: String,
    pub(crate) found: Found,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Why a text cannot be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Unknown(#[from] UnknownKey),
    #[error(transparent)]
    Form(#[from] WrongForm),
    #[error("the file is not valid")]
    Invalid(#[from] Box<TomlError>),
    #[error("{0} is no table in the file")]
    NoTable(String),
    #[error("the file does not set {0}")]
    NotSet(String),
}

/// Everything that a text sets, and everything that is wrong with it.
pub(crate) fn read(text: &str) -> (Vec<Entry>, Vec<Problem>) {
    let mut reading = Reading {
        text,
        entries: Vec::new(),
        problems: Vec::new(),
    };
    match Document::parse(text) {
        Ok(document) => reading.table("", document.as_table()),
        Err(error) => {
            let line = error.span().map_or(1, |span| reading.line(span.start));
            let what = error.message().to_owned();
            reading.problems.push(Problem { line, what });
        }
    }
    (reading.entries, reading.problems)
}

struct Reading<'a> {
    text: &'a str,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn table(&mut self, above: &str, table: &dyn TableLike) {
        for (key, item) in table.iter() {
            let name = format!("{above}{key}");
            match item.as_table_like() {
                Some(table) if config::is_table(&name) => self.table(&format!("{name}."), table),
                Some(_) | None => {
                    let span = table
                        .key(key)
                        .and_then(toml_edit::Key::span)
                        .or(item.span());
                    let line = span.map_or(1, |span| self.line(span.start));
                    self.item(name, item, line);
                }
            }
        }
    }

    fn item(&mut self, name: String, item: &Item, line: usize) {
        let found = found(item);
        let checked = config::find(&name).map_err(|error| error.to_string());
        let checked = checked.and_then(|key| key.check(&found).map_err(|error| error.to_string()));
        match checked {
            Ok(()) => self.entries.push(Entry { name, found, line }),
            Err(what) => self.problems.push(Problem { line, what }),
        }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        before.filter(|byte| **byte == b'\n').count() + 1
    }
}

fn found(item: &Item) -> Found {
    match item.as_value() {
        Some(Value::String(text)) => Found::Text(text.value().clone()),
        Some(Value::Integer(number)) => Found::Number(*number.value()),
        Some(Value::Boolean(value)) => Found::Bool(*value.value()),
        Some(Value::Array(array)) => {
            let texts = array.iter().map(|value| value.as_str().map(str::to_owned));
            texts
                .collect::<Option<_>>()
                .map_or(Found::Other, Found::Texts)
        }
        Some(Value::Float(_) | Value::Datetime(_) | Value::InlineTable(_)) | None => Found::Other,
    }
}

/// The text with a key set.
pub(crate) fn set(text: &str, name: &str, words: &[String]) -> Result<String, ChangeError> {
    let key = config::find(name)?;
    let found = key.parse(words);
    key.check(&found)?;
    let mut document = parse(text)?;
    let (tables, last) = path(key, name);
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for part in &tables {
        let below = table.entry(part).or_insert_with(toml_edit::table);
        let no_table = || ChangeError::NoTable(tables.join("."));
        table = below.as_table_like_mut().ok_or_else(no_table)?;
    }
    let mut value = value(&found);
    let item = table.entry(last).or_insert(Item::None);
    if let Some(old) = item.as_value() {
        // The remark behind it is still true, as far as anybody knows.
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
    Ok(document.to_string())
}

/// The text without a key.
pub(crate) fn unset(text: &str, name: &str) -> Result<String, ChangeError> {
    let key = config::find(name)?;
    let mut document = parse(text)?;
    let (tables, last) = path(key, name);
    let mut table: Option<&mut dyn TableLike> = Some(document.as_table_mut());
    for part in tables {
        table = table.and_then(|table| table.get_mut(part)?.as_table_like_mut());
    }
    let removed = table.and_then(|table| table.remove(last));
    removed.ok_or_else(|| ChangeError::NotSet(name.to_owned()))?;
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut, ChangeError> {
    let parsed: Result<DocumentMut, TomlError> = text.parse();
    parsed.map_err(|error| Box::new(error).into())
}

/// The tables that a key is in, and what it is called there. A name that it takes may have dots.
fn path<'a>(key: &'static Key, name: &'a str) -> (Vec<&'static str>, &'a str) {
    let mut parts: Vec<&str> = key.name.split('.').collect();
    match name
        .strip_prefix(key.name)
        .and_then(|behind| behind.strip_prefix('.'))
    {
        Some(behind) => (parts, behind),
        None => {
            parts.pop();
            let from = key.name.rfind('.').map_or(0, |dot| dot + 1);
            (parts, &name[from..])
        }
    }
}

fn value(found: &Found) -> Value {
    match found {
        Found::Text(text) => text.as_str().into(),
        Found::Number(number) => (*number).into(),
        Found::Bool(value) => (*value).into(),
        Found::Texts(texts) => texts.iter().map(String::as_str).collect(),
        Found::Other => unreachable!("no key has this form"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# mine
vmm = \"qemu\" # until there is KVM

[vm_defaults]
# plenty
memory = \"4G\"

[registries.mirrors]
\"docker.io\" = \"mirror:5000\"
";

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_a_text_sets_is_found_with_its_line() {
        let (entries, problems) = read(TEXT);
        assert_eq!(problems, []);
        let told: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.line))
            .collect();
        let expected = [
            ("vmm", 2),
            ("vm_defaults.memory", 6),
            ("registries.mirrors.docker.io", 9),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_line() {
        let text = "vmm = \"bochs\"\ndefualt_image = \"a\"\n\n[vm_defaults]\nmemory = 4\n[limit]\nratio = 1\n";
        let told: Vec<_> = read(text).1.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "line 1: vmm is one of qemu, firecracker",
                "line 2: there is no key defualt_image; did you mean default_image?",
                "line 5: vm_defaults.memory is a size in quotes, as in \"512M\" or \"8G\"",
                "line 6: there is no key limit",
            ]
        );
        let (_, problems) = read("vmm = \n");
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn a_change_leaves_everything_else_as_it_was() {
        let check = |name: &str, value: &str, from: &str, to: &str| {
            let changed = set(TEXT, name, &words(value)).unwrap();
            assert_eq!(changed, TEXT.replace(from, to), "{name}");
        };
        check("vmm", "firecracker", "\"qemu\"", "\"firecracker\"");
        check("vm_defaults.memory", "8G", "\"4G\"", "\"8G\"");
        check("vm_defaults.vcpus", "3", "\"4G\"\n", "\"4G\"\nvcpus = 3\n");
        check(
            "registries.mirrors.docker.io",
            "other:1",
            "mirror:5000",
            "other:1",
        );
        let added = set(TEXT, "limits.ratio", &words("7")).unwrap();
        assert_eq!(added, format!("{TEXT}\n[limits]\nratio = 7\n"));
        let added = set("", "kernel_catalogs", &words("/a /b")).unwrap();
        assert_eq!(added, "kernel_catalogs = [\"/a\", \"/b\"]\n");
        let gone = unset(TEXT, "vm_defaults.memory").unwrap();
        assert!(!gone.contains("memory") && gone.contains("until there is KVM"));
    }

    #[test]
    fn what_is_wrong_is_not_written() {
        let refused = |name: &str, value: &str| set(TEXT, name, &words(value)).unwrap_err();
        assert!(matches!(refused("vmm", "bochs"), ChangeError::Form(_)));
        assert!(matches!(refused("vmn", "qemu"), ChangeError::Unknown(_)));
        assert!(matches!(
            set("=", "vmm", &words("qemu")),
            Err(ChangeError::Invalid(_))
        ));
        assert!(matches!(
            unset(TEXT, "log_level"),
            Err(ChangeError::NotSet(_))
        ));
    }
}
