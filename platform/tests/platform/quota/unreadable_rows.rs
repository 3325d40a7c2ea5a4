//! Fault-tolerant reading: receipts and allowances that were altered to something that cannot be read.

use berth::app::App;
use berth::db::HoldId;
use berth::quota::Refusal;
use berth::quota::ledger::ChainVerification;
use berth_ground::clock::Clock;
use berth_ground::error::Error;
use berth_testing::quota_platform::{QuotaPlatform, after_a_kill};
use berth_testing::{START, databases, sqlite};
use futures_util::TryStreamExt as _;
use sea_orm::ConnectionTrait as _;

use super::usage::{self, site};
use super::{HOLD, OUTPUT_TOKENS, call, used};

async fn change(app: &App, statement: &str) {
    let tx = app.db.begin().await.unwrap();
    tx.execute_unprepared(statement).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_receipt_that_cannot_be_read_is_named_and_hides_no_other() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let (alice, boris) = (world.person("alice").await, world.person("boris").await);
        let ledger = &world.app.quota.ledger;
        for tokens in 0..6 {
            used(world.app.quota.admit(call(&alice)).await.unwrap(), tokens);
        }
        used(world.app.quota.admit(call(&boris)).await.unwrap(), 1);
        world.app.quota.settled().await;
        let account = alice.instance.account;
        let ids: Vec<HoldId> = ledger.receipts(account, 9).await.unwrap().iter().map(|one| one.id).collect();
        let mut altered = vec!["UPDATE receipts SET day = '2026-11-31' WHERE seq = 3"];
        // The columns of SQLite take values of any type; PostgreSQL refuses them.
        altered.push(match kind {
            "SQLite" => "UPDATE receipts SET amount_nanodollars = 'much' WHERE seq = 4",
            _ => "UPDATE receipts SET period = '2026-13' WHERE seq = 4",
        });
        for statement in altered {
            change(&world.app, statement).await;
        }

        let wrong = [3, 4].map(|seq: usize| {
            format!("account {account}: receipt {} ({seq}) was altered: it cannot be read", ids[6 - seq])
        });
        let expected = ChainVerification { accounts: 2, receipts: 7, wrong: wrong.to_vec() };
        assert_eq!(ledger.verify().await.unwrap(), expected, "{kind}");
        // The chain goes on, also when its newest receipt is one of them.
        used(world.app.quota.admit(call(&alice)).await.unwrap(), 7);
        world.app.quota.settled().await;
        assert_eq!(ledger.verify().await.unwrap(), ChainVerification { receipts: 8, ..expected }, "{kind}");

        let numbers = |receipts: Vec<berth::quota::Receipt>| receipts.iter().map(|one| one.seq).collect::<Vec<_>>();
        assert_eq!(numbers(ledger.receipts(account, 9).await.unwrap()), [7, 6, 5, 2, 1], "{kind}");
        // A page is full while there are more.
        assert_eq!(numbers(ledger.receipts_before(account, Some(6), 2).await.unwrap()), [5, 2], "{kind}");
        assert_eq!(numbers(ledger.receipts_before(account, Some(2), 2).await.unwrap()), [1], "{kind}");
        let month = world.app.quota.reports.this_month();
        let export = ledger.receipts_of_month(account, month).await.unwrap().try_concat().await.unwrap();
        assert_eq!(numbers(export), [1, 2, 5, 6, 7], "{kind}");
        let refused = ledger.receipt(account, ids[3]).await.unwrap_err();
        assert!(matches!(refused, Error::Conflict(_)), "{kind}: {refused:?}");
        // A receipt is checked with the one before it.
        let proof = async |seq: usize| ledger.receipt(account, ids[6 - seq]).await.unwrap();
        assert!(proof(5).await.wrong.is_some_and(|wrong| wrong.contains("(4) was altered")), "{kind}");
        assert_eq!(proof(6).await.wrong, None, "{kind}");
        let after = ledger.receipt(account, ids[4]).await.unwrap();
        assert_eq!(after.receipt.seq, 2, "{kind}");
    }
}

#[tokio::test]
async fn pages_of_usage_show_the_receipts_that_can_be_read() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    for tokens in [100, 200, 300] {
        usage::call(&site.app, "alice", "", tokens).await;
    }
    site.app.quota.settled().await;
    change(&site.app, "UPDATE receipts SET day = '2026-11-31', period = 'November' WHERE seq = 2").await;
    let listed = alice.get("/api/receipts").await.json().await;
    let numbers: Vec<i64> =
        listed["items"].as_array().unwrap().iter().map(|one| one["seq"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [3, 1]);
    for path in ["/usage", "/usage/receipts", "/usage/export?as=csv", "/api/usage", "/"] {
        assert_eq!(alice.get(path).await.status.as_u16(), 200, "{path}");
    }
    // The sums by month are rows of their own.
    change(&site.app, "UPDATE allowances SET period = '2026-13'").await;
    for path in ["/usage", "/api/usage", "/"] {
        assert_eq!(alice.get(path).await.status.as_u16(), 200, "{path}");
    }
}

#[tokio::test]
async fn an_allowance_of_no_month_hands_out_no_budget_twice() {
    for altered in ["UPDATE allowances SET period = '2026-13'", "UPDATE allowances SET spent_nanodollars = 'much'"] {
        let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
        let alice = world.person("alice").await;
        let clock = Clock::manual(START);
        let quota = after_a_kill(&world, &clock, 3 * HOLD).await;
        for _ in 0..2 {
            used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        }
        quota.settled().await;
        change(&world.app, altered).await;
        let spent = async |quota: &berth::quota::Quota| {
            quota.reports.budget(alice.instance.account).await.unwrap().spent_nanodollars.0
        };

        let quota = after_a_kill(&world, &clock, 3 * HOLD).await;
        assert_eq!(spent(&quota).await, 2 * HOLD, "{altered}");
        if altered.contains("period") {
            // A call that fits is made, and writes a row of the month that knows nothing of the first two.
            used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
            quota.settled().await;
            let quota = after_a_kill(&world, &clock, 3 * HOLD).await;
            assert_eq!(spent(&quota).await, 3 * HOLD);
            let refused = quota.admit(call(&alice)).await.err();
            assert!(matches!(refused, Some(Refusal::OverAllowance { .. })), "{refused:?}");
            let wrong = quota.disagreements().await.unwrap();
            assert!(wrong.iter().any(|sentence| sentence.contains("in 2026-13: ")), "the doctor names it: {wrong:?}");
        }
    }
}
