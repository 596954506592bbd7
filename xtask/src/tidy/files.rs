//! Finds the files of the repository that have rules, and reads them.
//! Owns what counts as ours: no build output, no hidden directory, nothing behind a symbolic link.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::TidyError;

/// The kinds of file that a rule speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Rust,
    Markdown,
    CargoManifest,
}

impl FileKind {
    fn of(path: &Path) -> Option<Self> {
        if path.file_name() == Some(OsStr::new("Cargo.toml")) {
            return Some(Self::CargoManifest);
        }
        match path.extension()?.to_str()? {
            "rs" => Some(Self::Rust),
            "md" => Some(Self::Markdown),
            _ => None,
        }
    }
}

/// One file with its text.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Relative to the repository's root.
    pub(super) path: PathBuf,
    pub(super) kind: FileKind,
    pub(super) text: String,
}

/// All files below `root` that have rules, in a stable order.
pub(super) fn collect(root: &Path) -> Result<Vec<SourceFile>, TidyError> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let list = |source| TidyError::List {
            path: directory.clone(),
            source,
        };
        for entry in fs::read_dir(&directory).map_err(list)? {
            let entry = entry.map_err(list)?;
            let kind = entry.file_type().map_err(list)?;
            let path = entry.path();
            if kind.is_dir() && is_ours(&path) {
                pending.push(path);
            } else if kind.is_file() {
                files.extend(read(root, &path)?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_ours(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().as_encoded_bytes();
    let hidden = name.starts_with(b".");
    // Cargo marks a target directory with this tag, whatever the directory is called.
    let generated = name == b"node_modules" || directory.join("CACHEDIR.TAG").exists();
    !hidden && !generated
}

/// A file that vanished since it was listed belongs to nobody: an editor's, or another build's.
fn read(root: &Path, path: &Path) -> Result<Option<SourceFile>, TidyError> {
    let Some(kind) = FileKind::of(path) else {
        return Ok(None);
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(TidyError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let path = path.strip_prefix(root).unwrap_or(path).to_owned();
    Ok(Some(SourceFile { path, kind, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_output_hidden_directories_and_links_are_not_ours() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("src/lib.rs", "//! A.\n"),
            ("docs/a.md", "# A\n"),
            ("Cargo.toml", "[workspace]\n"),
            ("notes.txt", "no rule speaks about it\n"),
            (".git/hooks/x.rs", "hidden\n"),
            ("elsewhere/CACHEDIR.TAG", "Signature\n"),
            ("elsewhere/out.rs", "generated\n"),
            ("web/node_modules/x/README.md", "theirs\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("src", root.path().join("alias")).unwrap();

        let found = collect(root.path()).unwrap();
        let paths: Vec<_> = found
            .iter()
            .map(|file| file.path.to_str().unwrap())
            .collect();
        assert_eq!(paths, ["Cargo.toml", "docs/a.md", "src/lib.rs"]);
    }
}
