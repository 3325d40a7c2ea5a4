//! The waiting page in a real browser, behind real Caddy.

use super::*;
use berth_testing::caddy::CaddyProxy;
use berth_testing::chromium::ChromiumUser;

const ASKED_FOR: &str = "/echo?a=b%20c#d";

/// Asks for the page of an instance that is held asleep, and lets it wake; the address at which the browser has it then.
async fn wait_for_it(flags: &[&str]) -> String {
    let town = FakePlatform::new(&[CaddyProxy::own_port()]).await;
    let alice = town.settle_in("alice").await;
    let front = CaddyProxy::of(&town).await;
    let visitor = ChromiumUser::before(&front, flags).await;
    let origin = front.origin(HOST);
    visitor.take_cookie(&origin, &town.instance_cookie(&alice).await).await;
    put_to_sleep(&town, &alice, Wish::Stopped, Fact::Stopped).await;
    town.host.hold(Verb::Start, Held::BeforeItsEffect);
    visitor.goto(&format!("{origin}{ASKED_FOR}")).await;
    visitor.until_it_says("Waking alice").await;
    town.host.release(Verb::Start);
    visitor.until_it_says("\"uri\":\"/echo?a=b%20c\"").await;
    visitor.url().await.strip_prefix(&origin).expect("still on its host").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_waiting_page_turns_into_the_page_that_was_asked_for() {
    assert_eq!(wait_for_it(&[]).await, ASKED_FOR, "query and fragment and all");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_waiting_page_turns_into_it_in_a_browser_without_scripts() {
    // The fragment is lost there: no server sees it, and a page without a script cannot keep it.
    assert_eq!(wait_for_it(&["--blink-settings=scriptEnabled=false"]).await, "/echo?a=b%20c");
}
