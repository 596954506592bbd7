//! Finds words of the language in Rust source by its tokens, so that comments, strings and longer
//! identifiers never count. Knows Rust's grammar of tokens; knows no rule of ours.

use proc_macro2::{Delimiter, Group, LexError, TokenStream, TokenTree};

/// Something in the source that a rule may care about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// The keyword `unsafe`.
    Unsafe,
    /// A macro called `name`.
    Macro(String),
    /// An attribute that starts with this path, such as `ignore` or `test`.
    Attribute(String),
    /// An attribute of the whole file that forbids this lint.
    ForbidsInFile(String),
}

/// All words of a source text, each with its line.
pub(super) fn words(text: &str) -> Result<Vec<(usize, Word)>, LexError> {
    let mut found = Vec::new();
    collect(text.parse()?, &mut found);
    Ok(found)
}

fn collect(stream: TokenStream, found: &mut Vec<(usize, Word)>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let line = token.span().start().line;
        let words = words_at(&tokens[index..]);
        found.extend(words.into_iter().map(|word| (line, word)));
        if let TokenTree::Group(group) = token {
            collect(group.stream(), found);
        }
    }
}

fn words_at(tokens: &[TokenTree]) -> Vec<Word> {
    match tokens {
        [TokenTree::Ident(ident), ..] if ident == "unsafe" => vec![Word::Unsafe],
        [TokenTree::Ident(ident), bang, TokenTree::Group(_), ..] if is_punct(bang, '!') => {
            vec![Word::Macro(ident.to_string())]
        }
        [hash, bang, TokenTree::Group(group), ..] if is_punct(hash, '#') && is_punct(bang, '!') => {
            forbidden_lints(group)
        }
        [hash, TokenTree::Group(group), ..] if is_punct(hash, '#') => attribute(group),
        _ => Vec::new(),
    }
}

fn attribute(group: &Group) -> Vec<Word> {
    idents(group)
        .into_iter()
        .take(1)
        .map(Word::Attribute)
        .collect()
}

fn forbidden_lints(group: &Group) -> Vec<Word> {
    let lints = match group.stream().into_iter().collect::<Vec<_>>().as_slice() {
        [TokenTree::Ident(level), TokenTree::Group(lints)] if level == "forbid" => idents(lints),
        _ => Vec::new(),
    };
    lints.into_iter().map(Word::ForbidsInFile).collect()
}

fn idents(group: &Group) -> Vec<String> {
    let idents = group.stream().into_iter().filter_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => None,
    });
    let bracketed = group.delimiter() != Delimiter::None;
    idents.filter(|_| bracketed).collect()
}

fn is_punct(token: &TokenTree, expected: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(usize, Word)]) {
        assert_eq!(words(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn comments_strings_and_longer_identifiers_never_count() {
        check("// unsafe todo!()\n/* dbg!(1) /* unsafe */ */", &[]);
        check(
            r###"const A: &str = "unsafe"; const B: &str = r#"todo!("x")"#;"###,
            &[],
        );
        check("fn unsafe_code(c: char) { let _ = c == '\"'; }", &[]);
    }

    #[test]
    fn words_are_found_at_any_depth_with_their_line() {
        check(
            "fn a() {\n    if b {\n        unsafe { c() }\n    }\n}",
            &[(3, Word::Unsafe)],
        );
        check(
            "fn a() {\n    std::todo!()\n}",
            &[(2, Word::Macro("todo".into()))],
        );
        check(
            "vec![\n    dbg!(1),\n]",
            &[
                (1, Word::Macro("vec".into())),
                (2, Word::Macro("dbg".into())),
            ],
        );
    }

    #[test]
    fn attributes_of_items_and_of_the_file_are_told_apart() {
        check(
            "#[test]\n#[ignore = \"slow\"]\nfn a() {}",
            &[
                (1, Word::Attribute("test".into())),
                (2, Word::Attribute("ignore".into())),
            ],
        );
        check(
            "#![forbid(unsafe_code)]",
            &[(1, Word::ForbidsInFile("unsafe_code".into()))],
        );
        check("#![allow(unsafe_code)]", &[]);
        check(
            "#[forbid(unsafe_code)] mod a {}",
            &[(1, Word::Attribute("forbid".into()))],
        );
    }

    #[test]
    fn text_that_is_no_rust_is_refused() {
        assert!(words("fn a( {").is_err());
    }
}
