//! Own keys (bring your own key): calls use them and no other key, cost the budget nothing, and still get receipts.

mod budget;
mod calls;
mod pages;
mod secrecy;

use std::time::Duration;

use berth::config::Config;
use berth::own_keys::{KeyOwner, OwnKeys};
use berth::quota::{OwnKeyCall, Receipt};
use berth_ground::secrets::InstallationKeys;
use berth_providers::Provider as Name;
use serde_json::{Value, json as value};
use zeroize::Zeroizing;

use berth_testing::person::Person;
use berth_testing::quota_platform::{QuotaPlatform, json};
use berth_testing::stub_provider::{CannedResponse, RecordedRequest, StubProvider};
use berth_testing::{Database, databases, sqlite};

const MESSAGES: &str = "/anthropic/v1/messages";
const COMPLETIONS: &str = "/openai/v1/chat/completions";
const RESPONSES: &str = "/openai/v1/responses";
const EMBEDDINGS: &str = "/openai/v1/embeddings";

const PLATFORMS: &str = "the-platforms-own-key";
const ALICES: &str = "sk-alices-key-at-a-provider-x7Qa";
const BOBS: &str = "sk-bobs-key-at-another-place-0B0b";

/// The list price of one input and one output token of the demo model, in nanodollars.
const WORTH: i64 = 100 + 500;

/// A platform with a key for the demo model, where calls under own keys go to `provider`.
async fn world_with(database: Database, change: impl FnOnce(&mut Config)) -> (QuotaPlatform, StubProvider) {
    let (provider, address) = StubProvider::listen().await;
    let world = QuotaPlatform::on(database, |config| {
        for upstream in [&mut config.anthropic, &mut config.openai] {
            upstream.keys = vec![Zeroizing::new(PLATFORMS.to_owned())];
            upstream.url_for_own_keys = format!("http://{address}");
        }
        change(config);
    })
    .await;
    provider.will_answer([answer()]);
    (world, provider)
}

/// The same, but calls under the platform's key go to `provider` as well.
async fn world_of_one_provider(change: impl FnOnce(&mut Config)) -> (QuotaPlatform, StubProvider) {
    world_with(sqlite().await, |config| {
        for upstream in [&mut config.anthropic, &mut config.openai] {
            upstream.url.clone_from(&upstream.url_for_own_keys);
        }
        change(config);
    })
    .await
}

/// Usage of one input and one output token, in the field names of every provider.
fn answer() -> CannedResponse {
    CannedResponse::json(r#"{"usage":{"input_tokens":1,"output_tokens":1,"prompt_tokens":1,"completion_tokens":1}}"#)
}

async fn has_key(world: &QuotaPlatform, person: &Person, provider: &str, key: &str) {
    let owner = KeyOwner { account: person.instance.account, handle: &person.instance.handle };
    world.app.own_keys.set(owner, provider, key).await.unwrap();
}

async fn has_no_key(world: &QuotaPlatform, person: &Person, provider: &str) {
    let owner = KeyOwner { account: person.instance.account, handle: &person.instance.handle };
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

/// The API keys in a request's headers.
fn keys(heard: &RecordedRequest) -> Vec<String> {
    let named = |name: &str| heard.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
    named("x-api-key").chain(named("authorization")).collect()
}

async fn receipts(world: &QuotaPlatform, person: &Person) -> Vec<Receipt> {
    world.app.quota.settled().await;
    let mut receipts = world.app.quota.ledger.receipts(person.instance.account, 100).await.unwrap();
    receipts.reverse();
    receipts
}

/// Checks that `person` spent nothing and that every receipt verifies.
async fn has_spent_nothing(world: &QuotaPlatform, person: &Person) {
    let spend = world.spend_at_rest(person).await;
    assert_eq!(
        (spend.spent_nanodollars.0, spend.left_nanodollars.0),
        (0, spend.allowance_nanodollars.0),
        "{}",
        world.kind()
    );
    assert_eq!(world.app.quota.ledger.verify().await.unwrap().wrong, Vec::<String>::new(), "{}", world.kind());
}

/// The keys as read from the database by a new process.
async fn reopened(world: &QuotaPlatform) -> OwnKeys {
    let keys = InstallationKeys::derive(&world.app.config.secret, world.clock.clone());
    OwnKeys::open(world.app.db.clone(), world.clock.clone(), keys, &world.app.config).await.unwrap()
}
