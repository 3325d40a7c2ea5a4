//! Routing by `Host`: which host a request reaches, and the responses for names that have no instance.

use super::*;

/// Sends `head` unchanged, followed by an empty line, and reads the response to its end.
async fn say(platform: &FakePlatform, head: &str) -> String {
    let mut stream = TcpStream::connect(platform.address).await.unwrap();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_that_names_no_host_or_two_is_refused_with_the_reason() {
    let (platform, _alice, cookie) = at_home().await;
    let close = format!("Connection: close\r\nCookie: {cookie}");
    for (head, sentence) in [
        ("GET / HTTP/1.0".to_owned(), "names no host"),
        (format!("GET / HTTP/1.1\r\n{close}"), "names no host"),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: app.example.com\r\n{close}"), "two Host headers"),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: {HOST}\r\n{close}"), "two Host headers"),
        (format!("GET http://app.example.com/ HTTP/1.1\r\nHost: {HOST}\r\n{close}"), "one host in its target"),
    ] {
        let answer = say(&platform, &head).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{head}: {answer}");
        assert!(answer.contains(sentence), "{head}: {answer}");
    }
}

#[tokio::test]
async fn a_request_in_absolute_form_reaches_the_same_instance() {
    let (platform, _alice, cookie) = at_home().await;
    for host in [HOST, "ALICE.example.com", "alice.example.com:8443"] {
        let head =
            format!("GET http://{host}/echo?a=1 HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close");
        let answer = say(&platform, &head).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"uri\":\"/echo?a=1\""), "{answer}");
    }
}

#[tokio::test]
async fn foreign_names_are_misdirected_in_every_spelling() {
    let (platform, _alice, cookie) = at_home().await;
    for host in [
        "evil.test",
        "alice.example.com.evil.test",
        "a.alice.example.com",
        "xn--lice-3ra.example.com",
        "\u{e4}lice.example.com",
        "127.0.0.1",
        "",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close");
        let answer = say(&platform, &head).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn a_free_handle_shows_how_to_claim_it() {
    let (platform, _alice, _) = at_home().await;
    let page = platform.get("nobody.example.com", "/", &[PAGE]).await;
    assert_eq!(page.status, 404);
    assert!(page.text().contains("no instance by that name"), "{}", page.text());
    assert!(page.text().contains("href=\"https://example.com\""), "{}", page.text());
    let program = platform.get("nobody.example.com", "/", &[]).await;
    assert_eq!((program.status, program.json()["code"].as_str()), (404, Some("not_found")));
}

#[tokio::test]
async fn a_suspended_instance_says_so_instead_of_redirecting_to_the_login() {
    let (platform, alice, cookie) = at_home().await;
    platform.app.accounts.suspend(&alice.instance.handle, "operator").await.unwrap();
    for cookie in ["", &cookie] {
        let page = platform.get(HOST, "/deep", &[("cookie", cookie), PAGE]).await;
        assert_eq!(page.status, 403);
        assert!(page.text().contains("suspended"), "{}", page.text());
        assert_eq!(page.header("cache-control"), "no-store");
    }
    let sheet = page_asset(&platform.get(HOST, "/", &[PAGE]).await.text());
    assert_eq!(platform.get(HOST, &sheet, &[]).await.status, 200, "and its stylesheet is served");
}

#[tokio::test]
async fn an_account_scheduled_for_deletion_shows_how_to_cancel_it() {
    let (platform, alice, _) = at_home().await;
    platform.app.accounts.schedule_deletion_of(&alice.instance.handle, "operator").await.unwrap();
    let page = platform.get(HOST, "/", &[PAGE]).await;
    assert_eq!(page.status, 403);
    let text = page.text();
    assert!(text.contains("being deleted") && text.contains("href=\"https://app.example.com\""), "{text}");
    assert_eq!(platform.get(HOST, "/", &[]).await.json()["code"], "leaving");
}

/// The path of the stylesheet of a page of the edge.
fn page_asset(page: &str) -> String {
    let from = page.find("/.berth/assets/").expect("a page of the edge has a stylesheet on its own host");
    page[from..].split('"').next().unwrap().to_owned()
}
