//! What a user's word for a VM stands for: a name, an id, or a unique prefix of either.

use crate::name::{VmId, VmName};

/// Why a word stands for no VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unresolved {
    Unknown,
    /// The names of the VMs that it fits.
    Ambiguous(Vec<String>),
}

/// A whole name wins over an id, a whole id over prefixes.
pub(crate) fn resolve(
    target: &str,
    known: impl Iterator<Item = (VmId, VmName)>,
) -> Result<VmId, Unresolved> {
    let mut fits = Vec::new();
    for (id, name) in known {
        let id_text = id.to_string();
        if name.as_str() == target || id_text == target {
            return Ok(id);
        }
        if !target.is_empty() && (name.as_str().starts_with(target) || id_text.starts_with(target))
        {
            fits.push((id, name));
        }
    }
    match fits.as_slice() {
        [] => Err(Unresolved::Unknown),
        [(id, _)] => Ok(*id),
        several => Err(Unresolved::Ambiguous(
            several.iter().map(|(_, name)| name.to_string()).collect(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, wanted: &Result<usize, Unresolved>) {
        let ids = ["0a", "0b", "1c"].map(|start| {
            format!("{start}{}", "0".repeat(30))
                .parse::<VmId>()
                .expect("an id")
        });
        let names = ["calm-otter", "calm", "0b-named"];
        let known = ids
            .iter()
            .zip(names)
            .map(|(id, name)| (*id, name.parse().expect("a name")));
        let got =
            resolve(target, known).map(|id| ids.iter().position(|i| *i == id).expect("known"));
        assert_eq!(&got, wanted, "{target:?}");
    }

    #[test]
    fn whole_names_win_and_prefixes_must_be_unique() {
        check("calm", &Ok(1));
        check("calm-", &Ok(0));
        check("1c", &Ok(2));
        check("0a", &Ok(0));
        check(
            "0b",
            &Err(Unresolved::Ambiguous(vec![
                "calm".into(),
                "0b-named".into(),
            ])),
        );
        check("nobody", &Err(Unresolved::Unknown));
        check("", &Err(Unresolved::Unknown));
    }
}
