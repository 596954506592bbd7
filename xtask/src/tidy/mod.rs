//! The rules of this repository that no compiler holds, in one report.
//! Owns the order of the checks; each rule lives in a module of its own, as a function of text.

mod edges;
mod files;
mod links;
mod manifest;
mod source;
mod tokens;
mod workspace;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use files::{FileKind, SourceFile};
use workspace::Workspace;

/// What the rules found in a repository.
#[derive(Debug, Default)]
pub struct Report {
    /// How many files were looked at.
    pub files: usize,
    /// Broken rules: the repository must not land like this.
    pub violations: Vec<Finding>,
    /// Things that deserve a look.
    pub notes: Vec<Finding>,
}

/// One place where a rule is broken, or nearly so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the repository's root.
    pub path: PathBuf,
    /// Where in the file, counted from one; absent when the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong there.
    pub message: String,
}

impl Finding {
    fn in_file(path: &Path, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: None,
            message: message.into(),
        }
    }

    fn at_line(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::in_file(path, message)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// Why the rules could not be checked at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TidyError {
    #[error("cannot list the directory {}", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot run {program:?} to describe the workspace")]
    RunCargo { program: PathBuf, source: io::Error },
    #[error("cargo cannot describe the workspace: {stderr}")]
    CargoRefused { stderr: String },
    #[error("cannot read cargo's description of the workspace")]
    Metadata { source: serde_json::Error },
}

/// Checks every rule on the repository that has its root at `root`.
pub fn check_repository(root: &Path) -> Result<Report, TidyError> {
    let workspace = Workspace::load(root)?;
    let files = files::collect(root)?;
    let mut report = Report {
        files: files.len(),
        ..Report::default()
    };
    report.violations.extend(edges::check(&workspace));
    for file in &files {
        check_file(file, &workspace, root, &mut report);
    }
    Ok(report)
}

fn check_file(file: &SourceFile, workspace: &Workspace, root: &Path, report: &mut Report) {
    match file.kind {
        FileKind::Rust => {
            report
                .violations
                .extend(source::check(file, workspace.fence_of(&file.path)));
            report.notes.extend(source::note_length(file));
        }
        FileKind::Markdown => {
            let exists = |target: &Path| root.join(target).exists();
            report.violations.extend(links::check(file, exists));
        }
        FileKind::CargoManifest => report.violations.extend(manifest::check(file)),
    }
}
