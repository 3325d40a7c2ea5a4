//! Own keys on their page, in receipts and in exports.

use berth::app::App;
use berth::quota::CallOutcome;
use berth_ground::clock::Timestamp;
use berth_ground::handle::Handle;
use berth_providers::{Usage, UsageReport};
use sea_orm::{ConnectionTrait as _, Statement};

use super::*;
use crate::quota::usage::site;
use berth_testing::web_client::WebClient;

async fn page(visitor: &mut WebClient) -> String {
    visitor.get("/own-keys").await.text().await
}

#[tokio::test]
async fn keys_are_added_replaced_and_removed_on_their_page_and_never_shown() {
    let site = site(&[]).await;
    let (mut alice, mut boris) = (site.member("alice").await, site.member("boris").await);
    assert!(page(&mut alice).await.contains("You have no key here"));
    assert!(alice.get("/usage").await.text().await.contains("your own provider key"));
    assert_eq!(alice.post("/own-keys/anthropic", &format!("key={ALICES}")).await.in_short(), "303 /own-keys");
    let shown = page(&mut alice).await;
    assert!(shown.contains("Your key ends in <code>x7Qa</code>") && shown.contains("15 Nov, 10:"), "{shown}");
    assert_eq!(alice.post("/own-keys/anthropic", &format!("key={BOBS}")).await.in_short(), "303 /own-keys");
    let shown = page(&mut alice).await;
    assert!(shown.contains("0B0b") && !shown.contains("x7Qa") && !shown.contains(&BOBS[..20]), "{shown}");
    let spend = alice.get("/usage").await.text().await;
    assert!(spend.contains("Calls to Anthropic use your own key and none of this budget."), "{spend}");
    assert!(!page(&mut boris).await.contains("0B0b"), "it is hers alone");
    assert_eq!(boris.post("/own-keys/anthropic/remove", "").await.in_short(), "404");
    for (typed, sentence) in [
        ("", "Paste the key here."),
        ("sk-secret+with+spaces", "a space or a line break"),
        ("sk-secret-with%0D%0Ax-evil:+1", "a space or a line break"),
        ("sk-secret-with-%C3%A4-letter", "plain letters"),
        ("sk-secret", "too short"),
        (&format!("sk-secret-{}", "k".repeat(600)), "too long"),
    ] {
        let refused = alice.post("/own-keys/openai", &format!("key={typed}")).await;
        assert_eq!(refused.status, 422, "{typed}");
        let refused = refused.text().await;
        assert!(refused.contains(sentence) && !refused.contains("sk-secret"), "{typed}: {refused}");
    }
    assert_eq!(alice.post("/own-keys/nobody", &format!("key={ALICES}")).await.in_short(), "404");
    assert_eq!(alice.post("/own-keys/anthropic/remove", "").await.in_short(), "303 /own-keys");
    assert!(!page(&mut alice).await.contains("0B0b"));
    assert_eq!(alice.post("/own-keys/anthropic/remove", "").await.in_short(), "404");
    assert_eq!(
        audited(&site.app).await,
        ["add_own_key anthropic", "add_own_key anthropic", "remove_own_key anthropic"]
    );
}

async fn audited(app: &App) -> Vec<String> {
    let db = app.db.read();
    let sql = "SELECT action, detail FROM audit WHERE actor = 'alice' AND action LIKE '%own_key' ORDER BY action";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    let text = |row: &sea_orm::QueryResult, name: &str| row.try_get::<String>("", name).unwrap();
    rows.iter().map(|row| format!("{} {}", text(row, "action"), text(row, "detail"))).collect()
}

#[tokio::test]
async fn the_page_says_when_and_how_a_provider_refused_a_key() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    alice.post("/own-keys/openai", &format!("key={ALICES}")).await;
    let instance = site.app.instances.by_handle(&Handle::parse("alice").unwrap()).unwrap();
    let pass = || site.app.own_keys.call_key(instance.account, "openai").unwrap();
    pass().note_status(200);
    assert!(!page(&mut alice).await.contains("refused it"));
    pass().note_status(401);
    let shown = page(&mut alice).await;
    assert!(
        shown.contains("OpenAI refused it on") && shown.contains("it does not recognise this key (401)"),
        "{shown}"
    );
    let at = |app: &App| app.own_keys.of(instance.account)[0].refused.unwrap().at;
    let first: Timestamp = at(&site.app);
    site.app.clock.advance(Duration::from_secs(59));
    pass().note_status(401);
    assert_eq!(at(&site.app), first, "a program that retries in a loop causes one write a minute");
    site.app.clock.advance(Duration::from_secs(1));
    pass().note_status(401);
    assert_eq!(at(&site.app), first.plus(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_receipt_says_that_its_owner_paid_and_what_the_call_is_worth() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    let instance = site.app.instances.by_handle(&Handle::parse("alice").unwrap()).unwrap();
    let usage = Usage { input_tokens: 10_000, output_tokens: 2000, ..Usage::default() };
    for (model, seen) in [("berth-demo", UsageReport::Final(usage)), ("claude-of-tomorrow", UsageReport::Final(usage))]
    {
        let call = OwnKeyCall {
            account: instance.account,
            instance: instance.id,
            agent: String::new(),
            provider: Name::ANTHROPIC,
            model: model.into(),
        };
        let hold = site.app.quota.admit_under_own_key(call).await.unwrap();
        hold.settle(seen, CallOutcome::Completed, String::new());
    }
    let list = alice.get("/usage/receipts").await.text().await;
    assert_eq!(list.matches("under your own key").count(), 2, "{list}");
    let said = alice.get("/api/receipts").await.json().await;
    let shown: Vec<_> =
        said["items"].as_array().unwrap().iter().map(|receipt| receipt["id"].as_str().unwrap()).collect();
    for (id, sentence) in shown.iter().zip(["Its total value is not known here.", "that is worth $0.002."]) {
        let page = alice.get(&format!("/usage/receipts/{id}")).await.text().await;
        assert!(page.contains(sentence) && page.contains("your budget was not charged"), "{page}");
        assert!(page.contains("Verified just now: the receipt is unaltered"), "{page}");
    }
    let csv = alice.get("/usage/export").await.text().await;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert!(lines[0].ends_with(",payer,worth_dollars"), "{csv}");
    assert!(lines[1].ends_with(",own_key,0.002") && lines[2].ends_with(",own_key,"), "{csv}");
    let spend = alice.get("/api/usage").await.json().await;
    assert_eq!((&spend["spent_nanodollars"], &spend["by_model"][0]["calls"]), (&value!(0), &value!(1)));
    let page = alice.get("/usage").await.text().await;
    assert!(page.contains("$0.00 in November 2026, for 2 calls."), "{page}");
}
