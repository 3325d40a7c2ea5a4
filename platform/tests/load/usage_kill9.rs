//! The platform is killed at any moment of its AI calls, again and again. Every served call has its receipt, with the
//! usage that the platform had observed, and nothing stays held.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use berth::db::{AccountId, Db};
use berth::quota::Receipt;
use berth_ground::clock::Clock;
use berth_ground::money::Nanodollars;
use futures_util::{StreamExt as _, stream};
use sea_orm::{ConnectionTrait as _, Statement};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use berth_testing::process::serve;
use berth_testing::quota_platform::{client, platform, reopen_at, settle_in};
use berth_testing::soak::SoakTest;
use berth_testing::{Database, config_at, databases};

/// Nano-dollars of a token of the demo model.
const INPUT: u64 = 100;
const OUTPUT: u64 = 500;
/// The most that a call asks for.
const MAX_TOKENS: u64 = 400;
/// Callers at once.
const CALLERS: usize = 12;
/// The most that one caller makes in a life of the platform.
const CALLS_EACH: u64 = 20;
/// Bytes that let a call have the highest number of the whole test: a byte bounds a token.
const PADDING: usize = 100_000;

/// Which database and which provider the platform is to use.
#[derive(Serialize, Deserialize)]
struct Orders {
    url: String,
    dir: String,
    upstream: String,
    /// The account of its calls: a new one in each life of the platform.
    handle: String,
}

/// Where it answers, and to whom.
#[derive(Clone, Serialize, Deserialize)]
struct Ready {
    proxy: String,
    from: std::net::Ipv4Addr,
    token: String,
}

/// What the provider served of each call, by its number.
#[derive(Clone, Default)]
struct Provider(Arc<Mutex<BTreeMap<u64, Served>>>);

#[derive(Clone, Copy, Debug, Default)]
struct Served {
    output_tokens: u64,
}

#[tokio::test]
#[ignore = "the test below runs it in a process of its own and kills it"]
async fn the_killed_process() {
    let mut line = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut line).await.unwrap();
    let orders: Orders = serde_json::from_str(&line).unwrap();
    let mut config = config_at(&orders.url, &orders.dir, &[("BERTH_CALLS_AT_ONCE", "1000")]);
    config.containers.subnet = std::net::Ipv4Addr::new(127, 89, 0, 0);
    config.anthropic.url = orders.upstream;
    config.limits.month_nanodollars = Nanodollars(i64::MAX / 4);
    let running = CancellationToken::new();
    let (app, host, proxy) = platform(config, &running).await;
    let person = settle_in(&app, &host, &orders.handle).await;
    let ready = Ready { proxy: proxy.to_string(), from: person.instance.address(), token: person.token().to_owned() };
    println!("\nready {}", serde_json::to_string(&ready).unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_the_platform_is_killed_every_call_is_accounted_for() {
    let mut long = SoakTest::story("usage_kill9");
    let rounds = long.count(6, 200);
    for database in databases().await {
        let provider = Provider::default();
        let running = CancellationToken::new();
        let upstream = format!("http://{}", serve(provider.router(), &running).await);
        let mut next = 0;
        for round in 1..=rounds {
            let (mut child, ready) = start(&database, &upstream, round).await;
            let calls: Vec<_> = (0..CALLERS)
                .map(|_| {
                    let seed = long.below(usize::MAX >> 1) as u64;
                    next += CALLS_EACH;
                    tokio::spawn(call_on_and_on(ready.clone(), next, seed))
                })
                .collect();
            // Real time: the kill hits the process at a random moment of its calls.
            tokio::time::sleep(Duration::from_millis(long.below(1200) as u64)).await;
            child.kill().await.unwrap();
            for call in calls {
                call.await.unwrap();
            }
            let_sleep(&database.db).await;
            if round % 20 == 0 {
                long.say(&format!("{}: {round}/{rounds}, {} calls served", database.kind, provider.served().len()));
            }
        }
        // The last one is killed as well, and read by an ordinary start.
        let (mut child, _) = start(&database, &upstream, rounds + 1).await;
        child.kill().await.unwrap();
        let (spent, receipts) = read(&database).await;
        account_for(database.kind, &provider.served(), spent, &receipts);
        long.say(&format!("{}: {} receipts, {} calls served", database.kind, receipts.len(), provider.served().len()));
    }
}

/// Everything that was served against everything that was written down.
fn account_for(kind: &str, served: &BTreeMap<u64, Served>, spent: i64, receipts: &[Receipt]) {
    assert!(!served.is_empty(), "{kind}: nothing was called");
    assert_eq!(receipts.iter().map(|receipt| receipt.amount_nanodollars.0).sum::<i64>(), spent, "{kind}");
    let mut missing = served.clone();
    let (mut nameless, mut nameless_nanodollars) = (0, 0);
    for receipt in receipts {
        assert!(receipt.amount_nanodollars.0 <= receipt.held_nanodollars.0, "{kind}: {receipt:?}");
        if receipt.amount_nanodollars.0 == 0 {
            // Refused by the provider, or never sent.
            continue;
        }
        let number = u64::try_from(receipt.input_tokens).unwrap();
        match missing.remove(&number) {
            Some(served) if receipt.basis == "provider" => {
                assert_eq!(receipt.amount_nanodollars.0, cost(number, served), "{kind}: {served:?} {receipt:?}");
            }
            // The stream broke off: what was observed is never less than what was served.
            Some(served) => {
                assert!(receipt.amount_nanodollars.0 >= cost(number, served), "{kind}: {served:?} {receipt:?}");
            }
            None => {
                assert_ne!(receipt.basis, "provider", "{kind}: twice, or never served: {receipt:?}");
                nameless += 1;
                nameless_nanodollars += receipt.amount_nanodollars.0;
            }
        }
    }
    // Calls of which the platform had heard nothing when it was killed, or they broke off, are charged what they can
    // have cost: as many as there are, and never less.
    let unheard = missing.len();
    assert!(
        unheard <= nameless,
        "{kind}: {unheard} served calls without a receipt, {nameless} receipts without a call"
    );
    let cost = missing.iter().map(|(number, served)| cost(*number, *served)).sum::<i64>();
    assert!(cost <= nameless_nanodollars, "{kind}: {cost} of {nameless_nanodollars}");
}

/// What the provider asks for a call.
fn cost(number: u64, served: Served) -> i64 {
    i64::try_from(number * INPUT + served.output_tokens * OUTPUT).unwrap()
}

/// Makes calls one after another, of every kind, until the platform no longer answers.
async fn call_on_and_on(ready: Ready, first: u64, seed: u64) {
    let client = client(Some(ready.from));
    for number in first..first + CALLS_EACH {
        let what = seed.wrapping_mul(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let body = json!({
            "model": "berth-demo",
            "max_tokens": MAX_TOKENS,
            "stream": what % 3 > 0,
            "messages": [{ "role": "user", "content": "x".repeat(PADDING) }],
            "metadata": { "user_id": format!("{number} {}", what % 97) },
        });
        let url = format!("http://{}/anthropic/v1/messages", ready.proxy);
        let request = client.post(url).header("x-api-key", &ready.token).body(body.to_string());
        let Ok(mut answer) = request.timeout(Duration::from_secs(20)).send().await else { return };
        // Some hang up in the middle.
        let most = if what % 5 == 0 { 2 } else { usize::MAX };
        for _ in 0..most {
            match answer.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

async fn start(database: &Database, upstream: &str, life: usize) -> (Child, Ready) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "usage_kill9::the_killed_process", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let orders = Orders {
        url: database.url.clone(),
        dir: database.dir().to_owned(),
        upstream: upstream.to_owned(),
        handle: format!("somebody{life}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{}\n", serde_json::to_string(&orders).unwrap()).as_bytes()).await.unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(ready) = line.strip_prefix("ready ") {
            return (child, serde_json::from_str(ready).unwrap());
        }
    }
    panic!("the platform did not start: {:?}", child.wait().await);
}

/// What the next platform says was spent, once it has settled what was left, and every receipt.
async fn read(database: &Database) -> (i64, Vec<Receipt>) {
    let config = config_at(&database.url, database.dir(), &[]);
    let quota = reopen_at(&config, &Clock::system()).await;
    quota.begin().await.unwrap();
    assert_eq!(quota.disagreements().await.unwrap(), Vec::<String>::new());
    assert_eq!(quota.ledger.verify().await.unwrap().wrong, Vec::<String>::new());
    let (mut spent, mut receipts) = (0, Vec::new());
    for account in accounts(&database.db).await {
        let spend = quota.reports.budget(account).await.unwrap();
        assert_eq!(spend.held_nanodollars.0, 0);
        spent += spend.spent_nanodollars.0;
        receipts.extend(quota.ledger.receipts(account, u64::from(u32::MAX)).await.unwrap());
    }
    (spent, receipts)
}

/// Their containers went with the process that made them up, and the next one would wait for them at its start.
async fn let_sleep(db: &Db) {
    let tx = db.begin().await.unwrap();
    tx.execute_unprepared("UPDATE instances SET wish = 'stopped'").await.unwrap();
    tx.commit().await.unwrap();
}

async fn accounts(db: &Db) -> Vec<AccountId> {
    let sql = Statement::from_string(db.read().get_database_backend(), "SELECT id FROM accounts");
    db.read().query_all_raw(sql).await.unwrap().iter().map(|row| row.try_get("", "id").unwrap()).collect()
}

impl Provider {
    fn router(&self) -> Router {
        let largest = axum::extract::DefaultBodyLimit::max(2 * PADDING);
        Router::new().route("/v1/messages", post(answer)).layer(largest).with_state(self.clone())
    }

    fn served(&self) -> BTreeMap<u64, Served> {
        self.0.lock().unwrap().clone()
    }

    fn serve(&self, number: u64, tokens: u64) {
        self.0.lock().unwrap().entry(number).or_default().output_tokens += tokens;
    }
}

/// As many input tokens as the call's number, so that a receipt tells which call it is for.
async fn answer(State(provider): State<Provider>, body: axum::body::Bytes) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let said = asked["metadata"]["user_id"].as_str().unwrap();
    let (number, kind) = said.split_once(' ').unwrap();
    let (number, kind): (u64, u64) = (number.parse().unwrap(), kind.parse().unwrap());
    if kind == 0 {
        return (StatusCode::from_u16(529).unwrap(), "{}").into_response();
    }
    let tokens = 1 + kind % 40;
    let usage = |output: u64| json!({ "input_tokens": number, "output_tokens": output });
    if asked["stream"] != true {
        // Real time: a provider that answered at once would leave no call for the kill to interrupt.
        tokio::time::sleep(Duration::from_millis(kind % 8)).await;
        provider.serve(number, tokens);
        let whole = json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "berth-demo",
            "content": [{ "type": "text", "text": "word ".repeat(tokens as usize) }], "stop_reason": "end_turn",
            "usage": usage(tokens) });
        return ([(header::CONTENT_TYPE, "application/json")], whole.to_string()).into_response();
    }
    let start = json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant",
        "model": "berth-demo", "content": [], "usage": usage(0) } });
    let mut frames = vec![(start, 0)];
    for _ in 0..tokens {
        let delta = json!({ "type": "content_block_delta", "index": 0,
            "delta": { "type": "text_delta", "text": "word " } });
        frames.push((delta, 1));
    }
    let breaks = kind % 11 == 0;
    if breaks {
        frames.truncate(frames.len() / 2);
    } else {
        let end = json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": usage(tokens) });
        frames.extend([(end, 0), (json!({ "type": "message_stop" }), 0)]);
    }
    provider.serve(number, 0);
    let events = stream::iter(frames.into_iter().enumerate()).then(move |(at, (frame, tokens))| {
        let provider = provider.clone();
        async move {
            if at % 4 == 3 {
                // Real time: the stream takes a few milliseconds, so that a kill can interrupt it.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            provider.serve(number, tokens);
            let event = frame["type"].as_str().unwrap().to_owned();
            Ok::<_, std::io::Error>(format!("event: {event}\ndata: {frame}\n\n"))
        }
    });
    let broken = breaks.then(|| Err(std::io::Error::other("broken")));
    let body = Body::from_stream(events.chain(stream::iter(broken)));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
