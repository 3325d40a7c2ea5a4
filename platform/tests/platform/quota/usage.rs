//! The usage pages and their API: sums, receipts and the export of a month.

use std::time::Duration;

use berth::app::App;
use berth::quota::{BudgetCall, CallOutcome, Hold};
use berth_ground::handle::Handle;
use berth_ground::money::Nanodollars;
use berth_providers::{CacheWrites, Demand, InputBound, Provider, ServiceTier, TierChoice, Usage, UsageReport};
use ring::signature::{ED25519, UnparsedPublicKey};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use berth_testing::quota_platform::{QuotaPlatform, client, json as read_json};
use berth_testing::sqlite;
use berth_testing::web_client::{WebClient, WebFixture};

/// The price of one output token of the demo model, in nano-dollars.
const A_TOKEN: i64 = 500;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A platform on SQLite whose journal is open.
pub async fn site(settings: &[(&str, &str)]) -> WebFixture {
    let site = WebFixture::with(settings).await;
    site.app.quota.begin().await.unwrap();
    site
}

/// Holds the price of `tokens` output tokens of the demo model for a call of an agent.
pub async fn hold(app: &App, handle: &str, agent: &str, tokens: u64) -> Hold {
    let instance = app.instances.by_handle(&Handle::parse(handle).unwrap()).unwrap();
    let demand = Demand {
        provider: Provider::ANTHROPIC,
        service: TierChoice::Auto(ServiceTier::Standard),
        web_searches: 0,
        model: "berth-demo".into(),
        input: InputBound::Tokens(0),
        cache_writes: CacheWrites::Never,
        max_output_tokens: Some(tokens),
        answers: 1,
        extra_output_tokens: 0,
        may_be_us: false,
        may_hide_output: false,
    };
    let call = BudgetCall { account: instance.account, instance: instance.id, agent: agent.into(), demand };
    app.quota.admit(call).await.unwrap()
}

/// Makes a call that uses exactly what it held.
pub async fn call(app: &App, handle: &str, agent: &str, tokens: u64) {
    let hold = hold(app, handle, agent, tokens).await;
    hold.settle(
        UsageReport::Final(Usage { output_tokens: tokens, ..Usage::default() }),
        CallOutcome::Completed,
        String::new(),
    );
}

async fn spend(visitor: &mut WebClient, query: &str) -> Value {
    visitor.get(&format!("/api/usage{query}")).await.json().await
}

fn named<'a>(sums: &'a Value, name: &str) -> &'a Value {
    sums.as_array().unwrap().iter().find(|sum| sum["name"] == name).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn without_calls_the_page_shows_the_budget_and_no_empty_tables() {
    let site = site(&[("BERTH_ALLOWANCE_DOLLARS", "5")]).await;
    let mut alice = site.member("alice").await;
    let page = alice.get("/usage").await;
    assert_eq!(page.in_short(), "200");
    let page = page.text().await;
    assert!(page.contains("No AI calls in November 2026 yet.") && page.contains("$5.00 left of $5.00"), "{page}");
    assert!(!page.contains("<table") && !page.contains("<figure"));
    assert!(alice.get("/usage/receipts").await.text().await.contains("No calls yet."));
    let export = alice.get("/usage/export").await.text().await;
    assert_eq!(export.lines().count(), 1, "{export}");
}

#[tokio::test]
async fn page_and_api_show_the_same_sums_and_they_add_up() {
    let site = site(&[("BERTH_REQUESTS_A_MINUTE", "60")]).await;
    let mut alice = site.member("alice").await;
    site.member("boris").await;
    call(&site.app, "alice", "builder", 20_000).await;
    site.app.clock.advance(DAY);
    call(&site.app, "alice", "builder", 40_000).await;
    call(&site.app, "alice", "", 200_000).await;
    call(&site.app, "boris", "builder", 900_000).await;
    let held = hold(&site.app, "alice", "reader", 2_000_000).await;
    let said = spend(&mut alice, "").await;
    assert_eq!(said["spent_nanodollars"], json!(260_000 * A_TOKEN));
    assert_eq!(said["held_nanodollars"], json!(2_000_000 * A_TOKEN));
    assert_eq!(
        (&said["today"]["day"], &said["today"]["spent_nanodollars"]),
        (&json!("2026-11-16"), &json!(240_000 * A_TOKEN))
    );
    assert_eq!(said["calls_at_once"]["in_flight"], json!(1));
    assert_eq!(
        (&said["requests_a_minute"]["limit"], &said["requests_a_minute"]["remaining"]),
        (&json!(60), &json!(57))
    );
    assert_eq!(said["resets_on"], json!("2026-12-01"));
    let (builder, unnamed) = (named(&said["by_agent"], "builder"), named(&said["by_agent"], ""));
    assert_eq!((&builder["calls"], &builder["amount_nanodollars"]), (&json!(2), &json!(60_000 * A_TOKEN)));
    assert_eq!(unnamed["output_tokens"], json!(200_000));
    let first = named(&said["by_day"], "2026-11-15");
    assert_eq!(first["amount_nanodollars"], json!(20_000 * A_TOKEN));
    for sums in ["by_day", "by_agent", "by_model"] {
        let sum: i64 =
            said[sums].as_array().unwrap().iter().map(|sum| sum["amount_nanodollars"].as_i64().unwrap()).sum();
        assert_eq!(sum, 260_000 * A_TOKEN, "{sums}");
    }
    let page = alice.get("/usage").await.text().await;
    for part in [
        "$0.13 in November 2026, for 3 calls.",
        "$1.00 held for calls in flight",
        "15 Nov: $0.01, calls: 1",
        "16 Nov: $0.12, calls: 2",
        "no agent name",
        "builder",
        "57 left of 60",
        "1 in flight",
    ] {
        assert!(page.contains(part), "the page lacks {part}: {page}");
    }
    drop(held);
}

#[tokio::test]
async fn agents_beyond_twenty_are_summed_up() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    for agent in 0..25_u64 {
        call(&site.app, "alice", &format!("agent-{agent}"), 1000 + agent).await;
    }
    let said = spend(&mut alice, "").await;
    assert_eq!(said["by_agent"].as_array().unwrap().len(), 20);
    assert_eq!(said["by_agent"][0]["name"], json!("agent-24"));
    let others: i64 = (0..5).map(|agent| (1000 + agent) * A_TOKEN).sum();
    assert_eq!(said["other_agents_nanodollars"], json!(others));
    assert!(alice.get("/usage").await.text().await.contains("<span class=\"whole\">others</span>"));
}

#[tokio::test]
async fn a_past_month_can_be_viewed() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    call(&site.app, "alice", "builder", 20_000).await;
    // A call is charged to the month in which it started.
    let across = hold(&site.app, "alice", "builder", 80_000).await;
    site.app.clock.advance(20 * DAY);
    call(&site.app, "alice", "reader", 7000).await;
    across.settle(
        UsageReport::Final(Usage { output_tokens: 80_000, ..Usage::default() }),
        CallOutcome::Completed,
        String::new(),
    );
    assert_eq!(alice.present_passkey("").await, "/", "so long ago that she logs in again");
    let before = spend(&mut alice, "?month=2026-11").await;
    assert_eq!((&before["period"], &before["spent_nanodollars"]), (&json!("2026-11"), &json!(100_000 * A_TOKEN)));
    assert_eq!((&before["left_nanodollars"], &before["by_agent"][0]["name"]), (&json!(0), &json!("builder")));
    assert_eq!(before["months"].as_array().unwrap().len(), 2);
    let now = spend(&mut alice, "").await;
    assert_eq!((&now["period"], &now["spent_nanodollars"]), (&json!("2026-12"), &json!(7000 * A_TOKEN)));
    let page = alice.get("/usage?month=2026-11").await.text().await;
    assert!(page.contains("$0.05 in November 2026, for 2 calls.") && !page.contains("Remaining budget"), "{page}");
    let page = alice.get("/usage").await.text().await;
    assert!(page.contains("href=\"/usage?month=2026-11\"") && page.contains("Remaining budget"));
    assert!(alice.get("/usage?month=2026-10").await.text().await.contains("No AI calls in October 2026."));
    for nonsense in ["2026-13", "November", "2026-11-01", "'%20OR%201=1"] {
        assert_eq!(alice.get(&format!("/usage?month={nonsense}")).await.in_short(), "404", "{nonsense}");
    }
    let export = alice.get("/usage/export?month=2026-11&as=jsonl").await.text().await;
    let numbers: Vec<Value> =
        export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone()).collect();
    assert_eq!(numbers, [json!(1), json!(3)], "the other month's lies between them");
}

#[tokio::test]
async fn receipts_come_in_pages_each_once_and_in_their_order() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    for tokens in 1..=120 {
        call(&site.app, "alice", "", tokens).await;
    }
    let (mut numbers, mut query) = (Vec::new(), String::new());
    for page in 0.. {
        let said = alice.get(&format!("/api/receipts{query}")).await.json().await;
        let receipts = said["items"].as_array().unwrap();
        numbers.extend(receipts.iter().map(|receipt| receipt["seq"].as_i64().unwrap()));
        assert_eq!(
            alice.get(&format!("/usage/receipts{query}")).await.text().await.matches("/usage/receipts/").count(),
            receipts.len()
        );
        let Some(next) = said["next"].as_str() else {
            assert_eq!(page, 2);
            break;
        };
        query = next.strip_prefix("/api/receipts").unwrap().to_owned();
    }
    assert_eq!(numbers, (1..=120).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_receipt_can_be_verified_by_its_owner_and_an_altered_one_is_reported() {
    let site = site(&[]).await;
    let (mut alice, mut boris) = (site.member("alice").await, site.member("boris").await);
    for tokens in [1000, 2000, 3000] {
        call(&site.app, "alice", "builder", tokens).await;
    }
    let receipts = alice.get("/api/receipts").await.json().await;
    let id = receipts["items"][1]["id"].as_str().unwrap().to_owned();
    let said = alice.get(&format!("/api/receipts/{id}")).await.json().await;
    assert_eq!(said["wrong"], Value::Null);
    let digest = hex::encode(Sha256::digest(said["digested"].as_str().unwrap()));
    assert_eq!(said["receipt"]["hash"], json!(digest));
    let (voucher, key) = (&said["vouched_by"], alice.get("/api/receipts/key").await.json().await["key"].clone());
    let bytes = |text: &Value| hex::decode(text.as_str().unwrap()).unwrap();
    UnparsedPublicKey::new(&ED25519, bytes(&key))
        .verify(voucher["hash"].as_str().unwrap().as_bytes(), &bytes(&voucher["signature"]))
        .unwrap();
    let page = alice.get(&format!("/usage/receipts/{id}")).await.text().await;
    for part in ["$0.001", "Verified just now", "2\u{2009}000 out", "builder", &digest] {
        assert!(page.contains(part), "the receipt lacks {part}: {page}");
    }
    for path in [format!("/usage/receipts/{id}"), format!("/api/receipts/{id}"), "/usage/receipts/1".into()] {
        assert_eq!(boris.get(&path).await.status.as_u16(), 404, "{path}");
    }
    assert_eq!(boris.get("/api/receipts").await.json().await["items"], json!([]));
    let tx = site.app.db.begin().await.unwrap();
    tx.execute_unprepared("UPDATE receipts SET amount_nanodollars = 1 WHERE seq = 2").await.unwrap();
    tx.commit().await.unwrap();
    let page = alice.get(&format!("/usage/receipts/{id}")).await.text().await;
    assert!(page.contains("This receipt has been altered") && !page.contains("Verified just now"), "{page}");
}

#[tokio::test]
async fn a_receipt_explains_its_amount() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    let usage = Usage { output_tokens: 10, ..Usage::default() };
    for (seen, outcome, words) in [
        (UsageReport::Final(usage), CallOutcome::Completed, "The provider then reported the usage: 0 tokens in"),
        (UsageReport::NoCharge, CallOutcome::Refused, "The provider refused the call"),
        (UsageReport::NoCharge, CallOutcome::UpstreamBroke, "The provider charged nothing"),
        (
            UsageReport::Part { usage: None, output_tokens: 5 },
            CallOutcome::UpstreamBroke,
            "before the provider reported its usage",
        ),
        (UsageReport::Unreadable, CallOutcome::Completed, "final usage figures are missing"),
        (UsageReport::Unreadable, CallOutcome::Recovered, "The server stopped while the call was in flight"),
    ] {
        hold(&site.app, "alice", "", 20).await.settle(seen, outcome, String::new());
        let newest = alice.get("/api/receipts").await.json().await["items"][0]["id"].as_str().unwrap().to_owned();
        let page = alice.get(&format!("/usage/receipts/{newest}")).await.text().await;
        assert!(page.contains(words), "{seen:?}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_reads_its_budget_as_json_or_text() {
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.limits.day_nanodollars = Some(Nanodollars(500_000_000));
        config.limits.requests_a_minute = Some(60);
        config.limits.calls_at_once = 5;
    })
    .await;
    let alice = world.person("alice").await;
    call(&world.app, "alice", "", 200_000).await;
    let held = hold(&world.app, "alice", "", 200_000).await;
    let figures = read_json(alice.get(&world, "/budget").send().await.unwrap()).await;
    assert_eq!(
        (&figures["spent_nanodollars"], &figures["held_nanodollars"]),
        (&json!(100_000_000), &json!(100_000_000))
    );
    assert_eq!(
        (&figures["left_nanodollars"], &figures["today"]["left_nanodollars"]),
        (&json!(300_000_000), &json!(300_000_000))
    );
    assert_eq!((&figures["requests_a_minute"]["limit"], &figures["tokens_a_minute"]), (&json!(60), &Value::Null));
    assert_eq!(
        (&figures["by_model"][0]["model"], &figures["calls_at_once"]),
        (&json!("berth-demo"), &json!({ "limit": 5, "in_flight": 1 }))
    );
    let words = async |path: &str, accept: &str| {
        alice.get(&world, path).header("accept", accept).send().await.unwrap().text().await.unwrap()
    };
    for said in [words("/budget", "text/plain").await, words("/budget?format=text", "application/json").await] {
        assert!(said.starts_with("AI budget: $4.80 of $5.00 is left this month (whole again on 1 "), "{said}");
        assert!(
            said.contains("and $0.30 of $0.50 today.")
                && said.ends_with("just now 4 of 5 calls may be begun at once.\n"),
            "{said}"
        );
    }
    assert!(words("/budget?format=json", "text/plain").await.starts_with('{'));
    let refused = alice.get(&world, "/budget?format=poem").send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 400);
    let elsewhere = client(None).get(format!("http://{}/budget?format=text", world.proxy)).bearer_auth(alice.token());
    assert_eq!(elsewhere.send().await.unwrap().status().as_u16(), 401, "from its own address alone");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_cannot_be_read_is_unavailable_for_a_moment() {
    let world = QuotaPlatform::on(sqlite().await, |_| {}).await;
    let (alice, boris) = (world.person("alice").await, world.person("boris").await);
    let status = async |path: &str| alice.get(&world, path).send().await.unwrap().status().as_u16();
    assert_eq!(status("/budget").await, 200);
    let tx = world.app.db.begin().await.unwrap();
    tx.execute_unprepared("ALTER TABLE spend_days RENAME TO elsewhere").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(status("/budget?format=text").await, 200, "her remainders are in memory");
    // Her sums by model are in the table alone, and of his account nothing was read before.
    for refused in [alice.get(&world, "/budget"), boris.get(&world, "/budget?format=text")] {
        let refused = refused.send().await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "2"));
        let problem = read_json(refused).await;
        assert_eq!(problem["code"], "unavailable", "{problem}");
    }
}

#[tokio::test]
async fn a_month_is_exported_completely_and_without_formulas() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    for _ in 0..3 {
        call(&site.app, "alice", "=HYPERLINK(\"https://evil.test\")", 2000).await;
    }
    let answer = alice.get("/usage/export?as=csv").await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"berth-alice-2026-11.csv\"");
    let csv = answer.text().await;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 5, "a head, three receipts, and the end: {csv}");
    assert!(lines[0].starts_with("number,id,day,") && lines[1].starts_with("1,"), "{csv}");
    for line in &lines[1..4] {
        assert!(
            line.contains(",\"'=HYPERLINK(\"\"https://evil.test\"\")\",completed,provider,0,0,0,0,2000,0.001,0.001,"),
            "{line}"
        );
    }
    assert_eq!(alice.get("/usage/export?as=pdf").await.status.as_u16(), 400);
}
