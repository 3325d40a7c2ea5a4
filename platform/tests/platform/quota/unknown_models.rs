//! Unknown models: models without a row in the price table, which the operator may allow at the highest price of their
//! provider.

use berth::config::UnknownModels;
use berth::quota::ledger::{RepricingMode, RepricingOrder};
use berth::quota::{BudgetCall, Refusal};
use berth_providers::{InputBound, Provider, UsageReport};

use crate::quota::{call, used};
use berth_testing::databases;
use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, after_a_kill};

fn tomorrow(person: &Person) -> BudgetCall {
    let mut call = call(person);
    call.demand.model = "claude-of-tomorrow".into();
    call
}

/// A table in which one model has the higher price of input and the other the higher price of output.
const TABLE: &str = r#"{
    "claude-of-today": {"litellm_provider": "anthropic", "mode": "chat", "max_input_tokens": 1000,
        "max_output_tokens": 4000, "input_cost_per_token": 9e-6, "output_cost_per_token": 1e-6},
    "claude-of-yesterday": {"litellm_provider": "anthropic", "mode": "chat", "max_input_tokens": 500,
        "max_output_tokens": 9000, "input_cost_per_token": 1e-6, "output_cost_per_token": 5e-6}}"#;

#[tokio::test]
async fn an_unknown_model_is_charged_at_the_highest_price_and_the_difference_is_refunded_once_its_price_is_known() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |config| config.unknown_models = UnknownModels::Dearest).await;
        let alice = world.person("alice").await;
        let (account, quota) = (alice.instance.account, &world.app.quota);
        quota.prices.import(TABLE, "table.json", "operator").await.unwrap();
        quota.prices.reload().await.unwrap();
        let mut nobodys = tomorrow(&alice);
        nobodys.demand.provider = Provider::named("nobody");
        assert!(matches!(quota.admit(nobodys).await.err(), Some(Refusal::UnknownModel { .. })), "{kind}");
        let mut open = tomorrow(&alice);
        open.demand.max_output_tokens = None;
        open.demand.input = InputBound::WholeModel { at_least: 0 };
        let hold = quota.admit(open).await.unwrap();
        // The largest output and the largest input of any model, including the built-in demo model.
        let held = quota.reports.budget(account).await.unwrap().held_nanodollars.0;
        assert!(held >= 9000 * 5000 + 1000 * 9000, "{kind}: {held}");
        hold.settle(UsageReport::NoCharge, berth::quota::CallOutcome::Refused, String::new());
        used(quota.admit(tomorrow(&alice)).await.unwrap(), 100);
        let receipt = quota.ledger.receipts(account, 1).await.unwrap().remove(0);
        assert_eq!((receipt.amount_nanodollars.0, &*receipt.basis), (100 * 5000, "provider"), "{kind}");
        assert!(receipt.reason.contains("the price table does not know the model"), "{kind}: {}", receipt.reason);

        let known = TABLE.replace("claude-of-yesterday", "claude-of-tomorrow").replace("5e-6", "2e-6");
        let (version, _) = quota.prices.import(&known, "newer.json", "operator").await.unwrap();
        let order = RepricingOrder { version, since: None, until: None, account: None };
        let by = || RepricingMode::Apply { actor: "operator".into() };
        let done = quota.ledger.reprice(order.clone(), by()).await.unwrap().all().await.unwrap();
        assert_eq!((done.changed, done.nanodollars.0), (1, -100 * 3000), "{kind}");
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 100 * 2000, "{kind}");
        assert_eq!(quota.ledger.reprice(order, by()).await.unwrap().all().await.unwrap().changed, 0, "{kind}");
    }
}

#[tokio::test]
async fn a_hold_for_an_unknown_model_left_by_a_crash_is_charged_at_the_price_of_the_hold() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |config| config.unknown_models = UnknownModels::Dearest).await;
        let alice = world.person("alice").await;
        let quota = &world.app.quota;
        quota.prices.import(TABLE, "table.json", "operator").await.unwrap();
        quota.prices.reload().await.unwrap();
        let hold = quota.admit(tomorrow(&alice)).await.unwrap();
        hold.saw(UsageReport::Part { usage: None, output_tokens: 10 });
        let after = after_a_kill(&world, &world.clock, 1_000_000_000).await;
        let receipt = after.ledger.receipts(alice.instance.account, 1).await.unwrap().remove(0);
        assert_eq!((receipt.amount_nanodollars.0, &*receipt.outcome), (10 * 5000, "recovered"), "{kind}");
        assert!(!receipt.reason.is_empty(), "{kind}");
        drop(hold);
    }
}

#[tokio::test]
async fn an_unknown_model_is_refused_by_default() {
    for database in databases().await {
        let world = QuotaPlatform::on(database, |_| ()).await;
        let alice = world.person("alice").await;
        assert!(matches!(world.app.quota.admit(tomorrow(&alice)).await.err(), Some(Refusal::UnknownModel { .. })));
    }
}
