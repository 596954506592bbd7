//! Owns the meaning of a Release file: is it the suite that was asked for, is it current, and
//! which size and hash does it promise for an index. Knows nothing of signatures.

use std::time::SystemTime;

use deb822_fast::Paragraph;

use super::keyring::CLOCK_SLACK;
use super::{ArchivePath, Suite};
use crate::digest::Sha256;

/// The largest index that is fetched, packed.
const LARGEST_INDEX: u64 = 64 * 1024 * 1024;
/// The largest index that is unpacked.
const LARGEST_UNPACKED: u64 = 512 * 1024 * 1024;

/// A Release file whose signature has been checked.
#[derive(Debug, Clone)]
pub struct Release {
    names: Vec<String>,
    date: SystemTime,
    valid_until: Option<SystemTime>,
    by_hash: bool,
    files: Vec<IndexFile>,
}

/// What the Release promises about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFile {
    pub name: String,
    pub size: u64,
    pub digest: Sha256,
}

/// An index to fetch, and what it must turn out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexChoice {
    pub file: IndexFile,
    pub unpacked_size: u64,
    by_hash: bool,
}

/// Why a Release is not used.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("it is not one control paragraph")]
    Syntax { source: deb822_fast::Error },
    #[error("it lacks the field {field}")]
    Missing { field: &'static str },
    #[error("its field {field} is malformed: {value:?}")]
    Malformed { field: &'static str, value: String },
    #[error("it is for {found}, not for {wanted}")]
    WrongSuite { wanted: Suite, found: String },
    #[error("it expired on {}", humantime::format_rfc3339_seconds(*.at))]
    Expired { at: SystemTime },
    #[error("it is dated in the future, {}", humantime::format_rfc3339_seconds(*.at))]
    FromTheFuture { at: SystemTime },
    #[error("it lists no usable {directory}/Packages")]
    NoIndex { directory: String },
}

impl Release {
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let paragraph: Paragraph = text
            .parse()
            .map_err(|source| ReleaseError::Syntax { source })?;
        let required = |field| paragraph.get(field).ok_or(ReleaseError::Missing { field });
        let names = ["Suite", "Codename"]
            .iter()
            .filter_map(|field| paragraph.get(field));
        Ok(Self {
            names: names.map(|name| name.trim().to_owned()).collect(),
            date: parse_date("Date", required("Date")?)?,
            valid_until: paragraph
                .get("Valid-Until")
                .map(|value| parse_date("Valid-Until", value))
                .transpose()?,
            by_hash: paragraph
                .get("Acquire-By-Hash")
                .is_some_and(|value| value.trim() == "yes"),
            files: required("SHA256")?
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(parse_file)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Refuses a Release of another suite, one from the future and, unless told not to look, one
    /// that has expired: it may be an old one, replayed to hide an update.
    pub fn check(
        &self,
        wanted: &Suite,
        check_valid_until: bool,
        now: SystemTime,
    ) -> Result<(), ReleaseError> {
        if !self.names.iter().any(|name| name == wanted.as_str()) {
            let found = self.names.join(", ");
            return Err(ReleaseError::WrongSuite {
                wanted: wanted.clone(),
                found,
            });
        }
        if self.date > now + CLOCK_SLACK {
            return Err(ReleaseError::FromTheFuture { at: self.date });
        }
        match self.valid_until {
            Some(at) if check_valid_until && at < now => Err(ReleaseError::Expired { at }),
            Some(_) | None => Ok(()),
        }
    }

    /// The smallest form of the Packages index in `directory`.
    pub fn index(&self, directory: &str) -> Result<IndexChoice, ReleaseError> {
        let find = |packing: &str| {
            let name = format!("{directory}/Packages{packing}");
            self.files.iter().find(|file| file.name == name)
        };
        let missing = || ReleaseError::NoIndex {
            directory: directory.to_owned(),
        };
        let file = [".xz", ".gz", ""]
            .iter()
            .find_map(|p| find(p))
            .ok_or_else(missing)?;
        let unpacked_size = find("").map_or(LARGEST_UNPACKED, |plain| plain.size);
        if file.size > LARGEST_INDEX || unpacked_size > LARGEST_UNPACKED {
            return Err(missing());
        }
        Ok(IndexChoice {
            file: file.clone(),
            unpacked_size,
            by_hash: self.by_hash,
        })
    }
}

impl IndexChoice {
    /// Where to look, in this order; names by hash do not change under a reader.
    pub(super) fn paths(&self, suite: &Suite) -> Vec<ArchivePath> {
        let name = &self.file.name;
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
        let by_hash = self.by_hash.then(|| {
            format!(
                "dists/{suite}/{directory}/by-hash/SHA256/{}",
                self.file.digest.to_hex()
            )
        });
        let plain = format!("dists/{suite}/{name}");
        by_hash
            .into_iter()
            .chain([plain])
            .filter_map(|path| path.parse().ok())
            .collect()
    }
}

fn parse_file(line: &str) -> Result<IndexFile, ReleaseError> {
    let malformed = || ReleaseError::Malformed {
        field: "SHA256",
        value: line.to_owned(),
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let [digest, size, name] = words[..] else {
        return Err(malformed());
    };
    Ok(IndexFile {
        name: name.to_owned(),
        size: size.parse().map_err(|_| malformed())?,
        digest: digest.parse().map_err(|_| malformed())?,
    })
}

/// Parses `Sat, 11 Jul 2026 10:16:37 UTC`, the only form that the archive writes.
fn parse_date(field: &'static str, value: &str) -> Result<SystemTime, ReleaseError> {
    parse_utc(value.trim()).ok_or_else(|| ReleaseError::Malformed {
        field,
        value: value.to_owned(),
    })
}

fn parse_utc(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [
        _weekday,
        day,
        month,
        year,
        time,
        "UTC" | "GMT" | "+0000" | "Z",
    ] = words[..]
    else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (day, year): (u8, u16) = (day.parse().ok()?, year.parse().ok()?);
    let (hour, rest) = time.split_once(':')?;
    let hour: u8 = hour.parse().ok()?;
    let stamp = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{rest}Z");
    humantime::parse_rfc3339(&stamp).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn text() -> String {
        format!(
            "Origin: Test\nSuite: oldstable\nCodename: bookworm\n\
             Date: Sat, 11 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 18 Jul 2026 10:16:37 UTC\n\
             Acquire-By-Hash: yes\nSHA256:\n {HEX} 900 main/binary-amd64/Packages\n \
             {HEX}  100 main/binary-amd64/Packages.xz\n {HEX} 7 main/Contents\n"
        )
    }

    fn at(stamp: &str) -> SystemTime {
        humantime::parse_rfc3339(stamp).unwrap()
    }

    fn check(text: &str, suite: &str, now: &str) -> Result<(), ReleaseError> {
        Release::parse(text)?.check(&suite.parse().unwrap(), true, at(now))
    }

    #[test]
    fn either_name_of_the_suite_will_do() {
        for suite in ["bookworm", "oldstable"] {
            check(&text(), suite, "2026-07-12T00:00:00Z").unwrap();
        }
        let error = check(&text(), "trixie", "2026-07-12T00:00:00Z").unwrap_err();
        assert!(matches!(error, ReleaseError::WrongSuite { .. }));
    }

    #[test]
    fn it_is_valid_from_its_date_to_its_end() {
        let expired = check(&text(), "bookworm", "2026-07-19T00:00:00Z").unwrap_err();
        assert!(matches!(expired, ReleaseError::Expired { .. }));
        let early = check(&text(), "bookworm", "2026-07-09T00:00:00Z").unwrap_err();
        assert!(matches!(early, ReleaseError::FromTheFuture { .. }));
        let endless = text().replace("Valid-Until", "X-Until");
        check(&endless, "bookworm", "2036-07-19T00:00:00Z").unwrap();
        let frozen = Release::parse(&text()).unwrap();
        frozen
            .check(
                &"bookworm".parse().unwrap(),
                false,
                at("2036-01-01T00:00:00Z"),
            )
            .unwrap();
    }

    #[test]
    fn dates_are_the_archives_own_form() {
        let parsed = parse_utc("Sat, 11 Jul 2026 10:16:37 UTC");
        assert_eq!(parsed, Some(at("2026-07-11T10:16:37Z")));
        assert_eq!(
            parse_utc("Sat, 1 Jan 2022 9:06:07 UTC"),
            Some(at("2022-01-01T09:06:07Z"))
        );
        for bad in [
            "",
            "Sat, 11 Jul 2026 10:16:37 CET",
            "Sat, 41 Jul 2026 10:16:37 UTC",
            "now",
        ] {
            assert_eq!(parse_utc(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_smallest_index_is_chosen_and_looked_for_by_hash_first() {
        let choice = Release::parse(&text())
            .unwrap()
            .index("main/binary-amd64")
            .unwrap();
        assert_eq!((choice.file.size, choice.unpacked_size), (100, 900));
        let paths = choice.paths(&"bookworm".parse().unwrap());
        assert_eq!(paths.len(), 2);
        assert_eq!(
            paths[0],
            format!("dists/bookworm/main/binary-amd64/by-hash/SHA256/{HEX}")
                .parse()
                .unwrap()
        );
    }

    #[test]
    fn hostile_or_absent_indices_are_refused() {
        let huge = text().replace("  100 ", "  99999999999 ");
        assert!(
            Release::parse(&huge)
                .unwrap()
                .index("main/binary-amd64")
                .is_err()
        );
        assert!(
            Release::parse(&text())
                .unwrap()
                .index("main/binary-arm64")
                .is_err()
        );
        for bad in [
            text().replace("100", "-1"),
            text().replace(HEX, "beef"),
            "x".to_owned(),
        ] {
            assert!(Release::parse(&bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(?s).{0,300}", tail in "(?s).{0,60}") {
            let _ = Release::parse(&text);
            let _ = Release::parse(&format!("Date: {tail}\nSHA256:\n {text}\n"));
        }
    }
}
