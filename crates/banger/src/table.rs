//! Tables and lists of fields as plain text: no borders, no colours, ASCII separators.
//! Escapes every cell; knows nothing of what is in them.

use std::{borrow::Cow, fmt::Write, iter};

use unicode_width::UnicodeWidthStr;

use crate::text::escape;

/// Columns of the terminal between two of the table.
const GAP: usize = 2;

/// A table, newline included.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let rows = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| escape(cell)));
    let lines: Vec<[Cow<'_, str>; N]> = iter::once(header.map(Cow::Borrowed)).chain(rows).collect();
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.width().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(cell);
            text.extend(iter::repeat_n(' ', width - cell.width() + GAP));
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// Fields below each other, newline included; what has no value is left out.
pub(crate) fn fields(fields: &[(&str, Option<String>)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in fields {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:width$}  {}", escape(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "long cell"], ["日本\x1b", "b"]].map(|row| row.map(str::to_owned));
        let expected = "X           LONGER\na           long cell\n日本\\u{1b}  b\n";
        assert_eq!(table(["X", "LONGER"], &rows), expected);
        assert_eq!(table(["X"], &[]), "X\n");
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let given = [
            ("name", Some("a\n".to_owned())),
            ("longest", None),
            ("id", Some("7".into())),
        ];
        assert_eq!(fields(&given), "name     a\\n\nid       7\n");
    }
}
