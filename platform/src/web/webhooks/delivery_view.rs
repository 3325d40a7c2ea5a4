//! Webhook deliveries in words: rows of a list. Pure.

use berth_ground::clock::Timestamp;

use crate::http::format::Moment;
use crate::webhooks::{DeliveryState, DeliveryView};

/// A delivery in a list.
pub struct DeliveryRow {
    pub id: String,
    /// `POST /hooks/github`, or the name of the alarm.
    pub what: String,
    pub lamp: &'static str,
    /// The outcome so far.
    pub outcome: String,
    /// The label of `at`: the next attempt, the arrival, or the end.
    pub when: &'static str,
    pub at: Moment,
}

impl From<&DeliveryView> for DeliveryRow {
    fn from(delivery: &DeliveryView) -> Self {
        let what = match (&delivery.alarm, delivery.path.as_str()) {
            (Some(alarm), "") => format!("Alarm {alarm}"),
            (Some(alarm), path) => format!("Alarm {alarm} to {path}"),
            (None, path) => format!("{} {path}", delivery.method),
        };
        let result = delivery.last_result.as_deref();
        let (lamp, outcome, when, at) = match (delivery.state, delivery.attempts) {
            (DeliveryState::Waiting, 0) => ("moving", "no attempt yet".to_owned(), "arrived", delivery.arrived_at),
            (DeliveryState::Waiting, attempts) => {
                let at = delivery.next_attempt_at.unwrap_or(delivery.arrived_at);
                ("moving", tried(attempts, result), "next attempt", at)
            }
            (DeliveryState::DeadLetter, attempts) => {
                ("trouble", tried(attempts, result), "dead letter since", done(delivery))
            }
            (DeliveryState::Delivered, 1) => ("awake", accepted(result), "delivered", done(delivery)),
            (DeliveryState::Delivered, attempts) => {
                ("awake", format!("{}, attempt {attempts}", accepted(result)), "delivered", done(delivery))
            }
        };
        Self { id: delivery.id.to_string(), what, lamp, outcome, when, at: Moment(at) }
    }
}

fn done(delivery: &DeliveryView) -> Timestamp {
    delivery.done_at.unwrap_or(delivery.arrived_at)
}

fn tried(attempts: i64, result: Option<&str>) -> String {
    let times = if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    match result {
        Some(result) => format!("{times}, last: {result}"),
        None => format!("{times}, no result known"),
    }
}

fn accepted(result: Option<&str>) -> String {
    match result {
        Some("woke") | None => "it woke".into(),
        Some(status) => format!("accepted with {status}"),
    }
}
