//! Owns the reading of `WWW-Authenticate`: which proof a registry wants. Proves nothing.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// A proof that we can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// The best of what a registry offers: a token before a password.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let all: Vec<_> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse)
        .collect();
    let bearer = |challenge: &&Challenge| matches!(challenge, Challenge::Bearer { .. });
    all.iter().find(bearer).or(all.first()).cloned()
}

/// All challenges of one value that we understand.
fn parse(value: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for word in words(value) {
        match word {
            Word::Scheme(scheme) => found.push((scheme, Vec::new())),
            Word::Parameter(name, value) => {
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((name, value));
                }
            }
        }
    }
    let understood = found.into_iter().filter_map(|(scheme, parameters)| {
        let get = |wanted: &str| {
            let found = parameters.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer {
                realm: get("realm")?,
                service: get("service"),
                scope: get("scope"),
            }),
            _ => None,
        }
    });
    understood.collect()
}

enum Word {
    Scheme(String),
    Parameter(String, String),
}

/// Splits at commas and spaces outside of quotes; a word without `=` is a scheme.
fn words(value: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() && after.is_empty() {
            return words;
        }
        let name = name.to_ascii_lowercase();
        match after.strip_prefix('=') {
            Some(after) => {
                let (value, remaining) = parameter(after);
                words.push(Word::Parameter(name, value));
                rest = remaining;
            }
            None => {
                words.push(Word::Scheme(name));
                rest = after;
            }
        }
    }
}

/// A value, quoted or not, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match (c, escaped) {
            ('\\', false) => escaped = true,
            ('"', false) => return (value, &quoted[at + 1..]),
            (c, _) => {
                value.push(c);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        challenge(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        })
    }

    #[test]
    fn tokens_are_preferred_to_passwords() {
        let token = r#"Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push""#;
        let wanted = bearer("https://a/t", Some("s"), Some("repository:a/b:pull,push"));
        assert_eq!(read(&[token]), wanted);
        assert_eq!(read(&[r#"Basic realm="x""#, token]), wanted);
        assert_eq!(read(&[&format!(r#"Basic realm="x, y", {token}"#)]), wanted);
    }

    #[test]
    fn spelling_is_free() {
        assert_eq!(read(&["basic"]), Some(Challenge::Basic));
        assert_eq!(read(&["BEARER realm=u"]), bearer("u", None, None));
        assert_eq!(
            read(&[r#"Bearer realm="a\"b""#]),
            bearer("a\"b", None, None)
        );
        assert_eq!(read(&["Negotiate"]), None);
        assert_eq!(read(&["Bearer scope=x"]), None);
        assert_eq!(read(&[]), None);
    }

    proptest! {
        #[test]
        fn no_value_panics(value in "[ -~]{0,60}") {
            let _ = parse(&value);
        }
    }
}
