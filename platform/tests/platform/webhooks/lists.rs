//! The JSON list of deliveries: pages by cursor, of one owner and one state.

use berth_testing::fake_platform::{Answer, FakePlatform};
use berth_testing::person::Person;
use berth_testing::webhook_receiver::Reply;
use berth_testing::{databases, sqlite};

use super::{HOOK, open, post, until_waiting};

const WAITING: &str = "/api/webhooks/deliveries?state=waiting";

/// A request to the API with the owner's session.
async fn ask(platform: &FakePlatform, owner: &Person, path: &str) -> Answer {
    platform.get("app.example.com", path, &[("cookie", &owner.app_cookie())]).await
}

/// The ids on a page, and the address of the next page.
async fn page(platform: &FakePlatform, owner: &Person, path: &str) -> (Vec<String>, Option<String>) {
    let answer = ask(platform, owner, path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    let ids = list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned());
    (ids.collect(), list["next"].as_str().map(str::to_owned))
}

/// Posts webhooks that wait: the program refuses the first, and the others stand behind it.
async fn wait_in_line(platform: &FakePlatform, owner: &Person, deliveries: u64) {
    open(platform, owner, HOOK).await;
    platform.receiver.will(&[Reply::Says(500); 20]);
    for number in 0..deliveries {
        assert_eq!(post(platform, HOOK, &number.to_string()).await.status, 202);
    }
    until_waiting(platform, owner, deliveries).await;
}

#[tokio::test]
async fn the_pages_together_hold_each_delivery_once_newest_first() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        wait_in_line(&platform, &alice, 105).await;
        let webhooks = &platform.app.webhooks;
        let all = webhooks.deliveries(alice.instance.id, berth::webhooks::DeliveryState::Waiting, 200).await.unwrap();
        let all: Vec<String> = all.iter().map(|delivery| delivery.id.to_string()).collect();

        let (mut found, next) = page(&platform, &alice, WAITING).await;
        // A delivery that arrives meanwhile belongs before the first page, and moves none of the others.
        post(&platform, HOOK, "late").await;
        let (second, next) = page(&platform, &alice, &next.unwrap()).await;
        assert_eq!((found.len(), second.len()), (50, 50));
        found.extend(second);
        let (third, end) = page(&platform, &alice, &next.unwrap()).await;
        found.extend(third);
        assert_eq!((found, end), (all, None));
    }
}

#[tokio::test]
async fn a_full_last_page_has_no_next_and_a_state_has_its_own_list() {
    let platform = FakePlatform::on(sqlite().await, &[]).await;
    let alice = platform.settle_in("alice").await;
    wait_in_line(&platform, &alice, 50).await;
    let (found, next) = page(&platform, &alice, WAITING).await;
    assert_eq!((found.len(), next), (50, None));
    let newest = &found[0];
    let (rest, _) = page(&platform, &alice, &format!("{WAITING}&before={newest}")).await;
    assert_eq!(rest, found[1..]);
    for state in ["dead_letter", "delivered"] {
        let path = format!("/api/webhooks/deliveries?state={state}&before={newest}");
        assert_eq!(page(&platform, &alice, &path).await, (Vec::new(), None), "{state}");
    }
}

#[tokio::test]
async fn a_cursor_that_is_no_delivery_of_the_owner_is_refused() {
    let platform = FakePlatform::on(sqlite().await, &[]).await;
    let alice = platform.settle_in("alice").await;
    let bob = platform.settle_in("bob").await;
    wait_in_line(&platform, &alice, 3).await;
    let (found, _) = page(&platform, &alice, WAITING).await;
    let discarded = found[1].parse().unwrap();
    platform.app.webhooks.discard(alice.instance.id, discarded).await.unwrap();
    for (owner, before, sentence) in [
        (&alice, "3", "Write the id of a delivery"),
        (&alice, &*found[1], "Request the list again without before."),
        (&bob, &*found[0], "Request the list again without before."),
    ] {
        let refused = ask(&platform, owner, &format!("{WAITING}&before={before}")).await;
        assert_eq!(refused.status, 422, "{before}");
        assert!(refused.text().contains(sentence), "{}", refused.text());
    }
}
