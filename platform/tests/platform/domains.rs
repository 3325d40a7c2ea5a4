//! Custom domains: a name is routed to the account that proves it, for as long as the proof is there, and then behaves
//! like the instance's own host.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use berth::domains::{Domain, DomainState, Domains};
use berth::instances::{Cause, Fact, Wish};
use berth::sharing::ShareAudience;
use berth_ground::error::Error;
use tower::ServiceExt as _;

use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::name_server::NameServer;
use berth_testing::person::Person;
use berth_testing::web_client::WebFixture;
use berth_testing::{Database, databases, sqlite};

const NAME: &str = "docs.alice.org";
const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml");
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Two instances, and the name server that the platform queries.
struct Place {
    dns: NameServer,
    platform: FakePlatform,
    alice: Person,
    bob: Person,
}

impl Place {
    async fn new() -> Self {
        Self::on(sqlite().await).await
    }

    async fn on(database: Database) -> Self {
        let dns = NameServer::start().await;
        let platform = FakePlatform::on(database, &[("BERTH_DNS", dns.address.to_string().leak())]).await;
        let [alice, bob] = [platform.settle_in("alice").await, platform.settle_in("bob").await];
        Self { dns, platform, alice, bob }
    }

    fn domains(&self) -> &Domains {
        &self.platform.app.domains
    }

    async fn claim(&self, by: &Person) -> Domain {
        self.domains().claim(&by.instance, NAME).await.unwrap()
    }

    /// Claims the name, publishes its proof in DNS and checks it.
    async fn prove(&self, by: &Person) -> Domain {
        let domain = self.claim(by).await;
        self.dns.txt(&domain.proof_name(), &domain.proof);
        self.domains().check(&by.instance, domain.id).await.unwrap()
    }

    /// Advances the clock by a day and runs the daily check.
    async fn next_day(&self) -> u64 {
        self.platform.clock.advance(DAY);
        self.domains().recheck_proofs().await.unwrap()
    }

    /// The status that `ask` gives Caddy for a name.
    async fn ask(&self, name: &str) -> u16 {
        let ask = Router::new().route("/ask", get(berth::edge::ask)).with_state(self.platform.app.clone());
        let asked = Request::get(format!("/ask?domain={name}")).body(Body::empty()).unwrap();
        ask.oneshot(asked).await.unwrap().status().as_u16()
    }

    async fn status(&self, name: &str, cookie: &str) -> u16 {
        self.platform.get(name, "/", &[("cookie", cookie)]).await.status
    }
}

#[tokio::test]
async fn a_name_is_routed_to_the_account_that_proves_it_by_txt_or_cname() {
    for database in databases().await {
        let place = Place::on(database).await;
        let domain = place.claim(&place.alice).await;
        assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (421, 403), "only claimed");
        for (name, text) in [
            (domain.proof_name(), "berth-another".to_owned()),
            (NAME.to_owned(), domain.proof.clone()),
            (domain.proof_name(), format!("{} ", domain.proof)),
        ] {
            place.dns.clear();
            place.dns.txt(&name, &text);
            let refused = place.domains().check(&place.alice.instance, domain.id).await.unwrap_err();
            assert!(
                matches!(&refused, Error::Conflict(sentence) if sentence.contains("alice.example.com")),
                "{refused}"
            );
            place.platform.clock.advance(Duration::from_secs(5));
        }
        place.dns.txt(&domain.proof_name(), &domain.proof);
        place.domains().check(&place.alice.instance, domain.id).await.unwrap();
        assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (401, 200));
        for name in ["other.alice.org", "alice.org", "x.docs.alice.org", "docs.alice.org.evil.org"] {
            assert_eq!((place.status(name, "").await, place.ask(name).await), (421, 403), "{name}");
        }
        place.domains().remove(&place.alice.instance, domain.id, "alice").await.unwrap();
        assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (421, 403), "at once");

        place.dns.clear();
        place.dns.cname(NAME, "alice.example.com");
        let again = place.claim(&place.alice).await;
        place.domains().check(&place.alice.instance, again.id).await.unwrap();
        assert_eq!((place.status("DOCS.Alice.ORG.:443", "").await, place.ask("docs.alice.org.").await), (401, 200));
        let bobs = place.claim(&place.bob).await;
        let refused = place.domains().check(&place.bob.instance, bobs.id).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "an alias of alice's host does not prove bob's claim");
    }
}

#[tokio::test]
async fn a_custom_domain_behaves_like_the_instances_own_host() {
    let place = Place::new().await;
    let (platform, alice) = (&place.platform, &place.alice);
    place.prove(alice).await;
    let app = alice.app_cookie();
    let sent = platform.get(NAME, "/echo?x=1", &[PAGE]).await;
    let way = sent.header("location").strip_prefix("https://app.example.com").unwrap().to_owned();
    assert!(way.starts_with("/hand-off?host=docs.alice.org&"), "{way}");
    let pending = sent.header("set-cookie").split(';').next().unwrap().to_owned();
    let handed = platform.get("app.example.com", &way, &[("cookie", &app), PAGE]).await;
    let back = handed.header("location").strip_prefix("https://docs.alice.org").expect("back to the domain").to_owned();
    let home = platform.get(NAME, &back, &[("cookie", &pending), PAGE]).await;
    assert_eq!((home.status, home.header("location")), (303, "/echo?x=1"));
    let cookie = home.headers.get_all("set-cookie").iter().map(|c| c.to_str().unwrap().split(';').next().unwrap());
    let cookie = cookie.into_iter().find(|c| c.starts_with("__Host-berth=")).unwrap().to_owned();

    let told = platform.get(NAME, "/echo", &[("cookie", &cookie)]).await.text();
    for said in
        [r#"["x-forwarded-host","docs.alice.org"]"#, r#"["host","docs.alice.org"]"#, r#"["x-berth-user","alice"]"#]
    {
        assert!(told.contains(said), "{said}: {told}");
    }
    for (origin, status) in [
        ("https://docs.alice.org", 200),
        ("https://alice.example.com", 403),
        ("https://www.alice.org", 403),
        ("null", 403),
    ] {
        let headers = [("cookie", cookie.as_str()), ("origin", origin)];
        assert_eq!(platform.send("POST", NAME, "/echo", &headers, "x").await.status, status, "{origin}");
    }
    // A session of one host is not valid on the other.
    let own = platform.instance_cookie(alice).await;
    assert_eq!(place.status(NAME, &own).await, 401);
    assert_eq!(place.status("alice.example.com", &cookie).await, 401);
    assert_eq!(place.status("alice.example.com", &own).await, 200);

    platform.instances().sleep(&alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    let waiting = platform.get(NAME, "/", &[("cookie", &cookie), PAGE]).await;
    assert_eq!(waiting.status, 503);
    assert!(waiting.text().contains("/.berth/assets/"), "{}", waiting.text());
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    assert_eq!(place.status(NAME, &cookie).await, 200);
}

#[tokio::test]
async fn shares_apply_to_a_custom_domain_too() {
    let place = Place::new().await;
    let (platform, sharing) = (&place.platform, &place.platform.app.sharing);
    let domain = place.prove(&place.alice).await;
    sharing.add(&place.alice.instance, "/echo", ShareAudience::SignedIn).await.unwrap();
    let bobs = place.bob.cookie_for(&platform.app.accounts, NAME).await;
    assert_eq!(platform.get(NAME, "/echo", &[("cookie", &bobs)]).await.status, 200);
    assert_eq!(place.status(NAME, &bobs).await, 403);
    let session = platform.app.accounts.authenticate("app.example.com", place.bob.session()).await;
    let way = platform.app.accounts.hand_off_target(&session.unwrap().unwrap(), NAME).unwrap();
    assert_eq!((way.handle.as_str(), way.origin.as_str()), ("alice", "https://docs.alice.org"));
    // The domain moves to Bob. The session that his browser got while it was Alice's is not valid on his instance.
    place.domains().remove(&place.alice.instance, domain.id, "alice").await.unwrap();
    assert_eq!(place.status(NAME, &bobs).await, 421);
    platform.clock.advance(Duration::from_secs(5));
    place.prove(&place.bob).await;
    assert_eq!(place.status(NAME, &bobs).await, 401);
    let own = place.bob.cookie_for(&platform.app.accounts, NAME).await;
    assert_eq!(place.status(NAME, &own).await, 200);
}

#[tokio::test]
async fn claims_do_not_block_others_and_a_name_follows_its_proof() {
    for database in databases().await {
        let place = Place::on(database).await;
        let (alices, bobs) = (place.claim(&place.alice).await, place.claim(&place.bob).await);
        assert_ne!(alices.proof, bobs.proof);
        place.dns.txt(&alices.proof_name(), &alices.proof);
        place.domains().check(&place.alice.instance, alices.id).await.unwrap();
        let refused = place.domains().check(&place.bob.instance, bobs.id).await;
        assert!(matches!(refused, Err(Error::Conflict(_))));
        // The domain was sold: its TXT record changed.
        place.platform.clock.advance(Duration::from_secs(5));
        place.dns.txt(&bobs.proof_name(), &bobs.proof);
        place.domains().check(&place.bob.instance, bobs.id).await.unwrap();
        let standing = |person: &Person| place.domains().of(person.instance.id)[0].is_proven();
        assert_eq!((standing(&place.alice), standing(&place.bob)), (false, true));
        let virtual_host = place.domains().virtual_host(NAME).unwrap();
        assert_eq!(virtual_host.handle.as_str(), "bob");
        // Memory and database agree.
        let app = &place.platform.app;
        let again = Domains::open(app.db.clone(), app.clock.clone(), app.instances.clone(), &app.config).await.unwrap();
        assert_eq!(again.virtual_host(NAME), Some(virtual_host));
        assert!(!again.of(place.alice.instance.id)[0].is_proven());
    }
}

#[tokio::test]
async fn a_name_stays_with_its_holder_while_the_proof_is_there() {
    let place = Place::new().await;
    let alices = place.prove(&place.alice).await;
    let bobs = place.claim(&place.bob).await;
    // Both proofs exist: one as a TXT record, the other as a CNAME.
    place.dns.cname(NAME, "bob.example.com");
    let refused = place.domains().check(&place.bob.instance, bobs.id).await.unwrap_err();
    assert!(refused.to_string().contains("its proof is still in DNS"), "{refused}");
    assert_eq!(place.domains().virtual_host(NAME).unwrap().handle.as_str(), "alice");
    assert_eq!(place.domains().of(place.alice.instance.id)[0].id, alices.id);
}

#[tokio::test]
async fn a_name_is_lost_after_three_days_in_a_row_without_its_proof() {
    let place = Place::new().await;
    let domain = place.prove(&place.alice).await;
    let standing = || place.domains().of(place.alice.instance.id)[0].state;
    let missed = |state| if let DomainState::Proven { missed, .. } = state { Some(missed) } else { None };
    let asked = place.dns.asked();
    place.domains().recheck_proofs().await.unwrap();
    assert_eq!(place.dns.asked(), asked, "once a day");
    place.next_day().await;
    assert!(place.dns.asked() > asked && missed(standing()) == Some(0));

    place.dns.clear();
    for day in 1..=2 {
        assert_eq!((place.next_day().await, missed(standing())), (0, Some(day)));
        let asked = place.domains().check(&place.alice.instance, domain.id).await;
        assert!(matches!(asked, Err(Error::Conflict(_))), "a manual check does not postpone the daily one");
    }
    place.dns.cname(NAME, "alice.example.com");
    assert_eq!((place.next_day().await, missed(standing())), (0, Some(0)), "another proof is as good");
    place.dns.clear();
    place.next_day().await;
    place.dns.keep_silent(true);
    assert_eq!((place.next_day().await, missed(standing())), (0, Some(1)), "a timeout does not count");
    place.dns.keep_silent(false);
    assert_eq!(
        (place.domains().recheck_proofs().await.unwrap(), missed(standing())),
        (0, Some(2)),
        "and the next run asks again"
    );
    assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (401, 200), "until then it is routed");
    assert_eq!((place.next_day().await, standing()), (1, DomainState::Claimed));
    assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (421, 403));
}

#[tokio::test]
async fn a_domain_is_deleted_with_its_account_and_closed_by_a_suspension() {
    for database in databases().await {
        let place = Place::on(database).await;
        let (platform, handle) = (&place.platform, &place.alice.instance.handle);
        place.prove(&place.alice).await;
        platform.app.accounts.suspend(handle, "operator").await.unwrap();
        assert_eq!(place.ask(NAME).await, 403, "no certificate for a closed instance");
        platform.app.accounts.restore(handle, "operator").await.unwrap();
        assert_eq!(place.ask(NAME).await, 200);
        platform.app.accounts.schedule_deletion_of(handle, "operator").await.unwrap();
        platform.look().await;
        platform.app.accounts.advance_deletions(&platform.app.modules).await.unwrap();
        platform.wait(7 * DAY).await;
        assert_eq!(platform.app.accounts.advance_deletions(&platform.app.modules).await.unwrap(), 1);
        assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (421, 403));
        place.prove(&place.bob).await;
    }
}

#[tokio::test]
async fn claims_are_validated_and_limited_and_checks_are_rate_limited() {
    let place = Place::new().await;
    let (domains, alice) = (place.domains(), &place.alice.instance);
    for name in ["localhost", "alice.example.com", "127.0.0.1", "alice.internal", "https://alice.org", ""] {
        let refused = domains.claim(alice, name).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { field: "name", .. }), "{name}: {refused}");
    }
    let domain = place.claim(&place.alice).await;
    assert!(matches!(domains.claim(alice, " Docs.Alice.Org. ").await, Err(Error::Conflict(_))), "twice");
    domains.claim(alice, "a.alice.org").await.unwrap();
    domains.claim(alice, "b.alice.org").await.unwrap();
    assert!(matches!(domains.claim(alice, "c.alice.org").await, Err(Error::Conflict(_))), "the limit is three");
    assert!(matches!(domains.check(alice, domain.id).await, Err(Error::Conflict(_))));
    let asked = place.dns.asked();
    assert!(matches!(domains.check(alice, domain.id).await, Err(Error::TooMany { .. })), "a second time at once");
    assert_eq!(place.dns.asked(), asked);
    place.platform.clock.advance(Duration::from_secs(5));
    place.dns.keep_silent(true);
    assert!(matches!(domains.check(alice, domain.id).await, Err(Error::Unavailable { .. })));
    let bob = &place.bob.instance;
    assert!(matches!(domains.check(bob, domain.id).await, Err(Error::NotFound)), "another's");
    assert!(matches!(domains.remove(bob, domain.id, "bob").await, Err(Error::NotFound)));
}

#[tokio::test]
async fn an_owner_adds_proves_and_removes_a_domain_on_a_page_and_by_the_api() {
    let dns = NameServer::start().await;
    let site = WebFixture::with(&[("BERTH_DNS", &dns.address.to_string())]).await;
    let mut alice = site.member("alice").await;
    let refused = alice.post("/domains", "name=alice.localhost").await;
    assert_eq!(refused.in_short(), "422");
    assert!(refused.text().await.contains("A name that ends like this cannot be registered"));
    assert_eq!(alice.post("/domains", "name=Docs.Alice.Org").await.in_short(), "303 /domains");
    let page = alice.get("/domains").await.text().await;
    for said in [NAME, "_berth.docs.alice.org", "berth-", "alice.example.com", "not verified yet"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let listed = alice.get("/api/domains").await.json().await;
    let domain = &listed["items"][0];
    assert_eq!((domain["state"].as_str(), domain["url"].as_str()), (Some("claimed"), Some("https://docs.alice.org")));
    let check = format!("/domains/{}/check", domain["id"].as_str().unwrap());
    let not_yet = alice.post(&check, "").await;
    assert_eq!(not_yet.in_short(), "409");
    assert!(not_yet.text().await.contains("DNS does not show it yet"));
    dns.txt(domain["txt_name"].as_str().unwrap(), domain["proof"].as_str().unwrap());
    site.app.clock.advance(Duration::from_secs(5));
    assert_eq!(alice.post(&check, "").await.in_short(), "303 /domains");
    assert!(alice.get("/domains").await.text().await.contains("leads to your instance"));
    assert!(alice.get("/").await.text().await.contains("https://docs.alice.org"));
    let removed = alice.post(&check.replace("check", "remove"), "").await;
    assert_eq!(removed.in_short(), "303 /domains");

    let none = WebFixture::with(&[("BERTH_DOMAINS_PER_ACCOUNT", "0")]).await;
    let mut alice = none.member("alice").await;
    assert!(alice.get("/domains").await.text().await.contains("This server does not support custom domains."));
    let refused = alice.post_json("/api/domains", &serde_json::json!({ "name": NAME })).await;
    assert_eq!(refused.status.as_u16(), 409);
}
