//! Tables and lists of fields as plain text: no borders, no colours, ASCII separators.
//! Escapes every cell; knows nothing of what is in them.

use std::fmt::Write;

use comfy_table::{Table, presets};

use crate::text::escape;

/// A table, newline included.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| escape(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
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
