//! Sample data for the page of webhooks and the dashboard's card of them.

use berth::http::format::{self, Moment};
use berth::web::webhooks::alarms::AlarmRow;
use berth::web::webhooks::card::WebhooksCard;
use berth::web::webhooks::delivery_view::DeliveryRow;
use berth::web::webhooks::page::WebhooksPage;
use berth::webhooks::InboxCounts;
use berth_ground::clock::Timestamp;

use super::{NOON, head, html};

fn delivery(what: &str, lamp: &'static str, outcome: &str, when: &'static str) -> DeliveryRow {
    let (what, outcome) = (what.into(), outcome.into());
    DeliveryRow { id: "1".into(), what, lamp, outcome, when, at: Moment(Timestamp(NOON)) }
}

pub fn card(some: bool) -> WebhooksCard {
    if !some {
        return WebhooksCard { paths: 0, alarms: 0, counts: InboxCounts::default(), latest: Vec::new() };
    }
    let latest = vec![
        delivery("POST /hooks/stripe", "trouble", "37 attempts, last: 500", "dead letter since"),
        delivery("POST /hooks/github", "awake", "accepted with 204", "delivered"),
    ];
    WebhooksCard { paths: 2, alarms: 1, counts: InboxCounts { waiting: 3, dead_letters: 1, bytes: 41_000 }, latest }
}

pub fn page(some: bool) -> String {
    let mut page = WebhooksPage {
        head: head("alice"),
        instance_origin: "https://alice.example.com".into(),
        typed: String::new(),
        note: String::new(),
        paths: Vec::new(),
        max_paths: 8,
        may_open: true,
        stored_kib: "0".into(),
        counts: InboxCounts::default(),
        undelivered: Vec::new(),
        delivered: Vec::new(),
        alarms: Vec::new(),
    };
    if some {
        let at = Moment(Timestamp(NOON));
        let alarm = |name: &str, cron: &str, path: &str| AlarmRow {
            name: name.into(),
            cron: cron.into(),
            path: path.into(),
            next: at,
        };
        page.typed = "hooks".into();
        page.note = "A path begins with a slash and goes on, such as /hooks/github.".into();
        page.paths = vec!["/hooks/github".into(), "/hooks/plain/Zx3kP0aQ9-vT_2mWcY7dLg".into()];
        page.counts = InboxCounts { waiting: 2, dead_letters: 1, bytes: 1_300_000 };
        page.stored_kib = format::grouped(1270);
        page.undelivered = vec![
            delivery("POST /hooks/stripe", "trouble", "37 attempts, last: 500", "dead letter since"),
            delivery("POST /hooks/github", "moving", "1 attempt, last: closed the connection", "next attempt"),
            delivery("Alarm nightly to /alarm", "moving", "no attempt yet", "arrived"),
        ];
        page.delivered = vec![
            delivery("POST /hooks/plain/Zx3kP0aQ9-vT_2mWcY7dLg", "awake", "accepted with 204, attempt 2", "delivered"),
            delivery("Alarm morning", "awake", "it woke", "delivered"),
        ];
        page.alarms = vec![alarm("nightly", "30 3 * * MON-FRI", "/alarm"), alarm("renew-certificate", "", "")];
    }
    html(&page)
}
