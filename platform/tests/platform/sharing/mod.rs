//! Sharing: a share opens its paths to its audience for as long as it exists, and the program learns who visits.

mod ends;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth::instances::{Cause, Fact, Wish};
use berth::sharing::{MOST_SHARES, Share, ShareAudience, Sharing};
use berth_containers::fake::Verb;
use berth_ground::error::Error;
use berth_ground::handle::Handle;

use berth_testing::databases;
use berth_testing::fake_platform::{Answer, FakePlatform, until};
use berth_testing::person::Person;
use berth_testing::web_client::WebFixture;

const HOST: &str = "alice.example.com";
const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml");

/// Alice's instance, and two further accounts.
struct SharedInstance {
    platform: FakePlatform,
    alice: Person,
    bob: Person,
    carol: Person,
}

impl SharedInstance {
    async fn new() -> Self {
        let platform = FakePlatform::new(&[]).await;
        let [alice, bob, carol] =
            [platform.settle_in("alice").await, platform.sign_up("bob").await, platform.sign_up("carol").await];
        Self { platform, alice, bob, carol }
    }

    async fn open(&self, path: &str, audience: ShareAudience) -> Share {
        self.platform.app.sharing.add(&self.alice.instance, path, audience).await.unwrap()
    }

    async fn revoke(&self, share: &Share) {
        self.platform.app.sharing.remove(&self.alice.instance, share.id, "alice").await.unwrap();
    }

    /// A session cookie on Alice's host, of a guest or of Alice.
    async fn cookie(&self, who: &Person) -> String {
        who.cookie_for(&self.platform.app.accounts, HOST).await
    }

    async fn put_to_sleep(&self) {
        self.platform.instances().sleep(&self.alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
        until(&self.alice.instance, |s| s.fact == Fact::Stopped).await;
        self.platform.instances().settled().await;
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.platform.get(HOST, path, &[("cookie", cookie)]).await
    }
}

fn account(handle: &str) -> ShareAudience {
    ShareAudience::Account { handle: Handle::parse(handle).unwrap() }
}

/// The visitor's identity as the program receives it: `X-Berth-User`, and the user in the assertion.
fn told(answer: &Answer) -> (String, serde_json::Value) {
    let told = answer.json();
    let header = |name: &str| {
        let headers = told["headers"].as_array().unwrap();
        headers.iter().find(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    let assertion = header("x-berth-assertion");
    let payload = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    (header("x-berth-user"), payload["user"].clone())
}

#[tokio::test]
async fn a_share_admits_its_audience_and_wakes_only_where_it_says_so() {
    let shared = SharedInstance::new().await;
    let platform = &shared.platform;
    // A share on another path, by which every account can log in on this host.
    shared.open("/lobby", ShareAudience::SignedIn).await;
    let cookies = [shared.cookie(&shared.alice).await, shared.cookie(&shared.bob).await];
    let [alices, bobs] = &cookies;
    let carols = shared.cookie(&shared.carol).await;
    let visitors = [alices.as_str(), bobs, &carols, ""];
    // The status for the owner, bob, carol and a stranger, while the instance is awake and asleep. 503 means "asleep".
    for (sentence, audience, awake, asleep) in [
        ("nothing", None, [200, 403, 403, 401], [200, 403, 403, 401]),
        ("to bob", Some(account("bob")), [200, 200, 403, 401], [200, 200, 403, 401]),
        ("to the signed in", Some(ShareAudience::SignedIn), [200, 200, 200, 401], [200, 200, 200, 401]),
        ("to everyone", Some(ShareAudience::Everyone { wakes: true }), [200; 4], [200; 4]),
        ("to be seen", Some(ShareAudience::Everyone { wakes: false }), [200; 4], [200, 503, 503, 503]),
    ] {
        let share = match audience {
            Some(audience) => Some(shared.open("/echo", audience).await),
            None => None,
        };
        for (n, cookie) in visitors.into_iter().enumerate() {
            platform.visit(&shared.alice.instance).await;
            until(&shared.alice.instance, |s| s.fact == Fact::Awake).await;
            assert_eq!(shared.get("/echo", cookie).await.status, awake[n], "{sentence}, awake, visitor {n}");
            shared.put_to_sleep().await;
            let starts = platform.host.calls(Verb::Start);
            let answer = shared.get("/echo", cookie).await;
            assert_eq!(answer.status, asleep[n], "{sentence}, asleep, visitor {n}");
            platform.look().await;
            let woke = platform.host.calls(Verb::Start) > starts;
            assert_eq!(woke, asleep[n] == 200, "{sentence}, asleep, visitor {n}");
            if asleep[n] == 503 {
                assert_eq!((answer.json()["code"].as_str(), answer.header("retry-after")), (Some("asleep"), "60"));
            }
        }
        if let Some(share) = share {
            shared.revoke(&share).await;
        }
    }
}

#[tokio::test]
async fn refusals_are_pages_for_browsers() {
    let shared = SharedInstance::new().await;
    let platform = &shared.platform;
    shared.open("/lobby", ShareAudience::SignedIn).await;
    shared.open("/late", ShareAudience::Everyone { wakes: false }).await;
    shared.open("/echo", ShareAudience::Everyone { wakes: true }).await;
    let bobs = shared.cookie(&shared.bob).await;
    shared.put_to_sleep().await;
    let refused = platform.get(HOST, "/", &[("cookie", &bobs), PAGE]).await;
    assert_eq!((refused.status, refused.header("content-type")), (403, "text/html; charset=utf-8"));
    assert!(refused.text().contains("You are logged in as bob"), "{}", refused.text());
    let asleep = platform.get(HOST, "/late", &[PAGE]).await;
    assert_eq!((asleep.status, asleep.header("retry-after")), (503, "60"));
    assert!(asleep.text().contains("Asleep"), "{}", asleep.text());
    assert_eq!(shared.alice.instance.fact(), Fact::Stopped);
    let private = platform.get(HOST, "/", &[PAGE]).await;
    assert_eq!(private.status, 302, "on a path without a share a stranger is sent to log in");
    // Visitors get the waiting page, too, without the owner's details and without live updates.
    let waiting = platform.get(HOST, "/echo", &[PAGE]).await;
    assert_eq!((waiting.status, waiting.header("retry-after")), (503, "2"));
    assert!(waiting.text().contains("Waking alice") && !waiting.text().contains("dashboard"), "{}", waiting.text());
    assert!(waiting.text().contains("http-equiv=\"refresh\"") && !waiting.text().contains("<script"));
    until(&shared.alice.instance, |s| s.fact == Fact::Awake).await;
    assert_eq!(platform.get(HOST, "/echo", &[PAGE]).await.status, 200);
}

#[tokio::test]
async fn the_program_learns_the_handle_of_a_guest_and_nothing_of_a_stranger() {
    let shared = SharedInstance::new().await;
    shared.open("/echo", ShareAudience::Everyone { wakes: true }).await;
    shared.open("/lobby", account("bob")).await;
    let (alices, bobs) = (shared.cookie(&shared.alice).await, shared.cookie(&shared.bob).await);
    for (cookie, user) in [(&alices, "alice"), (&bobs, "bob")] {
        assert_eq!(told(&shared.get("/echo", cookie).await), (user.to_owned(), user.into()));
    }
    for cookie in ["", "__Host-berth=nonsense", "__Host-berth=a; __Host-berth=b"] {
        let told = told(&shared.get("/echo", cookie).await);
        assert_eq!(told, (String::new(), serde_json::Value::Null), "{cookie}");
    }
    let forged = [("x-berth-user", "alice"), ("x-original-url", "/"), ("x-script-name", "/echo"), ("path-info", "/")];
    let answer = shared.platform.get(HOST, "/echo", &forged).await;
    assert_eq!(told(&answer).0, "");
    for (name, _) in forged {
        assert!(!answer.text().contains(&format!("\"{name}\"")), "{name}");
    }
}

#[tokio::test]
async fn a_guest_consents_before_the_instance_learns_the_handle() {
    let shared = SharedInstance::new().await;
    let platform = &shared.platform;
    shared.open("/echo", account("bob")).await;
    let sent = platform.get(HOST, "/echo?x=1", &[PAGE]).await;
    let pending = sent.header("set-cookie").split(';').next().unwrap().to_owned();
    let way = sent.header("location").strip_prefix("https://app.example.com").unwrap().to_owned();
    let bobs = shared.bob.app_cookie();
    let asked = platform.get("app.example.com", &way, &[("cookie", &bobs), PAGE]).await;
    assert_eq!((asked.status, asked.header("location")), (200, ""));
    let page = asked.text();
    assert!(page.contains("It will learn your handle, bob") && !page.contains("callback?code"), "{page}");

    let form = way.split_once('?').unwrap().1;
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let elsewhere = [("cookie", bobs.as_str()), kind, ("origin", "https://alice.example.com"), PAGE];
    let forged = platform.send("POST", "app.example.com", "/hand-off", &elsewhere, form).await;
    assert_eq!(forged.status, 403, "a page of another site cannot consent for him (CSRF)");
    let agreed = [("cookie", bobs.as_str()), kind, ("origin", "https://app.example.com"), PAGE];
    let agreed = platform.send("POST", "app.example.com", "/hand-off", &agreed, form).await;
    assert_eq!(agreed.status, 200, "{}", agreed.text());
    let page = agreed.text().replace("&amp;", "&").replace("&#38;", "&");
    let back = page.split("url=https://alice.example.com").nth(1).unwrap().split('"').next().unwrap();
    let home = platform.get(HOST, back, &[("cookie", &pending), PAGE]).await;
    assert_eq!((home.status, home.header("location")), (303, "/echo?x=1"));
    let session = home.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(told(&shared.get("/echo?x=1", &session).await).0, "bob");
    let app = platform.get("app.example.com", "/api/account", &[("cookie", &session)]).await;
    assert_eq!(app.status, 401, "it is not a session on the app host");
    let own = platform.get("bob.example.com", "/", &[("cookie", &session)]).await;
    assert_eq!(own.status, 401, "nor on another instance");
}

#[tokio::test]
async fn a_refusal_reveals_neither_shares_nor_whether_the_instance_exists() {
    let shared = SharedInstance::new().await;
    let carols = shared.carol.app_cookie();
    let ask = async |handle: &str| {
        let path = format!("/hand-off?host={handle}.example.com&state=s&challenge={}", "c".repeat(43));
        let answer = shared.platform.get("app.example.com", &path, &[("cookie", &carols)]).await;
        assert_eq!(answer.status, 403);
        answer.text().replace(handle, "HANDLE")
    };
    let private = ask("alice").await;
    shared.open("/echo", account("bob")).await;
    shared.open("/", ShareAudience::Everyone { wakes: true }).await;
    for handle in ["alice", "bob", "nobody-at-all"] {
        assert_eq!(ask(handle).await, private, "{handle}");
    }
    shared.open("/lobby", ShareAudience::SignedIn).await;
    let path = format!("/hand-off?host={HOST}&state=s&challenge={}", "c".repeat(43));
    assert_eq!(shared.platform.get("app.example.com", &path, &[("cookie", &carols)]).await.status, 200);
}

#[tokio::test]
async fn path_traversal_reaches_nothing_outside_a_share() {
    let shared = SharedInstance::new().await;
    shared.open("/docs", ShareAudience::Everyone { wakes: true }).await;
    shared.open("/lobby", ShareAudience::SignedIn).await;
    let bobs = shared.cookie(&shared.bob).await;
    shared.put_to_sleep().await;
    let starts = shared.platform.host.calls(Verb::Start);
    for path in [
        "/",
        "/echo",
        "/docsecho",
        "/DOCS",
        "//docs",
        "/docs/../echo",
        "/docs/%2e%2e/echo",
        "/docs/.%2E/echo",
        "/docs/%252e%252e/echo",
        "/docs/..%2fecho",
        "/docs/..%5cecho",
        "/docs/..;/echo",
        "/docs//echo",
        "/docs;/../echo",
        "/docs/%00/../echo",
        "/docs/..%20/echo",
        "/docs%2f..%2fecho",
        "/%64ocs/echo",
        "/docs/%c0%ae%c0%ae/echo",
        "/docs/%EF%BC%8E%EF%BC%8E/echo",
        "/.berth/status",
    ] {
        assert_eq!(shared.get(path, "").await.status, 401, "{path}");
        let to_guest = if path == "/.berth/status" { 401 } else { 403 };
        assert_eq!(shared.get(path, &bobs).await.status, to_guest, "{path}, a guest");
    }
    let to_copy = [("destination", "https://alice.example.com/private")];
    assert_eq!(shared.platform.send("COPY", HOST, "/docs/a", &to_copy, "").await.status, 401);
    shared.platform.look().await;
    let seen = (shared.alice.instance.fact(), shared.platform.host.calls(Verb::Start));
    assert_eq!(seen, (Fact::Stopped, starts), "the instance did not wake");
    assert_eq!(shared.get("/docs/a", "").await.status, 404, "a path inside the share reaches the program");
}

#[tokio::test]
async fn other_sites_may_embed_public_paths_and_never_act_for_a_visitor() {
    let shared = SharedInstance::new().await;
    shared.open("/echo", ShareAudience::Everyone { wakes: true }).await;
    shared.open("/lobby", account("bob")).await;
    let (alices, bobs) = (shared.cookie(&shared.alice).await, shared.cookie(&shared.bob).await);
    let embeds = [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    for cookie in ["", &alices, &bobs] {
        let shown = shared.platform.get(HOST, "/echo", &[&[("cookie", cookie)][..], &embeds].concat()).await;
        assert_eq!(shown.status, 200);
        assert_eq!(told(&shown).0, "", "without an identity, also in a guest's browser");
    }
    for (cookie, status) in [("", 200), (&alices, 403), (&bobs, 403), ("__Host-berth=old", 403)] {
        for from in [&[("sec-fetch-site", "same-site")][..], &[("origin", "https://evil.example.com")]] {
            let headers = [&[("cookie", cookie)][..], from].concat();
            let posted = shared.platform.send("POST", HOST, "/echo", &headers, "x").await;
            assert_eq!(posted.status, status, "{headers:?}");
        }
    }
    // Paths shared with a guest are as closed to other sites' pages as the owner's.
    shared.open("/flow", account("bob")).await;
    for path in ["/flow?kind=text/plain", "/"] {
        let shown = shared.platform.get(HOST, path, &[&[("cookie", bobs.as_str())][..], &embeds].concat()).await;
        assert_eq!(shown.status, 403, "{path}");
    }
    let own = [("cookie", bobs.as_str()), ("origin", "https://alice.example.com")];
    assert_eq!(told(&shared.platform.send("POST", HOST, "/echo", &own, "x").await).0, "bob");
}

#[tokio::test]
async fn requests_and_wakes_without_a_login_are_rate_limited() {
    let shared = SharedInstance::new().await;
    let (platform, sharing) = (&shared.platform, &shared.platform.app.sharing);
    shared.open("/echo", ShareAudience::Everyone { wakes: true }).await;
    let from = |n: u8| format!("203.0.113.{n}");
    for _ in 0..600 {
        sharing.count_request(from(1).parse().unwrap()).unwrap();
    }
    let refused = platform.get(HOST, "/echo", &[("x-forwarded-for", &from(1))]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert!(refused.text().contains("Too many requests come from your network"), "{}", refused.text());
    assert_eq!(platform.get(HOST, "/echo", &[("x-forwarded-for", &from(2))]).await.status, 200);
    let alices = shared.cookie(&shared.alice).await;
    let owner = platform.get(HOST, "/echo", &[("x-forwarded-for", &from(1)), ("cookie", &alices)]).await;
    assert_eq!(owner.status, 200, "requests with a login are not counted");

    shared.put_to_sleep().await;
    while sharing.count_wake(shared.alice.instance.id).is_ok() {
        platform.clock.advance(Duration::from_secs(10));
    }
    let refused = platform.get(HOST, "/echo", &[("x-forwarded-for", &from(2))]).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("asleep")));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(shared.alice.instance.fact(), Fact::Stopped);
    assert_eq!(shared.get("/echo", &alices).await.status, 200, "its owner wakes it");
}

#[tokio::test]
async fn strangers_can_use_half_of_the_connections_in_flight() {
    let shared = SharedInstance::new().await;
    shared.open("/flow", ShareAudience::Everyone { wakes: true }).await;
    let alices = shared.cookie(&shared.alice).await;
    let mut open = Vec::new();
    for _ in 0..128 {
        open.push(ends::Open::flow(&shared.platform, "").await);
    }
    assert_eq!(shared.get("/flow?kind=text/plain", "").await.status, 503);
    assert_eq!(shared.get("/echo", &alices).await.status, 200);
}

#[tokio::test]
async fn a_visit_that_may_not_wake_does_not_keep_the_instance_awake_either() {
    let shared = SharedInstance::new().await;
    for (wakes, fact) in [(true, Fact::Awake), (false, Fact::Frozen)] {
        let shares = [
            shared.open("/echo", ShareAudience::Everyone { wakes }).await,
            shared.open("/flow", ShareAudience::Everyone { wakes }).await,
        ];
        shared.platform.visit(&shared.alice.instance).await;
        until(&shared.alice.instance, |s| s.fact == Fact::Awake).await;
        shared.platform.look().await;
        let mut flow = ends::Open::flow(&shared.platform, "").await;
        for _ in 0..2 {
            shared.platform.wait(Duration::from_secs(140)).await;
            shared.platform.said.send("moves".into()).unwrap();
            flow.until("moves").await;
            assert_eq!(shared.get("/echo", "").await.status, 200);
        }
        shared.platform.wait(Duration::from_secs(140)).await;
        assert_eq!(shared.alice.instance.fact(), fact, "wakes: {wakes}");
        for share in shares {
            shared.revoke(&share).await;
        }
    }
}

#[tokio::test]
async fn shares_are_validated_and_limited() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let (alice, sharing) = (platform.sign_up("alice").await, &platform.app.sharing);
        platform.sign_up("bob").await;
        for (path, audience, field) in [
            ("docs", ShareAudience::SignedIn, "path"),
            ("/docs/../x", ShareAudience::SignedIn, "path"),
            ("/.berth", ShareAudience::SignedIn, "path"),
            ("/docs", account("nobody"), "handle"),
            ("/docs", account("alice"), "handle"),
        ] {
            let refused = sharing.add(&alice.instance, path, audience).await.unwrap_err();
            assert!(matches!(refused, Error::Invalid { field: blamed, .. } if blamed == field), "{path}: {refused}");
        }
        let share = sharing.add(&alice.instance, " /docs/ ", account("bob")).await.unwrap();
        assert_eq!(share.path, "/docs");
        let again = sharing.add(&alice.instance, "/docs", account("bob")).await;
        assert!(matches!(again, Err(Error::Conflict(_))));
        for n in 1..MOST_SHARES {
            sharing
                .add(&alice.instance, &format!("/{n}"), ShareAudience::Everyone { wakes: n % 2 == 0 })
                .await
                .unwrap();
        }
        let refused = sharing.add(&alice.instance, "/more", ShareAudience::SignedIn).await.unwrap_err();
        assert!(matches!(refused, Error::Conflict(_)), "{refused}");
        // Memory and database agree.
        let again =
            Sharing::open(platform.app.db.clone(), platform.clock.clone(), platform.instances().clone()).await.unwrap();
        let by_path = |sharing: &Sharing| {
            let mut shares = sharing.of(alice.instance.id).to_vec();
            shares.sort_by(|a, b| a.path.cmp(&b.path));
            shares
        };
        assert_eq!(by_path(&again), by_path(sharing));
        sharing.remove(&alice.instance, share.id, "alice").await.unwrap();
        assert!(matches!(sharing.remove(&alice.instance, share.id, "alice").await, Err(Error::NotFound)));
        sharing.add(&alice.instance, "/more", ShareAudience::SignedIn).await.unwrap();
    }
}

#[tokio::test]
async fn an_owner_shares_and_revokes_on_the_page_and_by_the_api() {
    let site = WebFixture::new().await;
    site.member("boris").await;
    let mut alice = site.member("alice").await;
    let refused = alice.post("/sharing", "path=/docs&audience=account&handle=nobody").await;
    assert_eq!(refused.in_short(), "422");
    let page = refused.text().await;
    assert!(page.contains("No account here has that handle.") && page.contains("value=\"/docs\""), "{page}");
    assert_eq!(alice.post("/sharing", "path=/docs/&audience=account&handle=Boris").await.in_short(), "303 /sharing");
    assert_eq!(alice.post("/sharing", "path=/&audience=everyone&wakes=yes").await.in_short(), "303 /sharing");
    let page = alice.get("/sharing").await.text().await;
    for said in ["https://alice.example.com/docs", "to boris", "to everyone; visits wake it"] {
        assert!(page.contains(said), "{page}");
    }
    assert!(alice.get("/").await.text().await.contains("2 shares open to others"));
    let listed = alice.get("/api/shares").await.json().await;
    let docs = &listed["items"][0];
    assert_eq!(
        (docs["path"].as_str(), docs["audience"].as_str(), docs["handle"].as_str()),
        (Some("/docs"), Some("account"), Some("boris"))
    );
    assert_eq!(docs["url"], "https://alice.example.com/docs");
    assert_eq!(listed["items"][1]["wakes"], true);
    let gone = format!("/sharing/{}/remove", docs["id"].as_str().unwrap());
    assert_eq!(alice.post(&gone, "").await.in_short(), "303 /sharing");
    let added = alice.post_json("/api/shares", &serde_json::json!({ "path": "/a", "audience": "signed_in" })).await;
    assert_eq!(added.status.as_u16(), 201);
    let left = alice.get("/api/shares").await.json().await;
    assert_eq!(left["items"].as_array().unwrap().len(), 2);
}
