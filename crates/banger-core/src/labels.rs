//! Labels: what people and programs write on a VM, to find it again. Mean nothing to banger.

use std::collections::BTreeMap;

/// Labels of one VM at most.
const MOST: usize = 64;
const LONGEST_KEY: usize = 63;
const LONGEST_VALUE: usize = 255;

/// Why labels are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("a label's key has 1 to {LONGEST_KEY} of a-z, 0-9 and . _ / -, not \"{0}\"")]
    Key(String),
    #[error(
        "the label {0} has a value of more than {LONGEST_VALUE} bytes, or with control characters"
    )]
    Value(String),
    #[error("a VM has at most {MOST} labels")]
    Many,
}

/// Keys with their values, in the order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// With these labels set and those removed.
    pub fn changed(
        &self,
        set: BTreeMap<String, String>,
        removed: &[String],
    ) -> Result<Self, LabelError> {
        let mut labels = self.0.clone();
        labels.retain(|key, _| !removed.contains(key));
        labels.extend(set);
        labels.try_into()
    }

    /// As a row holds them.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("a map of texts is a JSON object")
    }

    pub(crate) fn from_json(text: &str) -> Option<Self> {
        let labels: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
        labels.try_into().ok()
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = LabelError;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, LabelError> {
        if labels.len() > MOST {
            return Err(LabelError::Many);
        }
        for (key, value) in &labels {
            if !is_key(key) {
                return Err(LabelError::Key(key.chars().take(80).collect()));
            }
            if value.len() > LONGEST_VALUE || value.chars().any(char::is_control) {
                return Err(LabelError::Value(key.clone()));
            }
        }
        Ok(Self(labels))
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

fn is_key(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._/-".contains(&c);
    (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        let owned = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        owned.into()
    }

    #[test]
    fn what_a_label_may_be() {
        let check = |key: &str, value: &str, fine: bool| {
            let made = Labels::try_from(labels([(key, value)]));
            assert_eq!(made.is_ok(), fine, "{key:?} = {value:?}");
        };
        check("a", "", true);
        check("org.example/role-1_b", "Anything: ü", true);
        check("", "x", false);
        check("A", "x", false);
        check("a b", "x", false);
        check(&"k".repeat(63), &"v".repeat(255), true);
        check(&"k".repeat(64), "", false);
        check("k", &"v".repeat(256), false);
        check("k", "\x1b[2J", false);
        let many: BTreeMap<_, _> = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(Labels::try_from(many), Err(LabelError::Many));
    }

    #[test]
    fn a_change_removes_first_and_then_sets() {
        let old = Labels::try_from(labels([("a", "1"), ("b", "2")])).unwrap();
        let removed = ["a".to_owned(), "b".to_owned(), "absent".to_owned()];
        let new = old.changed(labels([("b", "3")]), &removed).unwrap();
        assert_eq!(new, labels([("b", "3")]).try_into().unwrap());
    }
}
