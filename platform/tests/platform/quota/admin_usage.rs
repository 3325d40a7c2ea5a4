//! The operator's pages about AI usage: all users, limits and credit of one, reconciliation with a provider bill.

use std::time::Duration;

use berth::quota::reports::AccountOrder;
use berth_ground::money::Nanodollars;
use futures_util::TryStreamExt as _;
use sea_orm::ConnectionTrait as _;

use crate::quota::usage::{call, hold, site};
use berth_testing::databases;
use berth_testing::quota_platform::QuotaPlatform;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Tokens of the demo model that a dollar buys.
const A_DOLLAR: u64 = 2_000_000;

/// The handles on a page, in order.
fn accounts(page: &str) -> Vec<&str> {
    page.split("<a href=\"/admin/users/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn the_operator_sees_usage_by_user_and_which_users_are_near_the_limit() {
    let site = site(&[("BERTH_ALLOWANCE_DOLLARS", "5")]).await;
    let mut operator = site.operator("olivia").await;
    for handle in ["alice", "boris", "carol", "idle"] {
        site.member(handle).await;
    }
    call(&site.app, "alice", "", A_DOLLAR * 3).await;
    call(&site.app, "boris", "", A_DOLLAR).await;
    site.app.clock.advance(DAY);
    // The operator's session has expired over night.
    assert_eq!(operator.present_passkey("").await, "/log-in/code");
    let code = format!("code={}", operator.fresh_code());
    assert_eq!(operator.post("/log-in/code", &code).await.in_short(), "303 /");
    // Alice has spent nine tenths of a limit of one dollar, a larger share than any other account.
    let page = operator.post("/admin/users/carol/limits", "month=1&requests=30").await;
    assert_eq!(page.in_short(), "303 /admin/users/carol");
    call(&site.app, "carol", "", A_DOLLAR / 10 * 9).await;
    let held = hold(&site.app, "boris", "", A_DOLLAR / 4).await;
    let page = operator.get("/admin/usage").await.text().await;
    for part in [
        "$4.90 in November 2026, $0.90 of it today. $0.25 is held",
        "Users with calls: 3. At 80 % of their allowance or more: 1.",
        "15 Nov: $4.00, calls: 2",
        "16 Nov: $0.90, calls: 1",
        "90 %",
        "of $5.00, $0.25 held",
    ] {
        assert!(page.contains(part), "the page lacks {part}: {page}");
    }
    assert_eq!(accounts(&page), ["alice", "boris", "carol"]);
    assert_eq!(accounts(&operator.get("/admin/usage?order=share").await.text().await), ["carol", "alice", "boris"]);
    let before = operator.get("/admin/usage?month=2026-10").await.text().await;
    assert!(before.contains("$0.00 in October 2026. Users with calls: 0."), "{before}");
    assert_eq!(operator.get("/admin/usage?month=soon").await.in_short(), "404");
    drop(held);
}

#[tokio::test]
async fn accounts_come_in_pages() {
    let site = site(&[]).await;
    let mut operator = site.operator("olivia").await;
    call(&site.app, "olivia", "", 1).await;
    site.app.quota.settled().await;
    let tx = site.app.db.begin().await.unwrap();
    for number in 0..60 {
        let id = format!("x'{number:032x}'");
        let account = format!(
            "INSERT INTO accounts (id, handle, skeleton, role, state, totp_secret, totp_last_step, totp_failures,
                totp_blocked_until_ms, created_at_ms)
             VALUES ({id}, 'person-{number}', 'person-{number}', 'member', 'active', x'00', 0, 0, 0, 0)"
        );
        let month = format!("INSERT INTO allowances VALUES ({id}, '2026-11', 5000000000, {})", 1000 + number);
        tx.execute_unprepared(&account).await.unwrap();
        tx.execute_unprepared(&month).await.unwrap();
    }
    tx.commit().await.unwrap();
    let first = operator.get("/admin/usage").await.text().await;
    let second = operator.get("/admin/usage?page=1").await.text().await;
    assert_eq!((accounts(&first).len(), accounts(&second).len()), (50, 11));
    assert_eq!((accounts(&first)[0], *accounts(&second).last().unwrap()), ("person-59", "olivia"));
    assert!(first.contains("Next page") && !first.contains("Previous page"));
    assert!(second.contains("Previous page") && !second.contains("Next page"));
}

#[tokio::test]
async fn limits_and_credit_set_on_a_page_apply_to_the_next_call_and_are_audited() {
    let site = site(&[("BERTH_ALLOWANCE_DOLLARS", "1")]).await;
    let mut operator = site.operator("olivia").await;
    let mut alice = site.member("alice").await;
    call(&site.app, "alice", "", A_DOLLAR).await;
    let left = async |alice: &mut berth_testing::web_client::WebClient| {
        alice.get("/api/usage").await.json().await["left_nanodollars"].as_i64().unwrap()
    };
    assert_eq!(left(&mut alice).await, 0);
    let given = operator.post("/admin/users/alice/credit", "amount=2.50&reason=sorry").await;
    assert_eq!(given.in_short(), "303 /admin/users/alice");
    assert_eq!(left(&mut alice).await, 2_500_000_000);
    operator.post("/admin/users/alice/credit", "amount=-0.50").await;
    operator.post("/admin/users/alice/limits", "month=2&day=&requests=&tokens=&at_once=3").await;
    assert_eq!(left(&mut alice).await, 3_000_000_000);
    let page = operator.get("/admin/users/alice").await.text().await;
    assert!(
        page.contains("value=\"2.00\"") && page.contains("This account has $2.00.") && page.contains("default $1.00"),
        "{page}"
    );
    for (form, field) in [("month=much", "month"), ("at_once=-1", "at_once"), ("tokens=1.5", "tokens")] {
        let refused = operator.post("/admin/users/alice/limits", form).await;
        assert_eq!(refused.status.as_u16(), 422, "{form}");
        let page = refused.text().await;
        assert!(page.contains(&format!("id=\"{field}-note\"")), "{form}: {page}");
    }
    for form in ["amount=", "amount=0", "amount=lots", "amount=--1"] {
        assert_eq!(operator.post("/admin/users/alice/credit", form).await.status.as_u16(), 422, "{form}");
    }
    assert_eq!(left(&mut alice).await, 3_000_000_000, "what was refused changed nothing");
    let db = site.app.db.read();
    let audit = "SELECT count(*) AS rows FROM audit WHERE actor = 'olivia' AND action IN ('limit', 'give_credit')";
    let row =
        db.query_one_raw(sea_orm::Statement::from_string(db.get_database_backend(), audit)).await.unwrap().unwrap();
    assert_eq!(row.try_get::<i64>("", "rows").unwrap(), 3);
}

#[tokio::test]
async fn a_bill_is_reconciled_by_day_and_model_and_a_difference_above_one_percent_is_marked() {
    let site = site(&[]).await;
    let mut operator = site.operator("olivia").await;
    site.member("alice").await;
    call(&site.app, "alice", "", A_DOLLAR).await;
    call(&site.app, "olivia", "", A_DOLLAR).await;
    let compare = async |operator: &mut berth_testing::web_client::WebClient, cost: &str| {
        let export = format!("export=date%2Cmodel%2Ccost%0A2026-11-15%2Cberth-demo%2C{cost}");
        operator.post("/admin/bill-comparison", &export).await.text().await
    };
    let near = compare(&mut operator, "1.99").await;
    assert!(near.contains("Billed: $1.99. Recorded here: $2.00. The difference is $0.01, 0.50 %."), "{near}");
    assert!(!near.contains("differ by more than 1 %"));
    let far = compare(&mut operator, "2.50").await;
    assert!(far.contains("The difference is -$0.50, -20.00 %.") && far.contains("differ by more than 1 %"), "{far}");
    let refused = operator.post("/admin/bill-comparison", "export=hello").await;
    assert_eq!(refused.status.as_u16(), 422);
    let page = refused.text().await;
    assert!(page.contains("Three columns are needed") && page.contains(">hello</textarea>"), "{page}");
}

#[tokio::test]
async fn sums_and_receipts_are_found_on_either_database() {
    for database in databases().await {
        let kind = database.kind;
        let world =
            QuotaPlatform::on(database, |config| config.limits.month_nanodollars = Nanodollars(4_000_000_000)).await;
        let (alice, boris) = (world.person("alice").await, world.person("boris").await);
        call(&world.app, "alice", "builder", A_DOLLAR).await;
        call(&world.app, "alice", "", A_DOLLAR / 2).await;
        call(&world.app, "boris", "builder", A_DOLLAR * 2).await;
        let (quota, month) = (&world.app.quota, world.app.quota.reports.this_month());
        let mine = quota.reports.spent_in(alice.instance.account, month).await.unwrap();
        let agents: Vec<_> = mine.by_agent.iter().map(|agent| (&*agent.name, agent.amount_nanodollars.0)).collect();
        assert_eq!(agents, [("builder", 1_000_000_000), ("", 500_000_000)], "{kind}");
        assert_eq!((mine.total_nanodollars().0, mine.by_model[0].calls), (1_500_000_000, 2), "{kind}");
        assert_eq!(quota.reports.spent_today(alice.instance.account).await.unwrap(), mine, "{kind}");
        assert_eq!(
            quota.reports.months(alice.instance.account).await.unwrap()[0].spent_nanodollars.0,
            1_500_000_000,
            "{kind}"
        );

        let receipts = quota.ledger.receipts_before(alice.instance.account, None, 9).await.unwrap();
        assert_eq!(receipts.iter().map(|receipt| receipt.seq).collect::<Vec<_>>(), [2, 1], "{kind}");
        let proof = quota.ledger.receipt(alice.instance.account, receipts[1].id).await.unwrap();
        assert_eq!((&proof.wrong, proof.vouched_by.is_some()), (&None, true), "{kind}");
        assert!(quota.ledger.receipt(boris.instance.account, receipts[1].id).await.is_err(), "{kind}: of another");
        let export = quota.ledger.receipts_of_month(alice.instance.account, month).await.unwrap();
        assert_eq!(export.try_concat().await.unwrap().len(), 2, "{kind}");
        let none = quota.ledger.receipts_of_month(alice.instance.account, "1999-12".parse().unwrap()).await.unwrap();
        assert_eq!(none.try_concat().await.unwrap(), [], "{kind}");

        let all = quota.reports.month_totals(month).await.unwrap();
        assert_eq!((all.spent_nanodollars.0, all.accounts, all.nearly_spent), (3_500_000_000, 2, 0), "{kind}");
        assert_eq!((all.by_day.len(), all.by_model[0].calls), (1, 3), "{kind}");
        for order in [AccountOrder::Dearest, AccountOrder::Nearest] {
            let accounts = quota.reports.accounts_in(month, order, 0).await.unwrap();
            assert_eq!(accounts[0].account, boris.instance.account, "{kind}: {order:?}");
            assert_eq!(accounts[0].today_nanodollars.0, accounts[0].spent_nanodollars.0, "{kind}");
            assert_eq!(quota.reports.accounts_in(month, order, 1).await.unwrap(), [], "{kind}");
        }
        let day = &mine.by_day[0].name;
        let drifts = quota.reports.compare_bill(&format!("date,model,cost\n{day},berth-demo,3.5")).await.unwrap();
        assert_eq!(drifts.iter().map(|drift| drift.amounts.margin_nanodollars().0).collect::<Vec<_>>(), [0], "{kind}");
    }
}
