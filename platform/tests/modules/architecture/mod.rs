//! Rules of the architecture that a compiler does not know. ARCHITECTURE.md lists them.
//!
//! Each rule is a function of sources, so that a made-up source shows that the rule can fail.

mod circles;
mod comments;
mod files;
mod imports;
mod layers;
mod names;
mod seams;
mod sources;
mod tokens;

use std::collections::BTreeSet;

fn assert_none(what: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

/// As [`assert_none`], but for offenders that are `known`. One that is gone has to leave the list, so that it only
/// shrinks.
fn assert_only_known(what: &str, offenders: &[String], known: &[&str]) {
    let name = |offender: &str| offender.split_once(": ").map_or(offender, |(name, _)| name).to_owned();
    let found: BTreeSet<String> = offenders.iter().map(|offender| name(offender)).collect();
    let new = offenders.iter().filter(|offender| !known.contains(&name(offender).as_str())).cloned().collect();
    assert_none(what, new);
    let gone = known.iter().filter(|known| !found.contains(**known)).map(|known| (*known).to_owned()).collect();
    assert_none("Gone, so take it from the list of what is known", gone);
}

#[test]
fn the_list_of_what_is_known_may_only_shrink() {
    let fails = |offenders: &[&str], known: &[&str]| {
        let offenders: Vec<String> = offenders.iter().map(|offender| (*offender).to_owned()).collect();
        std::panic::catch_unwind(|| assert_only_known("Wrong", &offenders, known)).is_err()
    };
    assert!(!fails(&["a: b"], &["a"]));
    assert!(fails(&["a: b", "c: d"], &["a"]));
    assert!(fails(&["a: b"], &["a", "c"]));
}
