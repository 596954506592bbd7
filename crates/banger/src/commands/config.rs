//! `config`: what the daemon is told by its file. Works without a daemon; one that serves is asked to take up
//! what was changed. The file is replaced as a whole.

use std::{
    env, fs, io,
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use banger_api::{
    config::{Found, KEYS, Key, Otherwise, find},
    daemon::Reloaded,
    places::Places,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::config::ConfigCommand,
    config_file::{self, Entry, Problem},
    daemon::{DaemonError, connect},
    output, programs,
    report::{Failure, SUCCESS},
    table::table,
};

pub(super) fn run(command: ConfigCommand, places: &Places) -> Result<u8, Failure> {
    let file = places.config_file();
    match command {
        ConfigCommand::Show(args) => show(&file, args.json),
        ConfigCommand::Get(args) => get(&file, &args.key),
        ConfigCommand::Set(args) => {
            let text = config_file::set(&text(&file)?, &args.key, &args.value)?;
            write(&file, &text, places)
        }
        ConfigCommand::Unset(args) => {
            let text = config_file::unset(&text(&file)?, &args.key)?;
            write(&file, &text, places)
        }
        ConfigCommand::Edit => edit(&file, places),
        ConfigCommand::Check(args) => check(&args.file.unwrap_or(file)),
    }
}

/// What holds of a key, and where that comes from.
#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: Value,
    /// `default`, `host`, `file` or `environment`.
    origin: &'static str,
    /// Of the file, where that says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    about: &'static str,
}

fn show(file: &Path, json: bool) -> Result<u8, Failure> {
    let (entries, problems) = config_file::read(&text(file)?);
    let settings: Vec<_> = settings(&entries, |name| env::var(name).ok());
    if json {
        output::print_json(&settings)?;
    } else {
        output::print(&overview(&settings))?;
        output::remark(format!("the file is {}", file.display()));
    }
    for problem in problems {
        output::remark(format!("{}: {problem}", file.display()));
    }
    Ok(SUCCESS)
}

fn get(file: &Path, name: &str) -> Result<u8, Failure> {
    let key = find(name).map_err(config_file::ChangeError::from)?;
    let (entries, _) = config_file::read(&text(file)?);
    let settings = settings(&entries, |name| env::var(name).ok());
    let found = settings.into_iter().find(|setting| setting.key == name);
    let value = match found {
        Some(setting) => setting.value,
        // A name that nothing is set for.
        None => default(key).0,
    };
    output::print(&format!("{}\n", shown(&value)))?;
    Ok(SUCCESS)
}

fn settings(entries: &[Entry], variable: impl Fn(&str) -> Option<String>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for key in KEYS {
        let of_key = |entry: &&Entry| find(&entry.name) == Ok(key);
        let set: Vec<_> = entries.iter().filter(of_key).collect();
        let told = key.variable.and_then(&variable);
        let setting = |name: &str, value, origin, line| Setting {
            key: name.to_owned(),
            value,
            origin,
            line,
            about: key.about,
        };
        if let Some(value) = told {
            settings.push(setting(key.name, value.into(), "environment", None));
        } else if set.is_empty() {
            let (value, origin) = default(key);
            settings.push(setting(key.name, value, origin, None));
        }
        for entry in set {
            let value = document(&entry.found);
            settings.push(setting(&entry.name, value, "file", Some(entry.line)));
        }
    }
    settings
}

fn default(key: &Key) -> (Value, &'static str) {
    match key.default {
        Otherwise::Value(text) => (document(&key.parse(&[text.to_owned()])), "default"),
        Otherwise::Host(words) => (words.into(), "host"),
        Otherwise::Nothing => (Value::Null, "default"),
    }
}

fn document(found: &Found) -> Value {
    match found {
        Found::Text(text) => json!(text),
        Found::Number(number) => json!(number),
        Found::Bool(value) => json!(value),
        Found::Texts(texts) => json!(texts),
        Found::Other => Value::Null,
    }
}

/// As people read it: a text without quotes, a list on one line.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn overview(settings: &[Setting]) -> String {
    let rows: Vec<_> = settings
        .iter()
        .map(|setting| {
            let origin = match setting.line {
                Some(line) => format!("file, line {line}"),
                None => setting.origin.to_owned(),
            };
            [setting.key.clone(), shown(&setting.value), origin]
        })
        .collect();
    table(["KEY", "VALUE", "ORIGIN"], &rows)
}

fn check(file: &Path) -> Result<u8, Failure> {
    let problems = config_file::read(&text(file)?).1;
    if problems.is_empty() {
        output::remark(format!("{} is fine", file.display()));
        return Ok(SUCCESS);
    }
    tell(file, &problems);
    Err(Failure::Told)
}

fn tell(file: &Path, problems: &[Problem]) {
    for problem in problems {
        output::remark(format!("{}: {problem}", file.display()));
    }
}

/// As `visudo` does: on a copy, which becomes the file once it is right.
fn edit(file: &Path, places: &Places) -> Result<u8, Failure> {
    let file = followed(file);
    let copy = beside(&file, "edited");
    put(&copy, &text(&file)?)?;
    let edited = edit_until_right(&copy);
    if !matches!(edited, Ok(true)) {
        // A copy that stays is in nobody's way.
        let _ = fs::remove_file(&copy);
        output::remark("nothing was changed");
        return edited.map(|_| SUCCESS);
    }
    rename(&copy, &file)?;
    take_effect(places)?;
    Ok(SUCCESS)
}

fn edit_until_right(copy: &Path) -> Result<bool, Failure> {
    loop {
        programs::edit(copy)?;
        let problems = config_file::read(&text(copy)?).1;
        if problems.is_empty() {
            return Ok(true);
        }
        tell(copy, &problems);
        if !io::stdin().is_terminal() {
            return Err(Failure::Told);
        }
        output::prompt("edit it again? [Y/n] ");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        let read = read.map_err(|source| Failure::Host {
            operation: "read the answer",
            source,
        })?;
        if read == 0 || matches!(answer.trim(), "n" | "N" | "no") {
            return Ok(false);
        }
    }
}

/// A file that is not there is an empty one.
fn text(file: &Path) -> Result<String, Failure> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(failed("read", file)),
    }
}

fn write(file: &Path, text: &str, places: &Places) -> Result<u8, Failure> {
    let file = followed(file);
    let copy = beside(&file, "new");
    put(&copy, text)?;
    rename(&copy, &file)?;
    take_effect(places)?;
    Ok(SUCCESS)
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed("make", directory))?;
    }
    let written = fs::File::create(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(failed("write", path))
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(failed("replace", to))
}

/// Where the file is whose name this is: those who keep it elsewhere have a link.
fn followed(file: &Path) -> PathBuf {
    fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())
}

fn beside(file: &Path, word: &str) -> PathBuf {
    file.with_extension(format!("toml.{word}"))
}

/// Has the daemon take up what it can, where one serves. The file is what counts: what goes wrong now
/// goes wrong again, and is told, when the next daemon starts.
fn take_effect(places: &Places) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Host {
            operation: "start the runtime",
            source,
        })?;
    let reloaded = runtime.block_on(async {
        let connected = connect(places).await?;
        Ok::<_, Failure>(connected.client.reload_daemon().await?)
    });
    match reloaded {
        Ok(reloaded) => {
            for line in told(&reloaded) {
                output::remark(line);
            }
        }
        Err(Failure::Daemon(DaemonError::NotRunning)) => {
            output::remark("the daemon reads it when it starts");
        }
        Err(failure) => output::remark(failure.render().trim_end()),
    }
    Ok(())
}

/// What became of a change.
fn told(reloaded: &Reloaded) -> Vec<String> {
    let Reloaded {
        taken_up,
        after_restart,
    } = reloaded;
    let now = (!taken_up.is_empty()).then(|| format!("{} holds now", taken_up.join(", ")));
    let later = (!after_restart.is_empty()).then(|| {
        let names = after_restart.join(", ");
        format!("{names} holds from the daemon's next start on: `banger daemon stop`; VMs go on")
    });
    now.into_iter().chain(later).collect()
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::File {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_change_is_told_by_when_it_holds() {
        let check = |taken_up: &[&str], after_restart: &[&str], lines: &[&str]| {
            let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            let told = told(&Reloaded {
                taken_up: names(taken_up),
                after_restart: names(after_restart),
            });
            assert_eq!(told, lines);
        };
        let later = "vmm holds from the daemon's next start on: `banger daemon stop`; VMs go on";
        check(&[], &[], &[]);
        check(&["a", "b"], &[], &["a, b holds now"]);
        check(&["a"], &["vmm"], &["a holds now", later]);
    }

    #[test]
    fn every_setting_says_where_it_comes_from() {
        let (entries, _) = config_file::read("vmm = \"qemu\"\nregistries.mirrors.a = \"b\"\n");
        let variable = |name: &str| (name == "BANGER_LOG_LEVEL").then(|| "debug".to_owned());
        let settings = settings(&entries, variable);
        let check = |key: &str, value: &str, origin: &str| {
            let setting = settings.iter().find(|setting| setting.key == key);
            let setting = setting.unwrap_or_else(|| panic!("{key}"));
            assert_eq!(
                (shown(&setting.value).as_str(), setting.origin),
                (value, origin)
            );
        };
        check("vmm", "qemu", "file");
        check("log_level", "debug", "environment");
        check("cache_budget", "10G", "default");
        check("qemu_bin", "qemu-system-x86_64 of the PATH", "host");
        check("kernel_catalogs", "-", "default");
        check("registries.mirrors.a", "b", "file");
        assert_eq!(settings.len(), KEYS.len());
    }
}
