//! Names: each public type has a name of its own, and tests are named in words.

use std::collections::BTreeMap;

use super::sources::{Source, rust_files};
use super::tokens::{TokenKind, closing, code_tokens, tokens};
use super::{assert_none, assert_only_known};

/// Names that several things may have: a module's own error, what sea-orm derives for a table, and a migration.
const SHARED: [&str; 6] = ["Error", "Model", "Entity", "ActiveModel", "Relation", "Migration"];
/// Letters by which lists of promises are numbered: an id of these says nothing to a reader without the list.
const ID_LETTERS: [char; 5] = ['I', 'Q', 'R', 'T', 'W'];

/// Names that several types still share.
const KNOWN: [&str; 2] = ["Answer", "Reply"];

/// The public types of `source`, `pub(crate)` and the like included.
fn public_types(source: &Source) -> Vec<String> {
    let code = code_tokens(&source.text);
    let keywords = ["struct", "enum", "union", "trait", "type"];
    let name = |at: usize| {
        let keyword = if code.get(at + 1)?.is("(") { closing(&code, at + 1) } else { at + 1 };
        let is_type = keywords.iter().any(|word| code.get(keyword).is_some_and(|t| t.is(word)));
        is_type.then(|| code[keyword + 1].text.to_owned())
    };
    (0..code.len()).filter(|at| code[*at].is("pub")).filter_map(name).collect()
}

/// The names that stand for more than one public type.
fn repeated_types<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for source in sources {
        for name in public_types(source).into_iter().filter(|name| !SHARED.contains(&name.as_str())) {
            places.entry(name).or_default().push(&source.path);
        }
    }
    let repeated = places.into_iter().filter(|(_, places)| places.len() > 1);
    repeated.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect()
}

/// The ids, a letter and a number, in comments, and in the names of tests.
fn numbered_ids(source: &Source) -> Vec<String> {
    let all = tokens(&source.text);
    let is_test = source.path.contains("tests/") || source.path.ends_with("_tests.rs");
    let mut found = Vec::new();
    for (at, token) in all.iter().enumerate() {
        let is_function = is_test && at > 0 && all[at - 1].is("fn") && token.is_word();
        let words: Vec<String> = match token.kind {
            TokenKind::Comment => token.text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect(),
            TokenKind::Word if is_function => token.text.split('_').map(str::to_uppercase).collect(),
            _ => continue,
        };
        let ids = words.iter().filter(|word| is_numbered_id(word));
        found.extend(ids.map(|id| format!("{}:{} says {id}", source.path, token.line)));
    }
    found
}

fn is_numbered_id(word: &str) -> bool {
    let Some(number) = word.strip_prefix(ID_LETTERS) else { return false };
    (1..=2).contains(&number.len()) && number.chars().all(|c| c.is_ascii_digit())
}

#[test]
fn each_public_type_has_a_name_of_its_own() {
    let sources = rust_files().filter(|file| file.path.contains("/src/"));
    assert_only_known("One name for several public types", &repeated_types(sources), &KNOWN);
}

#[test]
fn tests_are_named_in_words() {
    let tests = rust_files().filter(|file| file.path.starts_with("platform/"));
    assert_none("Ids of a list that the repository does not have", tests.flat_map(numbered_ids).collect());
}

#[test]
fn a_repeated_type_is_found() {
    let first = Source::new("a.rs", "pub struct Hold;\npub enum Error {}\nstruct Private;");
    let second = Source::new("b.rs", "pub(super) enum Hold {}\npub struct Error;\npub struct Private;");
    assert_eq!(repeated_types([&first, &second]), ["Hold: a.rs, b.rs"]);
}

#[test]
fn a_numbered_id_is_found() {
    let text = "//! R1: a kill. SHA256, H2, W100.\nfn t2_it_holds() { f(\"Q1\") }\nfn visit_i64() {}";
    assert_eq!(numbered_ids(&Source::new("a.rs", text)), ["a.rs:1 says R1"]);
    assert_eq!(numbered_ids(&Source::new("tests/a.rs", &text[..60])), ["tests/a.rs:1 says R1", "tests/a.rs:2 says T2"]);
}
