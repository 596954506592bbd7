//! Figures, and how people and programs read them: a table, or JSON.

use std::fmt;

use serde::Serialize;

use super::boots::Pair;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    Seconds,
    Times,
    Kib,
    Mib,
    Count,
    MibPerSecond,
}

impl Unit {
    /// A value as people write it.
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value.abs() < 0.001 => format!("{:.0} µs", value * 1e6),
            Self::Seconds if value.abs() < 1.0 => format!("{:.1} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Times => format!("{value:.3} x"),
            Self::Kib => format!("{value:.1} KiB"),
            Self::Count => format!("{value:.0}"),
            Self::Mib => format!("{value:.1} MiB"),
            Self::MibPerSecond => format!("{value:.0} MiB/s"),
        }
    }
}

/// One measured value, what it stands beside, and what it should reach.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    figure: String,
    unit: Unit,
    measured: f64,
    reference: Option<Reference>,
    /// At most this.
    goal: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Reference {
    what: &'static str,
    measured: f64,
}

impl Figure {
    pub(super) fn new(figure: impl Into<String>, unit: Unit, measured: f64) -> Self {
        Self {
            figure: figure.into(),
            unit,
            measured,
            reference: None,
            goal: None,
        }
    }

    /// Names what was measured beside it, in the same unit.
    pub(super) fn beside(mut self, what: &'static str, measured: f64) -> Self {
        self.reference = Some(Reference { what, measured });
        self
    }

    /// Sets what it should not exceed.
    pub(super) fn goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    fn cells(&self) -> [String; 4] {
        let reference = self.reference.as_ref().map(|reference| {
            format!(
                "{} ({})",
                self.unit.show(reference.measured),
                reference.what
            )
        });
        let goal = self
            .goal
            .map(|goal| format!("at most {}", self.unit.show(goal)));
        [
            self.figure.clone(),
            self.unit.show(self.measured),
            reference.unwrap_or_default(),
            goal.unwrap_or_default(),
        ]
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub(super) pairs: Vec<Pair>,
    figures: Vec<Figure>,
}

impl Report {
    pub(super) fn add(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }
}

impl fmt::Display for Report {
    /// A table in Markdown, which people read as it is, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["figure", "measured", "reference", "goal"].map(str::to_owned);
        let rows: Vec<_> = self.figures.iter().map(Figure::cells).collect();
        let width = |column: usize| {
            let cells = rows
                .iter()
                .chain([&header])
                .map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths = [0, 1, 2, 3].map(width);
        line(f, &header, widths)?;
        line(f, &widths.map(|width| "-".repeat(width)), widths)?;
        rows.iter().try_for_each(|row| line(f, row, widths))
    }
}

fn line(f: &mut fmt::Formatter<'_>, cells: &[String; 4], widths: [usize; 4]) -> fmt::Result {
    for (cell, width) in cells.iter().zip(widths) {
        write!(f, "| {cell:width$} ")?;
    }
    writeln!(f, "|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_a_unit_that_fits_them() {
        let check = |unit: Unit, value: f64, wanted: &str| assert_eq!(unit.show(value), wanted);
        check(Unit::Seconds, 0.000_18, "180 µs");
        check(Unit::Seconds, 0.0123, "12.3 ms");
        check(Unit::Seconds, 2.345, "2.35 s");
        check(Unit::Times, 1.0449, "1.045 x");
        check(Unit::Mib, 2.71, "2.7 MiB");
        check(Unit::MibPerSecond, 81.4, "81 MiB/s");
    }

    #[test]
    fn the_table_lines_up() {
        let mut report = Report::default();
        report.add(vec![
            Figure::new("run", Unit::Seconds, 2.5)
                .beside("bare", 2.4)
                .goal(2.64),
            Figure::new("out", Unit::MibPerSecond, 80.0),
        ]);
        let wanted = "\
| figure | measured | reference     | goal           |
| ------ | -------- | ------------- | -------------- |
| run    | 2.50 s   | 2.40 s (bare) | at most 2.64 s |
| out    | 80 MiB/s |               |                |
";
        assert_eq!(report.to_string(), wanted);
    }

    #[test]
    fn programs_get_the_bare_values() {
        let mut report = Report::default();
        report.add(vec![Figure::new("run", Unit::Seconds, 2.5).goal(3.0)]);
        let wanted = r#"{"pairs":[],"figures":[{"figure":"run","unit":"seconds","measured":2.5,"reference":null,"goal":3.0}]}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), wanted);
    }
}
