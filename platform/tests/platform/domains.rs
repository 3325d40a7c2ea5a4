//! Domains: a name leads to the instance of whoever proves it, as long as they can, and is like its own host in every way.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use berth::domains::{Domain, Domains, State};
use berth::error::Error;
use berth::instances::{Cause, Fact, Wish};
use berth::sharing::Audience;
use tower::ServiceExt as _;

use berth_testing::fake_platform::{FakePlatform, Person, cookie_of, until};
use berth_testing::name_server::NameServer;
use berth_testing::web_client::WebFixture;
use berth_testing::{Database, databases, sqlite};

const NAME: &str = "docs.alice.org";
const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml");
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Alice and Bob, and the name server that their platform asks.
struct Place {
    dns: NameServer,
    town: FakePlatform,
    alice: Person,
    bob: Person,
}

impl Place {
    async fn new() -> Self {
        Self::on(sqlite().await).await
    }

    async fn on(database: Database) -> Self {
        let dns = NameServer::start().await;
        let town = FakePlatform::on(database, &[("BERTH_DNS", dns.address.to_string().leak())]).await;
        let [alice, bob] = [town.settle_in("alice").await, town.settle_in("bob").await];
        Self { dns, town, alice, bob }
    }

    fn domains(&self) -> &Domains {
        &self.town.app.domains
    }

    async fn claim(&self, by: &Person) -> Domain {
        self.domains().claim(&by.instance, NAME).await.unwrap()
    }

    /// Claims it, writes the proof into DNS and has it looked up.
    async fn prove(&self, by: &Person) -> Domain {
        let domain = self.claim(by).await;
        self.dns.txt(&domain.proof_name(), &domain.proof);
        self.domains().check(&by.instance, domain.id).await.unwrap()
    }

    /// A day passes, and what is due is looked at.
    async fn next_day(&self) -> u64 {
        self.town.clock.advance(DAY);
        self.domains().look_again().await.unwrap()
    }

    /// What Caddy is told.
    async fn ask(&self, name: &str) -> u16 {
        let ask = Router::new().route("/ask", get(berth::edge::ask)).with_state(self.town.app.clone());
        let asked = Request::get(format!("/ask?domain={name}")).body(Body::empty()).unwrap();
        ask.oneshot(asked).await.unwrap().status().as_u16()
    }

    async fn status(&self, name: &str, cookie: &str) -> u16 {
        self.town.get(name, "/", &[("cookie", cookie)]).await.status
    }
}

#[tokio::test]
async fn a_name_leads_to_whoever_proves_it_by_a_text_or_an_alias() {
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
            place.town.clock.advance(Duration::from_secs(5));
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
        assert!(matches!(refused, Err(Error::Conflict(_))), "an alias of alice's is no proof of bob's");
    }
}

#[tokio::test]
async fn a_domain_is_a_host_like_the_instances_own() {
    let place = Place::new().await;
    let (town, alice) = (&place.town, &place.alice);
    place.prove(alice).await;
    let app = format!("__Host-berth={}", alice.signed_in.session.reveal());
    let sent = town.get(NAME, "/echo?x=1", &[PAGE]).await;
    let way = sent.header("location").strip_prefix("https://app.example.com").unwrap().to_owned();
    assert!(way.starts_with("/hand-off?host=docs.alice.org&"), "{way}");
    let pending = sent.header("set-cookie").split(';').next().unwrap().to_owned();
    let handed = town.get("app.example.com", &way, &[("cookie", &app), PAGE]).await;
    let back = handed.header("location").strip_prefix("https://docs.alice.org").expect("back to the domain").to_owned();
    let home = town.get(NAME, &back, &[("cookie", &pending), PAGE]).await;
    assert_eq!((home.status, home.header("location")), (303, "/echo?x=1"));
    let cookie = home.headers.get_all("set-cookie").iter().map(|c| c.to_str().unwrap().split(';').next().unwrap());
    let cookie = cookie.into_iter().find(|c| c.starts_with("__Host-berth=")).unwrap().to_owned();

    let told = town.get(NAME, "/echo", &[("cookie", &cookie)]).await.text();
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
        assert_eq!(town.send("POST", NAME, "/echo", &headers, "x").await.status, status, "{origin}");
    }
    // A login of one host is none of the other.
    let own = town.instance_cookie(alice).await;
    assert_eq!(place.status(NAME, &own).await, 401);
    assert_eq!(place.status("alice.example.com", &cookie).await, 401);
    assert_eq!(place.status("alice.example.com", &own).await, 200);

    town.instances().sleep(&alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Stopped).await;
    let waiting = town.get(NAME, "/", &[("cookie", &cookie), PAGE]).await;
    assert_eq!(waiting.status, 503);
    assert!(waiting.text().contains("/.berth/assets/"), "{}", waiting.text());
    until(&alice.instance, |s| s.fact == Fact::Awake).await;
    assert_eq!(place.status(NAME, &cookie).await, 200);
}

#[tokio::test]
async fn what_is_shared_is_shared_at_a_domain_as_well_and_nothing_else() {
    let place = Place::new().await;
    let (town, sharing) = (&place.town, &place.town.app.sharing);
    let domain = place.prove(&place.alice).await;
    sharing.add(&place.alice.instance, "/echo", Audience::SignedIn).await.unwrap();
    let bobs = cookie_of(&town.app.accounts, &place.bob, NAME).await;
    assert_eq!(town.get(NAME, "/echo", &[("cookie", &bobs)]).await.status, 200);
    assert_eq!(place.status(NAME, &bobs).await, 403);
    let session = town.app.accounts.authenticate("app.example.com", place.bob.signed_in.session.reveal()).await;
    let way = town.app.accounts.way_to(&session.unwrap().unwrap(), NAME).unwrap();
    assert_eq!((way.handle.as_str(), way.origin.as_str()), ("alice", "https://docs.alice.org"));
    // The domain comes to Bob: what his browser had from the time when it was Alice's is no login of his instance.
    place.domains().remove(&place.alice.instance, domain.id, "alice").await.unwrap();
    assert_eq!(place.status(NAME, &bobs).await, 421);
    town.clock.advance(Duration::from_secs(5));
    place.prove(&place.bob).await;
    assert_eq!(place.status(NAME, &bobs).await, 401);
    let own = cookie_of(&town.app.accounts, &place.bob, NAME).await;
    assert_eq!(place.status(NAME, &own).await, 200);
}

#[tokio::test]
async fn claims_block_nobody_and_a_name_follows_its_proof() {
    for database in databases().await {
        let place = Place::on(database).await;
        let (alices, bobs) = (place.claim(&place.alice).await, place.claim(&place.bob).await);
        assert_ne!(alices.proof, bobs.proof);
        place.dns.txt(&alices.proof_name(), &alices.proof);
        place.domains().check(&place.alice.instance, alices.id).await.unwrap();
        let refused = place.domains().check(&place.bob.instance, bobs.id).await;
        assert!(matches!(refused, Err(Error::Conflict(_))));
        // The domain is sold: another text stands there now.
        place.town.clock.advance(Duration::from_secs(5));
        place.dns.txt(&bobs.proof_name(), &bobs.proof);
        place.domains().check(&place.bob.instance, bobs.id).await.unwrap();
        let standing = |resident: &Person| place.domains().of(resident.instance.id)[0].is_proven();
        assert_eq!((standing(&place.alice), standing(&place.bob)), (false, true));
        let entrance = place.domains().entrance(NAME).unwrap();
        assert_eq!(entrance.handle.as_str(), "bob");
        // What is in memory is what is on disk.
        let app = &place.town.app;
        let again = Domains::open(app.db.clone(), app.clock.clone(), app.instances.clone(), &app.config).await.unwrap();
        assert_eq!(again.entrance(NAME), Some(entrance));
        assert!(!again.of(place.alice.instance.id)[0].is_proven());
    }
}

#[tokio::test]
async fn who_still_proves_a_name_keeps_it() {
    let place = Place::new().await;
    let alices = place.prove(&place.alice).await;
    let bobs = place.claim(&place.bob).await;
    // Both proofs stand there: one as a text, the other as an alias.
    place.dns.cname(NAME, "bob.example.com");
    let refused = place.domains().check(&place.bob.instance, bobs.id).await.unwrap_err();
    assert!(refused.to_string().contains("its proof is still in DNS"), "{refused}");
    assert_eq!(place.domains().entrance(NAME).unwrap().handle.as_str(), "alice");
    assert_eq!(place.domains().of(place.alice.instance.id)[0].id, alices.id);
}

#[tokio::test]
async fn a_proof_that_is_gone_for_three_days_in_a_row_loses_the_name() {
    let place = Place::new().await;
    let domain = place.prove(&place.alice).await;
    let standing = || place.domains().of(place.alice.instance.id)[0].state;
    let missed = |state| if let State::Proven { missed, .. } = state { Some(missed) } else { None };
    let asked = place.dns.asked();
    place.domains().look_again().await.unwrap();
    assert_eq!(place.dns.asked(), asked, "once a day");
    place.next_day().await;
    assert!(place.dns.asked() > asked && missed(standing()) == Some(0));

    place.dns.clear();
    for day in 1..=2 {
        assert_eq!((place.next_day().await, missed(standing())), (0, Some(day)));
        let asked = place.domains().check(&place.alice.instance, domain.id).await;
        assert!(matches!(asked, Err(Error::Conflict(_))), "asking puts nothing off");
    }
    place.dns.cname(NAME, "alice.example.com");
    assert_eq!((place.next_day().await, missed(standing())), (0, Some(0)), "another proof is as good");
    place.dns.clear();
    place.next_day().await;
    place.dns.keep_silent(true);
    assert_eq!((place.next_day().await, missed(standing())), (0, Some(1)), "silence is no word");
    place.dns.keep_silent(false);
    assert_eq!((place.domains().look_again().await.unwrap(), missed(standing())), (0, Some(2)), "and is asked again");
    assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (401, 200), "until then it leads there");
    assert_eq!((place.next_day().await, standing()), (1, State::Claimed));
    assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (421, 403));
}

#[tokio::test]
async fn a_domain_goes_with_its_owner_and_sleeps_with_a_suspension() {
    for database in databases().await {
        let place = Place::on(database).await;
        let (town, handle) = (&place.town, &place.alice.instance.handle);
        place.prove(&place.alice).await;
        town.app.accounts.suspend(handle, "operator").await.unwrap();
        assert_eq!(place.ask(NAME).await, 403, "no certificate for what is closed");
        town.app.accounts.restore(handle, "operator").await.unwrap();
        assert_eq!(place.ask(NAME).await, 200);
        town.app.accounts.delete(handle, "operator").await.unwrap();
        town.look().await;
        town.app.accounts.see_off(&town.app.modules).await.unwrap();
        town.wait(7 * DAY).await;
        assert_eq!(town.app.accounts.see_off(&town.app.modules).await.unwrap(), 1);
        assert_eq!((place.status(NAME, "").await, place.ask(NAME).await), (421, 403));
        place.prove(&place.bob).await;
    }
}

#[tokio::test]
async fn an_owner_claims_names_there_are_and_so_many_and_asks_so_often() {
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
    assert!(
        matches!(domains.claim(alice, "c.alice.org").await, Err(Error::Conflict(_))),
        "three are as many as may be"
    );
    assert!(matches!(domains.check(alice, domain.id).await, Err(Error::Conflict(_))));
    let asked = place.dns.asked();
    assert!(matches!(domains.check(alice, domain.id).await, Err(Error::TooMany { .. })), "at once again");
    assert_eq!(place.dns.asked(), asked);
    place.town.clock.advance(Duration::from_secs(5));
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
    assert!(refused.text().await.contains("Nobody can own a name that ends like this"));
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
