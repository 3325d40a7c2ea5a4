//! What a page of another tenant tries on the app host with its visitor's browser.

use axum::http::Method;
use berth::web::app_routes;
use berth_testing::web_client::{WebClient, WebFixture};

use super::access::path_of;

#[tokio::test]
async fn no_page_of_ours_answers_what_a_sibling_did_not_open_as_a_page() {
    let site = WebFixture::new().await;
    let mut operator = site.operator("olivia").await;
    for route in app_routes().iter().filter(|route| route.method == Method::GET) {
        for origin in ["same-site", "cross-site"] {
            for (mode, dest) in [("no-cors", "empty"), ("cors", "empty"), ("no-cors", "video"), ("navigate", "iframe")]
            {
                let request = WebClient::request(Method::GET, &path_of(route, "1")).header("sec-fetch-site", origin);
                let request = request.header("sec-fetch-mode", mode).header("sec-fetch-dest", dest);
                let answer = operator.send(request).await;
                assert_eq!(answer.status.as_u16(), 403, "{} by {mode} for {dest}", route.path);
            }
        }
    }
    assert_eq!(operator.get("/").await.in_short(), "200");
}

#[tokio::test]
async fn a_form_of_another_site_learns_from_no_redirect_who_its_visitor_is() {
    let site = WebFixture::new().await;
    let mut alice = site.member("alice").await;
    let path = format!("/hand-off?host=alice.example.com&state=s&challenge={}", "c".repeat(43));
    for (origin, status) in [("same-site", 200), ("cross-site", 200), ("same-origin", 303), ("none", 303)] {
        let request = WebClient::request(Method::GET, &path).header("accept", "text/html");
        let request = request.header("sec-fetch-site", origin).header("sec-fetch-mode", "navigate");
        let answer = alice.send(request.header("sec-fetch-dest", "document")).await;
        assert_eq!(answer.status.as_u16(), status, "{origin}");
        assert_eq!(answer.header("location").is_empty(), status == 200, "{origin}");
        if status == 200 {
            let page = answer.text().await;
            assert!(page.contains("https://alice.example.com/.berth/callback?code="), "{page}");
        }
    }
}

#[tokio::test]
async fn nothing_from_a_link_stands_on_the_log_in_page_as_our_own_words() {
    let site = WebFixture::new().await;
    site.member("alice").await;
    let mut visitor = site.visitor();
    let known = visitor.get("/log-in?next=%2Fhand-off%3Fhost%3DALICE.example.com%26state%3Ds").await.text().await;
    assert!(known.contains("<strong>alice.example.com</strong> is private"), "{known}");
    for host in [
        "Your-account-is-locked.Call-1-555-0100.Until-then-it",
        "your-account-is-locked.example.com",
        "app.example.com",
        "evil.test",
    ] {
        let path = format!("/log-in?next=%2Fhand-off%3Fhost%3D{host}%26state%3Ds");
        let page = visitor.get(&path).await.text().await;
        assert!(page.contains("Your passkey tells us who you are"), "{host}: {page}");
        assert!(!page.contains(&format!("{host}</strong>")), "{host}");
    }
}
