//! Own keys: calls go out under them and no other, cost the budget nothing, and are accounted for all the same.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth::app::App;
use berth::clock::Timestamp;
use berth::config::Providers;
use berth::db::AccountId;
use berth::error::Error;
use berth::handle::Handle;
use berth::own_keys::OwnKeys;
use berth::quota::{Outcome, OwnCall, Provider as Name, Receipt, Refusal, Seen, Usage};
use berth::secrets::InstallationKeys;
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json as value};
use zeroize::Zeroizing;

use crate::quota::usage::site;
use berth_testing::quota_platform::{Person, QuotaPlatform, after_a_kill, json};
use berth_testing::stub_provider::{Heard, Provider, Says};
use berth_testing::web_client::WebClient;
use berth_testing::{Database, databases, sqlite};

const MESSAGES: &str = "/anthropic/v1/messages";
const COMPLETIONS: &str = "/openai/v1/chat/completions";
const RESPONSES: &str = "/openai/v1/responses";
const EMBEDDINGS: &str = "/openai/v1/embeddings";

const PLATFORMS: &str = "the-platforms-own-key";
const ALICES: &str = "sk-alices-key-at-a-provider-x7Qa";
const BOBS: &str = "sk-bobs-key-at-another-place-0B0b";

/// What one token in and one out of the demo model are worth.
const WORTH: i64 = 100 + 500;

/// A world where the platform calls the demo model and knows a key, and everybody's own keys lead to `provider`.
async fn world_with(database: Database, change: impl FnOnce(&mut berth::config::Config)) -> (QuotaPlatform, Provider) {
    let (provider, address) = Provider::listen().await;
    let world = QuotaPlatform::on(database, |config| {
        for upstream in [&mut config.anthropic, &mut config.openai] {
            upstream.keys = vec![Zeroizing::new(PLATFORMS.to_owned())];
            upstream.url_for_own_keys = format!("http://{address}");
        }
        change(config);
    })
    .await;
    provider.will_say([answer()]);
    (world, provider)
}

/// The same, where the platform's calls are heard by that provider as well.
async fn world_of_one_provider(change: impl FnOnce(&mut berth::config::Config)) -> (QuotaPlatform, Provider) {
    world_with(sqlite().await, |config| {
        for upstream in [&mut config.anthropic, &mut config.openai] {
            upstream.url.clone_from(&upstream.url_for_own_keys);
        }
        change(config);
    })
    .await
}

/// One token in and one out, in every provider's words.
fn answer() -> Says {
    Says::json(r#"{"usage":{"input_tokens":1,"output_tokens":1,"prompt_tokens":1,"completion_tokens":1}}"#)
}

async fn has_key(world: &QuotaPlatform, person: &Person, provider: &str, key: &str) {
    let owner = (person.instance.account, &person.instance.handle);
    world.app.own_keys.set(owner, provider, key).await.unwrap();
}

async fn has_no_key(world: &QuotaPlatform, person: &Person, provider: &str) {
    let owner = (person.instance.account, &person.instance.handle);
    world.app.own_keys.remove(owner, provider).await.unwrap();
}

fn message(model: &str) -> Value {
    value!({ "model": model, "max_tokens": 100, "messages": [] })
}

fn completion(more: &Value) -> Value {
    let mut body = value!({ "model": "berth-demo", "messages": [] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The keys that a call brought, in whichever header.
fn keys(heard: &Heard) -> Vec<String> {
    let named = |name: &str| heard.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
    named("x-api-key").chain(named("authorization")).collect()
}

async fn receipts(world: &QuotaPlatform, person: &Person) -> Vec<Receipt> {
    world.app.quota.settled().await;
    let mut receipts = world.app.quota.receipts(person.instance.account, 100).await.unwrap();
    receipts.reverse();
    receipts
}

/// Books that agree, of which `person` spent nothing.
async fn has_spent_nothing(world: &QuotaPlatform, person: &Person) {
    let spend = world.spend_at_rest(person).await;
    assert_eq!((spend.spent_nanodollars, spend.left_nanodollars), (0, spend.allowance_nanodollars), "{}", world.kind());
    assert_eq!(world.app.quota.verify().await.unwrap().wrong, Vec::<String>::new(), "{}", world.kind());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_out_under_its_owners_key_alone_and_costs_the_budget_nothing() {
    for database in databases().await {
        let (world, provider) = world_with(database, |_| ()).await;
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        has_key(&world, &alice, "anthropic", ALICES).await;
        has_key(&world, &alice, "openai", ALICES).await;
        has_key(&world, &bob, "openai", BOBS).await;
        let bearer = format!("Bearer {ALICES}");
        for (path, body, key) in [
            (MESSAGES, message("berth-demo"), ALICES),
            (COMPLETIONS, completion(&value!({})), &bearer),
            (RESPONSES, value!({ "model": "berth-demo", "input": "hi" }), &bearer),
            (EMBEDDINGS, value!({ "model": "berth-demo-embedding", "input": "hi" }), &bearer),
            ("/anthropic/v1/messages/count_tokens", value!({ "model": "berth-demo", "messages": [] }), ALICES),
        ] {
            let says = alice.post(&world, path, &body).send().await.unwrap();
            assert_eq!(says.status(), 200, "{path}: {}", says.text().await.unwrap());
            let heard = provider.heard();
            assert_eq!(heard.len(), 1);
            assert_eq!(keys(&heard[0]), [key], "{path}");
        }
        assert_eq!(alice.get(&world, "/openai/v1/models").send().await.unwrap().status(), 200);
        assert_eq!(keys(&provider.heard()[0]), [bearer]);
        has_spent_nothing(&world, &alice).await;
        for receipt in receipts(&world, &alice).await {
            let Receipt { held_nanodollars, amount_nanodollars, payer, input_tokens, worth_nanodollars, .. } = &receipt;
            assert_eq!((*held_nanodollars, *amount_nanodollars, payer.as_str()), (0, 0, "own_key"), "{receipt:?}");
            let worth = if receipt.model == "berth-demo" { WORTH } else { worth_nanodollars.unwrap() };
            assert_eq!((*input_tokens, *worth_nanodollars), (1, Some(worth)), "{receipt:?}");
        }
        assert_eq!(receipts(&world, &alice).await.len(), 4, "what no provider charges has no receipt");
        // Whom another has no key for pays from the budget, under the platform's.
        let says = bob.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
        assert_eq!(says.status(), 200);
        assert!(provider.heard().is_empty(), "{}", world.kind());
        assert!(world.spend_at_rest(&bob).await.spent_nanodollars > 0);
        let receipt = receipts(&world, &bob).await.remove(0);
        assert_eq!((receipt.payer.as_str(), receipt.worth_nanodollars), ("budget", None));
        let proof = world.app.quota.receipt(bob.instance.account, receipt.id).await.unwrap();
        assert!(!proof.digested.contains("payer") && !proof.digested.contains("worth"), "older receipts still verify");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_to_an_own_key_is_passed_on_and_no_other_key_is_tried() {
    let (world, provider) = world_of_one_provider(|_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    has_key(&world, &alice, "anthropic", ALICES).await;
    let told = r#"{"type":"error","error":{"type":"some_error","message":"in the provider's words"}}"#;
    let limits = [("anthropic-ratelimit-tokens-remaining", "7"), ("anthropic-organization-id", "alices")];
    for (status, stream) in [(401, true), (403, false), (429, true), (529, false), (500, true)] {
        provider.will_say([Says::error(status, &[limits[0], limits[1], ("set-cookie", "a=b")], told)]);
        let mut body = message("berth-demo");
        body["stream"] = stream.into();
        let says = alice.post(&world, MESSAGES, &body).send().await.unwrap();
        assert_eq!(says.status().as_u16(), status);
        for (name, said) in limits {
            assert_eq!(says.headers()[name], said, "{status}");
        }
        assert!(!says.headers().contains_key("set-cookie"));
        assert_eq!(says.text().await.unwrap(), told);
        let heard = provider.heard();
        assert_eq!(heard.iter().flat_map(keys).collect::<Vec<_>>(), [ALICES], "{status}");
    }
    has_spent_nothing(&world, &alice).await;
    assert!(receipts(&world, &alice).await.iter().all(|receipt| receipt.outcome == "refused"));
    // The platform's key was not made to rest by any of it.
    provider.will_say([answer()]);
    assert_eq!(bob.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap().status(), 200);
    assert_eq!(provider.heard().iter().flat_map(keys).collect::<Vec<_>>(), [PLATFORMS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_provider_refused_a_key_is_remembered_until_another_takes_its_place() {
    for database in databases().await {
        let (world, provider) = world_with(database, |_| ()).await;
        let alice = world.person("alice").await;
        has_key(&world, &alice, "openai", ALICES).await;
        let status = |own_keys: &OwnKeys| own_keys.of(alice.instance.account)[0].refused.map(|refused| refused.status);
        provider.will_say([Says::error(429, &[], "{}"), Says::error(403, &[], "{}"), Says::error(401, &[], "{}")]);
        for expected in [None, Some(403), Some(401)] {
            alice.post(&world, COMPLETIONS, &completion(&value!({}))).send().await.unwrap();
            assert_eq!(status(&world.app.own_keys), expected, "{}", world.kind());
        }
        for _ in 0..500 {
            if status(&reopened(&world).await) == Some(401) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(status(&reopened(&world).await), Some(401), "{}", world.kind());
        has_key(&world, &alice, "openai", BOBS).await;
        for own_keys in [&world.app.own_keys, &reopened(&world).await] {
            let key = own_keys.of(alice.instance.account).remove(0);
            assert_eq!((key.last_four.as_str(), key.refused), ("0B0b", None), "{}", world.kind());
        }
        provider.will_say([answer()]);
        provider.heard();
        alice.post(&world, COMPLETIONS, &completion(&value!({}))).send().await.unwrap();
        assert_eq!(keys(&provider.heard()[0]), [format!("Bearer {BOBS}")], "{}", world.kind());
    }
}

/// The keys as the next process reads them.
async fn reopened(world: &QuotaPlatform) -> OwnKeys {
    let keys = InstallationKeys::derive(&world.app.config.secret, world.clock.clone());
    OwnKeys::open(world.app.db.clone(), world.clock.clone(), keys, &world.app.config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_spent_everything_still_calls_under_a_key_of_their_own() {
    let (world, _provider) = world_with(sqlite().await, |config| {
        config.limits.month_nanodollars = 0;
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
    assert_eq!(world.app.quota.alerts(alice.instance.account).await.unwrap(), []);
    let left = world.app.quota.left(alice.instance.account).await.unwrap();
    let minute = (left.requests_a_minute.unwrap().remaining, left.tokens_a_minute.unwrap().remaining);
    assert_eq!(minute, (1, 1), "the limits a minute are of the platform's keys");
    // Taken back, the budget decides again.
    has_no_key(&world, &alice, "anthropic").await;
    assert_eq!(alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap().status(), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_are_limited_for_own_keys_as_for_any() {
    let (world, _provider) = world_with(sqlite().await, |config| config.limits.calls_at_once = 1).await;
    let alice = world.person("alice").await;
    let call = || OwnCall {
        account: alice.instance.account,
        instance: alice.instance.id,
        agent: String::new(),
        provider: Name::OPENAI,
        model: "m".into(),
    };
    let held = world.app.quota.admit_under_own_key(call()).await.unwrap();
    let refused = world.app.quota.admit_under_own_key(call()).await.err();
    assert!(matches!(refused, Some(Refusal::TooManyAtOnce { limit: 1, .. })));
    assert_eq!(world.app.quota.left(alice.instance.account).await.unwrap().calls_at_once.in_flight, 1);
    drop(held);
    assert!(world.app.quota.admit_under_own_key(call()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_price_here_or_is_kept_at_the_provider_may_be_called_under_an_own_key() {
    let (world, provider) = world_with(sqlite().await, |_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    has_key(&world, &alice, "anthropic", ALICES).await;
    has_key(&world, &alice, "openai", ALICES).await;
    for (path, body) in [
        (MESSAGES, message("claude-of-tomorrow")),
        (COMPLETIONS, completion(&value!({ "n": 200, "store": true }))),
        (RESPONSES, value!({ "model": "berth-demo", "previous_response_id": "resp_1" })),
        (RESPONSES, value!({ "model": "berth-demo", "input": [{ "type": "item_reference", "id": "msg_1" }] })),
    ] {
        let call = |person: &Person| person.post(&world, path, &body).header("anthropic-beta", "context-1m-2025-08-07");
        assert_eq!(call(&alice).send().await.unwrap().status(), 200, "{body}");
        let heard = provider.heard().remove(0);
        assert_eq!(heard.body, body.to_string(), "as it was written");
        assert_eq!(heard.headers["anthropic-beta"], "context-1m-2025-08-07");
        let refused = call(&bob).send().await.unwrap().status().as_u16();
        assert!((400..=404).contains(&refused), "{body}: {refused}");
    }
    let receipts = receipts(&world, &alice).await;
    let unknown = &receipts[0];
    assert_eq!(
        (unknown.model.as_str(), unknown.output_tokens, unknown.worth_nanodollars),
        ("claude-of-tomorrow", 1, None)
    );
    assert_eq!(receipts.len(), 4);
    has_spent_nothing(&world, &alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_under_an_own_key_is_metered_and_arrives_as_it_was_sent() {
    let (world, provider) = world_with(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    has_key(&world, &alice, "openai", ALICES).await;
    provider.will_say([Says::events(super::llm::transcripts::recorded("chat_tools.sse"), 7)]);
    let says = alice.post(&world, COMPLETIONS, &completion(&value!({ "stream": true }))).send().await.unwrap();
    assert_eq!(says.bytes().await.unwrap(), super::llm::transcripts::recorded("chat_tools.plain.sse"));
    let receipt = receipts(&world, &alice).await.remove(0);
    // 82 tokens in and 17 out.
    assert_eq!((receipt.worth_nanodollars, receipt.basis.as_str()), (Some(82 * 100 + 17 * 500), "provider"));
    has_spent_nothing(&world, &alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_of_the_platforms_own_keys_reach_the_provider_and_others_the_demo_model() {
    let (provider, address) = Provider::listen().await;
    provider.will_say([answer()]);
    let file = value!({ "models": { "groq": { "speaks": "openai", "url": format!("http://{address}/openai"), "models": {} } } });
    let Ok(providers) = Providers::parse(&file.to_string()) else { panic!("the file is wrong") };
    let world = QuotaPlatform::on(sqlite().await, |config| {
        config.anthropic.url_for_own_keys = format!("http://{address}");
        config.providers = providers;
    })
    .await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    has_key(&world, &alice, "anthropic", ALICES).await;
    has_key(&world, &alice, "groq", BOBS).await;
    for person in [&alice, &bob] {
        assert_eq!(person.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap().status(), 200);
    }
    let heard = provider.heard();
    assert_eq!(heard.iter().flat_map(keys).collect::<Vec<_>>(), [ALICES]);
    assert_eq!(world.served().await["calls"], 1, "bob's");
    let chat = completion(&value!({ "model": "llama" }));
    assert_eq!(alice.post(&world, "/groq/v1/chat/completions", &chat).send().await.unwrap().status(), 200);
    let heard = provider.heard().remove(0);
    assert_eq!((heard.uri.path(), keys(&heard)), ("/openai/v1/chat/completions", vec![format!("Bearer {BOBS}")]));
    assert_eq!(bob.post(&world, "/groq/v1/chat/completions", &chat).send().await.unwrap().status(), 404);
    for unknown in ["weather", "Anthropic", "metered", ""] {
        let owner = (alice.instance.account, &alice.instance.handle);
        assert!(matches!(world.app.own_keys.set(owner, unknown, ALICES).await, Err(Error::NotFound)), "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_an_own_key_that_a_kill_cut_off_is_charged_nothing() {
    for database in databases().await {
        let (world, _provider) = world_with(database, |_| ()).await;
        let alice = world.person("alice").await;
        for model in ["berth-demo", "a-model-without-a-price"] {
            let call = OwnCall {
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
                hold.saw(Seen::Part { usage, output_tokens: 4 });
            }
            std::mem::forget(hold);
        }
        let after = after_a_kill(&world, &world.clock, 1).await;
        let spend = after.spend(alice.instance.account).await.unwrap();
        assert_eq!((spend.spent_nanodollars, spend.held_nanodollars), (0, 0), "{}", world.kind());
        assert_eq!(after.disagreements().await.unwrap(), Vec::<String>::new());
        assert_eq!(after.verify().await.unwrap().wrong, Vec::<String>::new());
        let mut said: Vec<_> = after.receipts(alice.instance.account, 9).await.unwrap();
        said.sort_by(|a, b| b.model.cmp(&a.model));
        let said: Vec<_> = said
            .iter()
            .map(|receipt| {
                assert_eq!((receipt.amount_nanodollars, receipt.payer.as_str()), (0, "own_key"), "{}", world.kind());
                (receipt.outcome.as_str(), receipt.input_tokens, receipt.output_tokens, receipt.worth_nanodollars)
            })
            .collect();
        assert_eq!(
            said,
            [("recovered", 10, 4, Some(10 * 100 + 4 * 500)), ("recovered", 0, 0, None)],
            "{}",
            world.kind()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_ends_as_it_began_when_its_key_is_removed() {
    let (world, _provider) = world_with(sqlite().await, |config| {
        // The demo model takes its time.
        for upstream in [&mut config.anthropic, &mut config.openai] {
            upstream.url_for_own_keys.clone_from(&upstream.url);
        }
    })
    .await;
    let alice = world.person("alice").await;
    has_key(&world, &alice, "anthropic", ALICES).await;
    let body = value!({ "model": "berth-demo", "max_tokens": 2000, "stream": true,
        "messages": [{ "role": "user", "content": "x-demo-tokens=50 x-demo-pace-ms=10" }] });
    let mut says = alice.post(&world, MESSAGES, &body).send().await.unwrap();
    says.chunk().await.unwrap().unwrap();
    has_no_key(&world, &alice, "anthropic").await;
    while says.chunk().await.unwrap().is_some() {}
    let receipt = receipts(&world, &alice).await.remove(0);
    assert_eq!((receipt.payer.as_str(), receipt.outcome.as_str()), ("own_key", "completed"));
    has_spent_nothing(&world, &alice).await;
    // The next one is the budget's.
    alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
    assert!(world.spend_at_rest(&alice).await.spent_nanodollars > 0);
}

/// Reading on would only run up the bill of who hung up.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_ends_a_call_under_an_own_key_at_the_provider() {
    let (world, _provider) = world_with(sqlite().await, |config| {
        config.anthropic.url_for_own_keys.clone_from(&config.anthropic.url);
    })
    .await;
    let alice = world.person("alice").await;
    has_key(&world, &alice, "anthropic", ALICES).await;
    let body = value!({ "model": "berth-demo", "max_tokens": 2000, "stream": true,
        "messages": [{ "role": "user", "content": "x-demo-tokens=1000 x-demo-pace-ms=20" }] });
    let mut says = alice.post(&world, MESSAGES, &body).send().await.unwrap();
    says.chunk().await.unwrap().unwrap();
    drop(says);
    for _ in 0..500 {
        if world.served().await["streams"] == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let served = world.served().await;
    assert!(served["streams"] == 0 && served["output_tokens"].as_i64().unwrap() < 500, "it was heard out: {served}");
    let receipt = receipts(&world, &alice).await.remove(0);
    assert_eq!((receipt.outcome.as_str(), receipt.basis.as_str()), ("client_gone", "observed"));
    has_spent_nothing(&world, &alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_calls_under_no_key() {
    let (world, provider) = world_with(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    has_key(&world, &alice, "anthropic", ALICES).await;
    let tx = world.app.db.begin().await.unwrap();
    let id = world.app.instances.suspend_in(&tx, alice.instance.account).await.unwrap();
    tx.commit().await.unwrap();
    world.app.instances.admit(id.unwrap()).await.unwrap();
    assert_eq!(alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap().status(), 403);
    assert!(provider.heard().is_empty());
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
    let day = receipts(&world, &bob).await[0].day.clone();
    let dollars = berth::quota::dollars(spent).replace('$', "");
    let drifts = world.app.quota.compare(&format!("date,model,cost\n{day},berth-demo,{dollars}")).await.unwrap();
    assert_eq!(drifts.len(), 1, "{drifts:?}");
    assert_eq!(drifts[0].margin_nanodollars(), 0);
    let all = world.app.quota.everybody(world.app.quota.this_month()).await.unwrap();
    assert_eq!(all.spent_nanodollars, spent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_says_which_calls_cost_it_nothing() {
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

/// What is in a database and in a log, to be searched for a secret.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// On one thread, whose log it reads.
#[tokio::test]
async fn a_key_is_sealed_in_the_database_and_in_no_log_and_no_journal() {
    for database in databases().await {
        let log = Written::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let _reading = tracing::subscriber::set_default(subscriber);
        let (world, provider) = world_with(database, |_| ()).await;
        let alice = world.person("alice").await;
        has_key(&world, &alice, "anthropic", ALICES).await;
        provider.will_say([answer(), Says::error(401, &[], "{}")]);
        for _ in 0..2 {
            alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
        }
        has_spent_nothing(&world, &alice).await;
        let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
        assert!(log.contains("a provider refused a person's own key"), "the log was not read");
        let journal = std::fs::read_to_string(world.app.config.data_dir.join("quota/journal")).unwrap();
        assert!(journal.contains("own_key") && !journal.contains(ALICES) && !log.contains(ALICES), "{}", world.kind());
        let (account, sealed) = sealed(&world.app).await;
        assert_eq!(account, alice.instance.account);
        let holds = |part: &str| sealed.windows(part.len()).any(|window| window == part.as_bytes());
        assert!(!holds(ALICES) && !holds("alices"), "{}", world.kind());
        // It opens for its account and its provider alone.
        let keys = InstallationKeys::derive(&world.app.config.secret, world.clock.clone());
        let whose = |account: AccountId, provider: &str| [account.0.as_bytes(), provider.as_bytes()].concat();
        assert_eq!(keys.open(&whose(account, "anthropic"), &sealed).unwrap().as_slice(), ALICES.as_bytes());
        let another = AccountId(world.clock.uuid());
        assert!(keys.open(&whose(another, "anthropic"), &sealed).is_err());
        assert!(keys.open(&whose(account, "openai"), &sealed).is_err());
    }
}

/// The one row as it is stored.
async fn sealed(app: &App) -> (AccountId, Vec<u8>) {
    let db = app.db.read();
    let sql = Statement::from_string(db.get_database_backend(), "SELECT account_id, sealed FROM own_keys");
    let row = db.query_one_raw(sql).await.unwrap().unwrap();
    (row.try_get("", "account_id").unwrap(), row.try_get("", "sealed").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_open_any_more_is_replaced_by_no_other() {
    let database = sqlite().await;
    let (world, provider) = world_with(database, |_| ()).await;
    let alice = world.person("alice").await;
    has_key(&world, &alice, "anthropic", ALICES).await;
    // Somebody moves her key to where it was not sealed for.
    let tx = world.app.db.begin().await.unwrap();
    tx.execute_unprepared("UPDATE own_keys SET provider = 'openai'").await.unwrap();
    tx.commit().await.unwrap();
    let mut app = world.app.clone();
    app.own_keys = reopened(&world).await;
    let running = tokio_util::sync::CancellationToken::new();
    let proxy = berth_testing::quota_platform::serve(berth::llm::router(app), &running).await;
    let refused = alice.post_by(proxy, COMPLETIONS, &completion(&value!({}))).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(json(refused).await["error"]["message"].as_str().unwrap().contains("cannot be read"));
    assert!(provider.heard().is_empty() && world.served().await["calls"] == 0);
    has_spent_nothing(&world, &alice).await;
}

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
    let pass = || site.app.own_keys.pass(instance.account, "openai").unwrap();
    pass().heard(200);
    assert!(!page(&mut alice).await.contains("refused it"));
    pass().heard(401);
    let shown = page(&mut alice).await;
    assert!(
        shown.contains("OpenAI refused it on") && shown.contains("it does not recognise this key (401)"),
        "{shown}"
    );
    let at = |app: &App| app.own_keys.of(instance.account)[0].refused.unwrap().at;
    let first: Timestamp = at(&site.app);
    site.app.clock.advance(Duration::from_secs(59));
    pass().heard(401);
    assert_eq!(at(&site.app), first, "a program that tries again and again writes once a minute");
    site.app.clock.advance(Duration::from_secs(1));
    pass().heard(401);
    assert_eq!(at(&site.app), first.plus(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_receipt_says_that_its_owner_paid_and_what_the_call_is_worth() {
    let site = site(&[]).await;
    let mut alice = site.member("alice").await;
    let instance = site.app.instances.by_handle(&Handle::parse("alice").unwrap()).unwrap();
    let usage = Usage { input_tokens: 10_000, output_tokens: 2000, ..Usage::default() };
    for (model, seen) in [("berth-demo", Seen::Final(usage)), ("claude-of-tomorrow", Seen::Final(usage))] {
        let call = OwnCall {
            account: instance.account,
            instance: instance.id,
            agent: String::new(),
            provider: Name::ANTHROPIC,
            model: model.into(),
        };
        let hold = site.app.quota.admit_under_own_key(call).await.unwrap();
        hold.settle(seen, Outcome::Completed, String::new());
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
