//! Small texts for people: escaped strangers' words, ages, counts.
//! Pure functions; knows no terminal and no clock.

use std::{
    borrow::Cow,
    fmt::Write,
    time::{Duration, SystemTime},
};

/// A text of unknown origin on one line: what a terminal would obey is shown instead.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        push_escaped(&mut escaped, c);
    }
    Cow::Owned(escaped)
}

/// Appends a character as [`escape`] shows it.
pub(crate) fn push_escaped(into: &mut String, c: char) {
    if is_treacherous(c) {
        // Writing to a string does not fail.
        let _ = write!(into, "{}", c.escape_default());
    } else {
        into.push(c);
    }
}

/// Control characters, and those that reorder what is around them.
fn is_treacherous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How long ago an RFC 3339 time stamp was; the stamp itself where it is none.
pub(crate) fn age(stamp: &str, now: SystemTime) -> String {
    match humantime::parse_rfc3339_weak(stamp) {
        Ok(then) => ago(now.duration_since(then).unwrap_or_default()),
        Err(_) => escape(stamp).into_owned(),
    }
}

fn ago(age: Duration) -> String {
    const UNITS: [(u64, &str); 5] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
    ];
    let seconds = age.as_secs();
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length);
    match unit {
        Some((length, name)) => format!("{} ago", count(seconds / length, name)),
        None if seconds < 5 => "just now".to_owned(),
        None => format!("{} ago", count(seconds, "second")),
    }
}

/// `1 VM`, `2 VMs`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_an_escaped_text() {
        let cases = [
            ("plain, ä and 日本", "plain, ä and 日本"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("txt.\u{202e}exe", "txt.\\u{202e}exe"),
        ];
        for (text, expected) in cases {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let cases = [
            ("1970-01-02T00:00:00Z", "just now"),
            ("1970-01-01T23:59:50Z", "10 seconds ago"),
            ("1970-01-01T23:59:00Z", "1 minute ago"),
            ("1970-01-01T21:30:00Z", "2 hours ago"),
            ("1970-01-01T00:00:00Z", "1 day ago"),
            // A clock that was set back is no reason for a strange word.
            ("1970-01-03T00:00:00Z", "just now"),
            ("never\x1b", "never\\u{1b}"),
        ];
        let now = UNIX_EPOCH + Duration::from_secs(86_400);
        for (stamp, expected) in cases {
            assert_eq!(age(stamp, now), expected, "{stamp}");
        }
        assert_eq!(
            age(
                "1970-01-01T00:00:00Z",
                now + Duration::from_secs(800 * 86_400)
            ),
            "2 years ago"
        );
    }
}
