//! The journal of this daemon: writes into the store, and tells what became of the acts that an
//! earlier daemon left half-done. Undoes nothing itself.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use tracing::{info, warn};

use super::{Act, Entry, Journal, JournalError, Owner, Stage};
use crate::{
    name::VmName,
    record::Seconds,
    store::{JournalRow, Store, StoreError},
};

/// A write of the journal, seen from outside.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    pub act: &'a Act,
    pub entry: Entry,
    /// Whether it is past.
    pub written: bool,
}

impl fmt::Display for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.written { "after" } else { "before" };
        write!(f, "{when} {} is {}", self.act.word(), self.entry)
    }
}

/// Whoever wants to be there when the journal is written: those who look for the moments at
/// which a daemon must be able to end.
pub trait Watch: Send + Sync {
    fn at(&self, moment: Moment<'_>);
}

/// What became of an act that an earlier daemon left half-done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub owner: Owner,
    pub act: Act,
    pub was: Stage,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done after all.
    Finished,
    Undone,
    /// It could be neither; the next daemon tries again.
    Left,
}

impl Outcome {
    /// The word in documents and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Undone => "undone",
            Self::Left => "left",
        }
    }
}

/// What this daemon found when it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// VMs whose machines went on without a daemon.
    pub adopted: Vec<VmName>,
    pub settled: Vec<Settled>,
}

#[derive(Debug, Default)]
struct Found {
    halves: Vec<JournalRow>,
    report: Report,
}

/// All pages of the journal.
pub struct Ledger {
    store: Arc<Store>,
    clock: fn() -> Seconds,
    watch: Option<Arc<dyn Watch>>,
    found: Mutex<Found>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the journal in the store, and looks for what is half-done in it.
    pub fn open(store: Arc<Store>, clock: fn() -> Seconds) -> Result<Self, StoreError> {
        let mut halves = store.journal()?;
        halves.retain(|row| row.stage != Stage::Confirmed);
        let found = Found {
            halves,
            report: Report::default(),
        };
        Ok(Self {
            store,
            clock,
            watch: None,
            found: Mutex::new(found),
        })
    }

    /// Shows all that is written to somebody.
    #[must_use]
    pub fn watched_by(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Where the acts for an owner are written.
    #[must_use]
    pub fn page(self: &Arc<Self>, owner: Owner) -> Page {
        Page {
            ledger: self.clone(),
            owner,
        }
    }

    /// Everything that is written now.
    pub fn rows(&self) -> Result<Vec<JournalRow>, StoreError> {
        self.store.journal()
    }

    /// What this daemon found when it began.
    #[must_use]
    pub fn report(&self) -> Report {
        self.found().report.clone()
    }

    /// What an earlier daemon left half-done for an owner, until it is settled.
    pub(crate) fn halves_of(&self, owner: &Owner) -> Vec<JournalRow> {
        let found = self.found();
        let halves = found.halves.iter();
        halves.filter(|row| row.owner == *owner).cloned().collect()
    }

    /// The owners of half-done acts.
    pub(crate) fn owners_of_halves(&self) -> Vec<Owner> {
        let mut owners: Vec<Owner> = Vec::new();
        for row in &self.found().halves {
            if !owners.contains(&row.owner) {
                owners.push(row.owner.clone());
            }
        }
        owners
    }

    /// Tells what became of an owner's half-done acts.
    pub(crate) fn settle(&self, owner: &Owner) {
        let halves = self.halves_of(owner);
        if halves.is_empty() {
            return;
        }
        let now = match self.store.journal_of(owner) {
            Ok(now) => now,
            Err(error) => {
                warn!(%error, "cannot read the journal");
                return;
            }
        };
        let mut found = self.found();
        found.halves.retain(|row| row.owner != *owner);
        for half in halves {
            let stage = now.iter().find(|row| row.act == half.act);
            let outcome = match stage.map(|row| row.stage) {
                None => Outcome::Undone,
                Some(Stage::Confirmed) => Outcome::Finished,
                Some(Stage::Intended | Stage::Undoing) => Outcome::Left,
            };
            let (was, outcome_word) = (half.stage.as_str(), outcome.as_str());
            info!(act = %half.act, was, "an act of an earlier daemon is {outcome_word}");
            found.report.settled.push(Settled {
                owner: half.owner,
                act: half.act,
                was: half.stage,
                outcome,
            });
        }
    }

    /// Tells that a machine went on without a daemon.
    pub(crate) fn adopted(&self, vm: VmName) {
        self.found().report.adopted.push(vm);
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found
            .lock()
            .expect("no holder of the ledger's lock panics")
    }

    fn show(&self, moment: Moment<'_>) {
        if let Some(watch) = &self.watch {
            watch.at(moment);
        }
    }
}

/// An act that passes. Its end strikes it, also where it was given up.
#[derive(Debug)]
pub(crate) struct Passing {
    page: Page,
    act: Act,
}

impl Passing {
    pub(crate) fn begin(page: Page, act: Act) -> Result<Self, JournalError> {
        page.journal().intend(&act)?;
        Ok(Self { page, act })
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Err(error) = self.page.journal().strike(&self.act) {
            warn!(%error, "an entry of the journal stays open");
        }
    }
}

/// The acts for one owner.
#[derive(Debug, Clone)]
pub struct Page {
    ledger: Arc<Ledger>,
    owner: Owner,
}

impl Page {
    /// As a host is given it.
    #[must_use]
    pub fn journal(&self) -> &dyn Journal {
        self
    }

    /// What is written on it.
    pub(crate) fn rows(&self) -> Result<Vec<JournalRow>, StoreError> {
        self.ledger.store.journal_of(&self.owner)
    }

    /// Confirms an intention where its path is there, and strikes it where it is not, or where it
    /// was only to pass.
    pub(crate) fn judge(&self, act: &Act) -> Result<(), JournalError> {
        if act.is_passing() {
            return self.journal().strike(act);
        }
        match act.trace().is_none_or(std::path::Path::exists) {
            true => self.journal().confirm(act),
            false => self.journal().strike(act),
        }
    }
}

impl Journal for Page {
    fn write(&self, act: &Act, entry: Entry) -> Result<(), JournalError> {
        let Ledger { store, clock, .. } = &*self.ledger;
        let moment = |written| Moment {
            act,
            entry,
            written,
        };
        self.ledger.show(moment(false));
        let written = store.write_journal(&self.owner, act, entry, clock());
        written.map_err(|source| JournalError {
            act: act.clone(),
            entry,
            source: Box::new(source),
        })?;
        self.ledger.show(moment(true));
        Ok(())
    }
}
