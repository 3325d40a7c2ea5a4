//! A webhook delivery: the stored request, its id and state, and the view that its owner sees.

use berth_ground::clock::Timestamp;
use berth_ground::error::{Error, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::InstanceId;

/// The id of a delivery. Every attempt carries the same id, which the receiver uses as an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeliveryId(pub Uuid);

/// An entry of an instance's inbox: a request for the program inside, or only a wake.
#[derive(Clone, Debug)]
pub struct WebhookDelivery {
    pub id: DeliveryId,
    pub instance: InstanceId,
    /// The alarm that enqueued the delivery; `None` for a request from outside or from the platform.
    pub alarm: Option<String>,
    /// `None` for a delivery that only wakes: it counts as delivered as soon as the instance is awake.
    pub request: Option<WebhookRequest>,
}

/// A stored request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRequest {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names and values in their order. Each byte of a value is one character (Latin-1), so that any value survives
    /// JSON.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// An attempt that has begun.
#[derive(Clone, Debug)]
pub struct DeliveryAttempt {
    pub delivery: WebhookDelivery,
    /// The number of this attempt, from 1.
    pub number: i64,
    /// When the retry window ends.
    pub give_up_at: Timestamp,
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Waiting,
    Delivered,
    /// Given up; kept until the owner retries or discards it.
    DeadLetter,
}

/// A delivery as its owner sees it.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryView {
    pub id: DeliveryId,
    pub alarm: Option<String>,
    pub method: String,
    /// Empty for an alarm that only wakes the instance.
    pub path: String,
    pub bytes: u64,
    pub state: DeliveryState,
    pub attempts: i64,
    pub arrived_at: Timestamp,
    /// When the next attempt is due. `None` unless the delivery is waiting.
    pub next_attempt_at: Option<Timestamp>,
    /// When the delivery was delivered or given up.
    pub done_at: Option<Timestamp>,
    /// The result of the last attempt in a few words: a status, or the reason why there was none.
    pub last_result: Option<String>,
}

impl WebhookDelivery {
    /// The path of the request; empty without a request.
    #[must_use]
    pub fn path(&self) -> &str {
        self.request.as_ref().map_or("", |request| request.target.split('?').next().unwrap_or_default())
    }

    /// The size in the inbox: target, headers and body.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let Some(request) = &self.request else { return 0 };
        // The size as sent, not as stored: JSON's quotes and escapes are not the sender's.
        let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        (request.target.len() + headers + request.body.len()) as u64
    }
}

impl DeliveryState {
    /// The word for it in the database and in the JSON API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::DeadLetter => "dead_letter",
        }
    }
}

impl std::str::FromStr for DeliveryState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Waiting, Self::Delivered, Self::DeadLetter]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| anyhow::anyhow!("{text} is not a state of a delivery").into())
    }
}

impl std::str::FromStr for DeliveryId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> std::result::Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl std::fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
