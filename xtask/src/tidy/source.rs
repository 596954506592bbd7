//! The rules of one Rust file: its header, its length, the words that never land, unsafe code.
//! Knows texts and fences; reads no file.

use super::Finding;
use super::files::SourceFile;
use super::tokens::{self, Word};
use super::workspace::Fence;

/// From here on a file deserves a look.
const LONG: usize = 500;
/// Beyond this a file must be split.
const TOO_LONG: usize = 800;

/// Macros that stand for work not done.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

pub(super) fn check(file: &SourceFile, fence: Fence) -> Vec<Finding> {
    let mut found = Vec::new();
    if !opens_with_header(&file.text) {
        let message = "must open with `//!`: what the file owns and what it refuses to know";
        found.push(Finding::at_line(&file.path, 1, message));
    }
    let length = file.text.lines().count();
    if length > TOO_LONG {
        let message = format!("is {length} lines long; more than {TOO_LONG} must be split");
        found.push(Finding::in_file(&file.path, message));
    }
    found.extend(check_words(file, fence));
    found
}

/// Long files are allowed, but never unseen.
pub(super) fn note_length(file: &SourceFile) -> Option<Finding> {
    let length = file.text.lines().count();
    let message = format!("is {length} lines long; look hard for two files in it");
    (LONG < length && length <= TOO_LONG).then(|| Finding::in_file(&file.path, message))
}

fn opens_with_header(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    first
        .strip_prefix("//!")
        .is_some_and(|header| !header.trim().is_empty())
}

fn check_words(file: &SourceFile, fence: Fence) -> Vec<Finding> {
    let words = match tokens::words(&file.text) {
        Ok(words) => words,
        Err(error) => {
            let line = error.span().start().line;
            return vec![Finding::at_line(
                &file.path,
                line,
                "cannot be split into tokens",
            )];
        }
    };
    let mut found: Vec<_> = words
        .iter()
        .filter_map(|(line, word)| {
            Some(Finding::at_line(&file.path, *line, objection(word, fence)?))
        })
        .collect();
    let promised = words.iter().any(|(_, word)| is_promise(word));
    if fence == Fence::SafeRoot && !promised {
        found.push(Finding::in_file(
            &file.path,
            "must carry `#![forbid(unsafe_code)]`",
        ));
    }
    found
}

fn is_promise(word: &Word) -> bool {
    matches!(word, Word::ForbidsInFile(lint) if lint == "unsafe_code")
}

/// What speaks against a word in a file behind this fence, if anything does.
fn objection(word: &Word, fence: Fence) -> Option<String> {
    match (word, fence) {
        (Word::Unsafe, Fence::Safe | Fence::SafeRoot) => {
            Some("`unsafe` belongs into the crates that call the kernel".to_owned())
        }
        (Word::Macro(name), _) if UNFINISHED.contains(&name.as_str()) => {
            Some(format!("`{name}!` must never land"))
        }
        (Word::Attribute(name), _) if name == "ignore" => {
            Some("`#[ignore]` must never land: a test runs, or it goes".to_owned())
        }
        (Word::Unsafe, Fence::MayBeUnsafe)
        | (Word::Macro(_) | Word::Attribute(_) | Word::ForbidsInFile(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::FileKind;
    use super::*;

    fn file(text: impl Into<String>) -> SourceFile {
        SourceFile {
            path: "src/a.rs".into(),
            kind: FileKind::Rust,
            text: text.into(),
        }
    }

    fn check_text(text: &str, fence: Fence, expected: &[&str]) {
        let found: Vec<_> = check(&file(text), fence)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_file_opens_with_a_header_that_says_something() {
        let expected =
            ["src/a.rs:1: must open with `//!`: what the file owns and what it refuses to know"];
        check_text("//! Owns a.\n", Fence::Safe, &[]);
        check_text("//!\n", Fence::Safe, &expected);
        check_text("\n//! Owns a.\n", Fence::Safe, &expected);
        check_text("// Owns a.\n", Fence::Safe, &expected);
        check_text("", Fence::Safe, &expected);
    }

    #[test]
    fn a_long_file_is_noted_and_a_longer_one_fails() {
        let check_length = |lines: usize, noted: bool, fails: bool| {
            let file = file("//! A.\n".repeat(lines));
            assert_eq!(note_length(&file).is_some(), noted, "{lines} lines");
            assert_eq!(
                !check(&file, Fence::Safe).is_empty(),
                fails,
                "{lines} lines"
            );
        };
        check_length(500, false, false);
        check_length(501, true, false);
        check_length(800, true, false);
        check_length(801, false, true);
    }

    #[test]
    fn unfinished_work_never_lands_in_any_crate() {
        for fence in [Fence::Safe, Fence::SafeRoot, Fence::MayBeUnsafe] {
            check_text(
                "//! A.\n#![forbid(unsafe_code)]\nfn a() {\n    todo!()\n}",
                fence,
                &["src/a.rs:4: `todo!` must never land"],
            );
            check_text(
                "//! A.\n#![forbid(unsafe_code)]\n#[ignore]\nfn a() {}",
                fence,
                &["src/a.rs:3: `#[ignore]` must never land: a test runs, or it goes"],
            );
        }
        check_text(
            "//! A.\n// todo!() is only spoken of here\n",
            Fence::Safe,
            &[],
        );
    }

    #[test]
    fn unsafe_code_stays_in_the_crates_that_call_the_kernel() {
        let text = "//! A.\nfn a() {\n    unsafe { b() }\n}";
        let objection = "src/a.rs:3: `unsafe` belongs into the crates that call the kernel";
        check_text(text, Fence::MayBeUnsafe, &[]);
        check_text(text, Fence::Safe, &[objection]);
    }

    #[test]
    fn the_root_of_a_safe_crate_promises_to_stay_safe() {
        let missing = "src/a.rs: must carry `#![forbid(unsafe_code)]`";
        check_text("//! A.\n", Fence::SafeRoot, &[missing]);
        check_text(
            "//! A.\n#![deny(unsafe_code)]\n",
            Fence::SafeRoot,
            &[missing],
        );
        check_text("//! A.\n#![forbid(unsafe_code)]\n", Fence::SafeRoot, &[]);
        check_text(
            "//! A.\n#![forbid(missing_docs, unsafe_code)]\n",
            Fence::SafeRoot,
            &[],
        );
    }
}
