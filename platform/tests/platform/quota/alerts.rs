//! Quota alerts: 80 and 100 percent of an allowance are announced once each, on the pages and, where a path is open, by
//! webhook.

use std::time::Duration;

use berth::quota::reports::ALERT_WEBHOOK_PATH;
use berth::webhooks::PathSuffix;
use serde_json::{Value, json};

use crate::quota::usage::{call, site};
use berth_testing::databases;
use berth_testing::fake_platform::FakePlatform;
use berth_testing::person::Person;

/// Tokens of the demo model that a dollar buys.
const A_DOLLAR: u64 = 2_000_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn tell(platform: &FakePlatform) -> u64 {
    platform.app.quota.settled().await;
    platform.app.quota.reports.tell_alerts(&platform.app.instances, &platform.app.webhooks).await.unwrap()
}

async fn open_the_path(platform: &FakePlatform, person: &Person) {
    platform.app.webhooks.open_path(person.instance.id, ALERT_WEBHOOK_PATH, PathSuffix::None).await.unwrap();
}

fn told(platform: &FakePlatform) -> Vec<(String, Value)> {
    let seen = platform.receiver.seen();
    seen.iter()
        .map(|webhook| {
            assert_eq!((webhook.method.as_str(), webhook.target.as_str()), ("POST", ALERT_WEBHOOK_PATH));
            (webhook.header("x-berth-quota").to_owned(), serde_json::from_str(&webhook.body).unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_threshold_of_a_month_is_announced_once() {
    for database in databases().await {
        let kind = database.kind;
        let platform = FakePlatform::on(database, &[("BERTH_ALLOWANCE_DOLLARS", "1")]).await;
        platform.app.quota.begin().await.unwrap();
        let alice = platform.settle_in("alice").await;
        open_the_path(&platform, &alice).await;
        call(&platform.app, "alice", "", A_DOLLAR / 100 * 79).await;
        assert_eq!(tell(&platform).await, 0, "{kind}: not yet");
        for _ in 0..3 {
            call(&platform.app, "alice", "", A_DOLLAR / 100).await;
            tell(&platform).await;
        }
        platform.receiver.until(1).await;
        call(&platform.app, "alice", "", A_DOLLAR / 100 * 18).await;
        assert_eq!((tell(&platform).await, tell(&platform).await), (1, 0), "{kind}");
        platform.receiver.until(2).await;
        let webhooks = told(&platform);
        let said =
            |at: usize| (webhooks[at].0.as_str(), &webhooks[at].1["percent"], &webhooks[at].1["spent_nanodollars"]);
        assert_eq!(said(0), ("80", &json!(80), &json!(800_000_000)), "{kind}");
        assert_eq!(said(1), ("100", &json!(100), &json!(1_000_000_000)), "{kind}");
        assert_eq!((&webhooks[0].1["span"], &webhooks[0].1["period"]), (&json!("month"), &json!("2026-11")));
        platform.clock.advance(20 * DAY);
        call(&platform.app, "alice", "", A_DOLLAR / 10 * 9).await;
        assert_eq!(tell(&platform).await, 1, "{kind}: another month");
        let alerts = platform.app.quota.reports.alerts(alice.instance.account).await.unwrap();
        let periods: Vec<_> = alerts.iter().map(|alert| (alert.period.to_string(), alert.percent)).collect();
        assert_eq!(periods, [("2026-12".to_owned(), 80)], "{kind}: the one before is over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_survives_a_restart_and_is_sent_late_and_once() {
    let mut platform = FakePlatform::new(&[("BERTH_ALLOWANCE_DOLLARS", "1")]).await;
    platform.app.quota.begin().await.unwrap();
    let alice = platform.settle_in("alice").await;
    open_the_path(&platform, &alice).await;
    call(&platform.app, "alice", "", A_DOLLAR / 100 * 85).await;
    platform.app.quota.settled().await;
    platform.restart().await;
    assert_eq!((tell(&platform).await, tell(&platform).await), (1, 0));
    platform.receiver.until(1).await;
    platform.restart().await;
    assert_eq!(tell(&platform).await, 0);
    assert_eq!(told(&platform).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_without_an_open_path_is_not_sent_when_the_path_is_opened_later() {
    let platform = FakePlatform::new(&[("BERTH_ALLOWANCE_DOLLARS", "1")]).await;
    platform.app.quota.begin().await.unwrap();
    let alice = platform.settle_in("alice").await;
    call(&platform.app, "alice", "", A_DOLLAR / 100 * 85).await;
    assert_eq!(tell(&platform).await, 0);
    open_the_path(&platform, &alice).await;
    assert_eq!(tell(&platform).await, 0);
    assert_eq!(platform.app.webhooks.counts(alice.instance.id).waiting, 0);
}

#[tokio::test]
async fn alerts_stay_on_the_pages_until_their_period_ends() {
    let site = site(&[("BERTH_ALLOWANCE_DOLLARS", "2"), ("BERTH_DAY_DOLLARS", "1")]).await;
    let mut alice = site.member("alice").await;
    let mut boris = site.member("boris").await;
    call(&site.app, "alice", "", A_DOLLAR).await;
    let all_of_today =
        "All $1.00 of today&#39;s AI allowance is spent. It covers no further calls until 16 Nov at midnight UTC.";
    for path in ["/", "/usage"] {
        let page = alice.get(path).await.text().await;
        assert!(page.contains(all_of_today) && !page.contains("More than 80 %"), "{path}: {page}");
        assert!(!boris.get(path).await.text().await.contains("today&#39;s AI allowance"), "{path}: of another");
    }
    site.app.clock.advance(DAY);
    assert!(!alice.get("/usage").await.text().await.contains("today&#39;s AI allowance"));
    call(&site.app, "alice", "", A_DOLLAR / 100 * 75).await;
    let page = alice.get("/usage").await.text().await;
    assert!(page.contains("More than 80 % of this month&#39;s AI allowance is spent: $1.75 of $2.00."), "{page}");
    let said = alice.get("/api/usage").await.json().await;
    assert_eq!((&said["alerts"][0]["percent"], &said["alerts"][0]["period"]), (&json!(80), &json!("2026-11")));
}
