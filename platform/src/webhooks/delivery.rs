//! A letter, and what is shown of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::InstanceId;
use crate::error::Result;

/// A letter, as its receiver knows it: an id that stays the same however often it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LetterId(pub Uuid);

/// Something for an instance: a request to be made of its program, or only that it shall wake.
#[derive(Clone, Debug)]
pub struct Letter {
    pub id: LetterId,
    pub instance: InstanceId,
    /// The alarm that wrote it; `None`: it came from outside.
    pub alarm: Option<String>,
    /// `None`: it is delivered as soon as the instance is awake.
    pub parcel: Option<Parcel>,
}

/// A request that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names and values in their order; each byte of a value is one character.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// Where a letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting,
    Delivered,
    /// Given up; kept until its owner has it tried again or throws it away.
    Failed,
}

/// A letter as its owner sees it.
#[derive(Clone, Debug, Serialize)]
pub struct LetterView {
    pub id: LetterId,
    pub alarm: Option<String>,
    pub method: String,
    /// Empty for an alarm that only wakes.
    pub path: String,
    pub bytes: u64,
    pub state: State,
    pub attempts: i64,
    pub arrived_at: Timestamp,
    /// When it is tried next, while it waits.
    pub try_at: Option<Timestamp>,
    pub done_at: Option<Timestamp>,
    /// What came of the last attempt, in a few words.
    pub answer: Option<String>,
}

impl Letter {
    /// The path it goes to; empty when it goes to none.
    #[must_use]
    pub fn path(&self) -> &str {
        self.parcel.as_ref().map_or("", |parcel| parcel.target.split('?').next().unwrap_or_default())
    }

    /// What it takes up.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let Some(parcel) = &self.parcel else { return 0 };
        let headers: usize = parcel.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        (parcel.target.len() + headers + parcel.body.len()) as u64
    }
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    pub(super) fn of_word(word: &str) -> Result<Self> {
        [Self::Waiting, Self::Delivered, Self::Failed]
            .into_iter()
            .find(|state| state.word() == word)
            .ok_or_else(|| anyhow::anyhow!("no letter is {word}").into())
    }
}

impl std::str::FromStr for LetterId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> std::result::Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl std::fmt::Display for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
