//! Quota: calls are admitted while their holds fit the allowance, holds are settled, and nothing stays held.

mod admin_usage;
mod alerts;
mod corrections;
mod limits;
mod prices;
pub mod repricing;
mod unknown_models;
mod unreadable_rows;
pub mod usage;

use std::sync::Arc;
use std::time::Duration;

use berth::app::App;
use berth::modules::Verdict;
use berth::quota::admission::CreditGrant;
use berth::quota::ledger::ChainVerification;
use berth::quota::{BudgetCall, CallOutcome, Hold, Refusal};
use berth_ground::clock::{Clock, Timestamp};
use berth_ground::error::Error;
use berth_ground::money::Nanodollars;
use berth_providers::{CacheWrites, Demand, InputBound, Provider, ServiceTier, TierChoice, Usage, UsageReport};
use sea_orm::ConnectionTrait as _;

use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, after_a_kill, reopen};
use berth_testing::wait::eventually;
use berth_testing::{START, databases, sqlite};

/// The most that 2,000 output tokens of the demo model cost: a tenth of a cent.
pub const OUTPUT_TOKENS: u64 = 2000;
pub const HOLD: i64 = 1_000_000;

pub fn credit<'a>(person: &'a Person, nanodollars: i64, note: &'a str) -> CreditGrant<'a> {
    let nanodollars = Nanodollars(nanodollars);
    CreditGrant { account: person.instance.account, handle: &person.instance.handle, nanodollars, note }
}

pub fn call(person: &Person) -> BudgetCall {
    let demand = Demand {
        provider: Provider::ANTHROPIC,
        model: "berth-demo".into(),
        service: TierChoice::Auto(ServiceTier::Standard),
        input: InputBound::Tokens(0),
        cache_writes: CacheWrites::Never,
        max_output_tokens: Some(OUTPUT_TOKENS),
        answers: 1,
        extra_output_tokens: 0,
        web_searches: 0,
        may_be_us: false,
        may_hide_output: false,
    };
    BudgetCall { account: person.instance.account, instance: person.instance.id, agent: String::new(), demand }
}

pub fn used(hold: Hold, output_tokens: u64) {
    let usage = Usage { output_tokens, ..Usage::default() };
    hold.settle(UsageReport::Final(usage), CallOutcome::Completed, String::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_concurrent_calls_exactly_those_that_fit_are_admitted() {
    for database in databases().await {
        let kind = database.kind;
        let world =
            QuotaPlatform::on(database, |config| config.limits.month_nanodollars = Nanodollars(7 * HOLD + HOLD / 2))
                .await;
        let alice = world.person("alice").await;
        let calls: Vec<_> = (0..1000)
            .map(|_| {
                let (quota, call) = (world.app.quota.clone(), call(&alice));
                tokio::spawn(async move { quota.admit(call).await })
            })
            .collect();
        let mut holds = Vec::new();
        for admitted in calls {
            match admitted.await.unwrap() {
                Ok(hold) => holds.push(hold),
                Err(Refusal::OverAllowance { needed_nanodollars, .. }) => assert_eq!(needed_nanodollars.0, HOLD),
                Err(other) => panic!("{kind}: {other}"),
            }
        }
        assert_eq!(holds.len(), 7, "{kind}");
        let spend = world.app.quota.reports.budget(alice.instance.account).await.unwrap();
        assert_eq!((spend.held_nanodollars.0, spend.spent_nanodollars.0), (7 * HOLD, 0));
        holds.into_iter().for_each(|hold| used(hold, OUTPUT_TOKENS));
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 7 * HOLD, "{kind}");
    }
}

#[tokio::test]
async fn the_unused_part_of_a_hold_is_free_for_the_next_call_at_once() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |config| config.limits.month_nanodollars = Nanodollars(2 * HOLD)).await;
        let alice = world.person("alice").await;
        // Each call holds half of the allowance and uses a tenth of it; a leaked hold would refuse the third.
        for round in 1..=10 {
            let first = world.app.quota.admit(call(&alice)).await.unwrap();
            used(first, OUTPUT_TOKENS / 10);
            assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, round * HOLD / 10, "{kind}");
        }
        let hold = world.app.quota.admit(call(&alice)).await.unwrap();
        let refused = world.app.quota.admit(call(&alice)).await.err();
        assert!(
            matches!(refused, Some(Refusal::OverAllowance { left_nanodollars: Nanodollars::ZERO, .. })),
            "{kind}: {refused:?}"
        );
        drop(hold);
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, HOLD);
    }
}

#[tokio::test]
async fn a_dropped_call_is_settled_and_costs_nothing_before_it_was_sent() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    drop(world.app.quota.admit(call(&alice)).await.unwrap());
    assert_eq!(world.receipt(&alice).await, (0, "provider".into(), "client_gone".into()));
    let mut demand = call(&bob);
    demand.demand.input = InputBound::Tokens(1000);
    let mut sent = world.app.quota.admit(demand).await.unwrap();
    sent.mark_sent();
    drop(sent);
    // A thousand tokens of input at a tenth of a dollar a million.
    assert_eq!(world.receipt(&bob).await, (100_000, "observed".into(), "client_gone".into()));
    assert_eq!(world.spend_at_rest(&bob).await.spent_nanodollars.0, 100_000);
    // Where reasoning may have been charged, the whole hold is.
    let carol = world.person("carol").await;
    let mut reasoning = call(&carol);
    reasoning.demand.may_hide_output = true;
    let mut sent = world.app.quota.admit(reasoning).await.unwrap();
    sent.mark_sent();
    drop(sent);
    assert_eq!(world.receipt(&carol).await, (HOLD, "held".into(), "client_gone".into()));
}

#[tokio::test]
async fn a_receipt_that_cannot_be_written_delays_no_other_and_is_retried() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let stuck = world.app.quota.admit(call(&alice)).await.unwrap();
    let next = world.app.quota.admit(call(&bob)).await.unwrap();
    let write = async |sql: &str| {
        let tx = world.app.db.begin().await.unwrap();
        tx.execute_unprepared(sql).await.unwrap();
        tx.commit().await.unwrap();
    };
    write(&format!(
        "CREATE TRIGGER stuck BEFORE INSERT ON receipts WHEN NEW.account_id = x'{}'
         BEGIN SELECT RAISE(ABORT, 'not now'); END",
        alice.instance.account.0.simple()
    ))
    .await;
    used(stuck, OUTPUT_TOKENS);
    used(next, OUTPUT_TOKENS);
    assert_eq!(world.receipt(&bob).await.0, HOLD, "in the same batch");
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, HOLD, "it counts as spent at once");
    write("DROP TRIGGER stuck").await;
    eventually("the receipt is written", async || world.receipts(&alice).await.len() == 1).await;
}

#[tokio::test]
async fn calls_are_admitted_and_refused_without_waiting_for_the_database() {
    let world =
        QuotaPlatform::on(sqlite().await, |config| config.limits.month_nanodollars = Nanodollars(HOLD / 2)).await;
    let alice = world.person("alice").await;
    let writing = world.app.db.begin().await.unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(2), world.app.quota.admit(call(&alice))).await;
    assert!(matches!(
        refused.unwrap().err(),
        Some(Refusal::OverAllowance { needed_nanodollars: Nanodollars(HOLD), .. })
    ));
    drop(writing);
}

#[tokio::test]
async fn a_hold_left_by_a_crash_is_charged_whole_at_the_next_start_and_refuses_no_call() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |config| config.limits.month_nanodollars = Nanodollars(3 * HOLD)).await;
        let alice = world.person("alice").await;
        let quota = &world.app.quota;
        let over = quota.admit(call(&alice)).await.unwrap();
        let in_flight = quota.admit(call(&alice)).await.unwrap();
        // The call has ended, and the process is killed before the database has the receipt: only the journal has it.
        used(over, OUTPUT_TOKENS / 2);
        let after = after_a_kill(&world, &world.clock, 3 * HOLD).await;
        let spend = after.reports.budget(alice.instance.account).await.unwrap();
        assert_eq!((spend.spent_nanodollars.0, spend.held_nanodollars.0), (HOLD + HOLD / 2, 0), "{kind}");
        let receipts = world.receipts(&alice).await;
        let said: Vec<_> = receipts.iter().map(|(amount, basis, outcome)| (*amount, &**basis, &**outcome)).collect();
        assert_eq!(said, [(HOLD / 2, "provider", "completed"), (HOLD, "held", "recovered")], "{kind}");
        used(after.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        after.settled().await;
        assert_eq!(after.disagreements().await.unwrap(), Vec::<String>::new());
        assert_eq!(after.ledger.verify().await.unwrap().wrong, Vec::<String>::new());
        // The process before, if it is still alive, is fenced out of new calls, and its receipts are not lost.
        used(in_flight, 1);
        quota.settled().await;
        assert!(matches!(quota.admit(call(&alice)).await.err(), Some(Refusal::Unavailable(_))), "{kind}");
    }
}

#[tokio::test]
async fn replaying_the_journal_twice_makes_each_receipt_once() {
    for database in databases().await {
        let world = QuotaPlatform::on(database, |_| ()).await;
        let alice = world.person("alice").await;
        used(world.app.quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        std::mem::forget(world.app.quota.admit(call(&alice)).await.unwrap());
        let first = after_a_kill(&world, &world.clock, 5 * HOLD).await;
        let second = after_a_kill(&world, &world.clock, 5 * HOLD).await;
        for quota in [first, second] {
            assert_eq!(quota.reports.budget(alice.instance.account).await.unwrap().spent_nanodollars.0, 2 * HOLD);
        }
        assert_eq!(world.receipts(&alice).await.len(), 2, "{}", world.kind());
    }
}

#[tokio::test]
async fn the_observed_part_of_an_answer_bounds_the_charge_after_a_kill() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let hold = world.app.quota.admit(call(&alice)).await.unwrap();
    hold.saw(UsageReport::Part { usage: None, output_tokens: OUTPUT_TOKENS / 4 });
    let after = after_a_kill(&world, &world.clock, 5 * HOLD).await;
    assert_eq!(after.reports.budget(alice.instance.account).await.unwrap().spent_nanodollars.0, HOLD / 4);
    drop(hold);
}

#[tokio::test]
async fn a_charge_above_the_hold_is_recorded_in_full() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    used(world.app.quota.admit(call(&alice)).await.unwrap(), 3 * OUTPUT_TOKENS);
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 3 * HOLD);
}

#[tokio::test]
async fn a_model_without_a_price_is_refused() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let mut unknown = call(&alice);
    unknown.demand.model = "claude-of-tomorrow".into();
    assert!(matches!(world.app.quota.admit(unknown).await.err(), Some(Refusal::UnknownModel { .. })));
}

#[tokio::test]
async fn reading_the_books_with_other_settings_changes_nothing() {
    let world =
        QuotaPlatform::on(sqlite().await, |config| config.limits.month_nanodollars = Nanodollars(7 * HOLD)).await;
    let alice = world.person("alice").await;
    used(world.app.quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
    world.app.quota.settled().await;
    let elsewhere = reopen(&world, &world.clock, 5 * HOLD).await;
    let spend = elsewhere.reports.budget(alice.instance.account).await.unwrap();
    assert_eq!((spend.allowance_nanodollars.0, spend.spent_nanodollars.0), (7 * HOLD, HOLD));
    assert!(matches!(elsewhere.admit(call(&alice)).await.err(), Some(Refusal::Unavailable(_))), "it makes no calls");
    let twice = elsewhere.begin().await.unwrap_err().to_string();
    assert!(twice.starts_with("another platform has the books"), "{twice}");
}

#[tokio::test]
async fn a_new_price_table_applies_to_the_next_call_and_leaves_open_holds_alone() {
    const TABLE: &str = r#"{"claude-of-tomorrow": {"litellm_provider": "anthropic", "mode": "chat",
        "max_input_tokens": 1000, "max_output_tokens": 4000, "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}}"#;
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let alice = world.person("alice").await;
        let quota = &world.app.quota;
        let mut tomorrow = call(&alice);
        tomorrow.demand.model = "claude-of-tomorrow".into();
        assert!(matches!(quota.admit(tomorrow.clone()).await.err(), Some(Refusal::UnknownModel { .. })));
        let before = quota.admit(call(&alice)).await.unwrap();
        // The operator's command writes in its own process and notifies this one.
        let command = reopen(&world, &world.clock, HOLD).await;
        let (version, changes) = command.prices.import(TABLE, "tomorrow.json", "operator").await.unwrap();
        assert_eq!((changes.new, changes.changed), (1, 0), "{kind}");
        quota.prices.reload().await.unwrap();
        used(quota.admit(tomorrow.clone()).await.unwrap(), OUTPUT_TOKENS);
        used(before, OUTPUT_TOKENS);
        let receipts = quota.ledger.receipts(alice.instance.account, 2).await.unwrap();
        let of = |at: usize| (receipts[at].price_version == version, receipts[at].amount_nanodollars.0);
        assert_eq!((of(1), of(0)), ((true, 2 * HOLD), (false, HOLD)), "{kind}");
        let in_force = command.prices.list().await.unwrap().into_iter().filter(|table| table.is_in_force);
        assert_eq!(in_force.map(|table| table.version).collect::<Vec<_>>(), [version]);
        command.prices.activate(None, "operator").await.unwrap();
        quota.prices.reload().await.unwrap();
        assert!(quota.admit(tomorrow).await.is_err(), "{kind}: the program's own table is in force again");
        assert!(matches!(command.prices.activate(Some("no such"), "operator").await, Err(Error::NotFound)));
        assert!(command.prices.import("[]", "no.json", "operator").await.is_err());
        // A version whose table was never stored: a platform with that version in force would not start.
        let tx = world.app.db.begin().await.unwrap();
        tx.execute_unprepared("INSERT INTO price_versions VALUES ('old', 'built in', '', 0, 0, '', '')").await.unwrap();
        tx.commit().await.unwrap();
        assert!(matches!(command.prices.activate(Some("old"), "operator").await, Err(Error::NotFound)), "{kind}");
    }
}

#[tokio::test]
async fn old_receipts_are_deleted_and_their_sums_and_the_chain_stay() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let alice = world.person("alice").await;
        let clock = Clock::manual(START);
        let quota = after_a_kill(&world, &clock, 1000 * HOLD).await;
        for _ in 0..3 {
            used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        }
        quota.settled().await;
        clock.advance(Duration::from_secs(401 * 86_400));
        assert_eq!(quota.ledger.forget_receipts().await.unwrap(), 2, "{kind}: the end of the chain stays");
        used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        quota.settled().await;
        assert_eq!(quota.ledger.forget_receipts().await.unwrap(), 1, "{kind}: now it ends later");
        assert_eq!(
            quota.ledger.verify().await.unwrap(),
            ChainVerification { accounts: 1, receipts: 1, wrong: Vec::new() }
        );
        assert_eq!(quota.disagreements().await.unwrap(), Vec::<String>::new(), "{kind}");
        let before = reopen(&world, &Clock::manual(START), HOLD).await;
        assert_eq!(
            before.reports.budget(alice.instance.account).await.unwrap().spent_nanodollars.0,
            3 * HOLD,
            "{kind}"
        );
    }
}

/// Concurrent calls, of which some begin in one month and end in the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_admissions_and_settlements_add_up_to_the_nanodollar() {
    const CALLS: u64 = 24;
    /// The first of December 2026.
    const DECEMBER: Timestamp = Timestamp(1_796_083_200_000);
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let alice = world.person("alice").await;
        let clock = Clock::manual(DECEMBER.minus(Duration::from_millis(1)));
        let quota = after_a_kill(&world, &clock, 1000 * HOLD).await;
        let mut november = Vec::new();
        for _ in 0..CALLS {
            november.push(quota.admit(call(&alice)).await.unwrap());
        }
        clock.advance(Duration::from_millis(1));
        let calls: Vec<_> = (0..CALLS)
            .zip(november)
            .map(|(number, begun)| {
                let (quota, call) = (quota.clone(), call(&alice));
                tokio::spawn(async move {
                    used(begun, 3);
                    for tokens in 0..5 {
                        used(quota.admit(call.clone()).await.unwrap(), number + tokens);
                    }
                    drop(quota.admit(call).await.unwrap());
                })
            })
            .collect();
        for done in calls {
            done.await.unwrap();
        }
        quota.settled().await;
        let spend = quota.reports.budget(alice.instance.account).await.unwrap();
        assert_eq!(quota.disagreements().await.unwrap(), Vec::<String>::new(), "{kind}");
        let verified = quota.ledger.verify().await.unwrap();
        assert_eq!((verified.receipts, verified.wrong), (CALLS * 7, Vec::new()), "{kind}");
        let tokens: u64 = (0..CALLS).map(|number| (0..5).map(|more| number + more).sum::<u64>()).sum();
        let spent = i64::try_from(tokens * 500).unwrap();
        assert_eq!(
            (spend.period.to_string(), spend.spent_nanodollars.0, spend.held_nanodollars.0),
            ("2026-12".to_owned(), spent, 0),
            "{kind}"
        );
        let before = reopen(&world, &Clock::manual(DECEMBER.minus(Duration::from_millis(1))), HOLD).await;
        let spend = before.reports.budget(alice.instance.account).await.unwrap();
        let spent = i64::try_from(CALLS * 3 * 500).unwrap();
        assert_eq!(
            (spend.period.to_string(), spend.spent_nanodollars.0, spend.held_nanodollars.0),
            ("2026-11".to_owned(), spent, 0),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn altered_removed_and_forged_receipts_are_detected() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let alice = world.person("alice").await;
        for tokens in 0..5 {
            used(world.app.quota.admit(call(&alice)).await.unwrap(), tokens);
        }
        world.app.quota.settled().await;
        assert_eq!(
            world.app.quota.ledger.verify().await.unwrap(),
            ChainVerification { accounts: 1, receipts: 5, wrong: Vec::new() }
        );
        for (change, found) in [
            ("UPDATE receipts SET amount_nanodollars = 0 WHERE seq = 3", "was altered"),
            ("DELETE FROM receipts WHERE seq = 2", "does not follow"),
            ("DELETE FROM receipts WHERE seq = 5", "is not signed"),
            ("UPDATE receipts SET signature = '00' WHERE seq = 1", "is not signed with"),
            ("UPDATE receipts SET previous = hash WHERE seq = 1", "does not follow"),
        ] {
            let tx = world.app.db.begin().await.unwrap();
            tx.execute_unprepared("CREATE TABLE kept AS SELECT * FROM receipts").await.unwrap();
            tx.execute_unprepared(change).await.unwrap();
            tx.commit().await.unwrap();
            let wrong = world.app.quota.ledger.verify().await.unwrap().wrong;
            assert!(wrong.len() == 1 && wrong[0].contains(found), "{kind}: {change}: {wrong:?}");
            let tx = world.app.db.begin().await.unwrap();
            for back in ["DELETE FROM receipts", "INSERT INTO receipts SELECT * FROM kept", "DROP TABLE kept"] {
                tx.execute_unprepared(back).await.unwrap();
            }
            tx.commit().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_reported_and_the_database_can_be_written_to_again_afterwards() {
    for database in databases().await {
        let full = match database.kind {
            "SQLite" => "PRAGMA max_page_count = 1; CREATE TABLE full_disk AS SELECT zeroblob(1000000) AS much",
            _ => "DO $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$",
        };
        let tx = database.db.begin().await.unwrap();
        let refused = Error::from(tx.execute_unprepared(full).await.unwrap_err());
        let Error::Unavailable { message, .. } = refused else { panic!("{}: {refused:?}", database.kind) };
        assert!(message.starts_with("The server's disk is full"), "{message}");
        drop(tx);
        let tx = database.db.begin().await.unwrap();
        if database.kind == "SQLite" {
            tx.execute_unprepared("PRAGMA max_page_count = 1000000").await.unwrap();
        }
        tx.execute_unprepared("CREATE TABLE space_again (id bigint)").await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn doctor_checks_the_books_the_quota_proxy_and_the_database() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let gateway = berth_containers::gateway(world.app.config.containers.subnet, 0);
    let proxy = tokio::net::TcpListener::bind((gateway, 0)).await.unwrap();
    let mut config = (*world.app.config).clone();
    config.quota_port = proxy.local_addr().unwrap().port();
    let examine = async |config: &berth::config::Config, about: &str| {
        let findings = App::examine(config, world.app.clock.clone(), Arc::clone(&world.app.host)).await;
        let finding = findings.into_iter().find(|finding| finding.subject == about).unwrap();
        (finding.verdict, finding.sentence)
    };
    let hold = world.app.quota.admit(call(&alice)).await.unwrap();
    assert_eq!(examine(&config, "money").await, (Verdict::Fine, "receipts and their sums agree".into()));
    assert_eq!(examine(&config, "quota proxy").await.0, Verdict::Fine);
    drop((hold, proxy));
    world.app.quota.settled().await;
    let tx = world.app.db.begin().await.unwrap();
    tx.execute_unprepared("UPDATE allowances SET spent_nanodollars = spent_nanodollars + 1").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(examine(&config, "money").await.0, Verdict::Broken);
    assert_eq!(examine(&config, "quota proxy").await.0, Verdict::Broken);
    config.database_url.push_str(".elsewhere");
    assert_eq!(examine(&config, "database").await.0, Verdict::Broken);
    assert!(!std::path::Path::new(config.database_url.trim_start_matches("sqlite:")).exists());
}
