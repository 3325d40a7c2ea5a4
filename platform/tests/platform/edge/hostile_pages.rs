//! What a page of another tenant or another site tries on an instance's host with its visitor's browser.

use super::*;
use berth_testing::fake_platform::Answer;

/// Fetch metadata of a sibling's subresource, of its frame, and of a page elsewhere in the world.
const FOREIGN: [&[(&str, &str)]; 4] = [
    &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "empty")],
    &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), PAGE],
    &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "image")],
    &[("origin", "https://evil.example.com")],
];

/// An answer as another site's page could tell it from others: all of it but the time of its writing.
fn told(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    (answer.status, headers, answer.text())
}

#[tokio::test]
async fn no_answer_tells_another_sites_page_who_its_visitor_is() {
    let (platform, alice, cookie) = at_home().await;
    let bob = platform.settle_in("bob").await;
    let bobs = platform.instance_cookie(&bob).await;
    let asset = berth::http::assets::edge_url("berth.css");
    for path in ["/", "/echo", "/.berth/status", &asset, "/.berth/callback?code=x&state=y", "/.berth/none"] {
        for foreign in FOREIGN {
            let mut answers = Vec::new();
            for jar in [cookie.as_str(), bobs.as_str(), ""] {
                let headers = [foreign, &[("cookie", jar)]].concat();
                answers.push(told(&platform.get(HOST, path, &headers).await));
            }
            assert_eq!(answers[0].0, 403, "{path} {foreign:?}");
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{path} {foreign:?}: {answers:?}");
        }
    }
    assert_eq!(platform.get(HOST, &asset, &[("sec-fetch-site", "same-origin")]).await.status, 200);
    assert_eq!(alice.instance.watchers(), 0, "none of them watches");
}

#[tokio::test]
async fn every_answer_of_the_edge_itself_carries_its_headers() {
    let (platform, alice, cookie) = at_home().await;
    let asset = berth::http::assets::edge_url("berth.css");
    let long = format!("/{}", "x".repeat(9000));
    let mut answers = Vec::new();
    for (host, path, more) in [
        (HOST, "/", &[PAGE][..]),
        (HOST, "/", &[]),
        (HOST, "/", &[("sec-fetch-site", "cross-site"), ("cookie", cookie.as_str())]),
        (HOST, &asset, &[]),
        (HOST, "/.berth/none", &[]),
        (HOST, "/.berth/none", &[PAGE]),
        (HOST, "/.berth/callback?code=x&state=y", &[]),
        (HOST, &long, &[]),
        ("nobody.example.com", "/", &[]),
        ("3000--alice.example.com", "/", &[]),
        ("elsewhere.test", "/", &[]),
    ] {
        answers.push((path, platform.get(host, path, more).await));
    }
    answers.push((
        "POST",
        platform.send("POST", HOST, "/.berth/status", &[("origin", "https://alice.example.com")], "").await,
    ));
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    answers.push(("waiting", platform.get(HOST, "/", &[("cookie", &cookie), PAGE]).await));
    for (what, answer) in answers {
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{what}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{what}");
    }
}

#[tokio::test]
async fn pages_that_watch_do_not_keep_the_owner_from_visiting() {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    let mut watching = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(platform.address).await.unwrap();
        let head = format!("GET /.berth/status HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        watching.push(stream);
    }
    let refused = platform.get(HOST, "/.berth/status", &[("cookie", &cookie)]).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("too_many")));
    assert!(alice.instance.begin_live_stream().is_some(), "the dashboard still watches");
    // Far more subscribers than may wait: they are counted apart.
    let _subscribers: Vec<_> = (0..200).map(|_| alice.instance.watch()).collect();
    let visit = platform.get(HOST, "/echo", &[("cookie", &cookie)]).await;
    assert_eq!(visit.status, 200, "{}", visit.text());
}

/// What Chromium sends when a sibling's page has an address prefetched or prerendered.
const AHEAD: [&[(&str, &str)]; 3] = [
    &[("sec-purpose", "prefetch"), ("sec-fetch-site", "none"), ("referer", "https://evil.example.com/"), PAGE],
    &[("sec-purpose", "prefetch;prerender"), ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), PAGE],
    &[("sec-purpose", "prefetch"), ("sec-fetch-site", "none"), ("referer", "https://alice.example.com.evil.test/")],
];

#[tokio::test]
async fn a_siblings_prefetch_reaches_no_program_of_its_visitor() {
    let (platform, _alice, cookie) = at_home().await;
    for ahead in AHEAD {
        let answer = platform.get(HOST, "/delete-everything", &[ahead, &[("cookie", cookie.as_str())]].concat()).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{ahead:?}");
        assert!(!answer.text().contains("the instance itself"));
    }
    let own = [("sec-purpose", "prefetch"), ("referer", "https://alice.example.com/"), ("cookie", &cookie)];
    assert_eq!(platform.get(HOST, "/echo", &own).await.status, 200, "a page of the instance's own");
}

#[tokio::test]
async fn a_siblings_prefetch_logs_its_visitor_in_nowhere_and_wakes_nothing() {
    let (platform, alice, _) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    let app_cookie = alice.app_cookie();
    let sent = platform.get(HOST, "/", &[PAGE]).await;
    let pending = sent.header("set-cookie").split(';').next().unwrap().to_owned();
    let way = sent.header("location").strip_prefix("https://app.example.com").unwrap().to_owned();
    let handed = platform.get("app.example.com", &way, &[("cookie", &app_cookie), PAGE]).await;
    let back = handed.header("location").strip_prefix("https://alice.example.com").unwrap().to_owned();
    for ahead in AHEAD {
        for (host, path, jar) in
            [(HOST, "/", ""), ("app.example.com", way.as_str(), app_cookie.as_str()), (HOST, &back, &pending)]
        {
            let answer = platform.get(host, path, &[ahead, &[("cookie", jar)]].concat()).await;
            assert_eq!(
                (answer.status, answer.header("set-cookie"), answer.header("location")),
                (503, "", ""),
                "{path}"
            );
        }
    }
    // Its own page's prefetch ends the hand-off and wakes nothing either.
    let own = [("sec-purpose", "prefetch"), ("referer", "https://alice.example.com/"), ("cookie", &pending)];
    assert_eq!(platform.get(HOST, &back, &own).await.status, 303);
    platform.look().await;
    assert_eq!(alice.instance.fact(), Fact::Stopped);
}

#[tokio::test]
async fn a_page_that_opened_a_window_does_not_learn_from_it_who_its_visitor_is() {
    let (platform, _alice, cookie) = at_home().await;
    let page = platform.get(HOST, "/", &[("cookie", &cookie), PAGE]).await;
    assert_eq!((page.status, page.header("cross-origin-opener-policy")), (200, "same-origin-allow-popups"));
    let sent = platform.get(HOST, "/", &[PAGE]).await;
    assert_eq!((sent.status, sent.header("cross-origin-opener-policy")), (302, "same-origin"));
}
