//! Shows the steps of long work on standard error: live on a terminal, plain lines elsewhere.
//! Knows steps as they come; nothing of what they are for.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    io::IsTerminal,
    time::Duration,
};

use banger_api::progress::Step;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{output, text::escape};

const SPINNER: &str = "{spinner} {msg} ({elapsed})";
const BAR: &str = "{spinner} {msg} [{bar:24}] {binary_bytes}/{binary_total_bytes} ({elapsed})";
const COUNTER: &str = "{spinner} {msg} {binary_bytes} ({elapsed})";

/// Where steps are shown; makes one [`Progress`] for each piece of work.
#[derive(Debug)]
pub(crate) enum Display {
    Quiet,
    Plain,
    Live(MultiProgress),
}

impl Display {
    pub(crate) fn new(quiet: bool) -> Self {
        if quiet {
            Self::Quiet
        } else if io::stderr().is_terminal() {
            Self::Live(MultiProgress::new())
        } else {
            Self::Plain
        }
    }

    /// For work that needs no name, as there is no other beside it.
    pub(crate) fn single(&self) -> Progress {
        self.labelled(String::new())
    }

    /// For a piece of work, named where there are several.
    pub(crate) fn of(&self, name: &str, several: bool) -> Progress {
        if several {
            self.labelled(format!("{}: ", escape(name)))
        } else {
            self.single()
        }
    }

    fn labelled(&self, label: String) -> Progress {
        let show = match self {
            Self::Quiet => Show::Nothing,
            Self::Plain => Show::Lines(HashSet::new()),
            // The bar draws nothing before the first step.
            Self::Live(group) => Show::Bar {
                bar: group.add(ProgressBar::no_length()),
                shape: None,
                parts: Parts::of(group),
            },
        };
        Progress {
            label,
            last: String::new(),
            show,
        }
    }
}

/// The steps of one piece of work. What is live vanishes when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    last: String,
    show: Show,
}

#[derive(Debug)]
enum Show {
    Nothing,
    /// What was told already.
    Lines(HashSet<String>),
    Bar {
        bar: ProgressBar,
        shape: Option<&'static str>,
        parts: Parts,
    },
}

/// Parts of the work that go on at the same time, a bar each while they do.
#[derive(Debug)]
struct Parts {
    group: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Parts {
    fn of(group: &MultiProgress) -> Self {
        Self {
            group: group.clone(),
            bars: BTreeMap::new(),
        }
    }

    fn step(&mut self, line: &str, step: &Step) {
        let bar = self.bars.entry(line.to_owned()).or_insert_with(|| {
            let bar = self.group.add(ProgressBar::no_length());
            bar.with_style(style(BAR)).with_message(line.to_owned())
        });
        advance(bar, step);
        if is_complete(step) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
    }
}

/// Stages that go on beside the others: each layer that arrives, and all of them together.
const PARTS: [&str; 2] = ["layer", "download"];

/// Both at once: nobody sees one number beside the other's predecessor.
fn advance(bar: &ProgressBar, step: &Step) {
    bar.update(|state| {
        state.set_len(step.total.unwrap_or(0));
        state.set_pos(step.done);
    });
}

fn is_complete(step: &Step) -> bool {
    step.total.is_some_and(|total| step.done >= total)
}

impl Progress {
    pub(crate) fn step(&mut self, step: &Step) {
        let line = format!("{}{}", self.label, describe(step));
        if PARTS.contains(&step.stage.as_str()) {
            return self.part(&line, step);
        }
        let changed = line != self.last;
        match &mut self.show {
            Show::Nothing => {}
            // Stages that go on at the same time take turns: each is told once.
            Show::Lines(told) => {
                if told.insert(line.clone()) {
                    output::remark(&line);
                }
            }
            Show::Bar { bar, shape, .. } => {
                let wanted = shape_of(step);
                if *shape != Some(wanted) {
                    bar.set_style(style(wanted));
                    bar.enable_steady_tick(Duration::from_millis(120));
                    *shape = Some(wanted);
                }
                if changed {
                    bar.reset_elapsed();
                    bar.set_message(line.clone());
                }
                advance(bar, step);
            }
        }
        self.last = line;
    }

    /// On a terminal a bar of its own; elsewhere a line when it is complete.
    fn part(&mut self, line: &str, step: &Step) {
        match &mut self.show {
            Show::Nothing => {}
            Show::Lines(_) if is_complete(step) => output::remark(line),
            Show::Lines(_) => {}
            Show::Bar { parts, .. } => parts.step(line, step),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &self.show {
            Show::Nothing | Show::Lines(_) => {}
            Show::Bar { bar, .. } => bar.finish_and_clear(),
        }
    }
}

fn describe(step: &Step) -> String {
    if step.detail.is_empty() {
        escape(&step.stage).into_owned()
    } else {
        format!("{}: {}", escape(&step.stage), escape(&step.detail))
    }
}

fn shape_of(step: &Step) -> &'static str {
    match (step.total, step.done) {
        (Some(1..), _) => BAR,
        (Some(0) | None, 1..) => COUNTER,
        (Some(0) | None, 0) => SPINNER,
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates above are well-formed")
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(detail: &str, done: u64, total: Option<u64>) -> Step {
        Step {
            stage: "image".into(),
            detail: detail.into(),
            done,
            total,
        }
    }

    #[test]
    fn a_step_is_stage_and_detail_without_control_characters() {
        assert_eq!(describe(&step("", 0, None)), "image");
        assert_eq!(describe(&step("build\x1b", 0, None)), "image: build\\u{1b}");
    }

    #[test]
    fn bytes_are_shown_where_they_are_known() {
        assert_eq!(shape_of(&step("", 0, None)), SPINNER);
        assert_eq!(shape_of(&step("", 7, None)), COUNTER);
        assert_eq!(shape_of(&step("", 0, Some(7))), BAR);
        for template in [SPINNER, BAR, COUNTER] {
            let _ = style(template);
        }
    }
}
