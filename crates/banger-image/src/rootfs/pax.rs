//! Owns pax extended headers: their records, and what they say over the header that follows.
//! Knows no inode and no limits but the length that it is given.

use std::collections::BTreeMap;

use super::error::HeaderError;
use crate::ext4::Timestamp;

/// Where attributes travel.
const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

/// What extended headers have said so far; what they did not say is in the header itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<PaxTime>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: PaxSparse,
    /// Access control lists as text, which name users and cannot be resolved here.
    pub(super) has_acl_text: bool,
}

/// The hints of the three sparse formats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Offsets and lengths in turn.
    pub(super) map: Option<Vec<u64>>,
}

/// A time as a record gives it; it may be out of what an inode holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PaxTime(pub(super) Option<Timestamp>);

impl Pax {
    /// Applies the records of one extended header. Later ones win, empty ones take back.
    pub(super) fn apply(&mut self, mut raw: &[u8]) -> Result<(), HeaderError> {
        while !raw.is_empty() {
            let (key, value, rest) = record(raw).ok_or(HeaderError::Extension)?;
            self.set(key, value)?;
            raw = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        let number = |field| match value {
            b"" => Ok(None),
            _ => decimal(value)
                .map(Some)
                .ok_or(HeaderError::Number { field }),
        };
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = number("size")?,
            b"uid" => self.uid = number("uid")?,
            b"gid" => self.gid = number("gid")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(PaxTime(time(value)?)),
            b"SCHILY.acl.access" | b"SCHILY.acl.default" => self.has_acl_text |= !value.is_empty(),
            _ => match (key.strip_prefix(XATTR), key.strip_prefix(SPARSE)) {
                // As with any other key, an empty value takes back.
                (Some(name), _) if value.is_empty() => drop(self.xattrs.remove(name)),
                (Some(name), _) => drop(self.xattrs.insert(name.to_vec(), value.to_vec())),
                (None, Some(what)) => self.sparse.set(what, value)?,
                (None, None) => {}
            },
        }
        Ok(())
    }
}

impl PaxSparse {
    fn set(&mut self, what: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        let number = || {
            decimal(value).ok_or(HeaderError::Number {
                field: "GNU.sparse",
            })
        };
        match what {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.real_size = Some(number()?),
            b"offset" | b"numbytes" => self.map.get_or_insert_default().push(number()?),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(decimal);
                let map: Option<Vec<u64>> = numbers.collect();
                self.map = Some(map.ok_or(HeaderError::Number {
                    field: "GNU.sparse",
                })?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// One record, `LENGTH KEY=VALUE\n`, and what follows it. The length counts everything, so that
/// a value may hold any byte.
fn record(raw: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = raw.iter().take(20).position(|byte| *byte == b' ')?;
    let len = usize::try_from(decimal(&raw[..space])?).ok()?;
    let body = raw.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &raw[len..]))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds with a fraction. Digits beyond the nanosecond are cut towards the past, as a negative
/// fraction is counted from the second before.
fn time(value: &[u8]) -> Result<Option<Timestamp>, HeaderError> {
    let malformed = || HeaderError::Number { field: "mtime" };
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().and_then(decimal).ok_or_else(malformed)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let digit = |place: usize| u32::from(fraction.get(place).map_or(0, |byte| byte - b'0'));
    let nanos = (0..9).fold(0, |sum, place| sum * 10 + digit(place));
    let cut = fraction.iter().skip(9).any(|byte| *byte != b'0');
    let Ok(whole) = i64::try_from(whole) else {
        return Ok(None);
    };
    Ok(match (negative, nanos + u32::from(negative && cut)) {
        (false, nanos) => Timestamp::new(whole, nanos),
        (true, 0) => Timestamp::new(-whole, 0),
        (true, nanos) => Timestamp::new(-whole - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &[u8]) -> Result<Pax, HeaderError> {
        let mut pax = Pax::default();
        pax.apply(raw).map(|()| pax)
    }

    #[test]
    fn values_hold_any_byte() {
        let pax = parse(b"27 SCHILY.xattr.user.a=\n\0\xff\n12 path=a=b\n").expect("records");
        assert_eq!(
            pax.xattrs.get(&b"user.a"[..]).map(Vec::as_slice),
            Some(&b"\n\0\xff"[..])
        );
        assert_eq!(pax.path.as_deref(), Some(&b"a=b"[..]));
    }

    #[test]
    fn empty_values_take_back() {
        let pax = parse(b"11 path=ab\n8 path=\n13 size=1234\n").expect("records");
        assert_eq!((pax.path, pax.size), (None, Some(1234)));
        let pax = parse(b"25 SCHILY.xattr.user.a=x\n24 SCHILY.xattr.user.a=\n").expect("records");
        assert!(pax.xattrs.is_empty());
    }

    #[test]
    fn times_are_exact_to_the_nanosecond() {
        let check = |text: &str, secs: i64, nanos: u32| {
            assert_eq!(
                time(text.as_bytes()),
                Ok(Timestamp::new(secs, nanos)),
                "{text}"
            );
        };
        check("1700000000", 1_700_000_000, 0);
        check("1700000000.123456789", 1_700_000_000, 123_456_789);
        check("1.5", 1, 500_000_000);
        check("1.0000000019", 1, 1);
        check("-1.25", -2, 750_000_000);
        check("-3", -3, 0);
        assert_eq!(time(b"99999999999999"), Ok(None));
        assert!(time(b"1.x").is_err() && time(b"").is_err() && time(b"1e9").is_err());
    }

    #[test]
    fn malformed_records_are_refused() {
        let check = |raw: &[u8]| assert!(parse(raw).is_err(), "{}", raw.escape_ascii());
        check(b"x");
        check(b"12 path=ab\n");
        check(b"5 ab\n");
        check(b"0 a=b\n");
        check(b"18446744073709551616 a=b\n");
        check(b"10 uid=-1\n");
    }
}
