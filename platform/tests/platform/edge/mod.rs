//! The edge: authorisation, the hand-off of a login, the wake gate, forwarding of requests, header filters.

mod ports;
mod proxying;

mod bodies;
mod browser;
mod prewake;
mod routing;
mod wake_gate;

use std::time::Duration;

use base64::Engine as _;
use berth::instances::{Cause, Fact, Wish};
use berth_containers::fake::{HoldPoint, Verb};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::person::Person;

const HOST: &str = "alice.example.com";
const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml");

async fn at_home() -> (FakePlatform, Person, String) {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let cookie = platform.instance_cookie(&alice).await;
    (platform, alice, cookie)
}

async fn put_to_sleep(platform: &FakePlatform, alice: &Person, how: Wish, fact: Fact) {
    platform.instances().sleep(&alice.instance, how, Cause::OwnerAsked).await.unwrap();
    until(&alice.instance, |s| s.fact == fact).await;
    platform.instances().settled().await;
}

#[tokio::test]
async fn the_owner_sees_the_page_from_inside_the_container() {
    let (platform, _alice, cookie) = at_home().await;
    let page = platform.get(HOST, "/", &[("cookie", &cookie), PAGE]).await;
    assert_eq!((page.status, page.text().as_str()), (200, "<h1>the instance itself</h1>"));
    let shouted = platform.get("ALICE.Example.COM.:443", "/", &[("cookie", &cookie)]).await;
    assert_eq!(shouted.status, 200, "the Host is read as DNS reads it");
}

#[tokio::test]
async fn a_visitor_without_a_session_is_sent_to_log_in_and_wakes_nothing() {
    let (platform, alice, _) = at_home().await;
    let bob = platform.settle_in("bob").await;
    let bobs = platform.instance_cookie(&bob).await;
    let app = alice.app_cookie();
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    let starts = platform.host.calls(Verb::Start);
    for cookie in ["", &bobs, &app, "__Host-berth=nonsense"] {
        let page = platform.get(HOST, "/deep?x=1", &[("cookie", cookie), PAGE]).await;
        assert_eq!(page.status, 302);
        let to = page.header("location");
        assert!(to.starts_with("https://app.example.com/hand-off?host=alice.example.com&state="), "{to}");
        let program = platform.get(HOST, "/deep", &[("cookie", cookie)]).await;
        assert_eq!((program.status, program.header("content-type")), (401, "application/problem+json"));
        assert_eq!(program.json()["type"], "urn:berth:problem:unauthenticated");
        assert_eq!(program.json()["code"], "unauthenticated");
        let status = platform.get(HOST, "/.berth/status", &[("cookie", cookie)]).await;
        assert_eq!(status.status, 401);
    }
    platform.look().await;
    assert_eq!(alice.instance.fact(), Fact::Stopped);
    assert_eq!(platform.host.calls(Verb::Start), starts);
}

#[tokio::test]
async fn the_hand_off_leads_back_to_the_page_that_was_asked_for_and_works_once() {
    let (platform, alice, _) = at_home().await;
    let sent = platform.get(HOST, "/deep?x=1", &[PAGE]).await;
    let pending = sent.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(
        sent.header("set-cookie").contains("Secure; HttpOnly; SameSite=Lax")
            && !sent.header("set-cookie").contains("Domain")
    );
    let app_cookie = alice.app_cookie();
    let path = sent.header("location").strip_prefix("https://app.example.com").unwrap().to_owned();
    let handed = platform.get("app.example.com", &path, &[("cookie", &app_cookie), PAGE]).await;
    let back =
        handed.header("location").strip_prefix("https://alice.example.com").expect("back to the instance").to_owned();

    let elsewhere = platform.get(HOST, &back, &[PAGE]).await;
    assert_eq!(elsewhere.status, 400, "the link works only in the browser that began");
    let home = platform.get(HOST, &back, &[("cookie", &pending), PAGE]).await;
    assert_eq!((home.status, home.header("location")), (303, "/deep?x=1"));
    let session = home.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(platform.get(HOST, "/", &[("cookie", &session)]).await.status, 200);
    let again = platform.get(HOST, &back, &[("cookie", &pending), PAGE]).await;
    assert!(!again.headers.get_all("set-cookie").iter().any(|c| c.as_bytes().starts_with(b"__Host-berth=")), "used");
    assert_eq!(again.header("location"), "/");

    let who = platform.app.accounts.authenticate("app.example.com", alice.session()).await.unwrap().unwrap();
    platform.app.accounts.log_out(&who).await.unwrap();
    assert_eq!(
        platform.get(HOST, "/", &[("cookie", &session)]).await.status,
        401,
        "a logout on the app host ends the sessions on instances' hosts"
    );
}

#[tokio::test]
async fn a_forged_return_path_is_no_open_redirect() {
    let (platform, alice, _) = at_home().await;
    for path in ["//evil.example.com/", "/\\evil.example.com", "https://evil.example.com/"] {
        let sent = platform.get(HOST, "/", &[PAGE]).await;
        let pending = sent.header("set-cookie").split(';').next().unwrap().to_owned();
        let (kept, _) = pending.rsplit_once('.').unwrap();
        let pending = format!("{kept}.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(path));
        let app_cookie = alice.app_cookie();
        let way = sent.header("location").strip_prefix("https://app.example.com").unwrap().to_owned();
        let handed = platform.get("app.example.com", &way, &[("cookie", &app_cookie), PAGE]).await;
        let back = handed.header("location").strip_prefix("https://alice.example.com").unwrap().to_owned();
        let home = platform.get(HOST, &back, &[("cookie", &pending)]).await;
        assert_eq!(home.header("location"), "/", "{path}");
    }
}

#[tokio::test]
async fn a_person_sees_the_waiting_page_at_once_and_it_turns_into_the_instance() {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    // The Engine has not answered the start yet.
    let page = platform.get(HOST, "/", &[("cookie", &cookie), PAGE]).await;
    assert_eq!((page.status, page.header("cache-control")), (503, "no-store"));
    assert!(!page.header("retry-after").is_empty() && page.text().contains("/.berth/assets/"), "{}", page.text());
    assert_ne!(alice.instance.fact(), Fact::Awake);
    platform.host.release(Verb::Start);
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    let page = platform.get(HOST, "/", &[("cookie", &cookie), PAGE]).await;
    assert_eq!(page.text(), "<h1>the instance itself</h1>");
}

#[tokio::test]
async fn a_frozen_instance_is_thawed_and_shows_no_waiting_page() {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Frozen, Fact::Frozen).await;
    let page = platform.get(HOST, "/", &[("cookie", &cookie), PAGE]).await;
    assert_eq!((page.status, page.text().as_str()), (200, "<h1>the instance itself</h1>"));
}

#[tokio::test]
async fn a_hundred_programs_are_held_for_one_start_and_none_loses_its_body() {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    let starts = platform.host.calls(Verb::Start);
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    let headers = [("cookie", cookie.as_str()), ("origin", "https://alice.example.com")];
    let body = "x".repeat(5000);
    let held = (0..90).map(|_| platform.send("POST", HOST, "/echo", &headers, &body));
    let released = async {
        until(&alice.instance, |s| s.fact == Fact::Waking).await;
        platform.host.release(Verb::Start);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(held), released);
    for answer in answers {
        assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(5000)));
    }
    assert_eq!(platform.host.calls(Verb::Start) - starts, 1);
}

#[tokio::test]
async fn a_program_that_waited_too_long_gets_503_and_when_to_come_back() {
    let platform = FakePlatform::new(&[("BERTH_WAKE_TIMEOUT_SECONDS", "1")]).await;
    let alice = platform.settle_in("alice").await;
    let cookie = platform.instance_cookie(&alice).await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    let answer = platform.get(HOST, "/echo", &[("cookie", &cookie)]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
    assert_eq!(answer.json()["status"], 503);
    platform.host.release(Verb::Start);
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
}

#[tokio::test]
async fn prefetches_and_other_passive_requests_wake_nothing() {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    for (method, path, more) in [
        ("GET", "/favicon.ico", ("x", "y")),
        ("GET", "/robots.txt", ("x", "y")),
        ("GET", "/.well-known/acme-challenge/x", ("x", "y")),
        ("HEAD", "/", ("x", "y")),
        ("GET", "/", ("sec-purpose", "prefetch;prerender")),
    ] {
        let answer = platform.send(method, HOST, path, &[("cookie", &cookie), more], "").await;
        // 503 and not 404: the file may exist, and Retry-After says when to ask again.
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{method} {path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{method} {path}");
    }
    // Reading the status wakes nothing either.
    let _ = platform.get("app.example.com", "/", &[PAGE]).await;
    platform.look().await;
    assert_eq!(alice.instance.fact(), Fact::Stopped);
}

#[tokio::test]
async fn the_waiting_page_watches_until_its_owner_logs_out() {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    let mut stream = TcpStream::connect(platform.address).await.unwrap();
    let head = format!("GET /.berth/status HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("\"stopped\"") {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.unwrap();
        assert!(n > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    let who = platform.app.accounts.authenticate("app.example.com", alice.session()).await.unwrap().unwrap();
    platform.app.accounts.log_out(&who).await.unwrap();
    // The session is checked every five seconds.
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(12), stream.read_to_end(&mut rest))
        .await
        .expect("the stream ends")
        .unwrap();
    assert_eq!(alice.instance.fact(), Fact::Stopped, "watching wakes nothing");
}

#[tokio::test]
async fn status_streams_beyond_the_limit_are_refused() {
    let (platform, alice, cookie) = at_home().await;
    let watching: Vec<_> = (0..=100).map(|_| alice.instance.watch()).collect();
    let refused = platform.get(HOST, "/.berth/status", &[("cookie", &cookie)]).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("too_many")));
    drop(watching);
}

#[tokio::test]
async fn an_instance_sees_its_visitor_and_no_forged_headers() {
    let (platform, alice, cookie) = at_home().await;
    let sent = [
        ("cookie", format!("theirs=1; {cookie}; __Host-berth-pending=x")),
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9".into()),
        ("x-berth-user", "root".into()),
        ("x_berth_user", "root".into()),
        ("x-real-ip", "6.6.6.6".into()),
        ("connection", "x-secret".into()),
        ("x-secret", "1".into()),
        ("x-kept", "yes".into()),
    ];
    let sent: Vec<(&str, &str)> = sent.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let told = platform.get(HOST, "/echo?a=%2F&b", &sent).await.json();
    assert_eq!(told["uri"], "/echo?a=%2F&b");
    let seen = |name: &str| -> Vec<String> {
        let headers = told["headers"].as_array().unwrap();
        headers.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seen("cookie"), ["theirs=1"]);
    assert_eq!(seen("x-forwarded-for"), ["203.0.113.9"], "what Caddy added, and nothing before it");
    assert_eq!(seen("x-forwarded-proto"), ["https"]);
    assert_eq!(seen("x-berth-user"), ["alice"]);
    assert_eq!(seen("host"), [HOST]);
    assert_eq!(seen("x-kept"), ["yes"]);
    assert!(seen("x-secret").is_empty() && seen("x-real-ip").is_empty() && seen("x_berth_user").is_empty());
    // The format of the instance contract, which the default image checks too.
    let assertion = seen("x-berth-assertion").remove(0);
    let (signed, mac) = assertion.rsplit_once('.').unwrap();
    let decode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    assert_eq!(decode(mac), berth_ground::secrets::mac(&alice.instance.token_hash().unwrap(), signed.as_bytes()));
    let payload: serde_json::Value = serde_json::from_slice(&decode(signed.strip_prefix("v1.").unwrap())).unwrap();
    assert_eq!(payload["user"], "alice");
    assert!(payload["until"].as_i64().unwrap() > platform.clock.now().seconds());
}

#[tokio::test]
async fn a_response_has_no_effect_beyond_its_own_host() {
    let (platform, _alice, cookie) = at_home().await;
    let odd = platform.get(HOST, "/odd", &[("cookie", &cookie)]).await;
    let cookies: Vec<_> = odd.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(cookies, ["a=1", "b=2"], "both its own, and no other");
    for name in ["clear-site-data", "alt-svc", "x-named"] {
        assert!(odd.headers.get(name).is_none(), "{name}");
    }
}

#[tokio::test]
async fn another_tenants_page_can_do_nothing_with_the_owners_cookie() {
    let (platform, _alice, cookie) = at_home().await;
    for headers in [
        &[("sec-fetch-site", "same-site")][..],
        &[("origin", "https://evil.example.com")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        &[],
    ] {
        let headers: Vec<_> = headers.iter().copied().chain([("cookie", cookie.as_str())]).collect();
        let answer = platform.send("POST", HOST, "/echo", &headers, "x").await;
        assert_eq!(answer.status, 403, "{headers:?}");
    }
}

/// Sends an upgrade request; the connection, and the head of the response.
async fn upgraded(platform: &FakePlatform, cookie: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(platform.address).await.unwrap();
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nOrigin: https://{HOST}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).await.unwrap();
    (stream, String::from_utf8_lossy(&answer[..n]).to_lowercase())
}

#[tokio::test]
async fn an_upgraded_connection_ends_with_its_session_and_wakes_nothing_after() {
    let (platform, alice, cookie) = at_home().await;
    let (mut stream, answer) = upgraded(&platform, &cookie).await;
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    let who = platform.app.accounts.authenticate("app.example.com", alice.session()).await.unwrap().unwrap();
    platform.app.accounts.log_out(&who).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 16])).await;
    assert!(matches!(ended.expect("it outlived its session"), Ok(0) | Err(_)));
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    let _ = stream.write_all(b"wake up").await;
    platform.look().await;
    assert_eq!(alice.instance.fact(), Fact::Stopped);
}

#[tokio::test]
async fn an_instance_with_too_many_connections_gets_no_more_until_one_ends() {
    let (platform, _alice, cookie) = at_home().await;
    let mut open = Vec::new();
    for _ in 0..256 {
        let (stream, answer) = upgraded(&platform, &cookie).await;
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        open.push(stream);
    }
    let refused = platform.get(HOST, "/", &[("cookie", &cookie)]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"));
    open.clear();
    while platform.get(HOST, "/", &[("cookie", &cookie)]).await.status != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_second_session_cookie_that_a_script_planted_is_deleted_without_a_redirect_loop() {
    let (platform, _alice, cookie) = at_home().await;
    let planted = format!("{cookie}; __Host-berth=planted");
    let page = platform.get(HOST, "/", &[("cookie", &planted), PAGE]).await;
    assert_eq!((page.status, page.header("location")), (400, ""));
    assert!(page.text().contains("Please try again"));
    let off: Vec<_> = page.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
    for gone in ["; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax", "; Partitioned"] {
        assert!(off.iter().any(|c| c.starts_with("__Host-berth=;") && c.ends_with(gone)), "{off:?}");
    }
    let back = "/.berth/callback?code=c&state=s";
    let page = platform.get(HOST, back, &[("cookie", "__Host-berth-pending=a; __Host-berth-pending=b"), PAGE]).await;
    assert_eq!(page.headers.get_all("set-cookie").iter().count(), 4);
}

#[tokio::test]
async fn any_upgrade_passes_and_bytes_flow_both_ways() {
    let (platform, alice, cookie) = at_home().await;
    let (mut stream, answer) = upgraded(&platform, &cookie).await;
    assert!(answer.starts_with("http/1.1 101") && answer.contains("upgrade: echo"), "{answer}");
    let mut back = [0; 5];
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    // An open connection without traffic does not keep the instance awake; bytes from the client wake it again.
    platform.wait(Duration::from_secs(5 * 60)).await;
    assert_eq!(alice.instance.fact(), Fact::Frozen);
    stream.write_all(b"again").await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"again");
}

#[tokio::test]
async fn a_suspended_account_ends_sessions_and_stops_the_instance() {
    let (platform, alice, cookie) = at_home().await;
    platform.app.accounts.suspend(&alice.instance.handle, "operator").await.unwrap();
    let out = platform.get(HOST, "/", &[("cookie", &cookie)]).await;
    assert_eq!((out.status, out.json()["code"].as_str()), (403, Some("closed")));
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
}
