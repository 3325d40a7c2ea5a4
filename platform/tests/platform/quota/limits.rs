//! Limits of calls at once, a minute and a day: the installation's, and an account's own.

use berth::quota::Refusal;
use berth::quota::admission::{AccountLimits, BudgetPeriod};
use berth_ground::money::Nanodollars;

use berth_testing::quota_platform::{QuotaPlatform, reopen};
use berth_testing::{databases, sqlite};

use super::{HOLD, OUTPUT_TOKENS, call, credit, used};

#[tokio::test]
async fn concurrent_calls_are_limited_per_account() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |config| config.limits.calls_at_once = 2).await;
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let quota = &world.app.quota;
        let first = quota.admit(call(&alice)).await.unwrap();
        let _second = quota.admit(call(&alice)).await.unwrap();
        assert!(matches!(quota.admit(call(&alice)).await.err(), Some(Refusal::TooManyAtOnce { limit: 2, .. })));
        assert!(quota.admit(call(&bob)).await.is_ok());
        used(first, 1);
        assert!(quota.admit(call(&alice)).await.is_ok(), "{kind}: the first call has ended");
    }
}

#[tokio::test]
async fn limits_per_minute_and_day_apply_to_each_account() {
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.limits.requests_a_minute = Some(2);
        config.limits.day_nanodollars = Some(Nanodollars(HOLD + HOLD / 2));
    })
    .await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let quota = &world.app.quota;
    let first = quota.admit(call(&alice)).await.unwrap();
    let requests = first.rates().requests;
    assert_eq!(requests.map(|rate| (rate.limit, rate.remaining)), Some((2, 1)));
    let refused = quota.admit(call(&alice)).await.err();
    assert!(matches!(refused, Some(Refusal::OverAllowance { what: BudgetPeriod::Day, .. })), "{refused:?}");
    used(first, 0);
    used(quota.admit(call(&alice)).await.unwrap(), 0);
    let refused = quota.admit(call(&alice)).await.err();
    assert!(matches!(refused, Some(Refusal::TooManyRequests { limit: 2, .. })), "{refused:?}");
    assert!(quota.admit(call(&bob)).await.is_ok());
}

#[tokio::test]
async fn own_limits_and_credit_of_an_account_apply_to_its_next_call() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |config| config.limits.month_nanodollars = Nanodollars(HOLD)).await;
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let (quota, account) = (&world.app.quota, alice.instance.account);
        used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        assert!(quota.admit(call(&alice)).await.is_err(), "{kind}: all of it is spent");
        // The operator's command writes in its own process and notifies this one.
        let command = reopen(&world, &world.clock, 9 * HOLD).await;
        command.admission.give_credit(credit(&alice, 2 * HOLD, "sorry"), "operator").await.unwrap();
        quota.admission.reload(account).await.unwrap();
        used(quota.admit(call(&alice)).await.unwrap(), OUTPUT_TOKENS);
        let spend = quota.reports.budget(account).await.unwrap();
        assert_eq!((spend.credit_nanodollars.0, spend.left_nanodollars.0), (2 * HOLD, HOLD), "{kind}");
        let own = AccountLimits { calls_at_once: Some(0), ..command.admission.own_limits(account).await.unwrap() };
        command.admission.set_limits(&alice.instance.handle, own.clone(), "operator").await.unwrap();
        quota.admission.reload(account).await.unwrap();
        assert!(matches!(quota.admit(call(&alice)).await.err(), Some(Refusal::TooManyAtOnce { limit: 0, .. })));
        assert!(quota.admit(call(&bob)).await.is_ok(), "{kind}: nobody else's");
        let nonsense = AccountLimits { day_nanodollars: Some(Nanodollars(-1)), ..own };
        assert!(command.admission.set_limits(&alice.instance.handle, nonsense, "operator").await.is_err());
    }
}
