//! Names for VMs that were given none: an adjective and an animal.

use crate::name::VmName;

const ADJECTIVES: [&str; 48] = [
    "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "clever", "cosy",
    "crisp", "deft", "eager", "early", "fair", "fond", "frank", "gentle", "glad", "golden",
    "grand", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal",
    "lucid", "merry", "mild", "neat", "noble", "patient", "plucky", "polite", "proud", "quick",
    "quiet", "ready", "silver", "steady", "sunny", "swift", "tidy", "witty",
];

const ANIMALS: [&str; 48] = [
    "badger", "beaver", "bison", "bobcat", "camel", "caribou", "cheetah", "condor", "coyote",
    "crane", "dingo", "dolphin", "falcon", "ferret", "finch", "gecko", "gibbon", "hare", "heron",
    "ibex", "impala", "jackal", "jaguar", "kestrel", "koala", "lemur", "lynx", "magpie", "marmot",
    "marten", "mole", "moose", "newt", "ocelot", "okapi", "osprey", "otter", "panda", "puffin",
    "quail", "raven", "robin", "seal", "stork", "tapir", "vole", "walrus", "wombat",
];

/// The name that 32 random bits stand for.
#[must_use]
pub(crate) fn generated_name(bits: u32, crowded: bool) -> VmName {
    let pick =
        |words: &[&'static str; 48], shift: u32| words[(bits >> shift) as usize % words.len()];
    let (adjective, animal) = (pick(&ADJECTIVES, 0), pick(&ANIMALS, 8));
    let text = if crowded {
        format!("{adjective}-{animal}-{:04x}", bits >> 16)
    } else {
        format!("{adjective}-{animal}")
    };
    text.parse()
        .expect("two short words with hyphens are a VM name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_words_is_a_name() {
        for first in 0..48 {
            for second in 0..48 {
                let bits = first | second << 8 | 0xffff << 16;
                let (short, long) = (generated_name(bits, false), generated_name(bits, true));
                assert!(long.as_str().starts_with(short.as_str()), "{long}");
            }
        }
    }
}
