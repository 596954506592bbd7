//! Links of Markdown files to other files of the repository: each target must exist.
//! Knows Markdown as far as links and code go; follows nothing that leaves the repository.

use std::path::{Component, Path, PathBuf};

use super::Finding;
use super::files::SourceFile;

/// `exists` says whether a path, relative to the repository's root, is there.
pub(super) fn check(file: &SourceFile, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let directory = file.path.parent().unwrap_or(Path::new(""));
    local_targets(&file.text)
        .into_iter()
        .filter_map(|(line, target)| {
            let complaint = match resolve(directory, &target) {
                None => format!("the link to {target} leaves the repository"),
                Some(path) if exists(&path) => return None,
                Some(_) => format!("the link to {target} leads nowhere"),
            };
            Some(Finding::at_line(&file.path, line, complaint))
        })
        .collect()
}

/// The path below the repository's root that `target` means in a file of `directory`.
fn resolve(directory: &Path, target: &str) -> Option<PathBuf> {
    let mut resolved = PathBuf::new();
    // A leading slash means the repository's root, as forges show it.
    let joined = match target.strip_prefix('/') {
        Some(from_root) => PathBuf::from(from_root),
        None => directory.join(target),
    };
    for component in joined.components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::ParentDir if resolved.pop() => {}
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(resolved)
}

/// Every link target in a text that is a local path, with its line.
fn local_targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        match (fence, fence_mark(line)) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                let prose = without_code(line);
                let targets = inline_targets(&prose).chain(definition_target(&prose));
                found.extend(targets.filter_map(local_path).map(|path| (index + 1, path)));
            }
        }
    }
    found
}

fn fence_mark(line: &str) -> Option<&'static str> {
    let line = line.trim_start();
    ["```", "~~~"]
        .into_iter()
        .find(|mark| line.starts_with(mark))
}

/// The line without its code spans; an odd backtick at the end is no span.
fn without_code(line: &str) -> String {
    let mut prose = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('`') {
        let Some((_, behind)) = after.split_once('`') else {
            break;
        };
        prose.push_str(before);
        rest = behind;
    }
    prose.push_str(rest);
    prose
}

/// Targets of `[text](target)` and `![text](target "title")`.
fn inline_targets(line: &str) -> impl Iterator<Item = &str> {
    let behind_brackets = line.split("](").skip(1);
    behind_brackets.filter_map(|rest| match rest.strip_prefix('<') {
        Some(angled) => angled.split_once('>').map(|(target, _)| target),
        None => rest.split([')', ' ']).next(),
    })
}

/// The target of a definition, `[name]: target`.
fn definition_target(line: &str) -> Option<&str> {
    let (_, target) = line.trim_start().strip_prefix('[')?.split_once("]:")?;
    target.split_whitespace().next()
}

/// The path of a target, unless it names a web page or a place in the same file.
fn local_path(target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or_default();
    let scheme = path.split_once(':').map(|(scheme, _)| scheme);
    let is_url = scheme.is_some_and(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric()));
    (!path.is_empty() && !is_url).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::files::FileKind;
    use super::*;

    fn check_text(text: &str, expected: &[&str]) {
        let file = SourceFile {
            path: "docs/guide.md".into(),
            kind: FileKind::Markdown,
            text: text.to_owned(),
        };
        let there = ["README.md", "docs/adr", "docs/guide.md", "docs/a.png"];
        let exists = |path: &Path| there.iter().any(|known| Path::new(known) == path);
        let found: Vec<_> = check(&file, exists)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_link_to_a_file_that_is_there_passes() {
        check_text(
            "[a](../README.md), [b](adr/), ![c](./a.png \"title\") and [d](/README.md)",
            &[],
        );
        check_text("[a](../README.md#install) and [b](<guide.md>)", &[]);
        check_text("[a]: ../README.md", &[]);
    }

    #[test]
    fn a_link_to_a_file_that_is_missing_is_named_with_its_line() {
        check_text(
            "one\n[a](gone.md)",
            &["docs/guide.md:2: the link to gone.md leads nowhere"],
        );
        check_text(
            "[a]: gone.md",
            &["docs/guide.md:1: the link to gone.md leads nowhere"],
        );
        check_text(
            "[a](README.md)",
            &["docs/guide.md:1: the link to README.md leads nowhere"],
        );
    }

    #[test]
    fn a_link_must_not_leave_the_repository() {
        check_text(
            "[a](../../secret.md)",
            &["docs/guide.md:1: the link to ../../secret.md leaves the repository"],
        );
    }

    #[test]
    fn web_pages_anchors_and_code_are_no_local_links() {
        check_text(
            "[a](https://example.org/x.md), [b](mailto:a@example.org), [c](#there)",
            &[],
        );
        check_text("`[a](gone.md)` and\n```sh\n[b](gone.md)\n```\nafter", &[]);
        check_text(
            "```\n[a](gone.md)\n```\n[b](gone.md)",
            &["docs/guide.md:4: the link to gone.md leads nowhere"],
        );
    }
}
