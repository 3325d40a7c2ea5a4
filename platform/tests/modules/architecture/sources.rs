//! The files that the rules look at: sources of the platform and its crates, and every file of the repository.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A text file.
#[derive(Clone, Debug)]
pub struct Source {
    /// With slashes; below what, the function says that returns it.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The top-level module, or the crate.
    pub fn part(&self) -> &str {
        self.path.split(['/', '.']).next().expect("a path has a first part")
    }

    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().expect("a path has a last part")
    }

    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The text without what comes after the first item for tests.
    pub fn code(&self) -> &str {
        self.text.split("#[cfg(test)]").next().expect("a text has a beginning")
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The files below `platform/src` by their path there, and those of the crates below `platform/crates` as `CRATE/PATH`,
/// without the fixtures of tests.
pub fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let below_crates = |path: &str| {
            let (name, path) = path.strip_prefix("platform/crates/")?.split_once("/src/")?;
            // What tests share is no part of the platform.
            (name != "testing").then(|| format!("{name}/{path}"))
        };
        let path = |path: &str| path.strip_prefix("platform/src/").map(str::to_owned).or_else(|| below_crates(path));
        rust_files().filter_map(|file| Some(Source { path: path(&file.path)?, text: file.text.clone() })).collect()
    });
    &SOURCES
}

/// Every Rust source of the repository.
pub fn rust_files() -> impl Iterator<Item = &'static Source> {
    repository().iter().filter(|file| file.is_rust())
}

/// Every text file of the repository that is written by hand, by its path there.
pub fn repository() -> &'static [Source] {
    static REPOSITORY: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let relative = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        let source = |path: PathBuf| Some(Source { text: std::fs::read_to_string(&path).ok()?, path: relative(&path) });
        files_below(&root).into_iter().filter_map(source).collect()
    });
    &REPOSITORY
}

/// The files below `folder`, without hidden folders and what builds leave.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !entry.file_type().unwrap().is_dir() {
            found.push(entry.path());
        } else if !name.starts_with('.') && !["target", "node_modules", "__pycache__"].contains(&&*name) {
            found.extend(files_below(&entry.path()));
        }
    }
    found.sort();
    found
}
