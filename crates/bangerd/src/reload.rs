//! A configuration that changes while the daemon serves: what can be taken up at once is, and the rest is
//! told. Which keys those are is `banger-api`'s list; what they mean is the wiring's.

use std::sync::{Mutex, PoisonError};

use banger_api::{config::LIVE, daemon::Reloaded};

use crate::{
    config::{Config, Settings, settings},
    lifecycle::Fatal,
    log::LogLevel,
    wiring::{self, App},
};

/// What this daemon goes by.
pub(crate) struct Held {
    settings: Mutex<Settings>,
    level: LogLevel,
}

impl Held {
    pub(crate) fn new(text: &str, level: LogLevel) -> Self {
        Self {
            settings: Mutex::new(settings(text)),
            level,
        }
    }
}

/// Reads the file, and takes up what of it can be.
pub(crate) fn reload(app: &App) -> Result<Reloaded, Fatal> {
    let (config, text) = Config::read(&app.places.config_file())?;
    let new = settings(&text);
    // Nothing in here panics while it is held.
    let held = app.held.settings.lock();
    let mut held = held.unwrap_or_else(PoisonError::into_inner);
    let reloaded = compare(&held, &new);
    if !reloaded.taken_up.is_empty() {
        wiring::take_up(app, &config)?;
        app.held.level.set(config.log_level())?;
    }
    for name in &reloaded.taken_up {
        match new.get(name) {
            Some(value) => held.insert(name.clone(), value.clone()),
            None => held.remove(name),
        };
    }
    Ok(reloaded)
}

/// What is different.
fn compare(held: &Settings, new: &Settings) -> Reloaded {
    let mut reloaded = Reloaded::default();
    let gone = held.keys().filter(|name| !new.contains_key(*name));
    let mut names: Vec<_> = gone.chain(new.keys()).collect();
    names.sort();
    for name in names {
        if held.get(name) == new.get(name) {
            continue;
        }
        match LIVE.contains(&name.as_str()) {
            true => reloaded.taken_up.push(name.clone()),
            false => reloaded.after_restart.push(name.clone()),
        }
    }
    reloaded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_is_told_by_when_it_holds() {
        let check = |held: &str, new: &str, taken_up: &[&str], after_restart: &[&str]| {
            let reloaded = compare(&settings(held), &settings(new));
            assert_eq!(reloaded.taken_up, taken_up, "{held} {new}");
            assert_eq!(reloaded.after_restart, after_restart, "{held} {new}");
        };
        check("", "", &[], &[]);
        check("vmm = \"qemu\"", "vmm = \"qemu\" # yes", &[], &[]);
        let sizes = "[vm_defaults]\nmemory = \"1G\"";
        check("vmm = \"qemu\"", sizes, &["vm_defaults.memory"], &["vmm"]);
        check(sizes, "", &["vm_defaults.memory"], &[]);
        let mirror = "[registries.mirrors]\n\"docker.io\" = \"mirror:5000\"";
        check("", mirror, &[], &["registries.mirrors.docker.io"]);
    }
}
