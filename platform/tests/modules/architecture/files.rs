//! Files and folders: how long, how many, under which name, and that nothing half done lands.

use std::collections::{BTreeMap, BTreeSet};

use berth::config::VARIABLES;

use super::assert_none;
use super::sources::{Source, repository, rust_files};

/// A longer file is two things; split it, or say here why it is one.
const LONGEST_FILE: usize = 500;
/// In files. A longer list is not read, it is searched.
const LARGEST_FOLDER: usize = 25;

fn long_files<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Vec<String> {
    let lengths = sources.into_iter().map(|source| (&source.path, source.text.lines().count()));
    lengths.filter(|(_, lines)| *lines > LONGEST_FILE).map(|(path, lines)| format!("{path}: {lines} lines")).collect()
}

fn large_folders<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Vec<String> {
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources {
        *folders.entry(source.folder()).or_default() += 1;
    }
    let large = folders.into_iter().filter(|(_, files)| *files > LARGEST_FOLDER);
    large.map(|(folder, files)| format!("{folder}: {files} files")).collect()
}

/// The files `x.rs` beside a folder `x`.
fn files_beside_their_folders<'a>(sources: impl IntoIterator<Item = &'a Source> + Clone) -> Vec<String> {
    let folders: BTreeSet<&str> = sources.clone().into_iter().map(Source::folder).collect();
    let beside = |source: &&Source| source.path.strip_suffix(".rs").is_some_and(|module| folders.contains(module));
    sources.into_iter().filter(beside).map(|source| source.path.clone()).collect()
}

/// The marks of unfinished work in `source`.
fn unfinished(source: &Source) -> Vec<String> {
    let words = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "todo".to_owned() + "!("];
    let found = words.iter().filter(|word| source.text.contains(word.as_str()));
    found.map(|word| format!("{} says {word}", source.path)).collect()
}

#[test]
fn no_file_is_two_things() {
    assert_none(&format!("Files of more than {LONGEST_FILE} lines"), long_files(rust_files()));
}

#[test]
fn no_folder_is_too_large_to_read() {
    assert_none(&format!("Folders of more than {LARGEST_FOLDER} files"), large_folders(repository()));
}

#[test]
fn a_module_with_a_folder_is_its_mod_rs() {
    assert_none("Files beside the folder that they belong into", files_beside_their_folders(repository()));
}

#[test]
fn nothing_half_done_lands() {
    // CONTRIBUTING.md forbids the marks by name.
    let files = repository().iter().filter(|file| file.path != "CONTRIBUTING.md");
    assert_none("Half done", files.flat_map(unfinished).collect());
}

#[test]
fn the_example_environment_is_complete() {
    let example = repository_file(".env.example");
    let shown: BTreeSet<&str> = example
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name)
        .filter(|name| !name.contains(' '))
        .collect();
    let known: BTreeSet<&str> = VARIABLES.iter().map(|v| v.name).collect();
    assert_eq!(shown, known, ".env.example and VARIABLES of berth-ground differ");
    for variable in VARIABLES {
        assert!(
            example.contains(&format!("{}={}", variable.name, variable.default)),
            "{} has another default",
            variable.name
        );
        assert!(example.contains(variable.doc), "{} is described otherwise", variable.name);
    }
}

fn repository_file(path: &str) -> &'static str {
    &repository().iter().find(|file| file.path == path).expect("the file is there").text
}

#[test]
fn a_file_or_folder_that_grew_is_found() {
    let long = Source::new("a/mod.rs", &"\n".repeat(501));
    assert_eq!(long_files([&long, &Source::new("b.rs", &"\n".repeat(500))]), ["a/mod.rs: 501 lines"]);
    let folder = |name: &str, files: usize| -> Vec<Source> {
        (0..files).map(|file| Source::new(&format!("{name}/{file}.html"), "")).collect()
    };
    assert_eq!(large_folders(&[folder("a", 25), folder("b", 26)].concat()), ["b: 26 files"]);
}

#[test]
fn a_file_beside_its_folder_and_unfinished_work_are_found() {
    let files = [Source::new("a/b.rs", "// TO\u{44}O"), Source::new("a/b/c.rs", ""), Source::new("a/d.rs", "")];
    assert_eq!(files_beside_their_folders(&files), ["a/b.rs"]);
    assert_eq!(unfinished(&Source::new("a.rs", &format!("// {}: later", "TO".to_owned() + "DO"))).len(), 1);
}
