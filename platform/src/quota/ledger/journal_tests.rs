//! The journal on a real disk.

use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;
use berth_providers::Usage;

use super::super::chain;
use super::super::receipt::Receipt;
use super::*;
use crate::db::{AccountId, InstanceId};
use crate::quota::admission::Payer;
use crate::quota::prices::{CallOutcome, Charge, ChargeBasis, CostBound};

fn intent(number: u128) -> Intent {
    let bound = CostBound {
        input_tokens: 1,
        output_tokens: 2,
        input_nanodollars: Nanodollars(3),
        output_nanodollars: Nanodollars(4),
        other_nanodollars: Nanodollars::ZERO,
        reads_again: false,
        is_counted: false,
        may_hide_output: false,
    };
    Intent {
        id: HoldId(uuid::Uuid::from_u128(number)),
        account: AccountId(uuid::Uuid::from_u128(1)),
        instance: InstanceId(uuid::Uuid::from_u128(2)),
        period: "2026-11".parse().unwrap(),
        day: "2026-11-15".parse().unwrap(),
        provider: "anthropic".into(),
        model: "a model\nwith a line end".into(),
        agent: String::new(),
        price_version: "1".into(),
        bound,
        held_nanodollars: Nanodollars(7),
        at_the_dearest: false,
        at: Timestamp(5),
        payer: Payer::Budget,
    }
}

fn settlement(number: u128) -> Settlement {
    let charge = Charge { amount_nanodollars: Nanodollars(6), basis: ChargeBasis::Provider, usage: Usage::default() };
    let id = HoldId(uuid::Uuid::from_u128(number));
    Settlement {
        id,
        charge,
        outcome: CallOutcome::Completed,
        usage: "{}".into(),
        at: Timestamp(6),
        worth_nanodollars: None,
    }
}

fn held(intent: Intent) -> JournalRecord<'static> {
    JournalRecord::Held(Cow::Owned(intent))
}

fn settled(settlement: Settlement) -> JournalRecord<'static> {
    JournalRecord::Settled(Cow::Owned(settlement))
}

fn left(folder: &Path) -> Vec<JournalRecord<'static>> {
    Journal::open(folder).unwrap().1
}

#[test]
fn what_was_written_is_read_again_by_the_next_process_in_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, before) = Journal::open(folder.path()).unwrap();
    assert_eq!(before, []);
    journal.hold(&intent(1)).unwrap();
    journal.saw(intent(1).id, UsageReport::NoCharge).unwrap();
    journal.settle(settlement(1), drop).unwrap();
    drop(journal);
    let seen = JournalRecord::Seen(intent(1).id, UsageReport::NoCharge);
    assert_eq!(left(folder.path()), [held(intent(1)), seen, settled(settlement(1))]);
}

#[test]
fn only_one_process_has_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let refused = Journal::open(folder.path()).err().unwrap().to_string();
    assert!(refused.starts_with("another platform has the books"), "{refused}");
    drop(journal);
    assert!(Journal::open(folder.path()).is_ok());
}

#[test]
fn wherever_the_power_goes_every_whole_line_before_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    for number in 1..=3 {
        journal.hold(&intent(number)).unwrap();
    }
    drop(journal);
    let file = folder.path().join("journal");
    let whole = std::fs::read(&file).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        let ends = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(left(folder.path()).len(), ends, "cut at {length}");
    }
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    assert_eq!(left(folder.path()).len(), 1, "nothing after a damaged line is believed");
}

#[test]
fn a_new_file_has_what_is_still_open_and_the_old_one_is_read_until_it_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    journal.hold(&intent(1)).unwrap();
    journal.hold(&intent(2)).unwrap();
    journal.settle(settlement(1), drop).unwrap();
    journal.begin_new().unwrap();
    journal.hold(&intent(3)).unwrap();
    drop(journal);
    let old = [held(intent(1)), held(intent(2)), settled(settlement(1))];
    let new = [held(intent(2)), held(intent(3))];
    assert_eq!(left(folder.path()), [&old[..], &new[..]].concat());
    let (journal, _) = Journal::open(folder.path()).unwrap();
    journal.forget_old().unwrap();
    drop(journal);
    assert_eq!(left(folder.path()), new);
}

#[test]
fn who_pays_is_read_again_and_was_the_budget_before_anybody_wrote_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    journal.hold(&intent(1)).unwrap();
    let own = Intent { payer: Payer::OwnKey, held_nanodollars: Nanodollars::ZERO, ..intent(2) };
    journal.hold(&own).unwrap();
    let worth = Settlement { worth_nanodollars: Some(Nanodollars(600)), ..settlement(2) };
    journal.settle(worth.clone(), drop).unwrap();
    drop(journal);
    let text = std::fs::read_to_string(folder.path().join("journal")).unwrap();
    let first = text.lines().next().unwrap();
    assert!(!first.contains("payer") && text.contains(r#""payer":"own_key""#), "{text}");
    assert_eq!(left(folder.path()), [held(intent(1)), held(own), settled(worth)]);
}

#[test]
fn amounts_are_bare_integers_in_the_journal_and_in_the_digested_text() {
    // The bytes of lines and digests from before amounts had a type of their own.
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let settlement = Settlement { worth_nanodollars: Some(Nanodollars(600)), ..settlement(1) };
    journal.hold(&intent(1)).unwrap();
    journal.settle(settlement.clone(), drop).unwrap();
    let text = std::fs::read_to_string(folder.path().join("journal")).unwrap();
    for field in [
        r#""input_nanodollars":3,"output_nanodollars":4,"other_nanodollars":0,"#,
        r#""held_nanodollars":7,"at":5}}"#,
        r#""charge":{"amount_nanodollars":6,"#,
        r#""at":6,"worth_nanodollars":600}}"#,
    ] {
        assert!(text.contains(field), "{field}: {text}");
    }
    let digested = chain::text(&Receipt::of_call(&intent(1), &settlement));
    assert!(digested.contains(r#","held_nanodollars":7,"amount_nanodollars":6,"input_tokens":0,"#), "{digested}");
    assert!(digested.ends_with(r#","worth_nanodollars":600}"#), "{digested}");
}
