//! Which of our hosts a request reaches, and what stands at names where nobody is to be reached.

use super::*;

/// Sends `head` as it stands, with the end of a head behind it, and reads the answer to its end.
async fn say(town: &FakePlatform, head: &str) -> String {
    let mut stream = TcpStream::connect(town.address).await.unwrap();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_that_names_no_host_or_two_is_told_so() {
    let (town, _alice, cookie) = at_home().await;
    let close = format!("Connection: close\r\nCookie: {cookie}");
    for (head, sentence) in [
        ("GET / HTTP/1.0".to_owned(), "names no host"),
        (format!("GET / HTTP/1.1\r\n{close}"), "names no host"),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: app.example.com\r\n{close}"), "two Host headers"),
        (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: {HOST}\r\n{close}"), "two Host headers"),
        (format!("GET http://app.example.com/ HTTP/1.1\r\nHost: {HOST}\r\n{close}"), "one host in its target"),
    ] {
        let answer = say(&town, &head).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{head}: {answer}");
        assert!(answer.contains(sentence), "{head}: {answer}");
    }
}

#[tokio::test]
async fn a_target_with_its_host_in_it_reaches_the_same_instance() {
    let (town, _alice, cookie) = at_home().await;
    for host in [HOST, "ALICE.example.com", "alice.example.com:8443"] {
        let head =
            format!("GET http://{host}/echo?a=1 HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close");
        let answer = say(&town, &head).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"uri\":\"/echo?a=1\""), "{answer}");
    }
}

#[tokio::test]
async fn names_that_are_not_ours_are_misdirected_in_whatever_letters() {
    let (town, _alice, cookie) = at_home().await;
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
        let answer = say(&town, &head).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn a_name_that_is_free_says_so_and_how_to_have_it() {
    let (town, _alice, _) = at_home().await;
    let page = town.get("nobody.example.com", "/", &[PAGE]).await;
    assert_eq!(page.status, 404);
    assert!(page.text().contains("no instance by that name"), "{}", page.text());
    assert!(page.text().contains("href=\"https://example.com\""), "{}", page.text());
    let program = town.get("nobody.example.com", "/", &[]).await;
    assert_eq!((program.status, program.json()["code"].as_str()), (404, Some("not_found")));
}

#[tokio::test]
async fn a_suspended_instance_says_so_to_everybody_instead_of_sending_round_to_log_in() {
    let (town, alice, cookie) = at_home().await;
    town.app.accounts.suspend(&alice.instance.handle, "operator").await.unwrap();
    for cookie in ["", &cookie] {
        let page = town.get(HOST, "/deep", &[("cookie", cookie), PAGE]).await;
        assert_eq!(page.status, 403);
        assert!(page.text().contains("suspended"), "{}", page.text());
        assert_eq!(page.header("cache-control"), "no-store");
    }
    let sheet = page_asset(&town.get(HOST, "/", &[PAGE]).await.text());
    assert_eq!(town.get(HOST, &sheet, &[]).await.status, 200, "and the page has its colours");
}

#[tokio::test]
async fn an_instance_whose_owner_leaves_says_so_and_how_to_keep_it() {
    let (town, alice, _) = at_home().await;
    town.app.accounts.delete(&alice.instance.handle, "operator").await.unwrap();
    let page = town.get(HOST, "/", &[PAGE]).await;
    assert_eq!(page.status, 403);
    let text = page.text();
    assert!(text.contains("leaves") && text.contains("href=\"https://app.example.com\""), "{text}");
    assert_eq!(town.get(HOST, "/", &[]).await.json()["code"], "leaving");
}

/// The stylesheet that a page of the edge asks for.
fn page_asset(page: &str) -> String {
    let from = page.find("/.berth/assets/").expect("a page of the edge has a stylesheet on its own host");
    page[from..].split('"').next().unwrap().to_owned()
}
