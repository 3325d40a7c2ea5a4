//! Price tables on the operator's pages: upload, comparison, activation, and repricing of receipts.

use berth::app::App;
use berth::http::format::query_value;
use berth::quota::{BudgetCall, Refusal};
use berth::web::admin::prices::{FORM_BYTES, TABLE_BYTES};
use berth_ground::handle::Handle;
use berth_providers::{CacheWrites, Demand, InputBound, Provider, ServiceTier, TierChoice};
use sea_orm::ConnectionTrait as _;

use crate::quota::repricing::table;
use crate::quota::usage::site;
use crate::quota::{HOLD, used};
use berth_testing::databases;
use berth_testing::quota_platform::{QuotaPlatform, reopen};
use berth_testing::web_client::{Answer, WebClient};

fn call_of(app: &App, handle: &str, model: &str) -> BudgetCall {
    let instance = app.instances.by_handle(&Handle::parse(handle).unwrap()).unwrap();
    let demand = Demand {
        provider: Provider::ANTHROPIC,
        model: model.into(),
        service: TierChoice::Auto(ServiceTier::Standard),
        input: InputBound::Tokens(0),
        cache_writes: CacheWrites::Never,
        max_output_tokens: Some(1000),
        answers: 1,
        extra_output_tokens: 0,
        web_searches: 0,
        may_be_us: false,
        may_hide_output: false,
    };
    BudgetCall { account: instance.account, instance: instance.id, agent: String::new(), demand }
}

async fn send(operator: &mut WebClient, table: &str) -> Answer {
    operator.post("/admin/prices", &format!("table={}&source=mine.json", query_value(table))).await
}

/// Uploads a table and returns its version.
async fn take_in(operator: &mut WebClient, table: &str) -> String {
    let answer = send(operator, table).await;
    let (short, before) = (answer.in_short(), "303 /admin/prices/");
    short.strip_prefix(before).unwrap_or_else(|| panic!("{short}")).to_owned()
}

#[tokio::test]
async fn the_operator_sees_what_models_cost_and_finds_one_by_a_part_of_its_name() {
    let site = site(&[]).await;
    let mut operator = site.operator("olivia").await;
    let page = operator.get("/admin/prices").await.text().await;
    for part in [
        "<span class=\"tag\">active</span>",
        "built in",
        "claude-haiku-4-5",
        "more; type more",
        "US dollars per million tokens",
    ] {
        assert!(page.contains(part), "the page lacks {part}: {page}");
    }
    let page = operator.get("/admin/prices?model=Sonnet-4-6").await.text().await;
    for part in ["claude-sonnet-4-6", "$3.00", "$15.00", "$0.30", "$3.75", "per search", "value=\"Sonnet-4-6\""] {
        assert!(page.contains(part), "the page lacks {part}: {page}");
    }
    assert!(!page.contains("claude-haiku"), "{page}");
    let none = operator.get("/admin/prices?model=%3Cb%3E").await.text().await;
    assert!(none.contains("No model matches.") && none.contains("value=\"&#60;b&#62;\""), "{none}");
    for page in ["/admin", "/admin/usage"] {
        assert!(operator.get(page).await.text().await.contains("href=\"/admin/prices\""), "{page}");
    }
}

#[tokio::test]
async fn a_table_is_reviewed_before_it_is_activated_and_an_older_one_can_be_activated_again() {
    let site = site(&[]).await;
    let mut operator = site.operator("olivia").await;
    let before = site.app.quota.prices.active_catalogue().await.unwrap().version;
    let new = take_in(&mut operator, &table("claude-of-tomorrow", 3)).await;
    let tomorrow = || site.app.quota.admit(call_of(&site.app, "olivia", "claude-of-tomorrow"));
    assert!(matches!(tomorrow().await.err(), Some(Refusal::UnknownModel { .. })), "it is not in force yet");
    let page = operator.get(&format!("/admin/prices/{new}")).await.text().await;
    for part in [
        "mine.json",
        "by olivia",
        "1 new",
        "claude-of-tomorrow",
        "<span class=\"tag\">new</span>",
        "Activate",
        "removed",
    ] {
        assert!(page.contains(part), "the page lacks {part}: {page}");
    }
    assert_eq!(operator.post(&format!("/admin/prices/{new}/activate"), "").await.in_short(), "303 /admin/prices");
    assert!(tomorrow().await.is_ok());
    let page = operator.get("/admin/prices").await.text().await;
    assert!(
        page.contains(&format!("by version <a href=\"/admin/prices/{new}\">")) && page.contains("activated"),
        "{page}"
    );
    assert_eq!(operator.post(&format!("/admin/prices/{before}/activate"), "").await.in_short(), "303 /admin/prices");
    assert!(matches!(tomorrow().await.err(), Some(Refusal::UnknownModel { .. })), "the one before is in force again");
    assert_eq!(take_in(&mut operator, &table("claude-of-tomorrow", 3).replace('\n', "\r\n")).await, new, "line ends");
    let db = site.app.db.read();
    let audit = "SELECT action FROM audit WHERE actor = 'olivia' AND action LIKE '%prices' ORDER BY at_ms, id";
    let rows = db.query_all_raw(sea_orm::Statement::from_string(db.get_database_backend(), audit)).await.unwrap();
    let mut actions: Vec<String> = rows.iter().map(|row| row.try_get("", "action").unwrap()).collect();
    actions.sort();
    assert_eq!(actions, ["keep_prices", "keep_prices", "use_prices", "use_prices"]);
}

#[tokio::test]
async fn a_table_that_cannot_be_read_says_why_and_changes_nothing() {
    let site = site(&[]).await;
    let mut operator = site.operator("olivia").await;
    let kept = site.app.quota.prices.list().await.unwrap();
    for (table, sentence) in [
        ("", "this is not a JSON object of models"),
        ("[]", "this is not a JSON object of models"),
        ("{}", "no row is of a model of Anthropic or OpenAI"),
        (r#"{"<b>": 1}"#, "&#60;b&#62; is not an object"),
        (r#"{"a": {"litellm_provider": "anthropic", "mode": "chat"}}"#, "a price of input or output is missing"),
        (&*" ".repeat(TABLE_BYTES + 1), "larger than 4 MiB"),
    ] {
        let refused = send(&mut operator, table).await;
        assert_eq!(refused.status.as_u16(), 422, "{sentence}");
        let page = refused.text().await;
        assert!(page.contains(sentence) && page.contains("value=\"mine.json\""), "{sentence}");
    }
    let too_much = operator.post("/admin/prices", &format!("table={}", "x".repeat(FORM_BYTES))).await;
    assert_eq!(too_much.status.as_u16(), 413);
    assert_eq!(site.app.quota.prices.list().await.unwrap(), kept);
}

#[tokio::test]
async fn receipts_are_repriced_after_a_preview() {
    let site = site(&[]).await;
    let mut operator = site.operator("olivia").await;
    let mut alice = site.member("alice").await;
    let dear = take_in(&mut operator, &table("claude-of-today", 4)).await;
    operator.post(&format!("/admin/prices/{dear}/activate"), "").await;
    for handle in ["alice", "olivia"] {
        used(site.app.quota.admit(call_of(&site.app, handle, "claude-of-today")).await.unwrap(), 1000);
    }
    let account = call_of(&site.app, "alice", "").account;
    let spent = async || site.app.quota.reports.budget(account).await.unwrap().spent_nanodollars.0;
    assert_eq!(spent().await, 4_000_000);
    let cheap = take_in(&mut operator, &table("claude-of-today", 1)).await;
    let rerate = format!("/admin/prices/{cheap}/repricing");
    let page = operator.get(&format!("{rerate}?since=2026-11-15&account=alice")).await.text().await;
    for part in [
        "Receipts that would change: 1, by -$0.003 in total",
        "Nothing has been changed yet",
        "Correct the receipts",
        ">alice</a>",
    ] {
        assert!(page.contains(part), "the page lacks {part}: {page}");
    }
    assert_eq!(spent().await, 4_000_000, "looking changes nothing");
    let page = operator.post(&rerate, "since=2026-11-15&until=&account=alice").await.text().await;
    assert!(page.contains("Receipts corrected: 1, by -$0.003 in total."), "{page}");
    assert_eq!(spent().await, 1_000_000);
    let page = operator.post(&rerate, "account=").await.text().await;
    assert!(page.contains("Receipts corrected: 1,"), "the other's: {page}");
    let page = operator.get(&rerate).await.text().await;
    assert!(page.contains("Nothing changes.") && !page.contains("Correct the receipts"), "{page}");
    for (asked, field) in [("since=soon", "since"), ("until=2026-02-30", "until"), ("account=nobody-here", "account")] {
        let refused = operator.get(&format!("{rerate}?{asked}")).await;
        assert_eq!(refused.status.as_u16(), 422, "{asked}");
        let page = refused.text().await;
        assert!(page.contains(&format!("name=\"{field}\"")) && page.contains("which-note"), "{asked}: {page}");
    }
    assert_eq!(site.app.quota.disagreements().await.unwrap(), Vec::<String>::new());
    // The user sees the correction and its reason.
    let receipt = site.app.quota.ledger.receipts(account, 1).await.unwrap().remove(0);
    let page = alice.get("/usage/receipts").await.text().await;
    assert!(page.contains(&format!("a correction: by the prices of version {cheap}")), "{page}");
    let page = alice.get(&format!("/usage/receipts/{}", receipt.corrects.unwrap())).await.text().await;
    assert!(page.contains("so the call cost $0.001 in total"), "{page}");
    let page = alice.get(&format!("/usage/receipts/{}", receipt.id)).await.text().await;
    assert!(page.contains("given back of a call of claude-of-today"), "{page}");
}

#[tokio::test]
async fn tables_are_kept_and_compared_on_either_database() {
    for database in databases().await {
        let kind = database.kind;
        let world = QuotaPlatform::on(database, |_| ()).await;
        let quota = &world.app.quota;
        let before = quota.prices.active_catalogue().await.unwrap();
        let version = quota.prices.add(&table("claude-of-tomorrow", 2), "mine", "olivia").await.unwrap();
        let (kept, catalogue) = quota.prices.catalogue(&version).await.unwrap();
        assert_eq!((kept.is_in_force, &*kept.imported.by, kept.activated.at), (false, "olivia", None), "{kind}");
        assert_eq!((catalogue.changes.new, catalogue.changes.changed), (1, 0), "{kind}");
        assert_eq!(catalogue.differences.len(), 1 + catalogue.changes.gone, "{kind}");
        assert_eq!(quota.prices.active_catalogue().await.unwrap(), before, "{kind}");
        quota.prices.activate(Some(&version), "oscar").await.unwrap();
        let (kept, catalogue) = reopen(&world, &world.clock, HOLD).await.prices.catalogue(&version).await.unwrap();
        assert_eq!((kept.is_in_force, &*kept.activated.by, catalogue.differences.len()), (true, "oscar", 0), "{kind}");
        quota.prices.activate(Some(&before.version), "oscar").await.unwrap();
        assert_eq!(quota.prices.active_catalogue().await.unwrap().version, before.version, "{kind}");
    }
}
