//! Imports of a Rust source: the paths that its `use` declarations and its code name, and what they resolve to.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::Source;
use super::tokens::{Token, closing, code_tokens, starts_with};

/// A module's path from the root of its crate; empty for the root.
pub type ModulePath = Vec<String>;

/// A path as a source names it.
#[derive(Clone, Debug)]
struct NamedPath {
    /// The module in which it stands, inline modules included.
    base: ModulePath,
    segments: Vec<String>,
    role: PathRole,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathRole {
    /// `use PATH as NAME`; without `as`, the name is the last segment's.
    Import { name: String, visibility: Visibility },
    /// `use PATH::*`.
    Glob { visibility: Visibility },
    /// In an expression, a type or a pattern.
    Code,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visibility {
    Private,
    Public,
}

/// One source as the resolution of names sees it.
struct ModuleFile {
    paths: Vec<NamedPath>,
    /// The names of the items that it defines.
    items: BTreeSet<String>,
}

/// The sources of one crate, by module path.
pub struct CrateTree(BTreeMap<ModulePath, ModuleFile>);

/// An import of one file by another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: ModulePath,
    pub to: ModulePath,
    /// The path by which it is named.
    pub by: String,
}

impl CrateTree {
    /// `sources` by their paths below the crate's `src`.
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Self {
        let file = |source: &Source| {
            let module = module_path(&source.path);
            let code = code_tokens(&source.text);
            let (paths, items) = (named_paths(&code, &module), items(&code));
            (module, ModuleFile { paths, items })
        };
        let mut files: BTreeMap<ModulePath, ModuleFile> = sources.into_iter().map(file).collect();
        // `main.rs` beside a `lib.rs` is a crate of its own.
        if !files.contains_key(&ModulePath::new())
            && let Some(main) = files.remove(&["main".to_owned()][..])
        {
            files.insert(ModulePath::new(), main);
        }
        Self(files)
    }

    /// The imports of files by others. A name that is re-exported leads to the file that defines the item.
    pub fn imports(&self) -> Vec<Import> {
        let mut found = Vec::new();
        for (from, file) in &self.0 {
            for path in &file.paths {
                let Some(absolute) = self.absolute(from, path) else { continue };
                // A module that is imported by its name counts by what the code then takes from it.
                if path.role != PathRole::Code && self.0.contains_key(&absolute) {
                    continue;
                }
                let Some(to) = self.resolve(&absolute, 0).filter(|to| to != from) else { continue };
                // A front that re-exports from its parts imports nothing, unless its own code names the item.
                if path.is_re_export() && to.starts_with(from) {
                    continue;
                }
                found.push(Import { from: from.clone(), to, by: path.segments.join("::") });
            }
        }
        found
    }

    /// `path` from the root of the crate; `None` when it leads out of the crate, or is a local name.
    fn absolute(&self, file: &ModulePath, path: &NamedPath) -> Option<ModulePath> {
        if let Some(absolute) = path.rooted() {
            return Some(absolute);
        }
        let (first, rest) = path.segments.split_first()?;
        let child = [path.base.as_slice(), std::slice::from_ref(first)].concat();
        let is_code = path.role == PathRole::Code;
        // A name alone is an item or a variable, not a child module.
        let module = if self.0.contains_key(&child) && !(is_code && rest.is_empty()) {
            child
        } else if is_code {
            self.binding(file, first)?
        } else {
            // An import that begins with none of these names another crate.
            return None;
        };
        Some([&module, rest].concat())
    }

    /// The absolute path that `name` is imported from in `file`.
    fn binding(&self, file: &ModulePath, name: &str) -> Option<ModulePath> {
        let import = self.0[file].paths.iter().find(|path| path.binds(name))?;
        self.absolute(file, import)
    }

    /// The file that defines the item at the absolute `path`; `None` when it comes from another crate.
    fn resolve(&self, path: &[String], depth: usize) -> Option<ModulePath> {
        let mut module = ModulePath::new();
        for (at, segment) in path.iter().enumerate() {
            let child = [module.as_slice(), std::slice::from_ref(segment)].concat();
            if self.0.contains_key(&child) {
                module = child;
                continue;
            }
            let Some(file) = self.0.get(&module) else { break };
            // Imports that lead in a circle do not compile; the bound is for made-up sources.
            if depth < 8 && !file.items.contains(segment) {
                if file.paths.iter().any(|path| path.binds(segment)) {
                    let target = self.binding(&module, segment)?;
                    return self.resolve(&[&target, &path[at + 1..]].concat(), depth + 1);
                }
                if let Some(target) = self.glob_with(&module, segment) {
                    return self.resolve(&[&target, &path[at..]].concat(), depth + 1);
                }
            }
            break;
        }
        self.0.contains_key(&module).then_some(module)
    }

    /// The module that `file` imports everything from and that defines `name`.
    fn glob_with(&self, file: &ModulePath, name: &str) -> Option<ModulePath> {
        let globs = self.0[file].paths.iter().filter(|path| matches!(path.role, PathRole::Glob { .. }));
        let modules = globs.filter_map(|path| self.absolute(file, path));
        modules.into_iter().find(|module| self.0.get(module).is_some_and(|file| file.items.contains(name)))
    }
}

impl NamedPath {
    /// The path from the root of the crate, if it begins with `crate`, `self` or `super`.
    fn rooted(&self) -> Option<ModulePath> {
        let mut module = self.base.clone();
        let mut segments = self.segments.as_slice();
        match segments.first()?.as_str() {
            "crate" => {
                module.clear();
                segments = &segments[1..];
            }
            "self" | "super" => {
                while let Some((first, rest)) = segments.split_first().filter(|(s, _)| *s == "self" || *s == "super") {
                    if first == "super" {
                        module.pop();
                    }
                    segments = rest;
                }
            }
            _ => return None,
        }
        Some([&module, segments].concat())
    }

    /// The top-level module of its own crate that it leads to, or the crate of ours. A crate that holds several parts
    /// is named with the part: `berth_ground::clock` is `clock`.
    fn part(&self) -> Option<String> {
        if let Some(own) = self.rooted() {
            return own.into_iter().next();
        }
        let (first, rest) = self.segments.split_first()?;
        match first.strip_prefix("berth_")? {
            "ground" | "net" => rest.first().cloned(),
            name => Some(name.to_owned()),
        }
    }

    fn binds(&self, wanted: &str) -> bool {
        matches!(&self.role, PathRole::Import { name, .. } if name == wanted)
    }

    fn is_re_export(&self) -> bool {
        let (PathRole::Import { visibility, .. } | PathRole::Glob { visibility }) = &self.role else { return false };
        *visibility == Visibility::Public
    }
}

/// The parts of the platform that `source` names: top-level modules of its own crate, and the crates below it.
pub fn imported_parts(source: &Source) -> BTreeSet<String> {
    let paths = named_paths(&code_tokens(&source.text), &module_path(&source.path));
    paths.iter().filter(|path| path.segments.len() > 1).filter_map(NamedPath::part).collect()
}

/// The module of a source: `a/b/mod.rs` and `a/b.rs` are `a::b`.
fn module_path(path: &str) -> ModulePath {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut segments: ModulePath = path.split('/').map(str::to_owned).collect();
    if segments.last().is_some_and(|last| last == "mod") || segments == ["lib"] {
        segments.pop();
    }
    segments
}

/// The items that the code defines, those of inline modules included.
fn items(code: &[Token<'_>]) -> BTreeSet<String> {
    let keywords = ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro_rules"];
    let pairs = code.windows(2).filter(|pair| keywords.iter().any(|keyword| pair[0].is(keyword)) && pair[1].is_word());
    pairs.map(|pair| pair[1].text.to_owned()).collect()
}

/// Every path of the code of `module`.
fn named_paths(code: &[Token<'_>], module: &ModulePath) -> Vec<NamedPath> {
    let mut reader = PathReader { code, base: module.clone(), ends: Vec::new(), found: Vec::new() };
    let mut at = 0;
    while at < code.len() {
        at = reader.read(at);
    }
    reader.found
}

/// Collects the paths of a source, token by token.
struct PathReader<'a> {
    code: &'a [Token<'a>],
    base: ModulePath,
    /// The positions at which the inline modules of `base` end.
    ends: Vec<usize>,
    found: Vec<NamedPath>,
}

impl PathReader<'_> {
    /// Reads what begins at `at`; returns the position after it.
    fn read(&mut self, at: usize) -> usize {
        if self.ends.last() == Some(&at) {
            self.ends.pop();
            self.base.pop();
        }
        let begin = self.after_visibility(at);
        let visibility = if begin == at { Visibility::Private } else { Visibility::Public };
        let code = &self.code[begin..];
        if starts_with(code, &["mod"]) && code.get(2).is_some_and(|token| token.is("{")) {
            self.base.push(code[1].text.to_owned());
            self.ends.push(closing(self.code, begin + 2) - 1);
            begin + 3
        } else if starts_with(code, &["use"]) && code.get(1).is_some_and(|t| t.is_word() || t.is("::") || t.is("{")) {
            self.read_import(begin, visibility)
        } else {
            self.read_path(begin)
        }
    }

    /// The position after `pub`. The path in `pub(in crate::a)` is no import.
    fn after_visibility(&self, at: usize) -> usize {
        match (self.code[at].is("pub"), self.code.get(at + 1)) {
            (false, _) => at,
            (true, Some(next)) if next.is("(") => closing(self.code, at + 1),
            (true, _) => at + 1,
        }
    }

    fn read_import(&mut self, at: usize, visibility: Visibility) -> usize {
        let end = (at..self.code.len()).find(|at| self.code[*at].is(";")).unwrap_or(self.code.len());
        let (base, found) = (&self.base, &mut self.found);
        use_tree(&self.code[at + 1..end], &[], visibility, &mut |segments, role| {
            found.push(NamedPath { base: base.clone(), segments, role });
        });
        end
    }

    fn read_path(&mut self, at: usize) -> usize {
        let segments = path_at(self.code, at);
        let length = (segments.len() * 2).max(2) - 1;
        if !segments.is_empty() {
            self.found.push(NamedPath { base: self.base.clone(), segments, role: PathRole::Code });
        }
        at + length
    }
}

/// The segments of the path that begins at `at`: none where a path goes on, or where no word stands.
fn path_at(code: &[Token<'_>], at: usize) -> Vec<String> {
    let mut segments = Vec::new();
    let goes_on = at > 0 && code[at - 1].is("::");
    for (index, token) in code[at..].iter().enumerate() {
        let fits = if index % 2 == 0 { token.is_word() } else { token.is("::") };
        if goes_on || !fits {
            break;
        }
        if index % 2 == 0 {
            segments.push(token.text.to_owned());
        }
    }
    segments
}

/// Reports every path of a `use` tree, with lists in braces taken apart.
fn use_tree(
    tree: &[Token<'_>],
    prefix: &[String],
    visibility: Visibility,
    report: &mut dyn FnMut(Vec<String>, PathRole),
) {
    let mut segments = prefix.to_vec();
    let mut at = usize::from(starts_with(tree, &["::"]));
    while let Some(token) = tree.get(at) {
        if token.is("{") {
            for branch in branches(&tree[at + 1..closing(tree, at) - 1]) {
                use_tree(branch, &segments, visibility, report);
            }
            return;
        } else if token.is("*") {
            report(segments, PathRole::Glob { visibility });
            return;
        } else if token.is("as") {
            break;
        } else if token.is_word() {
            segments.push(token.text.to_owned());
        }
        at += 1;
    }
    // `a::{self}` is `a`; a path that is `self` alone does not occur.
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    let alias = tree.get(at + 1).filter(|_| tree.get(at).is_some_and(|t| t.is("as"))).map(|t| t.text.to_owned());
    if let Some(name) = alias.or_else(|| segments.last().cloned()) {
        report(segments, PathRole::Import { name, visibility });
    }
}

/// The branches of a list in braces.
fn branches<'a, 'b>(list: &'a [Token<'b>]) -> Vec<&'a [Token<'b>]> {
    let (mut found, mut begin, mut at) = (Vec::new(), 0, 0);
    while at < list.len() {
        if list[at].is(",") {
            found.push(&list[begin..at]);
            begin = at + 1;
        }
        at = if list[at].is("{") { closing(list, at) } else { at + 1 };
    }
    found.push(&list[begin..]);
    found.retain(|branch| !branch.is_empty());
    found
}

fn arrows(sources: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = sources.iter().map(|(path, text)| Source::new(path, text)).collect();
    let tree = CrateTree::new(&sources);
    tree.imports().into_iter().map(|i| format!("{} -> {}", i.from.join("/"), i.to.join("/"))).collect()
}

#[test]
fn nested_lists_and_relative_paths_are_imports() {
    let found = arrows(&[
        ("a/mod.rs", "mod b;\nmod c;\nfn f() { c::g() }"),
        ("a/b.rs", "use crate::{d::{self, D}, a::c as other};\nfn h() { other::g(); super::f(); }"),
        ("a/c.rs", "pub fn g() {}\n#[cfg(test)]\nmod tests { use crate::d::D; }"),
        ("d.rs", "pub struct D; // crate::a::f"),
    ]);
    assert_eq!(found, ["a -> a/c", "a/b -> d", "a/b -> a/c", "a/b -> a"]);
}

#[test]
fn a_re_export_leads_to_the_file_that_defines_the_item() {
    let found = arrows(&[
        ("lib.rs", "pub use other_crate::clock;"),
        ("a/mod.rs", "mod b;\nmod c;\npub use b::B as Renamed;\npub(super) use c::*;"),
        ("a/b.rs", "pub struct B;\npub(in crate::d) struct Other;"),
        ("a/c.rs", "pub struct C;"),
        ("d.rs", "use crate::a::{self, Renamed};\nuse crate::clock::Clock;\nfn f(_: a::C) {}"),
    ]);
    assert_eq!(found, ["d -> a/b", "d -> a/c"]);
}

#[test]
fn a_front_that_uses_what_it_re_exports_imports_it() {
    let sources = |front| [("a/mod.rs", front), ("a/b.rs", "pub struct B;")];
    assert_eq!(arrows(&sources("mod b;\npub use b::B;")), [""; 0]);
    assert_eq!(arrows(&sources("mod b;\npub use b::B;\nfn f(_: B) {}")), ["a -> a/b"]);
    assert_eq!(arrows(&[("a.rs", "pub use crate::b::B;"), ("b.rs", "pub struct B;")]), ["a -> b"]);
}

#[test]
fn an_inline_module_is_part_of_its_file() {
    let found =
        arrows(&[("a.rs", "mod rows { use super::f; use super::super::b::B; }\nfn f() {}"), ("b.rs", "struct B;")]);
    assert_eq!(found, ["a -> b"]);
}

#[test]
fn the_parts_of_other_crates_are_imports() {
    let text = "use berth_ground::{clock::Clock, error};\nuse serde::Serialize;\nuse crate::app::App;\n\
                fn f(_: berth_net::peer::Peer, _: &dyn berth_containers::ContainerHost) {}";
    let parts = imported_parts(&Source::new("edge/mod.rs", text));
    assert_eq!(parts.iter().collect::<Vec<_>>(), ["app", "clock", "containers", "error", "peer"]);
}
