//! Circles of imports: strongly connected components of a graph of modules or files.

use std::collections::{BTreeMap, BTreeSet};

use super::assert_none;
use super::imports::{CrateTree, Import, ModulePath};
use super::sources::{Source, rust_files};

/// For each node the nodes that it imports, with one import as the evidence.
type Arrows<'a> = BTreeMap<String, BTreeMap<String, &'a Import>>;

/// Sources of each crate below `platform`, by its name and by the paths below its `src`.
fn crates() -> BTreeMap<String, Vec<Source>> {
    let mut crates: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for file in rust_files().filter(|file| !file.path.ends_with("_tests.rs")) {
        let Some((root, path)) = file.path.split_once("/src/") else { continue };
        crates.entry(root.to_owned()).or_default().push(Source { path: path.to_owned(), text: file.text.clone() });
    }
    crates
}

/// The circles of `imports` between what `node` makes of their files: the members, then the imports that close it.
fn circles(imports: &[Import], node: impl Fn(&ModulePath) -> String) -> Vec<String> {
    let mut arrows: Arrows<'_> = BTreeMap::new();
    for import in imports {
        let (from, to) = (node(&import.from), node(&import.to));
        if from != to {
            arrows.entry(from).or_default().entry(to).or_insert(import);
        }
    }
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        arrows.keys().map(|from| (from, reachable(&arrows, from))).collect();
    let reaches = |from: &String, to: &String| reached.get(from).is_some_and(|nodes| nodes.contains(to));
    let members = |from: &String| arrows.keys().filter(|to| reaches(from, to) && reaches(to, from)).collect();
    let circles: BTreeSet<Vec<&String>> =
        arrows.keys().map(members).filter(|circle: &Vec<_>| !circle.is_empty()).collect();
    circles.iter().map(|circle| report(circle, &arrows)).collect()
}

fn report(circle: &[&String], arrows: &Arrows<'_>) -> String {
    let mut report = circle.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(" ") + ": ";
    for from in circle {
        for (to, import) in arrows[*from].iter().filter(|(to, _)| circle.contains(to)) {
            report += &format!("\n    {from} -> {to}, because {} names {}", import.from.join("/"), import.by);
        }
    }
    report
}

fn reachable<'a>(arrows: &'a Arrows<'_>, from: &String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = arrows.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(node) = open.pop() {
        if found.insert(node) {
            open.extend(arrows.get(node).into_iter().flat_map(BTreeMap::keys));
        }
    }
    found
}

/// The circles of each crate, between its files as `node` sees them.
fn circles_of_crates(node: impl Fn(&ModulePath) -> String) -> Vec<String> {
    let circles = |(name, sources): (String, Vec<Source>)| {
        let imports = CrateTree::new(&sources).imports();
        let prefix = name.rsplit('/').next().unwrap_or(&name).to_owned();
        circles(&imports, |file| format!("{prefix}/{}", node(file)))
    };
    crates().into_iter().flat_map(circles).collect()
}

/// The top-level module of a file; `lib` for the root of the crate.
fn top_level(file: &ModulePath) -> String {
    file.first().cloned().unwrap_or_else(|| "lib".to_owned())
}

fn file_name(file: &ModulePath) -> String {
    if file.is_empty() { "lib".to_owned() } else { file.join("/") }
}

#[test]
fn no_circle_of_modules() {
    assert_none("Modules that import each other in a circle", circles_of_crates(top_level));
}

#[test]
fn no_circle_of_files() {
    assert_none("Files that import each other in a circle", circles_of_crates(file_name));
}

#[test]
fn a_circle_of_any_length_is_found() {
    let sources = [
        Source::new("a/mod.rs", "mod b;\nmod c;\npub use b::B;"),
        Source::new("a/b.rs", "use super::c::C;"),
        Source::new("a/c.rs", "pub struct C(crate::d::D);"),
        Source::new("d.rs", "use crate::a::B;\npub struct D;\nfn f() { crate::e::g() }"),
        Source::new("e.rs", "pub fn g() {}"),
    ];
    let imports = CrateTree::new(&sources).imports();
    let members = |circles: Vec<String>| circles.into_iter().map(|c| c.split(": ").next().unwrap().to_owned());
    assert_eq!(members(circles(&imports, file_name)).collect::<Vec<_>>(), ["a/b a/c d"]);
    assert_eq!(members(circles(&imports, top_level)).collect::<Vec<_>>(), ["a d"]);
    let without = CrateTree::new(&sources[..3]).imports();
    assert_eq!(circles(&without, file_name), [""; 0], "a mod.rs that re-exports closes no circle");
}
