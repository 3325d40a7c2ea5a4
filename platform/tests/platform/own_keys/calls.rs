//! Calls under an own key: which key goes out, what the provider hears, and what reaches the caller.

use berth::config::Providers;
use berth_ground::error::Error;
use berth_ground::money::Nanodollars;

use super::*;
use crate::llm::transcripts::recorded;

use berth_testing::wait::eventually;

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
            let heard = provider.requests();
            assert_eq!(heard.len(), 1);
            assert_eq!(keys(&heard[0]), [key], "{path}");
        }
        assert_eq!(alice.get(&world, "/openai/v1/models").send().await.unwrap().status(), 200);
        assert_eq!(keys(&provider.requests()[0]), [bearer]);
        has_spent_nothing(&world, &alice).await;
        for receipt in receipts(&world, &alice).await {
            let Receipt { held_nanodollars, amount_nanodollars, payer, input_tokens, worth_nanodollars, .. } = &receipt;
            assert_eq!((held_nanodollars.0, amount_nanodollars.0, payer.as_str()), (0, 0, "own_key"), "{receipt:?}");
            let worth = if receipt.model == "berth-demo" { Nanodollars(WORTH) } else { worth_nanodollars.unwrap() };
            assert_eq!((*input_tokens, *worth_nanodollars), (1, Some(worth)), "{receipt:?}");
        }
        assert_eq!(receipts(&world, &alice).await.len(), 4, "a call that no provider charges for has no receipt");
        // Bob has no key for this provider: his call uses the platform's key and is paid by his budget.
        let says = bob.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
        assert_eq!(says.status(), 200);
        assert!(provider.requests().is_empty(), "{}", world.kind());
        assert!(world.spend_at_rest(&bob).await.spent_nanodollars.0 > 0);
        let receipt = receipts(&world, &bob).await.remove(0);
        assert_eq!((receipt.payer.as_str(), receipt.worth_nanodollars), ("budget", None));
        let proof = world.app.quota.ledger.receipt(bob.instance.account, receipt.id).await.unwrap();
        assert!(!proof.digested.contains("payer") && !proof.digested.contains("worth"), "older receipts still verify");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_answer_to_an_own_key_is_passed_on_and_no_other_key_is_tried() {
    let (world, provider) = world_of_one_provider(|_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    has_key(&world, &alice, "anthropic", ALICES).await;
    let told = r#"{"type":"error","error":{"type":"some_error","message":"in the provider's words"}}"#;
    let limits = [("anthropic-ratelimit-tokens-remaining", "7"), ("anthropic-organization-id", "alices")];
    for (status, stream) in [(401, true), (403, false), (429, true), (529, false), (500, true)] {
        provider.will_answer([CannedResponse::error(status, &[limits[0], limits[1], ("set-cookie", "a=b")], told)]);
        let mut body = message("berth-demo");
        body["stream"] = stream.into();
        let says = alice.post(&world, MESSAGES, &body).send().await.unwrap();
        assert_eq!(says.status().as_u16(), status);
        for (name, said) in limits {
            assert_eq!(says.headers()[name], said, "{status}");
        }
        assert!(!says.headers().contains_key("set-cookie"));
        assert_eq!(says.text().await.unwrap(), told);
        let heard = provider.requests();
        assert_eq!(heard.iter().flat_map(keys).collect::<Vec<_>>(), [ALICES], "{status}");
    }
    has_spent_nothing(&world, &alice).await;
    assert!(receipts(&world, &alice).await.iter().all(|receipt| receipt.outcome == "refused"));
    // None of these answers put the platform's key into its cooldown.
    provider.will_answer([answer()]);
    assert_eq!(bob.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap().status(), 200);
    assert_eq!(provider.requests().iter().flat_map(keys).collect::<Vec<_>>(), [PLATFORMS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_key_is_stored_until_the_key_is_replaced() {
    for database in databases().await {
        let (world, provider) = world_with(database, |_| ()).await;
        let alice = world.person("alice").await;
        has_key(&world, &alice, "openai", ALICES).await;
        let status = |own_keys: &OwnKeys| own_keys.of(alice.instance.account)[0].refused.map(|refused| refused.status);
        provider.will_answer([
            CannedResponse::error(429, &[], "{}"),
            CannedResponse::error(403, &[], "{}"),
            CannedResponse::error(401, &[], "{}"),
        ]);
        for expected in [None, Some(403), Some(401)] {
            alice.post(&world, COMPLETIONS, &completion(&value!({}))).send().await.unwrap();
            assert_eq!(status(&world.app.own_keys), expected, "{}", world.kind());
        }
        eventually("the refusal is stored", async || status(&reopened(&world).await) == Some(401)).await;
        assert_eq!(status(&reopened(&world).await), Some(401), "{}", world.kind());
        has_key(&world, &alice, "openai", BOBS).await;
        for own_keys in [&world.app.own_keys, &reopened(&world).await] {
            let key = own_keys.of(alice.instance.account).remove(0);
            assert_eq!((key.last_four.as_str(), key.refused), ("0B0b", None), "{}", world.kind());
        }
        provider.will_answer([answer()]);
        provider.requests();
        alice.post(&world, COMPLETIONS, &completion(&value!({}))).send().await.unwrap();
        assert_eq!(keys(&provider.requests()[0]), [format!("Bearer {BOBS}")], "{}", world.kind());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unpriced_models_and_stateful_calls_are_allowed_under_an_own_key() {
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
        let heard = provider.requests().remove(0);
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
    provider.will_answer([CannedResponse::events(recorded("chat/tools.sse"), 7)]);
    let says = alice.post(&world, COMPLETIONS, &completion(&value!({ "stream": true }))).send().await.unwrap();
    assert_eq!(says.bytes().await.unwrap(), recorded("chat/tools.plain.sse"));
    let receipt = receipts(&world, &alice).await.remove(0);
    // 82 input and 17 output tokens.
    assert_eq!(
        (receipt.worth_nanodollars, receipt.basis.as_str()),
        (Some(Nanodollars(82 * 100 + 17 * 500)), "provider")
    );
    has_spent_nothing(&world, &alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_of_the_platforms_own_keys_reach_the_provider_and_others_the_demo_model() {
    let (provider, address) = StubProvider::listen().await;
    provider.will_answer([answer()]);
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
    let heard = provider.requests();
    assert_eq!(heard.iter().flat_map(keys).collect::<Vec<_>>(), [ALICES]);
    assert_eq!(world.served().await["calls"], 1, "bob's");
    let chat = completion(&value!({ "model": "llama" }));
    assert_eq!(alice.post(&world, "/groq/v1/chat/completions", &chat).send().await.unwrap().status(), 200);
    let heard = provider.requests().remove(0);
    assert_eq!((heard.uri.path(), keys(&heard)), ("/openai/v1/chat/completions", vec![format!("Bearer {BOBS}")]));
    assert_eq!(bob.post(&world, "/groq/v1/chat/completions", &chat).send().await.unwrap().status(), 404);
    for unknown in ["weather", "Anthropic", "metered", ""] {
        let owner = KeyOwner { account: alice.instance.account, handle: &alice.instance.handle };
        assert!(matches!(world.app.own_keys.set(owner, unknown, ALICES).await, Err(Error::NotFound)), "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_ends_as_it_began_when_its_key_is_removed() {
    let (world, _provider) = world_with(sqlite().await, |config| {
        // The demo model can stream slowly.
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
    // The next call is charged to the budget.
    alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap();
    assert!(world.spend_at_rest(&alice).await.spent_nanodollars.0 > 0);
}

/// Draining the stream would only increase the bill of the client that hung up.
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
    eventually("the provider has no open stream", async || world.served().await["streams"] == 0).await;
    let served = world.served().await;
    assert!(
        served["streams"] == 0 && served["output_tokens"].as_i64().unwrap() < 500,
        "the stream was drained: {served}"
    );
    let receipt = receipts(&world, &alice).await.remove(0);
    assert_eq!((receipt.outcome.as_str(), receipt.basis.as_str()), ("client_gone", "observed"));
    has_spent_nothing(&world, &alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_cannot_call_under_its_own_key() {
    let (world, provider) = world_with(sqlite().await, |_| ()).await;
    let alice = world.person("alice").await;
    has_key(&world, &alice, "anthropic", ALICES).await;
    let tx = world.app.db.begin().await.unwrap();
    let id = world.app.instances.suspend_in(&tx, alice.instance.account).await.unwrap();
    tx.commit().await.unwrap();
    world.app.instances.load_committed(id.unwrap()).await.unwrap();
    assert_eq!(alice.post(&world, MESSAGES, &message("berth-demo")).send().await.unwrap().status(), 403);
    assert!(provider.requests().is_empty());
}
