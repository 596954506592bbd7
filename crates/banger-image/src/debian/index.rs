//! Owns the Packages index: a stream of paragraphs of which a few are kept.
//! Knows no file and no mirror; memory does not grow with the index.

use std::io::{self, BufRead, Read as _};
use std::str::FromStr;

use deb822_fast::Paragraph;
use debversion::Version;

use super::ArchivePath;
use crate::digest::Sha256;

/// The longest paragraph of today's archive has 70 KB.
const LONGEST_PARAGRAPH: usize = 1024 * 1024;
/// More matches than this are no selection.
const MOST_MATCHES: usize = 4096;
const NAME_FIELD: &[u8] = b"Package:";

/// A package's version in Debian's order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageVersion(Version);

/// A package as the index describes it.
#[derive(Debug, Clone)]
pub struct Package {
    pub name: String,
    pub version: PackageVersion,
    pub depends: Vec<Dependency>,
    pub filename: ArchivePath,
    pub size: u64,
    pub digest: Sha256,
}

/// The first alternative of one dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    /// Set where exactly this version is demanded.
    pub exactly: Option<PackageVersion>,
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("cannot read the index")]
    Read { source: io::Error },
    #[error("a paragraph of the index is longer than {LONGEST_PARAGRAPH} bytes")]
    LongParagraph,
    #[error("more than {MOST_MATCHES} packages match")]
    TooMany,
    #[error("the paragraph of {package} is malformed")]
    Paragraph {
        package: String,
        source: deb822_fast::Error,
    },
    #[error("the paragraph of {package} lacks a usable {field}")]
    Field {
        package: String,
        field: &'static str,
    },
}

/// Keeps the packages whose name is wanted.
pub fn scan(
    mut index: impl BufRead,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Package>, IndexError> {
    let mut found = Vec::new();
    let mut paragraph = Vec::new();
    while read_paragraph(&mut index, &mut paragraph)? {
        let Some(name) = name_of(&paragraph).filter(|name| wanted(name)) else {
            continue;
        };
        if found.len() == MOST_MATCHES {
            return Err(IndexError::TooMany);
        }
        found.push(parse(name, &paragraph)?);
    }
    Ok(found)
}

/// Reads up to the next empty line; false at the end of the index.
fn read_paragraph(index: &mut impl BufRead, paragraph: &mut Vec<u8>) -> Result<bool, IndexError> {
    paragraph.clear();
    loop {
        let start = paragraph.len();
        let room = LONGEST_PARAGRAPH - start;
        index
            .by_ref()
            .take(room as u64)
            .read_until(b'\n', paragraph)
            .map_err(|source| IndexError::Read { source })?;
        match &paragraph[start..] {
            [] if room == 0 => return Err(IndexError::LongParagraph),
            [] => return Ok(start > 0),
            b"\n" | b"\r\n" => {
                paragraph.truncate(start);
                if start > 0 {
                    return Ok(true);
                }
            }
            _ => {}
        }
    }
}

fn name_of(paragraph: &[u8]) -> Option<&str> {
    let line = paragraph
        .split(|b| *b == b'\n')
        .find(|line| line.starts_with(NAME_FIELD))?;
    std::str::from_utf8(&line[NAME_FIELD.len()..])
        .ok()
        .map(str::trim)
}

fn parse(name: &str, paragraph: &[u8]) -> Result<Package, IndexError> {
    let lacks = |field| IndexError::Field {
        package: name.to_owned(),
        field,
    };
    let parsed: Paragraph = String::from_utf8_lossy(paragraph)
        .parse()
        .map_err(|source| IndexError::Paragraph {
            package: name.to_owned(),
            source,
        })?;
    let get = |field| parsed.get(field).map(str::trim).ok_or_else(|| lacks(field));
    Ok(Package {
        name: name.to_owned(),
        version: get("Version")?.parse().map_err(|()| lacks("Version"))?,
        depends: parsed.get("Depends").map(parse_depends).unwrap_or_default(),
        filename: get("Filename")?.parse().map_err(|()| lacks("Filename"))?,
        size: get("Size")?.parse().map_err(|_| lacks("Size"))?,
        digest: get("SHA256")?.parse().map_err(|_| lacks("SHA256"))?,
    })
}

fn parse_depends(field: &str) -> Vec<Dependency> {
    field.split(',').filter_map(parse_dependency).collect()
}

fn parse_dependency(text: &str) -> Option<Dependency> {
    let first = text.split('|').next()?.trim();
    let (name, condition) = match first.split_once('(') {
        Some((name, condition)) => (name.trim(), condition.trim_end_matches(')').trim()),
        None => (first, ""),
    };
    let exactly = condition
        .strip_prefix('=')
        .and_then(|version| version.trim().parse().ok());
    (!name.is_empty()).then(|| Dependency {
        name: name.to_owned(),
        exactly,
    })
}

impl PackageVersion {
    /// The version's upstream part: `6.1.192` of `6.1.192-2`.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.0.upstream_version
    }

    /// Whether the upstream part is `series` or begins with it and a dot.
    #[must_use]
    pub fn is_of_series(&self, series: &str) -> bool {
        self.upstream()
            .strip_prefix(series)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '~', '+']))
    }
}

impl FromStr for PackageVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ())
    }
}

impl std::fmt::Display for PackageVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn paragraph(name: &str, version: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nDepends: a-b (= {version}), c | d, e (>= 2)\n\
             Description: x\n more\nFilename: pool/{name}.deb\nSize: 12\nSHA256: {HEX}\n\n"
        )
    }

    fn names(index: &str, wanted: &str) -> Vec<String> {
        let found = scan(index.as_bytes(), |name| name == wanted).unwrap();
        found.into_iter().map(|package| package.name).collect()
    }

    #[test]
    fn keeps_only_what_is_wanted() {
        let index = ["a", "linux", "z"]
            .map(|name| paragraph(name, "1-1"))
            .concat();
        assert_eq!(names(&index, "linux"), ["linux"]);
        assert_eq!(names(index.trim_end(), "z"), ["z"]);
        assert_eq!(names(&format!("\n\n{index}"), "a"), ["a"]);
        assert_eq!(names("", "a"), [""; 0]);
    }

    #[test]
    fn reads_every_field() {
        let index = paragraph("linux", "6.1.176-1");
        let package = scan(index.as_bytes(), |_| true).unwrap().remove(0);
        assert_eq!(package.version.to_string(), "6.1.176-1");
        assert_eq!(package.size, 12);
        assert_eq!(package.depends.len(), 3);
        assert_eq!(package.depends[0].exactly.as_ref(), Some(&package.version));
        assert_eq!(
            package.depends[1],
            Dependency {
                name: "c".into(),
                exactly: None
            }
        );
        assert_eq!(
            package.depends[2],
            Dependency {
                name: "e".into(),
                exactly: None
            }
        );
    }

    #[test]
    fn versions_follow_debians_order() {
        let order = [
            "6.1.9-1",
            "6.1.10-1~deb12u1",
            "6.1.10-1",
            "6.1.10-1+b1",
            "1:5.10-1",
        ];
        let versions = order.map(|text| text.parse::<PackageVersion>().unwrap());
        assert!(versions.is_sorted());
        assert!(versions[0].is_of_series("6.1"));
        assert!(
            !"6.12.3-1"
                .parse::<PackageVersion>()
                .unwrap()
                .is_of_series("6.1")
        );
    }

    #[test]
    fn hostile_paragraphs_are_refused() {
        let good = paragraph("linux", "1-1");
        for (from, to) in [
            ("pool/linux.deb", "../../etc/shadow"),
            ("Size: 12", "Size: -1"),
            (HEX, "beef"),
            ("Version: 1-1", "Version: "),
        ] {
            let bad = good.replace(from, to);
            assert!(scan(bad.as_bytes(), |_| true).is_err(), "{to}");
        }
        let endless = format!("Package: linux\nX: {}", "y".repeat(LONGEST_PARAGRAPH));
        let error = scan(endless.as_bytes(), |_| true).unwrap_err();
        assert!(matches!(error, IndexError::LongParagraph));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = scan(&bytes[..], |_| true);
            let _ = scan(&[b"Package: x\nDepends:", &bytes[..]].concat()[..], |_| true);
        }

        #[test]
        fn finds_each_package_wherever_it_stands(at in 0usize..20, count in 1usize..20) {
            let at = at % count;
            let index: String = (0..count).map(|i| paragraph(&format!("p{i}"), "1-1")).collect();
            prop_assert_eq!(names(&index, &format!("p{at}")), vec![format!("p{at}")]);
        }
    }
}
