//! The waiting page in a real browser, behind real Caddy.

use super::*;
use berth_testing::caddy::CaddyProxy;
use berth_testing::chromium::ChromiumUser;

const REQUESTED: &str = "/echo?a=b%20c#d";

/// Opens a page of a sleeping instance, lets it wake, and returns the address that the browser shows in the end.
async fn wait_for_it(flags: &[&str]) -> String {
    let platform = FakePlatform::new(&[CaddyProxy::own_port()]).await;
    let alice = platform.settle_in("alice").await;
    let front = CaddyProxy::of(&platform).await;
    let visitor = ChromiumUser::before(&front, flags).await;
    let origin = front.origin(HOST);
    visitor.take_cookie(&origin, &platform.instance_cookie(&alice).await).await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    visitor.goto(&format!("{origin}{REQUESTED}")).await;
    visitor.until_it_says("Waking alice").await;
    platform.host.release(Verb::Start);
    visitor.until_it_says("\"uri\":\"/echo?a=b%20c\"").await;
    visitor.url().await.strip_prefix(&origin).expect("still on its host").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_waiting_page_turns_into_the_page_that_was_asked_for() {
    assert_eq!(wait_for_it(&[]).await, REQUESTED, "query and fragment and all");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_waiting_page_turns_into_it_in_a_browser_without_scripts() {
    // The fragment is lost: it is never sent to a server, and a page without scripts cannot keep it.
    assert_eq!(wait_for_it(&["--blink-settings=scriptEnabled=false"]).await, "/echo?a=b%20c");
}
