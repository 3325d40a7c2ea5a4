//! The pages and the API of the platform, used step by step.

use axum::http::{Method, Request, StatusCode};
use berth::web::app_routes;
use berth_testing::web_client::{Answer, WebClient, WebFixture};
use serde_json::json;
use tower::ServiceExt as _;

const HAND_OFF: &str =
    "/hand-off?host=alice.example.com&state=s-1&challenge=ccccccccccccccccccccccccccccccccccccccccccc";

fn assert_guarded(answer: &Answer, what: &str) {
    let policy = answer.header("content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{what}: {policy} lacks {part}");
    }
    assert!(!policy.contains("unsafe"), "{what}");
    for (name, value) in [
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("origin-agent-cluster", "?1"),
    ] {
        assert_eq!(answer.header(name), value, "{what}: {name}");
    }
    assert!(!answer.header("permissions-policy").is_empty(), "{what}");
}

#[tokio::test]
async fn every_page_is_guarded_by_its_headers_and_private_ones_are_not_kept() {
    let site = WebFixture::new().await;
    let mut operator = site.operator("olivia").await;
    for route in app_routes().iter().filter(|route| route.method == Method::GET) {
        let answer = operator.get(&route.path.replace("{*path}", "berth.css")).await;
        assert_guarded(&answer, route.path);
        let kept = answer.header("cache-control");
        let public = route.path.starts_with("/assets/");
        assert!(kept.contains("no-store") || public || kept == "no-cache", "{} is kept: {kept}", route.path);
    }
    assert_guarded(&operator.get("/no-such-page").await, "a page that is not there");
    assert_guarded(&operator.post("/no-such-page", "").await, "a form that is not there");
}

#[tokio::test]
async fn on_localhost_other_programs_of_the_machine_keep_http() {
    let site = WebFixture::with(&[("BERTH_DOMAIN", "localhost")]).await;
    assert_eq!(site.visitor().get("/log-in").await.header("strict-transport-security"), "");
}

#[tokio::test]
async fn the_landing_page_counts_and_sends_its_form_to_the_app() {
    let site = WebFixture::new().await;
    let ask = |path: &str| Request::get(path).header("accept", "text/html").body(axum::body::Body::empty()).unwrap();
    let page = site.apex.clone().oneshot(ask("/")).await.unwrap();
    assert!(
        page.headers()["content-security-policy"].to_str().unwrap().contains("form-action https://app.example.com;")
    );
    assert!(page.headers().get("set-cookie").is_none());
    let count = site.apex.clone().oneshot(ask("/awake")).await.unwrap();
    let count = axum::body::to_bytes(count.into_body(), 100).await.unwrap();
    assert_eq!(&count[..], br#"{"awake":0}"#);
    assert_eq!(site.apex.clone().oneshot(ask("/log-in")).await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_landing_page_denies_nothing_that_sharing_webhooks_and_alarms_do() {
    let site = WebFixture::new().await;
    let ask = Request::get("/").header("accept", "text/html").body(axum::body::Body::empty()).unwrap();
    let page = site.apex.clone().oneshot(ask).await.unwrap();
    let page = axum::body::to_bytes(page.into_body(), 1 << 20).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    for denial in
        ["Only you have access", "No one else can open", "can wake it", "not public hosting", "until you are back"]
    {
        assert!(!page.contains(denial), "{denial}");
    }
    for fact in
        ["to named accounts", "to everyone", "whether visitors may wake it", "A visit, a webhook or an alarm wakes it"]
    {
        assert!(page.contains(fact), "{fact}");
    }
}

#[tokio::test]
async fn errors_are_pages_for_people_and_problems_for_programs() {
    let site = WebFixture::new().await;
    let mut visitor = site.visitor();
    let page = visitor.get("/no-such-page").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (404, "text/html; charset=utf-8"));
    assert!(page.text().await.contains("There is nothing here by that name."));

    let problem = visitor.get("/api/account").await;
    assert_eq!((problem.status.as_u16(), problem.header("content-type")), (401, "application/problem+json"));
    let problem = problem.json().await;
    assert_eq!((&problem["status"], &problem["code"]), (&json!(401), &json!("unauthenticated")));
    assert!(problem["instance"].is_null(), "there is nothing in the log to find by an id: {problem}");
    assert!(["type", "title", "detail"].iter().all(|part| problem[part].is_string()), "{problem}");

    let wrong_method = visitor.send(WebClient::request(Method::GET, "/log-out")).await;
    assert_eq!(
        (wrong_method.status.as_u16(), wrong_method.json().await["code"].clone()),
        (405, json!("method_not_allowed"))
    );
    let too_large = visitor.post("/sign-up", &format!("handle={}", "a".repeat(100_000))).await;
    assert_eq!(too_large.status.as_u16(), 413);
    let malformed = visitor.get("/sign-up?handle=%ff").await;
    assert!(malformed.status.is_client_error() || malformed.status.is_success(), "{}", malformed.status);
}

#[tokio::test]
async fn former_addresses_redirect_permanently_with_what_follows_them() {
    let site = WebFixture::new().await;
    let mut alice = site.member("alice").await;
    for (former, present) in [
        ("/mailbox", "/webhooks"),
        ("/mailbox?state=failed", "/webhooks?state=failed"),
        ("/spend/receipts?before=7", "/usage/receipts?before=7"),
        ("/spend/receipts/0191d9a5", "/usage/receipts/0191d9a5"),
        ("/leave", "/account/delete"),
        ("/leaving", "/account/deletion"),
        ("/leaving/a?b=c", "/account/deletion/a?b=c"),
        ("/admin/spend?page=2", "/admin/usage?page=2"),
        ("/mailbox//evil.example", "/webhooks//evil.example"),
    ] {
        assert_eq!(alice.get(former).await.in_short(), format!("308 {present}"), "{former}");
    }
    assert_eq!(alice.get("/leavings").await.in_short(), "404");
    assert_eq!(alice.post("/leave", "").await.in_short(), "405", "a form of an open page is not sent elsewhere");
}

#[tokio::test]
async fn without_a_session_the_front_page_sends_people_to_log_in_and_tells_programs() {
    let site = WebFixture::new().await;
    let mut visitor = site.visitor();
    assert_eq!(visitor.get("/").await.in_short(), "303 /log-in");
    for accept in ["*/*", "application/json"] {
        let answer = visitor.send(WebClient::request(Method::GET, "/").header("accept", accept)).await;
        assert_eq!((answer.in_short().as_str(), answer.header("content-type")), ("401", "application/problem+json"));
        assert_eq!(answer.json().await["code"], json!("unauthenticated"));
    }
}

#[tokio::test]
async fn a_taken_handle_gets_a_sentence_and_suggestions_and_stays_in_the_field() {
    let site = WebFixture::new().await;
    site.member("alice").await;
    let mut visitor = site.visitor();
    let page = visitor.post("/sign-up", "handle=alice").await;
    assert!(page.status.is_client_error());
    let page = page.text().await;
    assert!(page.contains("value=\"alice\"") && page.contains("data-suggestion") && page.contains("note bad"));
    let answer = visitor.get("/api/handles/alice").await.json().await;
    assert_eq!(answer["available"], json!(false));
    assert!(!answer["suggestions"].as_array().unwrap().is_empty());
    let free = visitor.get("/api/handles/walter").await.json().await;
    assert_eq!(free["available"], json!(true));
    let short = visitor.get("/api/handles/al").await.json().await;
    assert_eq!(short["note"], json!("Too short: a handle has at least 3 characters."));
}

#[tokio::test]
async fn a_browser_that_goes_back_finds_its_handle_its_own() {
    let site = WebFixture::new().await;
    let mut carol = site.visitor();
    carol.post("/sign-up", "handle=carol").await;
    let answer = carol.get("/api/handles/Carol").await.json().await;
    assert_eq!((&answer["available"], &answer["suggestions"]), (&json!(true), &json!([])), "{answer}");
    let page = carol.get("/sign-up?handle=carol").await.text().await;
    assert!(page.contains("It is yours already") && !page.contains("note bad"));
    let another = site.visitor().get("/api/handles/carol").await.json().await;
    assert_eq!(another["available"], json!(false));
}

#[tokio::test]
async fn a_wrong_code_while_signing_up_loses_nothing() {
    let site = WebFixture::new().await;
    let mut visitor = site.visitor();
    visitor.post("/sign-up", "handle=alice").await;
    let options = visitor.post_json("/sign-up/passkey/challenge", &json!({})).await.json().await;
    let answer = visitor.browser.create(&options).await;
    visitor.post_json("/sign-up/passkey", &answer).await;
    let first = visitor.get("/sign-up/code").await.text().await;
    let again = visitor.post("/sign-up/code", "code=12").await;
    assert!(again.status.is_client_error());
    let again = again.text().await;
    let secret = |page: &str| page.split("class=\"secret\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(secret(&again), secret(&first), "the same secret is shown again");
    assert!(again.contains("role=\"alert\"") && again.contains("aria-invalid=\"true\""));
}

#[tokio::test]
async fn closed_sign_ups_say_so_and_the_set_up_link_still_works() {
    let site = WebFixture::with(&[("BERTH_SIGNUPS", "closed")]).await;
    assert!(site.visitor().get("/sign-up").await.text().await.contains("Sign-ups are closed"));
    assert!(site.visitor().post("/sign-up", "handle=alice").await.status.is_client_error());
    let mut operator = site.operator("olivia").await;
    assert_eq!(operator.get("/admin").await.in_short(), "200");
}

#[tokio::test]
async fn a_known_browser_logs_in_with_the_passkey_alone_and_a_new_one_is_asked_for_a_code() {
    let site = WebFixture::new().await;
    let mut alice = site.member("alice").await;
    assert_eq!(alice.post("/log-out", "").await.in_short(), "303 /log-in");
    assert_eq!(alice.get("/").await.in_short(), "303 /log-in");
    assert_eq!(alice.present_passkey("").await, "/");
    assert_eq!(alice.get("/").await.in_short(), "200");

    let mut phone = site.visitor();
    (phone.browser, phone.code_app) = (alice.browser.clone(), alice.code_app.clone());
    assert_eq!(phone.present_passkey("").await, "/log-in/code");
    let wrong = phone.post("/log-in/code", "code=12").await;
    assert!(wrong.status.is_client_error() && wrong.text().await.contains("role=\"alert\""));
    let code = phone.fresh_code();
    assert_eq!(phone.post("/log-in/code", &format!("code={code}")).await.in_short(), "303 /");
    assert_eq!(phone.get("/").await.in_short(), "200");
}

#[tokio::test]
async fn a_log_in_on_the_way_to_an_instance_leads_on_to_it() {
    let site = WebFixture::new().await;
    let alice = site.member("alice").await;
    let mut phone = site.visitor();
    (phone.browser, phone.code_app) = (alice.browser.clone(), alice.code_app.clone());
    let sent = phone.get(HAND_OFF).await.in_short();
    let query = sent.strip_prefix("303 /log-in").expect("nobody logs in first").to_owned();
    assert!(phone.get(&format!("/log-in{query}")).await.text().await.contains("alice.example.com"));
    assert_eq!(phone.present_passkey(&query).await, format!("/log-in/code{query}"));
    let code = phone.fresh_code();
    let next = query.strip_prefix("?next=").unwrap();
    let page = phone.post("/log-in/code", &format!("code={code}&next={next}")).await;
    // A page and not a redirect: `form-action` also applies to redirects of a form's response, and forbids another
    // host.
    assert_eq!(page.in_short(), "200");
    assert!(page.text().await.contains("http-equiv=\"refresh\""));
    let on = phone.get(HAND_OFF).await.in_short();
    assert!(
        on.starts_with("303 https://alice.example.com/.berth/callback?code=") && on.ends_with("&state=s-1"),
        "{on}"
    );
}

#[tokio::test]
async fn another_person_is_told_that_an_instance_is_private() {
    let site = WebFixture::new().await;
    site.member("alice").await;
    let mut boris = site.member("boris").await;
    let page = boris.get(HAND_OFF).await;
    assert_eq!(page.in_short(), "403");
    let theirs = page.text().await;
    assert!(theirs.contains("This instance is private"));
    let nobodys = boris.get(&HAND_OFF.replace("alice", "walter")).await.text().await;
    assert_eq!(theirs, nobodys.replace("walter", "alice"), "one that does not exist looks the same");
}

#[tokio::test]
async fn a_recovery_code_lets_in_ends_the_other_sessions_and_asks_for_a_new_passkey() {
    let site = WebFixture::new().await;
    let mut alice = site.visitor();
    alice.post("/sign-up", "handle=alice").await;
    let options = alice.post_json("/sign-up/passkey/challenge", &json!({})).await.json().await;
    let answer = alice.browser.create(&options).await;
    alice.post_json("/sign-up/passkey", &answer).await;
    alice.read_secret().await;
    let code = alice.fresh_code();
    alice.post("/sign-up/code", &format!("code={code}")).await;
    let page = alice.get("/sign-up/recovery-codes").await.text().await;
    let recovery = page.split("<li>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    alice.post("/sign-up/finish", "saved=yes").await;

    let mut stranger = site.visitor();
    stranger.code_app = alice.code_app.clone();
    let wrong = stranger.post("/recover", "handle=alice&recovery_code=nonsense&code=123456").await;
    assert!(wrong.status.is_client_error());
    assert!(wrong.text().await.contains("value=\"alice\""), "what was typed is kept");
    let form = format!("handle=alice&recovery_code={recovery}&code={}", stranger.fresh_code());
    assert_eq!(stranger.post("/recover", &form).await.in_short(), "303 /passkeys?recovered=yes");
    assert_eq!(alice.get("/").await.in_short(), "303 /log-in");
    let options = stranger.post_json("/passkeys/challenge", &json!({})).await.json().await;
    let answer = stranger.browser.create(&options).await;
    assert_eq!(stranger.post_json("/passkeys", &answer).await.json().await["next"], "/passkeys");
    // The lost passkey is removed, and the recovery codes on the lost paper are replaced.
    let page = stranger.get("/passkeys").await.text().await;
    let lost = page.split("action=\"/passkeys/").nth(1).unwrap().split('/').next().unwrap();
    assert_eq!(stranger.post(&format!("/passkeys/{lost}/remove"), "").await.in_short(), "303 /passkeys");
    let page = stranger.get("/passkeys").await.text().await;
    assert!(
        page.contains("Passkey 2") && !page.contains("Passkey 1") && !page.contains("/remove"),
        "the last one stays"
    );
    let page = stranger.post("/recovery-codes", "").await.text().await;
    assert_eq!(page.matches("<li>").count(), 10);
}

#[tokio::test]
async fn the_session_cookie_is_bound_to_the_host_and_out_of_reach_of_scripts() {
    let site = WebFixture::new().await;
    let mut alice = site.member("alice").await;
    alice.post("/log-out", "").await;
    let options = alice.post_json("/log-in/challenge", &json!({})).await.json().await;
    let answer = alice.browser.get(&options).await;
    let answer = alice.post_json("/log-in", &answer).await;
    let cookies: Vec<&str> =
        answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect();
    for (name, seconds) in [("__Host-berth", 2_592_000), ("__Host-berth-device", 15_552_000)] {
        let cookie = cookies.iter().find(|cookie| cookie.starts_with(&format!("{name}="))).expect("it is set");
        assert!(cookie.ends_with(&format!("; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax")), "{cookie}");
    }
}

#[tokio::test]
async fn the_dashboard_says_how_the_instance_is_and_so_does_its_stream() {
    let site = WebFixture::new().await;
    let mut alice = site.member("alice").await;
    let event = alice.get("/instance/events").await.first_event().await;
    let page = alice.get("/").await.text().await;
    assert!(page.contains(event["headline"].as_str().unwrap()), "{event}");
    for part in ["alice.example.com", "$0.00", "$5.00 left", "this device", "Add a passkey"] {
        assert!(page.contains(part), "the dashboard lacks {part}");
    }
    let spend = alice.get("/api/usage").await.json().await;
    assert_eq!(spend["spent_nanodollars"], json!(0));
}
