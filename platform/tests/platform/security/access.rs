//! Access control: every route of the two route tables, requested in every role. A route without a row here fails the
//! test, and so does a row without a route.
//!
//! Three routers have no table, because they own a path or two and pass the rest on: the instances' hosts (see
//! `edge.rs`), the quota proxy (`llm.rs`), and the internal listener with Caddy's `ask`, metrics and health.

use std::collections::BTreeMap;

use axum::http::Method;
use berth::alarms::Schedule;
use berth::own_keys::KeyOwner;
use berth::sharing::ShareAudience;
use berth::web::{AccessLevel, Route, apex_routes, app_routes};
use berth::webhooks::WebhookRequest;
use berth_ground::handle::Handle;
use serde_json::json;

use berth_testing::name_server::NameServer;
use berth_testing::web_client::{WebClient, WebFixture};

/// The roles: no session, a sign-up under way, a log-in under way, another member, the operator, and the member who
/// owns everything that the paths name.
const ROLES: [&str; 6] = ["no session", "signing up", "logging in", "another", "operator", "member"];

/// The response to each role: its status, and the target of a redirect.
const EXPECTED: &[(&str, [&str; 6])] = &[
    ("GET /assets/{*path}", ["200", "200", "200", "200", "200", "200"]),
    ("GET /sign-up", ["200", "200", "200", "200", "200", "200"]),
    ("GET /sign-up/passkey", ["303 /sign-up", "200", "409", "303 /sign-up", "303 /sign-up", "303 /sign-up"]),
    (
        "GET /sign-up/code",
        ["303 /sign-up", "303 /sign-up/passkey", "409", "303 /sign-up", "303 /sign-up", "303 /sign-up"],
    ),
    (
        "GET /sign-up/recovery-codes",
        ["303 /sign-up", "303 /sign-up/passkey", "409", "303 /sign-up", "303 /sign-up", "303 /sign-up"],
    ),
    ("GET /welcome", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /log-in", ["200", "200", "200", "200", "200", "200"]),
    ("GET /log-in/code", ["303 /log-in", "200", "200", "303 /log-in", "303 /log-in", "303 /log-in"]),
    ("GET /recover", ["200", "200", "200", "200", "200", "200"]),
    (
        "GET /hand-off",
        ["303 /log-in", "303 /log-in", "303 /log-in", "403", "403", "303 https://alice.example.com/.berth/callback"],
    ),
    ("POST /hand-off", ["303 /log-in", "303 /log-in", "303 /log-in", "422", "422", "422"]),
    ("GET /", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /instance/events", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /passkeys", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /account/delete", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /account/deletion", ["303 /log-in", "303 /log-in", "303 /log-in", "303 /", "303 /", "303 /"]),
    ("POST /account/delete", ["303 /log-in", "303 /log-in", "303 /log-in", "422", "422", "422"]),
    ("POST /account/deletion/cancel", ["303 /log-in", "303 /log-in", "303 /log-in", "303 /", "303 /", "303 /"]),
    ("GET /admin/spend", ["308 /admin/usage"; 6]),
    ("GET /mailbox", ["308 /webhooks"; 6]),
    ("GET /mailbox/{*path}", ["308 /webhooks/berth.css"; 6]),
    ("GET /spend", ["308 /usage"; 6]),
    ("GET /spend/{*path}", ["308 /usage/berth.css"; 6]),
    ("GET /leave", ["308 /account/delete"; 6]),
    ("GET /leave/{*path}", ["308 /account/delete/berth.css"; 6]),
    ("GET /leaving", ["308 /account/deletion"; 6]),
    ("GET /leaving/{*path}", ["308 /account/deletion/berth.css"; 6]),
    ("GET /admin", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "200", "403"]),
    ("GET /usage", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /usage/receipts", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /usage/receipts/{id}", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "200"]),
    ("GET /usage/export", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /own-keys", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("POST /own-keys/{provider}", ["303 /log-in", "303 /log-in", "303 /log-in", "422", "422", "422"]),
    ("POST /own-keys/{provider}/remove", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "303 /own-keys"]),
    ("GET /api/receipts", ["401", "401", "401", "200", "200", "200"]),
    ("GET /api/receipts/key", ["401", "401", "401", "200", "200", "200"]),
    ("GET /api/receipts/{id}", ["401", "401", "401", "404", "404", "200"]),
    ("GET /admin/usage", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "200", "403"]),
    ("GET /admin/users/{handle}", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "404", "403"]),
    ("POST /admin/users/{handle}/limits", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "404", "403"]),
    ("POST /admin/users/{handle}/credit", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "404", "403"]),
    ("POST /admin/bill-comparison", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "422", "403"]),
    ("GET /admin/prices", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "200", "403"]),
    ("POST /admin/prices", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "422", "403"]),
    ("GET /admin/prices/{version}", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "404", "403"]),
    ("POST /admin/prices/{version}/activate", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "404", "403"]),
    ("GET /admin/prices/{version}/repricing", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "404", "403"]),
    ("POST /admin/prices/{version}/repricing", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "404", "403"]),
    ("GET /webhooks", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("GET /api/webhooks", ["401", "401", "401", "200", "200", "200"]),
    ("GET /sharing", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("POST /sharing", ["303 /log-in", "303 /log-in", "303 /log-in", "422", "422", "422"]),
    ("POST /sharing/{id}/remove", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "303 /sharing"]),
    ("GET /api/shares", ["401", "401", "401", "200", "200", "200"]),
    ("POST /api/shares", ["401", "401", "401", "422", "422", "422"]),
    ("DELETE /api/shares/{id}", ["401", "401", "401", "404", "404", "204"]),
    ("GET /domains", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("POST /domains", ["303 /log-in", "303 /log-in", "303 /log-in", "422", "422", "422"]),
    ("POST /domains/{id}/check", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "409"]),
    ("POST /domains/{id}/remove", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "303 /domains"]),
    ("GET /api/domains", ["401", "401", "401", "200", "200", "200"]),
    ("POST /api/domains", ["401", "401", "401", "422", "422", "422"]),
    ("POST /api/domains/{id}/check", ["401", "401", "401", "404", "404", "409"]),
    ("DELETE /api/domains/{id}", ["401", "401", "401", "404", "404", "204"]),
    ("GET /api/alarms", ["401", "401", "401", "200", "200", "200"]),
    ("GET /api/account", ["401", "401", "401", "200", "200", "200"]),
    ("GET /api/instance", ["401", "401", "401", "200", "200", "200"]),
    ("GET /api/instance/ports", ["401", "401", "401", "200", "200", "200"]),
    ("GET /api/usage", ["401", "401", "401", "200", "200", "200"]),
    ("GET /api/handles/{handle}", ["200", "200", "200", "200", "200", "200"]),
    ("POST /sign-up", ["422", "422", "422", "422", "422", "422"]),
    ("POST /sign-up/passkey/challenge", ["409", "200", "409", "409", "409", "409"]),
    ("POST /sign-up/passkey", ["409", "422", "409", "409", "409", "409"]),
    (
        "POST /sign-up/code",
        ["303 /sign-up", "303 /sign-up/passkey", "409", "303 /sign-up", "303 /sign-up", "303 /sign-up"],
    ),
    ("POST /sign-up/finish", ["303 /sign-up", "409", "409", "303 /sign-up", "303 /sign-up", "303 /sign-up"]),
    ("POST /log-in/challenge", ["200", "200", "200", "200", "200", "200"]),
    ("POST /log-in", ["409", "403", "403", "409", "409", "409"]),
    ("POST /log-in/code", ["303 /log-in", "403", "422", "303 /log-in", "303 /log-in", "303 /log-in"]),
    ("POST /recover", ["403", "403", "403", "403", "403", "403"]),
    ("POST /log-out", ["303 /log-in", "303 /log-in", "303 /log-in", "303 /log-in", "303 /log-in", "303 /log-in"]),
    ("POST /instance/wake", ["303 /log-in", "303 /log-in", "303 /log-in", "303 /", "303 /", "303 /"]),
    ("POST /instance/sleep", ["303 /log-in", "303 /log-in", "303 /log-in", "303 /", "303 /", "303 /"]),
    ("POST /instance/stop", ["303 /log-in", "303 /log-in", "303 /log-in", "303 /", "303 /", "303 /"]),
    ("POST /instance/upgrade", ["303 /log-in", "303 /log-in", "303 /log-in", "303 /", "303 /", "303 /"]),
    (
        "POST /instance/ports",
        ["303 /log-in", "303 /log-in", "303 /log-in", "303 /#ports", "303 /#ports", "303 /#ports"],
    ),
    ("POST /admin/instances/{handle}/stop", ["303 /log-in", "303 /log-in", "303 /log-in", "403", "404", "403"]),
    ("POST /sessions/{id}/end", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "303 /log-in"]),
    ("POST /passkeys/challenge", ["401", "401", "401", "200", "200", "200"]),
    ("POST /passkeys", ["401", "401", "401", "409", "409", "409"]),
    ("POST /passkeys/{id}/remove", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "404"]),
    ("POST /recovery-codes", ["303 /log-in", "303 /log-in", "303 /log-in", "200", "200", "200"]),
    ("POST /webhooks/paths", ["303 /log-in", "303 /log-in", "303 /log-in", "422", "422", "422"]),
    ("POST /webhooks/paths/close", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "404"]),
    (
        "POST /webhooks/deliveries/{id}/retry",
        ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "303 /webhooks#deliveries"],
    ),
    (
        "POST /webhooks/deliveries/{id}/discard",
        ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "303 /webhooks#deliveries"],
    ),
    ("POST /alarms/{name}/delete", ["303 /log-in", "303 /log-in", "303 /log-in", "404", "404", "303 /webhooks#alarms"]),
    ("POST /api/webhooks/paths", ["401", "401", "401", "422", "422", "422"]),
    ("DELETE /api/webhooks/paths/{*path}", ["401", "401", "401", "404", "404", "404"]),
    ("GET /api/webhooks/paths", ["401", "401", "401", "200", "200", "200"]),
    ("GET /api/webhooks/deliveries", ["401", "401", "401", "200", "200", "200"]),
    ("POST /api/webhooks/deliveries/{id}/retry", ["401", "401", "401", "404", "404", "202"]),
    ("DELETE /api/webhooks/deliveries/{id}", ["401", "401", "401", "404", "404", "204"]),
    ("DELETE /api/alarms/{name}", ["401", "401", "401", "404", "404", "204"]),
    ("POST /api/instance/wake", ["401", "401", "401", "202", "202", "202"]),
    ("POST /api/instance/sleep", ["401", "401", "401", "202", "202", "202"]),
    ("POST /api/instance/stop", ["401", "401", "401", "202", "202", "202"]),
    ("POST /api/instance/upgrade", ["401", "401", "401", "202", "202", "202"]),
    ("PUT /api/instance/ports", ["401", "401", "401", "422", "422", "422"]),
];

/// The routes of the apex, which shows every visitor the same.
const APEX: &[&str] = &["GET /", "GET /awake", "GET /assets/{*path}"];

/// Replaces the parameters of a path. Ids of sessions, webhook deliveries, shares, receipts, domains and own keys are
/// the member's.
fn path_of(route: &Route, id: &str) -> String {
    if route.path == "/hand-off" {
        return format!("/hand-off?host=alice.example.com&state=s&challenge={}", "c".repeat(43));
    }
    route
        .path
        .replace("{*path}", "berth.css")
        .replace("{id}", id)
        .replace("{handle}", "walter")
        .replace("{name}", "nightly")
        .replace("{provider}", "anthropic")
}

struct Cast([WebClient; 6]);

impl Cast {
    async fn of(site: &WebFixture) -> Self {
        let operator = site.operator("olivia").await;
        let member = site.member("alice").await;
        let another = site.member("boris").await;
        // Objects of the member, which the other roles then try to reach.
        let instance = site.app.instances.by_handle(&Handle::parse("alice").unwrap()).unwrap();
        site.app.sharing.add(&instance, "/docs", ShareAudience::Everyone { wakes: false }).await.unwrap();
        site.app.domains.claim(&instance, "docs.alice.org").await.unwrap();
        let owner = KeyOwner { account: instance.account, handle: &instance.handle };
        site.app.own_keys.set(owner, "anthropic", "sk-ant-alices-own-key").await.unwrap();
        site.app.quota.begin().await.unwrap();
        crate::quota::usage::call(&site.app, "alice", "", 10).await;
        let instance = instance.id;
        let request =
            WebhookRequest { method: "POST".into(), target: "/hooks/a".into(), headers: Vec::new(), body: "x".into() };
        site.app.webhooks.enqueue(instance, request).await.unwrap();
        site.app.alarms.set(instance, "nightly", Schedule::Cron("30 3 * * *".into()), None).await.unwrap();
        let mut signing_up = site.visitor();
        signing_up.post("/sign-up", "handle=carol").await;
        let mut logging_in = site.visitor();
        logging_in.browser = member.browser.clone();
        assert_eq!(logging_in.present_passkey("").await, "/log-in/code");
        Self([site.visitor(), signing_up, logging_in, another, operator, member])
    }

    /// The member's own session, from the dashboard.
    async fn session(&mut self) -> String {
        let page = self.0[5].get("/").await.text().await;
        page.split("/sessions/").nth(1).expect("the dashboard lists sessions").split('/').next().unwrap().to_owned()
    }

    /// The member's own webhook delivery, from the API.
    async fn delivery(&mut self) -> String {
        let deliveries = self.0[5].get("/api/webhooks/deliveries").await.json().await;
        deliveries["items"][0]["id"].as_str().expect("a delivery waits").to_owned()
    }

    /// The member's own share, from the API.
    async fn share(&mut self) -> String {
        let shares = self.0[5].get("/api/shares").await.json().await;
        shares["items"][0]["id"].as_str().expect("something is shared").to_owned()
    }

    /// The member's own domain, from the API.
    async fn domain(&mut self) -> String {
        let domains = self.0[5].get("/api/domains").await.json().await;
        domains["items"][0]["id"].as_str().expect("a domain is claimed").to_owned()
    }

    /// The member's own receipt, from the API.
    async fn receipt(&mut self) -> String {
        let receipts = self.0[5].get("/api/receipts").await.json().await;
        receipts["items"][0]["id"].as_str().expect("a call was made").to_owned()
    }

    async fn try_all(&mut self, route: &Route) -> (String, Vec<String>) {
        let id = match route.path {
            path if path.contains("/deliveries/") => self.delivery().await,
            path if path.contains("/sharing/") || path.contains("/shares/") => self.share().await,
            path if path.contains("/receipts/") => self.receipt().await,
            path if path.contains("/domains/") => self.domain().await,
            _ => self.session().await,
        };
        let path = path_of(route, &id);
        let mut row = Vec::new();
        for visitor in &mut self.0 {
            row.push(try_it(visitor, route, &path).await);
        }
        (format!("{} {}", route.method, route.path), row)
    }
}

async fn try_it(visitor: &mut WebClient, route: &Route, path: &str) -> String {
    let scripted =
        ["/passkeys", "/log-in", "challenge", "/sign-up/passkey"].iter().any(|end| route.path.ends_with(end));
    let answer = match route.method {
        Method::GET => visitor.get(path).await,
        _ if scripted || route.path.starts_with("/api/") => {
            visitor.send_json(route.method.clone(), path, &json!({})).await
        }
        _ => visitor.post(path, "").await,
    };
    // Codes and return paths differ each time; the tests of the pages check them.
    answer.in_short().split('?').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_route_answers_every_role_as_written_down() {
    let expected: BTreeMap<&str, [&str; 6]> = EXPECTED.iter().copied().collect();
    let (looks, acts): (Vec<Route>, Vec<Route>) =
        app_routes().into_iter().partition(|route| route.method == Method::GET);
    let mut seen = Vec::new();
    let dns = NameServer::start().await;
    let address = dns.address.to_string();
    let settings = [("BERTH_DNS", address.as_str())];
    let site = WebFixture::with(&settings).await;
    let mut cast = Cast::of(&site).await;
    for route in &looks {
        seen.push(cast.try_all(route).await);
    }
    // A request that changes something would change the result of the next one, so each route gets a fresh platform.
    for route in &acts {
        let site = WebFixture::with(&settings).await;
        seen.push(Cast::of(&site).await.try_all(route).await);
    }
    let mut wrong = String::new();
    for (route, row) in &seen {
        if expected.get(route.as_str()).is_none_or(|want| want.as_slice() != row.as_slice()) {
            wrong.push_str(&format!("    (\"{route}\", {row:?}),\n"));
        }
    }
    let known: Vec<&str> = seen.iter().map(|(route, _)| route.as_str()).collect();
    let gone: Vec<&&str> = expected.keys().filter(|route| !known.contains(route)).collect();
    assert!(
        wrong.is_empty() && gone.is_empty(),
        "{ROLES:?} got other responses:\n{wrong}rows without a route: {gone:?}"
    );
}

#[tokio::test]
async fn an_account_scheduled_for_deletion_can_cancel_or_log_out_and_nothing_else() {
    for admin in [false, true] {
        let site = WebFixture::new().await;
        let mut leaver = if admin { site.operator("alice").await } else { site.member("alice").await };
        let left = leaver.post("/account/delete", "handle=alice").await;
        assert_eq!(left.in_short(), "200");
        assert!(left.text().await.contains("Your account is scheduled for deletion, alice"));
        assert_eq!(leaver.get("/").await.in_short(), "303 /log-in", "logged out at once");
        let mut next = leaver.present_passkey("").await;
        if next == "/log-in/code" {
            let code = format!("code={}", leaver.fresh_code());
            next = leaver.post("/log-in/code", &code).await.in_short();
        }
        assert!(next.ends_with('/'), "{next}");
        for route in
            app_routes().iter().filter(|route| matches!(route.access, AccessLevel::Member | AccessLevel::Admin))
        {
            let path = path_of(route, "1");
            let seen = try_it(&mut leaver, route, &path).await;
            assert!(seen == "303 /account/deletion" || seen == "403", "{} {path}: {seen}", route.method);
        }
        let page = leaver.get("/account/deletion").await;
        assert_eq!(page.in_short(), "200");
        assert!(page.text().await.contains("Keep my account"));
        assert_eq!(leaver.post("/account/deletion/cancel", "").await.in_short(), "303 /");
        assert_eq!(leaver.get("/").await.in_short(), "200", "as if nothing had been");
    }
}

#[tokio::test]
async fn the_apex_is_the_same_for_every_visitor_and_sets_no_cookie() {
    let site = WebFixture::new().await;
    let Cast(cast) = Cast::of(&site).await;
    let routes = apex_routes();
    let known: Vec<String> = routes.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(known, APEX);
    for route in &routes {
        let mut seen = Vec::new();
        for visitor in &cast {
            let answer = visitor.at(&site.apex).get(&path_of(route, "1")).await;
            assert_eq!((answer.in_short().as_str(), answer.header("set-cookie")), ("200", ""), "{}", route.path);
            seen.push(answer.text().await);
        }
        assert!(seen.iter().all(|page| *page == seen[0]), "{} tells visitors apart", route.path);
    }
}

#[tokio::test]
async fn no_request_from_another_site_changes_anything() {
    let site = WebFixture::new().await;
    let mut operator = site.operator("olivia").await;
    let foreign: [&[(&str, &str)]; 5] = [
        &[("sec-fetch-site", "same-site"), ("origin", "https://boris.example.com")],
        &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.test")],
        &[("origin", "https://boris.example.com")],
        &[("sec-fetch-site", "none")],
        &[],
    ];
    for route in app_routes().iter().filter(|route| route.method != Method::GET) {
        for headers in foreign {
            let mut request = WebClient::request(route.method.clone(), &path_of(route, "1"));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let status = operator.send(request).await.status;
            assert_eq!(status.as_u16(), 403, "{} {} with {headers:?}", route.method, route.path);
        }
    }
    assert_eq!(operator.get("/").await.in_short(), "200", "and the session still stands");
}

#[tokio::test]
async fn a_sibling_can_link_to_a_page_and_not_embed_it() {
    let site = WebFixture::new().await;
    let mut member = site.member("alice").await;
    for (dest, status) in [("document", 200), ("iframe", 403), ("image", 403), ("script", 403)] {
        let request = WebClient::request(Method::GET, "/").header("accept", "text/html");
        let request = request.header("sec-fetch-site", "same-site").header("sec-fetch-dest", dest);
        assert_eq!(member.send(request).await.status.as_u16(), status, "{dest}");
    }
}

#[tokio::test]
async fn a_planted_cookie_logs_nobody_in() {
    let site = WebFixture::new().await;
    let member = site.member("alice").await;
    let session = &member.cookies["__Host-berth"];
    for jar in [
        format!("__%48ost-berth={session}"),
        format!("__host-berth={session}"),
        format!("__Host-berth={session}; __Host-berth=theirs"),
    ] {
        let request = WebClient::request(Method::GET, "/").header("accept", "text/html").header("cookie", &jar);
        assert_eq!(site.visitor().send(request).await.in_short(), "303 /log-in", "{jar}");
    }
}
