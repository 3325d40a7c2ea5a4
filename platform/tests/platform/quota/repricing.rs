//! Repricing: receipts are rated again by another price table.

use berth::control_socket;
use berth::db::AccountId;
use berth::quota::ledger::{RepricingMode, RepricingOrder, RepricingResult};
use berth::quota::{BudgetCall, CallOutcome, Quota};
use berth_ground::error::Error;
use berth_ground::money::Nanodollars;
use berth_providers::{Usage, UsageReport};
use tokio_util::sync::CancellationToken;

use crate::cli;
use crate::quota::{HOLD, call, used};
use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, after_a_kill, reopen};
use berth_testing::{databases, sqlite};

/// A price table with one model at `millionths` of a dollar a token.
pub fn table(model: &str, millionths: u32) -> String {
    format!(
        r#"{{"{model}": {{"litellm_provider": "anthropic", "mode": "chat", "max_input_tokens": 1000,
            "max_output_tokens": 4000, "input_cost_per_token": {millionths}e-6, "output_cost_per_token": {millionths}e-6}}}}"#
    )
}

/// A thousand nano-dollars.
const A_TOKEN: i64 = 1000;

fn call_of(person: &Person, model: &str) -> BudgetCall {
    let mut call = call(person);
    call.demand.model = model.into();
    call
}

async fn import(quota: &Quota, table: &str) -> String {
    let (version, _) = quota.prices.import(table, "table.json", "operator").await.unwrap();
    quota.prices.reload().await.unwrap();
    version
}

fn by(version: &str) -> RepricingOrder {
    RepricingOrder { version: version.into(), since: None, until: None, account: None }
}

async fn look(quota: &Quota, order: RepricingOrder) -> RepricingResult {
    quota.ledger.reprice(order, RepricingMode::DryRun).await.unwrap().all().await.unwrap()
}

async fn change(quota: &Quota, order: RepricingOrder) -> RepricingResult {
    quota.ledger.reprice(order, RepricingMode::Apply { actor: "operator".into() }).await.unwrap().all().await.unwrap()
}

fn told(found: &RepricingResult) -> (u64, i64, Vec<(AccountId, i64)>) {
    let accounts = found.accounts.iter().map(|one| (one.account, one.nanodollars.0)).collect();
    (found.changed, found.nanodollars.0, accounts)
}

#[tokio::test]
async fn repricing_changes_spent_amounts_once_and_can_be_reversed() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let (alice, boris) = (world.person("alice").await, world.person("boris").await);
        let quota = &world.app.quota;
        let dear = import(quota, &table("claude-of-today", 4)).await;
        for person in [&alice, &boris] {
            used(quota.admit(call_of(person, "claude-of-today")).await.unwrap(), 100);
        }
        used(quota.admit(call_of(&alice, "claude-of-today")).await.unwrap(), 50);
        quota.settled().await;
        let cheap = import(quota, &table("claude-of-today", 1)).await;
        let other = import(quota, &table("claude-of-tomorrow", 1)).await;

        assert_eq!(told(&look(quota, by(&dear)).await), (0, 0, Vec::new()), "{kind}: the version of the receipts");
        let unknown = look(quota, by(&other)).await;
        assert_eq!((unknown.changed, unknown.without_price, unknown.looked_at), (0, 3, 3), "{kind}");
        let mut accounts = vec![(alice.instance.account, -450 * A_TOKEN), (boris.instance.account, -300 * A_TOKEN)];
        accounts.sort_unstable();
        let want = (3, -750 * A_TOKEN, accounts);
        assert_eq!(told(&look(quota, by(&cheap)).await), want, "{kind}");
        assert_eq!(
            world.spend_at_rest(&alice).await.spent_nanodollars.0,
            600 * A_TOKEN,
            "{kind}: looking changes nothing"
        );
        assert_eq!(told(&change(quota, by(&cheap)).await), want, "{kind}");
        assert_eq!(told(&change(quota, by(&cheap)).await), (0, 0, Vec::new()), "{kind}: once more");
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 150 * A_TOKEN, "{kind}");
        assert_eq!(world.spend_at_rest(&boris).await.spent_nanodollars.0, 100 * A_TOKEN, "{kind}");
        let newest = quota.ledger.receipts(alice.instance.account, 1).await.unwrap().remove(0);
        assert_eq!((&*newest.price_version, &*newest.basis), (&*cheap, "rerated"), "{kind}");

        // A correction by the operator survives further repricing.
        let first = quota.ledger.receipts(boris.instance.account, 9).await.unwrap().pop().unwrap();
        quota.ledger.correct(first.id, Nanodollars(-40 * A_TOKEN), "sorry", "operator").await.unwrap();
        assert_eq!(change(quota, by(&dear)).await.nanodollars.0, 750 * A_TOKEN, "{kind}: and back");
        assert_eq!(change(quota, by(&cheap)).await.nanodollars.0, -750 * A_TOKEN, "{kind}: and once more");
        assert_eq!(world.spend_at_rest(&boris).await.spent_nanodollars.0, 60 * A_TOKEN, "{kind}");
        assert_eq!(quota.ledger.verify().await.unwrap().wrong, Vec::<String>::new(), "{kind}");
        let next = after_a_kill(&world, &world.clock, 5 * HOLD).await;
        assert_eq!(
            next.reports.budget(boris.instance.account).await.unwrap().spent_nanodollars.0,
            60 * A_TOKEN,
            "{kind}"
        );
        assert_eq!(told(&change(&next, by(&cheap)).await), (0, 0, Vec::new()), "{kind}: after a kill");
    }
}

#[tokio::test]
async fn repricing_can_be_limited_to_days_and_an_account_and_invalid_orders_are_refused() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let (alice, boris) = (world.person("alice").await, world.person("boris").await);
    let quota = &world.app.quota;
    import(quota, &table("claude-of-today", 4)).await;
    for person in [&alice, &boris] {
        used(quota.admit(call_of(person, "claude-of-today")).await.unwrap(), 100);
    }
    quota.settled().await;
    let cheap = import(quota, &table("claude-of-today", 1)).await;
    let today = quota.reports.this_month().first_day().to_string();
    let day = |day: &str| Some(day.to_owned());
    for (order, changed) in [
        (RepricingOrder { account: Some(boris.instance.account), ..by(&cheap) }, 1),
        (RepricingOrder { until: day("2020-01-01"), ..by(&cheap) }, 0),
        (RepricingOrder { since: day("2999-12-31"), ..by(&cheap) }, 0),
        (RepricingOrder { since: day(&today), ..by(&cheap) }, 2),
    ] {
        assert_eq!(look(quota, order.clone()).await.changed, changed, "{order:?}");
    }
    for (order, field) in [
        (by("no such version"), "version"),
        (RepricingOrder { since: day("yesterday"), ..by(&cheap) }, "since"),
        (RepricingOrder { until: day("2026-02-30"), ..by(&cheap) }, "until"),
    ] {
        let Err(Error::Invalid { field: wrong, .. }) = quota.ledger.reprice(order, RepricingMode::DryRun).await else {
            panic!("{field}")
        };
        assert_eq!(wrong, field);
    }
    let command = reopen(&world, &world.clock, HOLD).await;
    assert_eq!(look(&command, by(&cheap)).await.changed, 2, "anybody may look");
    let refused = command.ledger.reprice(by(&cheap), RepricingMode::Apply { actor: "operator".into() }).await.err();
    assert!(matches!(refused, Some(Error::Unavailable { .. })), "only the platform that makes calls writes");
}

#[tokio::test]
async fn estimated_and_free_receipts_are_left_alone_and_reported() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let quota = &world.app.quota;
    import(quota, &table("claude-of-today", 4)).await;
    let hold = async || quota.admit(call_of(&alice, "claude-of-today")).await.unwrap();
    hold().await.settle(UsageReport::Unreadable, CallOutcome::Completed, String::new());
    hold().await.settle(UsageReport::NoCharge, CallOutcome::Refused, String::new());
    let usage = Some(Usage { output_tokens: 10, ..Usage::default() });
    hold().await.settle(UsageReport::Part { usage, output_tokens: 20 }, CallOutcome::UpstreamBroke, String::new());
    quota.settled().await;
    let cheap = import(quota, &table("claude-of-today", 1)).await;
    let done = change(quota, by(&cheap)).await;
    assert_eq!((done.looked_at, done.changed, done.not_counted, done.without_price), (3, 1, 1, 0));
    assert_eq!(done.nanodollars.0, -60 * A_TOKEN, "the part that was seen was counted");
    world.spend_at_rest(&alice).await;
}

#[tokio::test]
async fn many_receipts_are_repriced_in_steps_and_an_interrupted_run_is_repeated() {
    const CALLS: u64 = 1203;
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let quota = &world.app.quota;
    import(quota, &table("claude-of-today", 4)).await;
    for _ in 0..CALLS {
        used(quota.admit(call_of(&alice, "claude-of-today")).await.unwrap(), 1);
    }
    quota.settled().await;
    let cheap = import(quota, &table("claude-of-today", 1)).await;
    let mut rerating =
        quota.ledger.reprice(by(&cheap), RepricingMode::Apply { actor: "operator".into() }).await.unwrap();
    let mut steps = 1;
    while rerating.step().await.unwrap() {
        steps += 1;
        if steps == 2 {
            // After an interruption the next run starts over and changes the remaining receipts.
            let so_far = rerating.found().changed;
            drop(rerating);
            assert_eq!(look(quota, by(&cheap)).await.changed, CALLS - so_far);
            rerating =
                quota.ledger.reprice(by(&cheap), RepricingMode::Apply { actor: "operator".into() }).await.unwrap();
        }
    }
    assert!(steps >= 3, "{steps}");
    assert_eq!(rerating.found().looked_at, CALLS);
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, i64::try_from(CALLS).unwrap() * A_TOKEN);
    assert_eq!(quota.ledger.verify().await.unwrap().wrong, Vec::<String>::new());
}

#[tokio::test]
async fn the_operators_commands_preview_and_then_apply_to_the_running_platform() {
    let world = QuotaPlatform::on(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    let quota = &world.app.quota;
    import(quota, &table("claude-of-today", 4)).await;
    used(quota.admit(call_of(&alice, "claude-of-today")).await.unwrap(), 100);
    quota.settled().await;
    let cheap = import(quota, &table("claude-of-today", 1)).await;
    let receipt = quota.ledger.receipts(alice.instance.account, 1).await.unwrap().remove(0).id.to_string();
    let berth = async |arguments: &[&str]| {
        let output = cli::berth(&world.app.config, arguments).await;
        (output.succeeded, output.text)
    };
    let (fine, said) = berth(&["receipts", "correct", &receipt, "-0.0001", "--reason", "sorry"]).await;
    assert!(!fine && said.contains("the platform is not running"), "{said}");

    let socket = world.app.config.control_socket();
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let running = CancellationToken::new();
    let listening = tokio::spawn({
        let (socket, app, end) = (socket.clone(), world.app.clone(), running.clone());
        async move { control_socket::listen(&socket, app, end).await }
    });
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    let (fine, said) = berth(&["receipts", "correct", &receipt, "-0.0001", "--reason", "sorry"]).await;
    assert!(fine && said.contains("The call now costs $0.0003 in total."), "{said}");
    let (fine, said) = berth(&["receipts", "correct", &receipt, "-5", "--reason", "more"]).await;
    assert!(!fine && said.contains("cannot become negative"), "{said}");
    let (fine, said) = berth(&["prices", "reprice", &cheap]).await;
    assert!(fine && said.contains("-$0.0003") && said.contains("repeat the command with --yes"), "{said}");
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 300 * A_TOKEN);
    let (fine, said) = berth(&["prices", "reprice", &cheap, "--handle", "alice", "--yes"]).await;
    assert!(fine && said.contains("Receipts corrected: 1."), "{said}");
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars.0, 0);
    let (fine, said) = berth(&["prices", "reprice", "nothing", "--yes"]).await;
    assert!(!fine && said.contains("no price table of that version"), "{said}");
    let (fine, said) = berth(&["receipts", "verify"]).await;
    assert!(fine, "{said}");
    running.cancel();
    listening.await.unwrap().unwrap();
}
