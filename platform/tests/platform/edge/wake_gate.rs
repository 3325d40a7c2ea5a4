//! The wake gate: a request to a sleeping instance gets a waiting page in a browser, is held for a program, and is
//! refused if it is passive.

use super::*;

/// A sleeping instance. The Engine holds its start back until it is released.
async fn held_asleep() -> (FakePlatform, Person, String) {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    (platform, alice, cookie)
}

/// The client, its method, and its headers besides the cookie.
type Row<'r> = (&'r str, &'r str, &'r [(&'r str, &'r str)]);

const NAVIGATE: [(&str, &str); 3] =
    [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

#[tokio::test]
async fn a_navigation_gets_a_waiting_page_and_every_other_request_is_held() {
    let (platform, alice, cookie) = held_asleep().await;
    for (sentence, headers) in
        [("a browser that opens a page", &NAVIGATE[..]), ("a browser without fetch metadata", &[])]
    {
        let headers: Vec<_> = headers.iter().copied().chain([("cookie", cookie.as_str()), PAGE]).collect();
        let page = platform.get(HOST, "/echo", &headers).await;
        assert_eq!(page.status, 503, "{sentence}");
        assert!(page.text().contains("Waking alice"), "{sentence}");
    }
    let own = ("sec-fetch-site", "same-origin");
    let rows: [Row; 6] = [
        (
            "a frame of the instance's own",
            "GET",
            &[own, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), PAGE],
        ),
        ("a script that fetches HTML", "GET", &[own, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), PAGE]),
        ("an image", "GET", &[own, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]),
        ("a program", "GET", &[("accept", "*/*"), ("user-agent", "curl/8.5.0")]),
        ("a form", "POST", &[NAVIGATE[0], NAVIGATE[1], NAVIGATE[2], PAGE]),
        ("a program that sends", "PUT", &[("origin", "https://alice.example.com")]),
    ];
    let headers: Vec<Vec<_>> =
        rows.iter().map(|(_, _, more)| more.iter().copied().chain([("cookie", cookie.as_str())]).collect()).collect();
    let held =
        rows.iter().zip(&headers).map(|((_, method, _), headers)| platform.send(method, HOST, "/echo", headers, ""));
    let released = async {
        // The waiting pages above watch no longer, so every watcher is a held request.
        while alice.instance.watchers() < rows.len() + 1 {
            tokio::task::yield_now().await;
        }
        platform.host.release(Verb::Start);
    };
    let (answers, (_, socket), ()) =
        tokio::join!(futures_util::future::join_all(held), upgraded(&platform, &cookie), released);
    for ((sentence, ..), answer) in rows.iter().zip(answers) {
        assert_eq!(answer.status, 200, "{sentence}: {}", answer.text());
    }
    assert!(socket.starts_with("http/1.1 101"), "a WebSocket: {socket}");
}

#[tokio::test]
async fn the_waiting_page_reloads_with_and_without_scripts() {
    let (platform, _alice, cookie) = held_asleep().await;
    // Alone, the second path would be a URL on another host.
    for path in ["/deep?x=1", "//evil.test/"] {
        let page = platform.get(HOST, path, &[("cookie", &cookie), PAGE]).await.text();
        assert!(page.contains("data-events=\"/.berth/status\""), "{page}");
        let again =
            format!("<noscript><meta http-equiv=\"refresh\" content=\"2; url=https://{HOST}{path}\"></noscript>");
        assert!(page.contains(&again), "{page}");
    }
    platform.host.release(Verb::Start);
}

#[tokio::test]
async fn a_response_that_waited_for_a_wake_adds_to_server_timing() {
    let (platform, alice, cookie) = at_home().await;
    let timing = |answer: &berth_testing::fake_platform::Answer| -> Vec<String> {
        answer.headers.get_all("server-timing").iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    };
    let awake = platform.get(HOST, "/odd", &[("cookie", &cookie)]).await;
    assert_eq!(timing(&awake), ["db;dur=1"], "nothing was waited for");
    for (how, fact, word) in [(Wish::Frozen, Fact::Frozen, "frozen"), (Wish::Stopped, Fact::Stopped, "stopped")] {
        put_to_sleep(&platform, &alice, how, fact).await;
        let woken = timing(&platform.get(HOST, "/odd", &[("cookie", &cookie)]).await);
        assert_eq!((woken.len(), woken[0].as_str()), (2, "db;dur=1"), "{woken:?}");
        let took = woken[1].strip_prefix(&format!("wake;desc={word};dur=")).expect(&woken[1]);
        let (whole, tenths) = took.split_once('.').expect("milliseconds with one decimal");
        assert!(whole.parse::<u32>().is_ok() && tenths.len() == 1 && tenths.parse::<u8>().is_ok(), "{took}");
    }
    put_to_sleep(&platform, &alice, Wish::Frozen, Fact::Frozen).await;
    let page = platform.get(HOST, "/", &[("cookie", &cookie), PAGE]).await;
    assert!(timing(&page)[0].starts_with("wake;desc=frozen;dur="), "a page that was thawed for says so too");
}

#[tokio::test]
async fn crawlers_link_previews_and_monitors_wake_nothing_and_keep_nothing_awake() {
    let (platform, alice, cookie) = at_home().await;
    const AGENTS: [&str; 4] = [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        "kube-probe/1.31",
    ];
    for minute in 0..5 {
        for agent in AGENTS {
            let seen = platform.get(HOST, "/", &[("cookie", &cookie), ("user-agent", agent)]).await;
            assert_eq!(seen.status, 200, "awake, it answers {agent} after {minute} minutes");
        }
        platform.wait(Duration::from_secs(60)).await;
    }
    assert_eq!(alice.instance.fact(), Fact::Frozen);
    for agent in AGENTS {
        let answer = platform.get(HOST, "/", &[("cookie", &cookie), ("user-agent", agent), PAGE]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{agent}");
        assert_eq!(
            platform.get(HOST, "/", &[("user-agent", agent), PAGE]).await.status,
            302,
            "a stranger is sent to log in"
        );
    }
    platform.look().await;
    assert_eq!(alice.instance.fact(), Fact::Frozen);
}
