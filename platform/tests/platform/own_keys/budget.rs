//! Own keys and the budget: calls under them cost nothing, and the limits that remain.

use berth::quota::Refusal;
use berth_ground::money::Nanodollars;
use berth_providers::{Usage, UsageReport};

use super::*;
use berth_testing::quota_platform::after_a_kill;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_budget_can_still_call_under_its_own_key() {
    let (world, _provider) = world_with(sqlite().await, |config| {
        config.limits.month_nanodollars = Nanodollars::ZERO;
        config.limits.requests_a_minute = Some(1);
        config.limits.tokens_a_minute = Some(1);
    })
    .await;
    let alice = world.person("alice").await;
    let refused = alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    has_key(&world, &alice, "anthropic", ALICES).await;
    for _ in 0..3 {
        let says = alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
        assert_eq!(says.status(), 200);
    }
    has_spent_nothing(&world, &alice).await;
    assert_eq!(world.app.quota.reports.alerts(alice.instance.account).await.unwrap(), []);
    let left = world.app.quota.reports.budget(alice.instance.account).await.unwrap();
    let minute = (left.requests_a_minute.unwrap().remaining, left.tokens_a_minute.unwrap().remaining);
    assert_eq!(minute, (1, 1), "the rate limits apply to the platform's keys only");
    // Once the key is removed, the budget applies again.
    has_no_key(&world, &alice, "anthropic").await;
    assert_eq!(alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap().status(), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_are_limited_under_own_keys_too() {
    let (world, _provider) = world_with(sqlite().await, |config| config.limits.calls_at_once = 1).await;
    let alice = world.person("alice").await;
    let call = || OwnKeyCall {
        account: alice.instance.account,
        instance: alice.instance.id,
        agent: String::new(),
        provider: Name::OPENAI,
        model: "m".into(),
    };
    let held = world.app.quota.admit_under_own_key(call()).await.unwrap();
    let refused = world.app.quota.admit_under_own_key(call()).await.err();
    assert!(matches!(refused, Some(Refusal::TooManyAtOnce { limit: 1, .. })));
    assert_eq!(world.app.quota.reports.budget(alice.instance.account).await.unwrap().calls_at_once.in_flight, 1);
    drop(held);
    assert!(world.app.quota.admit_under_own_key(call()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_an_own_key_that_a_kill_cut_off_is_charged_nothing() {
    for database in databases().await {
        let (world, _provider) = world_with(database, |_| ()).await;
        let alice = world.person("alice").await;
        for model in ["berth-demo", "a-model-without-a-price"] {
            let call = OwnKeyCall {
                account: alice.instance.account,
                instance: alice.instance.id,
                agent: String::new(),
                provider: Name::ANTHROPIC,
                model: model.into(),
            };
            let mut hold = world.app.quota.admit_under_own_key(call).await.unwrap();
            hold.mark_sent();
            if model == "berth-demo" {
                let usage = Some(Usage { input_tokens: 10, ..Default::default() });
                hold.saw(UsageReport::Part { usage, output_tokens: 4 });
            }
            std::mem::forget(hold);
        }
        let after = after_a_kill(&world, &world.clock, 1).await;
        let spend = after.reports.budget(alice.instance.account).await.unwrap();
        assert_eq!((spend.spent_nanodollars.0, spend.held_nanodollars.0), (0, 0), "{}", world.kind());
        assert_eq!(after.disagreements().await.unwrap(), Vec::<String>::new());
        assert_eq!(after.ledger.verify().await.unwrap().wrong, Vec::<String>::new());
        let mut said: Vec<_> = after.ledger.receipts(alice.instance.account, 9).await.unwrap();
        said.sort_by(|a, b| b.model.cmp(&a.model));
        let said: Vec<_> = said
            .iter()
            .map(|receipt| {
                assert_eq!((receipt.amount_nanodollars.0, receipt.payer.as_str()), (0, "own_key"), "{}", world.kind());
                (receipt.outcome.as_str(), receipt.input_tokens, receipt.output_tokens, receipt.worth_nanodollars)
            })
            .collect();
        assert_eq!(
            said,
            [("recovered", 10, 4, Some(Nanodollars(10 * 100 + 4 * 500))), ("recovered", 0, 0, None)],
            "{}",
            world.kind()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_bills_the_operator_nothing_for_own_keys_and_the_comparison_knows_it() {
    let (world, _provider) = world_with(sqlite().await, |_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    has_key(&world, &alice, "anthropic", ALICES).await;
    for model in ["berth-demo", "claude-of-tomorrow"] {
        assert_eq!(alice.post(&world, MESSAGES, &message(model)).send().await.unwrap().status(), 200);
    }
    bob.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
    let spent = world.spend_at_rest(&bob).await.spent_nanodollars;
    let day = receipts(&world, &bob).await[0].day;
    let dollars = berth::quota::dollars(spent).replace('$', "");
    let drifts =
        world.app.quota.reports.compare_bill(&format!("date,model,cost\n{day},berth-demo,{dollars}")).await.unwrap();
    assert_eq!(drifts.len(), 1, "{drifts:?}");
    assert_eq!(drifts[0].amounts.margin_nanodollars().0, 0);
    let all = world.app.quota.reports.month_totals(world.app.quota.reports.this_month()).await.unwrap();
    assert_eq!(all.spent_nanodollars, spent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_names_the_providers_that_cost_it_nothing() {
    let (world, _provider) = world_with(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let text = async || alice.get(&world, "/budget?format=text").send().await.unwrap().text().await.unwrap();
    assert!(!text().await.contains("own key"));
    has_key(&world, &alice, "openai", ALICES).await;
    has_key(&world, &alice, "anthropic", ALICES).await;
    let said = text().await;
    let sentence = " Calls to anthropic and openai use their owner's own key and cost this budget nothing.\n";
    assert!(said.ends_with(sentence), "{said}");
    let said = json(alice.get(&world, "/budget").send().await.unwrap()).await;
    assert_eq!(said["own_keys"], value!(["anthropic", "openai"]));
}
