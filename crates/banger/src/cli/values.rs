//! What people type beside names, parsed once: sizes, times, variables, import sources. Knows the forms.

use std::{
    ffi::OsString,
    num::NonZeroU32,
    path::PathBuf,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use banger_api::size::{SizeError, parse_size};

/// Why a text cannot be what it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("write KEY=VALUE, or KEY to pass on this environment's value")]
    Variable,
    #[error("write KEY=VALUE, or KEY")]
    Label,
    #[error("write state=STATE, image=NAME, name=PART, label=KEY or label=KEY=VALUE")]
    Filter,
    #[error("write a time of a second at least, as in 90s, 2h or 7d, or never")]
    Ttl,
    #[error("write no, on-failure, on-failure:N, always or unless-stopped")]
    RestartPolicy,
    #[error("write a time of a second at least, as in 30m or 2h, or never, or default")]
    IdleStop,
    #[error("write a while as in 10m, a time as in 2026-01-31T08:00:00Z, or an event's number")]
    Since,
    #[error("write tar:FILE, or tar:- for standard input")]
    Source,
    #[error("write auto, agent, systemd or an absolute path")]
    Init,
    #[error("a working directory is an absolute path")]
    Directory,
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse_size(text).map(Self)
    }
}

/// A size in bytes that may be nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room(pub(crate) u64);

impl FromStr for Room {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        match text {
            "0" => Ok(Self(0)),
            text => parse_size(text).map(Self),
        }
    }
}

/// A variable for the command's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Variable {
    Set(String, String),
    Inherit(String),
}

impl Variable {
    /// The pair to send; an inherited variable that is not set is left out.
    pub(crate) fn resolve(
        self,
        lookup: impl FnOnce(&str) -> Option<OsString>,
    ) -> Option<(String, String)> {
        match self {
            Self::Set(key, value) => Some((key, value)),
            Self::Inherit(key) => {
                let value = lookup(&key)?.into_string().ok()?;
                Some((key, value))
            }
        }
    }
}

impl FromStr for Variable {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let variable = match text.split_once('=') {
            Some((key, value)) => Self::Set(key.to_owned(), value.to_owned()),
            None => Self::Inherit(text.to_owned()),
        };
        match &variable {
            Self::Set(key, _) | Self::Inherit(key) if key.is_empty() => Err(ValueError::Variable),
            Self::Set(..) | Self::Inherit(_) => Ok(variable),
        }
    }
}

/// A label as `KEY=VALUE`, or `KEY` with an empty value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) String, pub(crate) String);

impl FromStr for Label {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(ValueError::Label);
        }
        Ok(Self(key.to_owned(), value.to_owned()))
    }
}

/// What a VM in a list must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    State(String),
    Image(String),
    Name(String),
    /// A key, and the value that it must have.
    Label(String, Option<String>),
}

impl FromStr for Filter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (key, value) = text.split_once('=').ok_or(ValueError::Filter)?;
        let value = value.to_owned();
        match key {
            "state" => Ok(Self::State(value)),
            "image" => Ok(Self::Image(value)),
            "name" => Ok(Self::Name(value)),
            "label" => Ok(match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            }),
            _ => Err(ValueError::Filter),
        }
    }
}

/// How long, as in `90s`, `2h` or `7d`; `never` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ttl(pub(crate) Option<Duration>);

impl FromStr for Ttl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "never" {
            return Ok(Self(None));
        }
        match humantime::parse_duration(text) {
            Ok(ttl) if ttl.as_secs() > 0 => Ok(Self(Some(ttl))),
            Ok(_) | Err(_) => Err(ValueError::Ttl),
        }
    }
}

impl Ttl {
    /// As the wire has it: none is no end.
    pub(crate) fn seconds(self) -> u64 {
        self.0.map_or(0, |ttl| ttl.as_secs())
    }
}

/// When a VM that ended is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestartPolicy(String);

impl RestartPolicy {
    pub(crate) const WORDS: [&str; 4] = ["no", "on-failure", "always", "unless-stopped"];
}

impl FromStr for RestartPolicy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let counted = text.strip_prefix("on-failure:");
        let counted = counted.is_some_and(|most| most.parse::<NonZeroU32>().is_ok());
        if counted || Self::WORDS.contains(&text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::RestartPolicy)
        }
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.0
    }
}

/// When a VM that nobody uses is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdleStop {
    Configured,
    Never,
    After(Duration),
}

impl FromStr for IdleStop {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text, humantime::parse_duration(text)) {
            ("default", _) => Ok(Self::Configured),
            ("never", _) => Ok(Self::Never),
            (_, Ok(time)) if time.as_secs() > 0 => Ok(Self::After(time)),
            (_, Ok(_) | Err(_)) => Err(ValueError::IdleStop),
        }
    }
}

impl From<IdleStop> for String {
    /// As the wire has it.
    fn from(idle: IdleStop) -> Self {
        match idle {
            IdleStop::Configured => "default".to_owned(),
            IdleStop::Never => "never".to_owned(),
            IdleStop::After(time) => time.as_secs().to_string(),
        }
    }
}

/// A beginning of what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Event(u64),
    Ago(Duration),
    Time(SystemTime),
}

impl FromStr for Since {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::Event(seq));
        }
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let time = humantime::parse_rfc3339_weak(text);
        time.map(Self::Time).map_err(|_| ValueError::Since)
    }
}

impl Since {
    /// As the wire has it: a number, or a time.
    pub(crate) fn at(self, now: SystemTime) -> String {
        let time = match self {
            Self::Event(seq) => return seq.to_string(),
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH),
            Self::Time(time) => time.max(UNIX_EPOCH),
        };
        humantime::format_rfc3339_millis(time).to_string()
    }
}

/// Where an image's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    TarFile(PathBuf),
    TarStdin,
}

impl FromStr for Source {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_prefix("tar:") {
            Some("-") => Ok(Self::TarStdin),
            Some(file) if !file.is_empty() => Ok(Self::TarFile(file.into())),
            Some(_) | None => Err(ValueError::Source),
        }
    }
}

/// Which program becomes the guest's first process.
pub(crate) fn init(text: &str) -> Result<String, ValueError> {
    let known = matches!(text, "auto" | "agent" | "systemd");
    let accepted = known || text.starts_with('/');
    accepted.then(|| text.to_owned()).ok_or(ValueError::Init)
}

/// A directory of the guest.
pub(crate) fn directory(text: &str) -> Result<String, ValueError> {
    let absolute = text.starts_with('/');
    absolute
        .then(|| text.to_owned())
        .ok_or(ValueError::Directory)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn check<T: FromStr<Err = ValueError> + Debug>(good: &[&str], bad: &[&str], why: &ValueError) {
        for text in good {
            text.parse::<T>().unwrap();
        }
        for text in bad {
            assert_eq!(&text.parse::<T>().unwrap_err(), why, "{text:?}");
        }
    }

    #[test]
    fn sources_name_their_kind() {
        check::<Source>(
            &["tar:-", "tar:a.tar", "tar:/x y"],
            &["", "a.tar", "tar:", "oci:x"],
            &ValueError::Source,
        );
    }

    #[test]
    fn variables_are_set_or_inherited() {
        let lookup = |key: &str| (key == "HERE").then(|| OsString::from("yes"));
        let cases = [
            ("A=b=c", Some(("A", "b=c"))),
            ("A=", Some(("A", ""))),
            ("HERE", Some(("HERE", "yes"))),
            ("GONE", None),
        ];
        for (text, expected) in cases {
            let got = text.parse::<Variable>().unwrap().resolve(lookup);
            let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
            assert_eq!(got, expected, "{text:?}");
        }
        check::<Variable>(&[], &["", "=x"], &ValueError::Variable);
    }

    #[test]
    fn guest_paths_are_absolute() {
        assert_eq!(init("/sbin/init").as_deref(), Ok("/sbin/init"));
        assert_eq!(init("sbin/init"), Err(ValueError::Init));
        assert_eq!(directory("work"), Err(ValueError::Directory));
        assert_eq!(directory("/work").as_deref(), Ok("/work"));
    }

    #[test]
    fn labels_filters_and_times() {
        let label = |text: &str| text.parse::<Label>();
        assert_eq!(label("a=b=c"), Ok(Label("a".into(), "b=c".into())));
        assert_eq!(label("a"), Ok(Label("a".into(), String::new())));
        assert_eq!(label("=b"), Err(ValueError::Label));
        let filter = |text: &str| text.parse::<Filter>();
        assert_eq!(
            filter("label=a=b"),
            Ok(Filter::Label("a".into(), Some("b".into())))
        );
        assert_eq!(filter("label=a"), Ok(Filter::Label("a".into(), None)));
        assert_eq!(filter("state=running"), Ok(Filter::State("running".into())));
        assert_eq!(filter("owner=me"), Err(ValueError::Filter));
        assert_eq!(filter("running"), Err(ValueError::Filter));
        let seconds = |text: &str| text.parse::<Ttl>().map(Ttl::seconds);
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("never"), Ok(0));
        assert_eq!(seconds("10ms"), Err(ValueError::Ttl));
        assert_eq!(seconds("soon"), Err(ValueError::Ttl));
    }
}
