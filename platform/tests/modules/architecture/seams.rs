//! Seams and single writers: which files may name a library, a database row, or a call that others must not make.

use super::assert_none;
use super::imports::imported_parts;
use super::sources::{Source, sources};
use super::tokens::{Token, closing, code_tokens};

/// What sea-orm derives for a table.
const ROW_TYPES: [&str; 3] = ["Model", "Entity", "ActiveModel"];

/// Calls that only one file makes.
struct SingleCaller {
    calls: &'static [&'static str],
    file: &'static str,
}

const VOLUMES: SingleCaller =
    SingleCaller { calls: &[".bury_volume(", ".unbury_volume(", ".destroy_volume("], file: "instances/deletion.rs" };
const ACCOUNT_FILES: SingleCaller =
    SingleCaller { calls: &[".mark_files(", ".unmark_files(", ".destroy_files("], file: "accounts/deletion.rs" };
const WISHES: SingleCaller = SingleCaller { calls: &["store::set_wish("], file: "instances/wishes.rs" };
const FACTS: SingleCaller = SingleCaller { calls: &["store::set_fact("], file: "instances/steps.rs" };

impl SingleCaller {
    fn callers<'a>(&self, sources: impl IntoIterator<Item = &'a Source>) -> Vec<String> {
        let calls = |source: &&Source| self.calls.iter().any(|call| source.text.contains(call));
        sources.into_iter().filter(calls).map(|source| source.path.clone()).collect()
    }
}

fn may_know_sea_orm(source: &Source) -> bool {
    matches!(source.name(), "store.rs" | "entities.rs")
        || source.path.contains("/store/")
        || source.part() == "db"
        || ["ground/database.rs", "ground/ids.rs", "ground/money.rs"].contains(&source.path.as_str())
}

/// The libraries that `source` names although it stands before their seam.
fn libraries_before_their_seam(source: &Source) -> Vec<String> {
    let names = |krate: &str| source.text.contains(&format!("{krate}::"));
    let mut wrong = Vec::new();
    if (names("sea_orm") || names("sea_orm_migration")) && !may_know_sea_orm(source) {
        wrong.push(format!("{} knows sea-orm", source.path));
    }
    if names("bollard") && !source.path.starts_with("containers/docker") {
        wrong.push(format!("{} knows bollard", source.path));
    }
    wrong
}

/// The row types in re-exports and in signatures of public functions of `source`.
fn offered_row_types(source: &Source) -> Vec<String> {
    if may_know_sea_orm(source) {
        return Vec::new();
    }
    let code = code_tokens(&source.text);
    let public = (0..code.len()).filter(|at| code[*at].is("pub")).map(|at| public_declaration(&code, at));
    let named = public.flat_map(|declaration| declaration.iter().filter(|t| ROW_TYPES.iter().any(|row| t.is(row))));
    named.map(|token| format!("{}:{} offers {}", source.path, token.line, token.text)).collect()
}

/// The re-export or the function's signature after the `pub` at `at`; empty for anything else.
fn public_declaration<'a, 'b>(code: &'a [Token<'b>], at: usize) -> &'a [Token<'b>] {
    let begin = if code.get(at + 1).is_some_and(|t| t.is("(")) { closing(code, at + 1) } else { at + 1 };
    let keyword = code[begin..].iter().find(|t| !["async", "const", "unsafe"].iter().any(|word| t.is(word)));
    let end_mark = match keyword {
        Some(keyword) if keyword.is("use") => ";",
        Some(keyword) if keyword.is("fn") => "{",
        _ => return &[],
    };
    let end = code[begin..].iter().position(|t| t.is(end_mark) || t.is(";")).unwrap_or(code.len() - begin);
    &code[begin..begin + end]
}

/// Whether `source` calls the seam to the containers.
fn changes_a_container(source: &Source) -> bool {
    let verbs = [".create(", ".start(", ".freeze(", ".thaw(", ".stop(", ".remove_container("];
    imported_parts(source).contains("containers")
        && verbs.iter().any(|verb| source.text.contains(&format!("host{verb}")))
}

#[test]
fn libraries_stay_behind_their_seams() {
    let wrong = sources().iter().flat_map(libraries_before_their_seam).collect();
    assert_none("Only db and stores know sea-orm, only containers/docker knows bollard", wrong);
}

#[test]
fn rows_stay_in_their_stores() {
    let wrong = sources().iter().flat_map(offered_row_types).collect();
    assert_none("A row of sea-orm is for the store alone: convert it to a type of the module", wrong);
}

#[test]
fn only_the_reconciler_changes_a_container() {
    let others = sources().iter().filter(|s| !["instances", "containers", "provisioner"].contains(&s.part()));
    let wrong = others.filter(|s| changes_a_container(s)).map(|s| s.path.clone());
    assert_none("Containers are changed by the instances' reconciler alone", wrong.collect());
}

#[test]
fn files_are_taken_away_in_one_place_that_the_loop_does_not_know() {
    for rule in [VOLUMES, ACCOUNT_FILES] {
        let outside =
            sources().iter().filter(|s| !["containers", "provisioner"].contains(&s.part()) && s.path != rule.file);
        assert_none(&format!("Only {} may call {:?}", rule.file, rule.calls), rule.callers(outside));
    }
}

#[test]
fn wishes_and_facts_have_one_writer_each() {
    for rule in [WISHES, FACTS] {
        assert_eq!(rule.callers(sources()), [rule.file], "{:?} is called from elsewhere", rule.calls);
    }
}

#[test]
fn a_row_that_leaves_its_store_is_found() {
    let offers = |text: &str| offered_row_types(&Source::new("alarms/mod.rs", text)).len();
    assert_eq!(offers("pub(crate) use store::{alarms::Model as AlarmRow, next};"), 1);
    assert_eq!(offers("impl A { pub async fn all(&self) -> Vec<alarms::Model> { Vec::new() } }"), 1);
    assert_eq!(offers("fn own(row: alarms::Model) {}\nuse store::alarms::Entity;\npub struct Modeller;"), 0);
    assert_eq!(offered_row_types(&Source::new("alarms/store.rs", "pub fn all() -> Model {}")), [""; 0]);
}

#[test]
fn a_call_that_others_must_not_make_is_found() {
    let source = Source::new("web/a.rs", "use berth_containers::Host;\nfn f() { host.start(1); store::set_wish(2) }");
    assert!(changes_a_container(&source));
    assert_eq!(WISHES.callers([&source]), ["web/a.rs"]);
    assert_eq!(libraries_before_their_seam(&Source::new("web/a.rs", "use sea_orm::Set; bollard::x()")).len(), 2);
}
