//! A custom domain: its claim, the proof that it needs, and whether it is proven.

use berth_ground::clock::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::PROOF_LABEL;
use crate::db::InstanceId;

/// A domain's id, as used in URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DomainId(pub Uuid);

impl std::fmt::Display for DomainId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for DomainId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// A claimed name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Domain {
    pub id: DomainId,
    #[serde(skip)]
    pub instance: InstanceId,
    /// Lower case, without a trailing dot.
    pub name: String,
    /// The text that the TXT record at [`Domain::proof_name`] has to contain.
    pub proof: String,
    pub claimed_at: Timestamp,
    /// When DNS last answered. For a proven domain: when it last showed the proof, or when a missed day was counted.
    pub checked_at: Option<Timestamp>,
    /// When the owner last requested a check. Not stored: a restart resets this rate limit.
    #[serde(skip)]
    pub asked_at: Option<Timestamp>,
    #[serde(flatten)]
    pub state: DomainState,
}

/// Whether a claim is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DomainState {
    /// Not proven, or no longer.
    Claimed,
    /// Routed to the instance. `missed` counts consecutive daily checks without the proof.
    Proven { at: Timestamp, missed: i64 },
}

impl Domain {
    /// Whether the domain is routed to its instance.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        matches!(self.state, DomainState::Proven { .. })
    }

    /// The name of the TXT record that proves the domain.
    #[must_use]
    pub fn proof_name(&self) -> String {
        format!("{PROOF_LABEL}{}", self.name)
    }
}
