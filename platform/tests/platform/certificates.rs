//! Certificates: `ask` allows live names only; an exhausted weekly budget queues new names and never fails a sign-up;
//! and Caddy obtains from a real ACME authority exactly the certificates that `ask` allows.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use berth::app::App;
use berth::certificates::Certificates;
use berth::instances::PortList;
use berth::modules::Verdict;
use berth_ground::handle::Handle;
use serde_json::Value;
use tower::ServiceExt as _;

use berth_testing::caddy::CaddyProxy;
use berth_testing::caddy::pebble;
use berth_testing::chromium::trust;
use berth_testing::fake_platform::FakePlatform;
use berth_testing::http1_client::Wire;
use berth_testing::wait::eventually;
use berth_testing::web_client::WebFixture;

/// Two first certificates a week: one token refills in three and a half days.
const TWO_A_WEEK: [(&str, &str); 2] = [("BERTH_TLS_ISSUER", "acme"), ("BERTH_CERTIFICATES_A_WEEK", "2")];
const REFILL: Duration = Duration::from_secs(302_400);

async fn ask(platform: &FakePlatform, name: &str) -> u16 {
    let internal = berth::serve::internal_router(platform.app.clone());
    internal.oneshot(request(&format!("/ask?domain={name}"), "localhost")).await.unwrap().status().as_u16()
}

fn request(path: &str, host: &str) -> Request<Body> {
    Request::builder().uri(path).header("host", host).body(Body::empty()).unwrap()
}

/// Pseudo-random names, most of them invalid. The same in every run.
fn names(number: usize) -> Vec<String> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut pick = move |most: usize| {
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(most).unwrap()).unwrap()
    };
    let pieces = [
        "alice", "bob", "ALICE", "a", "b", "0", "-", "--", "xn--", ".", "..", "_", "%00", "%C3%A4", "%20", "app",
        "admin", "www", "alice.",
    ];
    let ends = [
        ".example.com",
        ".example.com",
        ".example.com",
        ".Example.COM",
        ".example.com.",
        ".example.com:443",
        ".example.org",
        "example.com",
        ".example.com.evil.test",
        "",
    ];
    let mut label = move || -> String {
        let label: String = (0..=pick(4)).map(|_| pieces[pick(pieces.len())]).collect();
        label + ends[pick(ends.len())]
    };
    (0..number).map(|_| label()).collect()
}

#[tokio::test]
async fn ask_and_router_agree_on_ten_thousand_names_and_allow_live_ones_only() {
    let platform = FakePlatform::new(&[]).await;
    for handle in ["alice", "bob"] {
        platform.settle_in(handle).await;
    }
    platform.app.accounts.suspend(&Handle::parse("bob").unwrap(), "operator").await.unwrap();
    let front = berth::serve::public_router(platform.app.clone());
    let mut allowed = 0;
    for name in names(10_000) {
        let asked = ask(&platform, &name).await;
        // The name without percent-encoding.
        let plain = name.replace("%00", "\u{1}").replace("%C3%A4", "\u{e4}").replace("%20", " ");
        let lower = plain.to_ascii_lowercase();
        let live = ["example.com", "app.example.com", "alice.example.com"];
        let spelled = lower.strip_suffix(":443").unwrap_or(&lower);
        let spelled = spelled.strip_suffix('.').unwrap_or(spelled);
        let is_live = live.contains(&spelled);
        assert_eq!(asked == 200, is_live, "{name}: {asked}");
        allowed += usize::from(asked == 200);
        // The router also serves the suspended account's host, and treats every well-formed handle as one of our names.
        if plain.bytes().all(|b| b.is_ascii_graphic()) {
            let routed = front.respond(request("/", &plain)).await.status().as_u16();
            assert_eq!(![404, 421].contains(&routed), is_live || spelled == "bob.example.com", "{name}: {routed}");
            let label = spelled.strip_suffix(".example.com").unwrap_or_default();
            let ours = label == "app" || spelled == "example.com" || Handle::parse(label).is_ok();
            assert_eq!(routed != 421, ours, "{name}: {routed}");
            assert!(Handle::claim(label).is_err() || ours, "{name} could sign up and would not be reached");
        }
    }
    assert!(allowed > 100, "the sample must contain allowed names: {allowed}");
    let denied = ["NotOurs", "Nobody", "Closed"];
    let figures = metrics(&platform).await;
    for outcome in denied {
        assert!(figures.contains(&format!("berth_certificate_asks_total{{outcome=\"{outcome}\"}}")), "{figures}");
    }
}

async fn metrics(platform: &FakePlatform) -> String {
    let request = Request::builder().uri("/metrics").body(Body::empty()).unwrap();
    let answer = berth::serve::internal_router(platform.app.clone()).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    String::from_utf8(axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn an_exhausted_budget_queues_names_in_order_and_survives_a_restart() {
    let mut platform = FakePlatform::new(&TWO_A_WEEK).await;
    for handle in ["alice", "bob", "carol", "dave"] {
        platform.settle_in(handle).await;
    }
    let all = ["alice", "bob", "carol", "dave"].map(|handle| format!("{handle}.example.com"));
    let asked = async |platform: &FakePlatform| {
        let mut answers = Vec::new();
        for name in &all {
            answers.push(ask(platform, name).await);
        }
        answers
    };
    assert_eq!(asked(&platform).await, [200, 200, 403, 403]);
    for name in ["example.com", "app.example.com"] {
        assert_eq!(ask(&platform, name).await, 200, "{name} never waits");
    }
    assert_eq!(
        asked(&platform).await,
        [200, 200, 403, 403],
        "asking again neither costs a token nor moves a name forward"
    );
    until_stored(&platform, 4).await;
    platform.restart().await;
    assert_eq!(asked(&platform).await, [200, 200, 403, 403]);
    platform.clock.advance(REFILL);
    assert_eq!(asked(&platform).await, [200, 200, 200, 403], "in the order of asking");
    platform.clock.advance(REFILL);
    assert_eq!(asked(&platform).await, [200, 200, 200, 200]);
    let figures = metrics(&platform).await;
    for line in ["{of=\"spent\"} 2", "{of=\"limit\"} 2", "outcome=\"Queued\"}"] {
        assert!(figures.contains(line), "{figures}");
    }
}

#[tokio::test]
async fn hosts_of_ports_get_no_certificates_while_the_budget_is_limited() {
    for (settings, allowed) in [(&TWO_A_WEEK[..], 403), (&[], 200)] {
        let platform = FakePlatform::new(settings).await;
        let alice = platform.settle_in("alice").await;
        platform.instances().set_ports(&alice.instance, &PortList::parse("3000").unwrap()).await.unwrap();
        assert_eq!(ask(&platform, "3000--alice.example.com").await, allowed);
        assert_eq!(ask(&platform, "3001--alice.example.com").await, 403, "it is closed");
        assert_eq!(ask(&platform, "alice.example.com").await, 200);
    }
}

/// Waits until reservations are stored, which happens after `ask` has answered.
async fn until_stored(platform: &FakePlatform, names: u32) {
    let weekly = platform.app.config.certificates_a_week.unwrap();
    let are_stored = async || {
        let (db, clock) = (platform.app.db.clone(), platform.clock.clone());
        let usage = Certificates::open(db, clock, Some(weekly)).await.unwrap().usage().unwrap();
        usage.names == names
    };
    eventually("the reservations are stored", are_stored).await;
}

#[tokio::test]
async fn a_sign_up_with_an_exhausted_budget_says_when_the_address_opens() {
    let site = WebFixture::with(&TWO_A_WEEK).await;
    let words = "gets its certificate on";
    for handle in ["alice", "bob"] {
        let mut early = site.member(handle).await;
        let page = early.get("/welcome").await.text().await;
        assert!(!page.contains(words) && page.contains("data-then"), "{handle} goes straight on");
    }
    let mut carol = site.member("carol").await;
    for path in ["/welcome", "/"] {
        let page = carol.get(path).await.text().await;
        // Three and a half days after Sunday 10:30.
        assert!(page.contains(words) && page.contains("2026-11-18T22:30"), "{path}: {page}");
        assert!(!page.contains("data-then"), "no redirect to a host without a certificate");
    }
    site.app.clock.advance(REFILL);
    assert!(!carol.get("/").await.text().await.contains(words));
}

#[tokio::test]
async fn doctor_recommends_a_wildcard_before_names_have_to_wait() {
    let platform = FakePlatform::new(&[("BERTH_TLS_ISSUER", "acme"), ("BERTH_CERTIFICATES_A_WEEK", "5")]).await;
    let finding = async |names: u32| {
        until_stored(&platform, names).await;
        let findings =
            App::examine(&platform.app.config, platform.clock.clone(), Arc::new(platform.host.clone())).await;
        let finding = findings.into_iter().find(|finding| finding.subject == "new addresses").unwrap();
        (finding.verdict, finding.sentence)
    };
    for (number, handle) in ["ann", "ben", "cem", "dan", "eve", "fay"].into_iter().enumerate() {
        let names = u32::try_from(number).unwrap() + 1;
        platform.app.certificates.reserve(&Handle::parse(handle).unwrap());
        let (verdict, sentence) = finding(names).await;
        assert_eq!(verdict, if names < 4 { Verdict::Fine } else { Verdict::Warning }, "{sentence}");
        assert_eq!(sentence.contains("BERTH_DNS_PROVIDER"), names >= 4, "{sentence}");
        assert_eq!(sentence.contains("1 names wait"), names == 6, "{sentence}");
    }
}

#[tokio::test]
async fn with_an_own_authority_or_a_wildcard_there_is_no_queue() {
    for settings in [
        &[("BERTH_CERTIFICATES_A_WEEK", "1")][..],
        &[("BERTH_CERTIFICATES_A_WEEK", "0"), ("BERTH_TLS_ISSUER", "acme")],
        &[("BERTH_CERTIFICATES_A_WEEK", "1"), ("BERTH_TLS_ISSUER", "acme"), ("BERTH_DNS_PROVIDER", "some")],
    ] {
        let platform = FakePlatform::new(settings).await;
        for handle in ["alice", "bob"] {
            platform.sign_up(handle).await;
            assert_eq!(ask(&platform, &format!("{handle}.example.com")).await, 200, "{settings:?}");
        }
    }
}

/// The status of a request over TLS; `None` when the handshake fails.
async fn opens(front: &CaddyProxy, pebble: &pebble::Pebble, host: &str) -> Option<u16> {
    let stream = front.connect(&pebble.root(), host, &[b"http/1.1"]).await.ok()?;
    let mut wire = Wire::on(stream);
    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await;
    Some(wire.reply().await?.status)
}

#[tokio::test]
async fn caddy_obtains_certificates_for_live_names_and_no_others() {
    let mut platform = FakePlatform::new(&TWO_A_WEEK).await;
    for handle in ["alice", "bob", "carol"] {
        platform.settle_in(handle).await;
    }
    let (pebble, front) = pebble::front(&platform).await;
    assert_eq!(
        opens(&front, &pebble, "alice.example.com").await,
        Some(401),
        "the handshake succeeds, and the edge asks for a login"
    );
    assert_eq!(opens(&front, &pebble, "bob.example.com").await, Some(401));
    for strange in ["nobody.example.com", "x.alice.example.com", "alice.example.org", "evil.test"] {
        assert_eq!(opens(&front, &pebble, strange).await, None, "{strange}");
        assert!(!pebble.log().contains(strange), "the authority was asked for {strange}");
    }
    assert_eq!(opens(&front, &pebble, "carol.example.com").await, None, "the budget is exhausted");
    assert!(!pebble.log().contains("carol"), "the authority was asked nevertheless");
    assert_eq!(opens(&front, &pebble, "alice.example.com").await, Some(401), "an existing certificate is still served");
    platform.clock.advance(REFILL);
    assert_eq!(opens(&front, &pebble, "carol.example.com").await, Some(401), "carol's token has refilled");
    assert!(pebble.log().contains("carol.example.com"));

    platform.settle_in("dave").await;
    platform.clock.advance(REFILL);
    platform.kill().await;
    for host in ["alice.example.com", "app.example.com"] {
        assert_eq!(
            opens(&front, &pebble, host).await,
            Some(503),
            "{host}: the handshake succeeds, and Caddy says that Berth is away"
        );
    }
    assert_eq!(
        opens(&front, &pebble, "dave.example.com").await,
        None,
        "without an answer of `ask` there is no new certificate"
    );
    assert!(!pebble.log().contains("dave"));
}

/// Timeout of Chromium for one page, on a busy machine.
const BROWSER: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_browser_that_insists_on_http3_is_served() {
    let platform = FakePlatform::new(&[]).await;
    let front = CaddyProxy::of(&platform).await;
    let home = tempfile::tempdir().unwrap();
    trust(home.path(), &front.own_authority());
    let log = home.path().join("net.json");
    let page = tokio::process::Command::new("/usr/bin/chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom", "--enable-quic"])
        .arg(format!("--origin-to-force-quic-on=example.com:{}", front.https))
        .args(["--host-resolver-rules=MAP example.com 127.0.0.1", "--virtual-time-budget=3000"])
        .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
        .arg(format!("--log-net-log={}", log.display()))
        .arg(format!("https://example.com:{}/", front.https))
        .env("HOME", home.path())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let page = tokio::time::timeout(BROWSER, page).await.expect("a page, or an error").unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).contains("Claim"), "{}", String::from_utf8_lossy(&page.stdout));
    let log: Value = serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap();
    let headers = &log["constants"]["logEventTypes"]["HTTP3_HEADERS_DECODED"];
    assert!(headers.is_number(), "Chromium renamed this event");
    assert!(log["events"].as_array().unwrap().iter().any(|event| event["type"] == *headers), "not over HTTP/3");
}
