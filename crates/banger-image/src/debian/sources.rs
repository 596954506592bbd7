//! Owns finding the mirrors that this host's own apt is set up with.
//! Parses text; only [`of_host`] reads files.

use std::path::{Path, PathBuf};

use deb822_fast::Deb822;

use super::{Mirror, Suite};

const ROOT: &str = "/etc/apt";

/// One line or stanza of apt's sources: these mirrors carry these suites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub mirrors: Vec<Mirror>,
    pub suites: Vec<String>,
}

/// The mirrors found for a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub mirror: Mirror,
    pub security_mirror: Option<Mirror>,
}

/// Why the host's own mirror is not known.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    #[error("this host's apt sources name no mirror for {suite}")]
    NoMirror { suite: Suite },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl SourcesError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoMirror { .. } | Self::Read { .. } => {
                "set debian.mirror, and debian.security_mirror, in the configuration"
            }
        }
    }
}

/// The two formats of apt's sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Stanzas,
    Lines,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "sources" => Some(Self::Stanzas),
            "list" => Some(Self::Lines),
            _ => None,
        }
    }
}

/// Reads `/etc/apt` and picks the mirrors for `suite`.
pub fn of_host(suite: &Suite) -> Result<Found, SourcesError> {
    of_directory(Path::new(ROOT), suite)
}

fn of_directory(root: &Path, suite: &Suite) -> Result<Found, SourcesError> {
    let mut paths = vec![root.join("sources.list")];
    let parts = root.join("sources.list.d");
    match std::fs::read_dir(&parts) {
        Ok(entries) => paths.extend(entries.flatten().map(|entry| entry.path())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(SourcesError::Read {
                path: parts,
                source,
            });
        }
    }
    paths.sort();
    let mut entries = Vec::new();
    for path in paths {
        if let Some(format) = Format::of(&path) {
            entries.extend(read(&path, format)?);
        }
    }
    choose(&entries, suite).ok_or_else(|| SourcesError::NoMirror {
        suite: suite.clone(),
    })
}

fn read(path: &Path, format: Format) -> Result<Vec<Entry>, SourcesError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(match format {
            Format::Stanzas => parse_stanzas(&text),
            Format::Lines => parse_lines(&text),
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(SourcesError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The first mirror of the suite, and the first of its security updates.
#[must_use]
pub fn choose(entries: &[Entry], suite: &Suite) -> Option<Found> {
    let carrying = |suite: &Suite| {
        let mut carriers = entries
            .iter()
            .filter(|e| e.suites.iter().any(|s| s == suite.as_str()));
        carriers.find_map(|e| e.mirrors.first().cloned())
    };
    Some(Found {
        mirror: carrying(suite)?,
        security_mirror: carrying(&suite.security()),
    })
}

/// Entries of a deb822 file. What is disabled, of another type or of another scheme is left out,
/// and so is a file that is not deb822 at all: apt itself is the one to complain about it.
#[must_use]
pub fn parse_stanzas(text: &str) -> Vec<Entry> {
    let Ok(stanzas) = text.parse::<Deb822>() else {
        return Vec::new();
    };
    stanzas.iter().filter_map(parse_stanza).collect()
}

fn parse_stanza(stanza: &deb822_fast::Paragraph) -> Option<Entry> {
    let words = |field: &str| -> Vec<&str> {
        stanza
            .get(field)
            .unwrap_or_default()
            .split_whitespace()
            .collect()
    };
    let disabled = stanza.get("Enabled").is_some_and(|value| {
        ["no", "false", "off", "0", "without", "disable"].contains(&value.trim())
    });
    let carries_main = words("Components").contains(&"main");
    if disabled || !carries_main || !words("Types").contains(&"deb") {
        return None;
    }
    let suites = words("Suites").into_iter().map(str::to_owned).collect();
    entry(&words("URIs"), suites)
}

/// Entries of a one-line-style file: `deb [options] address suite component...`.
#[must_use]
pub fn parse_lines(text: &str) -> Vec<Entry> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line
        .strip_prefix("deb")
        .filter(|r| r.starts_with([' ', '\t', '[']))?
        .trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [address, suite, components @ ..] = &words[..] else {
        return None;
    };
    if !components.contains(&"main") {
        return None;
    }
    entry(&[address], vec![(*suite).to_owned()])
}

fn entry(addresses: &[&str], suites: Vec<String>) -> Option<Entry> {
    let mirrors: Vec<Mirror> = addresses.iter().filter_map(|a| a.parse().ok()).collect();
    (!mirrors.is_empty()).then_some(Entry { mirrors, suites })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &[Entry], mirror: Option<&str>, security: Option<&str>) {
        let found = choose(entries, &"bookworm".parse().unwrap());
        let text = |mirror: &Mirror| mirror.to_string();
        assert_eq!(found.as_ref().map(|f| text(&f.mirror)).as_deref(), mirror);
        let found_security = found.and_then(|f| f.security_mirror.as_ref().map(text));
        assert_eq!(found_security.as_deref(), security);
    }

    const STANZAS: &str = "\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian http://other.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/some.gpg

# another
Types: deb
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main contrib
";

    #[test]
    fn stanzas_give_both_mirrors() {
        check(
            &parse_stanzas(STANZAS),
            Some("http://mirror.example/debian"),
            Some("http://mirror.example/debian-security"),
        );
    }

    #[test]
    fn disabled_source_only_and_foreign_stanzas_do_not_count() {
        for change in [
            ("Types: deb deb-src", "Types: deb-src"),
            ("Suites: bookworm bookworm-updates", "Suites: trixie"),
            (
                "Components: main\nSigned-By",
                "Components: non-free\nSigned-By",
            ),
            ("Signed-By:", "Enabled: no\nX-Signed-By:"),
            (
                "http://mirror.example/debian http://other.example/debian",
                "cdrom:[Debian]/",
            ),
        ] {
            let text = STANZAS.replace(change.0, change.1);
            assert_ne!(text, STANZAS, "{change:?}");
            check(&parse_stanzas(&text), None, None);
        }
    }

    #[test]
    fn lines_give_both_mirrors() {
        let text = "\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ bookworm main contrib # why
deb\thttp://security.example/debian-security bookworm-security main
deb http://late.example/debian bookworm main
";
        check(
            &parse_lines(text),
            Some("http://mirror.example/debian"),
            Some("http://security.example/debian-security"),
        );
    }

    #[test]
    fn a_host_without_debian_has_no_mirror() {
        check(
            &parse_lines("deb http://vendor.example/apt stable main\n"),
            None,
            None,
        );
        check(
            &parse_lines("debx http://vendor.example/apt bookworm main\n"),
            None,
            None,
        );
        check(&parse_stanzas("what is this\n"), None, None);
    }

    #[test]
    fn reads_a_directory_and_hints_when_nothing_is_there() {
        let root = tempfile::tempdir().unwrap();
        let suite: Suite = "bookworm".parse().unwrap();
        let error = of_directory(root.path(), &suite).unwrap_err();
        assert!(error.hint().contains("debian.mirror"));
        std::fs::create_dir(root.path().join("sources.list.d")).unwrap();
        std::fs::write(root.path().join("sources.list.d/debian.sources"), STANZAS).unwrap();
        std::fs::write(root.path().join("sources.list.d/x.disabled"), "rubbish").unwrap();
        let found = of_directory(root.path(), &suite).unwrap();
        assert_eq!(found.mirror.to_string(), "http://mirror.example/debian");
    }
}
