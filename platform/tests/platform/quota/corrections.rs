//! Corrections of receipts: the first receipt stays, the difference is a receipt of its own, and every sum contains it,
//! also after a kill.

use std::process::Stdio;
use std::time::Duration;

use berth::db::HoldId;
use berth::quota::reports::AccountOrder;
use berth::quota::{Month, OwnKeyCall, Quota, Receipt, Refusal};
use berth_ground::clock::{Clock, Timestamp};
use berth_ground::error::Error;
use berth_ground::money::Nanodollars;
use berth_providers::Provider;
use futures_util::TryStreamExt as _;
use sea_orm::ConnectionTrait as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::quota::{HOLD, OUTPUT_TOKENS, call, credit, used};
use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, after_a_kill, platform, reopen, reopen_at, settle_in};
use berth_testing::soak::SoakTest;
use berth_testing::{config_at, databases, sqlite};

/// The first of December 2026.
const DECEMBER: Timestamp = Timestamp(1_796_083_200_000);
const HOUR: Duration = Duration::from_secs(3600);

/// The receipts of `person`, the oldest first.
async fn receipts(quota: &Quota, person: &Person) -> Vec<Receipt> {
    let mut receipts = quota.ledger.receipts(person.instance.account, 1000).await.unwrap();
    receipts.reverse();
    receipts
}

async fn assert_sound(quota: &Quota, kind: &str) {
    assert_eq!(quota.disagreements().await.unwrap(), Vec::<String>::new(), "{kind}");
    assert_eq!(quota.ledger.verify().await.unwrap().wrong, Vec::<String>::new(), "{kind}");
}

async fn spent(quota: &Quota, person: &Person) -> i64 {
    quota.reports.budget(person.instance.account).await.unwrap().spent_nanodollars.0
}

#[tokio::test]
async fn a_correction_is_a_receipt_of_its_own_in_the_month_and_on_the_day_of_the_first() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let alice = world.person("alice").await;
        let account = alice.instance.account;
        let clock = Clock::manual(DECEMBER.minus(HOUR));
        let quota = after_a_kill(&world, &clock, 10 * HOLD).await;
        used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        clock.advance(2 * HOUR);
        used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        let first = receipts(&quota, &alice).await.remove(0);
        let corrected =
            quota.ledger.correct(first.id, Nanodollars(-HOLD / 4), " it answered in Latin ", "operator").await.unwrap();
        assert_eq!(corrected.total_nanodollars.0, HOLD / 4 * 3, "{kind}");
        let correction = receipts(&quota, &alice).await.remove(2);
        assert_eq!((correction.id, correction.corrects), (corrected.id, Some(first.id)), "{kind}");
        assert_eq!(
            (correction.amount_nanodollars.0, &*correction.reason),
            (-HOLD / 4, "it answered in Latin"),
            "{kind}"
        );
        assert_eq!(
            (correction.day.to_string(), correction.period.to_string()),
            ("2026-11-30".into(), "2026-11".into()),
            "{kind}"
        );
        assert_eq!(receipts(&quota, &alice).await[0], first, "{kind}: the first stays as it was");

        let november: Month = "2026-11".parse().unwrap();
        let sums = quota.reports.spent_in(account, november).await.unwrap();
        assert_eq!(
            (sums.total_nanodollars().0, sums.by_day.len(), sums.by_day[0].calls),
            (HOLD / 4 * 3, 1, 1),
            "{kind}"
        );
        assert_eq!(sums.by_model[0].output_tokens, i64::try_from(OUTPUT_TOKENS).unwrap(), "{kind}: counted once");
        assert_eq!(spent(&quota, &alice).await, HOLD, "{kind}: of December");
        let months = quota.reports.months(account).await.unwrap();
        assert_eq!(
            months.iter().map(|month| month.spent_nanodollars.0).collect::<Vec<_>>(),
            [HOLD, HOLD / 4 * 3],
            "{kind}"
        );
        assert_eq!(quota.reports.month_totals(november).await.unwrap().spent_nanodollars.0, HOLD / 4 * 3, "{kind}");
        assert_eq!(
            quota.reports.accounts_in(november, AccountOrder::Dearest, 0).await.unwrap()[0].spent_nanodollars.0,
            HOLD / 4 * 3
        );
        let export = quota.ledger.receipts_of_month(account, november).await.unwrap().try_concat().await.unwrap();
        assert_eq!(export.iter().map(|receipt| receipt.amount_nanodollars.0).sum::<i64>(), HOLD / 4 * 3, "{kind}");
        let bill = format!("date,model,cost\n2026-11-30,berth-demo,{}", "0.00075");
        assert_eq!(quota.reports.compare_bill(&bill).await.unwrap()[0].amounts.margin_nanodollars().0, 0, "{kind}");

        let proof = quota.ledger.receipt(account, first.id).await.unwrap();
        assert_eq!((proof.total_nanodollars().0, proof.wrong), (HOLD / 4 * 3, None), "{kind}");
        assert_eq!(proof.corrections, [correction], "{kind}");
        assert_sound(&quota, kind).await;
        let audit = "SELECT count(*) AS rows FROM audit WHERE actor = 'operator' AND action = 'correct_receipt'";
        let db = world.app.db.read();
        let rows = sea_orm::Statement::from_string(db.get_database_backend(), audit);
        assert_eq!(db.query_one_raw(rows).await.unwrap().unwrap().try_get::<i64>("", "rows").unwrap(), 1, "{kind}");
    }
}

#[tokio::test]
async fn an_impossible_correction_is_refused_and_changes_nothing() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let quota = &world.app.quota;
    used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
    let first = receipts(quota, &alice).await.remove(0).id;
    let done = quota.ledger.correct(first, Nanodollars(-HOLD / 2), "sorry", "operator").await.unwrap();
    let refused = async |id, nanodollars, reason: &str| {
        quota.ledger.correct(id, Nanodollars(nanodollars), reason, "operator").await.unwrap_err()
    };
    let nobody = HoldId(world.clock.uuid());
    assert!(matches!(refused(nobody, -1, "why").await, Error::NotFound));
    assert!(matches!(refused(first, -1, "  ").await, Error::Invalid { field: "reason", .. }));
    assert!(matches!(refused(first, -1, &"x".repeat(201)).await, Error::Invalid { field: "reason", .. }));
    assert!(matches!(refused(first, 0, "why").await, Error::Invalid { field: "dollars", .. }));
    let below = refused(first, -HOLD / 2 - 1, "too much").await.to_string();
    assert_eq!(below, "The call costs $0.0005 in total; that cannot become negative.");
    assert!(matches!(refused(done.id, 1, "why").await, Error::Conflict(_)), "a correction is not corrected");
    assert!(matches!(refused(first, -HOLD / 2, "sorry").await, Error::Conflict(_)), "the same once more");
    assert_eq!(receipts(quota, &alice).await.len(), 2);
    let own = OwnKeyCall {
        account: alice.instance.account,
        instance: alice.instance.id,
        agent: String::new(),
        provider: Provider::ANTHROPIC,
        model: "berth-demo".into(),
    };
    used(quota.admit_under_own_key(own).await.unwrap(), OUTPUT_TOKENS);
    let own = receipts(quota, &alice).await.remove(2).id;
    assert!(matches!(refused(own, 1, "why").await, Error::Conflict(_)), "the budget paid nothing for it");
    let command = reopen(&world, &world.clock, HOLD).await;
    let elsewhere = command.ledger.correct(first, Nanodollars(-1), "why", "operator").await.unwrap_err();
    assert!(matches!(elsewhere, Error::Unavailable { .. }), "only the platform that makes calls writes");
}

#[tokio::test]
async fn a_correction_upwards_may_exceed_the_allowance_and_one_downwards_admits_calls_at_once() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |config| {
            config.limits.month_nanodollars = Nanodollars(2 * HOLD);
            config.limits.day_nanodollars = Some(Nanodollars(2 * HOLD));
        })
        .await;
        let alice = world.person("alice").await;
        let quota = &world.app.quota;
        used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        let first = receipts(quota, &alice).await.remove(0).id;
        quota.ledger.correct(first, Nanodollars(2 * HOLD), "it cost more", "operator").await.unwrap();
        let refused = quota.admit(call(&alice)).await.err();
        assert!(
            matches!(refused, Some(Refusal::OverAllowance { left_nanodollars, .. }) if left_nanodollars.0 == -HOLD),
            "{kind}: {refused:?}"
        );
        let alerts = quota.reports.alerts(alice.instance.account).await.unwrap();
        assert_eq!(alerts.iter().filter(|alert| alert.percent == 100).count(), 2, "{kind}: of the month and the day");
        quota.ledger.correct(first, Nanodollars(-2 * HOLD), "it did not", "operator").await.unwrap();
        used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 2 * HOLD, "{kind}");
    }
}

#[tokio::test]
async fn a_refund_of_a_past_month_becomes_credit() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let alice = world.person("alice").await;
        let account = alice.instance.account;
        let clock = Clock::manual(DECEMBER.minus(HOUR));
        let quota = after_a_kill(&world, &clock, HOLD).await;
        quota.admission.give_credit(credit(&alice, HOLD, ""), "operator").await.unwrap();
        quota.admission.reload(account).await.unwrap();
        for _ in 0..2 {
            used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        }
        let first = receipts(&quota, &alice).await.remove(0).id;
        clock.advance(2 * HOUR);
        let credit = async |quota: &Quota| quota.reports.budget(account).await.unwrap().credit_nanodollars.0;
        assert_eq!(credit(&quota).await, 0, "{kind}");
        quota.ledger.correct(first, Nanodollars(-HOLD / 2), "half of it was noise", "operator").await.unwrap();
        assert_eq!(credit(&quota).await, HOLD / 2, "{kind}");
        let elsewhere = reopen(&world, &clock, HOLD).await;
        assert_eq!(credit(&elsewhere).await, HOLD / 2, "{kind}: the same by the database");
        quota.ledger.correct(first, Nanodollars(HOLD / 4), "not all of it", "operator").await.unwrap();
        assert_eq!(credit(&quota).await, HOLD / 4, "{kind}");
        assert_sound(&quota, kind).await;
    }
}

#[tokio::test]
async fn a_settlement_that_the_database_refused_is_written_once_after_a_kill_and_no_correction_is_made_before() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let quota = &world.app.quota;
    used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
    let first = receipts(quota, &alice).await.remove(0).id;
    let write = async |sql: &str| {
        let tx = world.app.db.begin().await.unwrap();
        tx.execute_unprepared(sql).await.unwrap();
        tx.commit().await.unwrap();
    };
    write(
        "CREATE TRIGGER stuck BEFORE INSERT ON receipts WHEN NEW.corrects IS NOT NULL
         BEGIN SELECT RAISE(ABORT, 'not now'); END",
    )
    .await;
    quota.ledger.correct(first, Nanodollars(-HOLD / 2), "sorry", "operator").await.unwrap();
    assert_eq!(spent(quota, &alice).await, HOLD / 2, "it counts at once");
    let again = quota.ledger.correct(first, Nanodollars(-HOLD / 2), "sorry", "operator").await.unwrap_err();
    assert!(matches!(again, Error::Unavailable { .. }), "{again:?}");
    write("DROP TRIGGER stuck").await;
    for _ in 0..2 {
        let next = after_a_kill(&world, &world.clock, 5 * HOLD).await;
        assert_eq!(spent(&next, &alice).await, HOLD / 2);
        assert_eq!(receipts(&next, &alice).await.len(), 2);
        assert_sound(&next, "SQLite").await;
    }
}

/// Calls that are corrected while the platform is killed.
const CALLS: usize = 40;

#[tokio::test]
#[ignore = "the test below runs it in a process of its own and kills it"]
async fn the_killed_process() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let (url, dir) = (lines.next_line().await.unwrap().unwrap(), lines.next_line().await.unwrap().unwrap());
    let handle = lines.next_line().await.unwrap().unwrap();
    let mut config = config_at(&url, &dir, &[("BERTH_CALLS_AT_ONCE", "1000")]);
    config.containers.subnet = std::net::Ipv4Addr::new(127, 89, 0, 0);
    let (app, host, _) = platform(config, &CancellationToken::new()).await;
    let person = settle_in(&app, &host, &handle).await;
    for _ in 0..CALLS {
        used(app.quota.admit(call(&person)).await.unwrap(), OUTPUT_TOKENS / 100);
    }
    println!("\nready");
    for (number, receipt) in receipts(&app.quota, &person).await.iter().enumerate() {
        app.quota.ledger.correct(receipt.id, Nanodollars(-1), &format!("number {number}"), "operator").await.unwrap();
        println!("\ncorrected {}", receipt.id);
    }
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_correction_exists_once_after_a_kill_at_any_moment() {
    let mut long = SoakTest::story("corrections");
    let rounds = long.count(2, 40);
    for database in databases().await {
        let kind = database.kind;
        for round in 0..rounds {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "quota::corrections::the_killed_process", "--ignored", "--nocapture"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let orders = format!("{}\n{}\nperson{round}\n", database.url, database.dir());
            child.stdin.take().unwrap().write_all(orders.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let (mut said, kill_after) = (Vec::<HoldId>::new(), 1 + long.below(CALLS - 1));
            while let Some(line) = lines.next_line().await.unwrap() {
                said.extend(line.strip_prefix("corrected ").map(|id| id.parse::<HoldId>().unwrap()));
                if said.len() == kill_after {
                    child.kill().await.unwrap();
                }
            }
            assert!(said.len() >= kill_after, "{kind}: the platform ended by itself");
            let quota = reopen_at(&config_at(&database.url, database.dir(), &[]), &Clock::system()).await;
            quota.begin().await.unwrap();
            assert_sound(&quota, kind).await;
            let db = database.db.read();
            let sql = "SELECT corrects FROM receipts WHERE corrects IS NOT NULL";
            let rows = db.query_all_raw(sea_orm::Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
            let there: Vec<HoldId> = rows.iter().map(|row| row.try_get("", "corrects").unwrap()).collect();
            for id in &said {
                assert_eq!(there.iter().filter(|there| *there == id).count(), 1, "{kind}: {id} of {}", said.len());
            }
            let tx = database.db.begin().await.unwrap();
            tx.execute_unprepared("UPDATE instances SET wish = 'stopped'").await.unwrap();
            tx.commit().await.unwrap();
        }
    }
}
