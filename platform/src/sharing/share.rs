//! A share: a path that an owner opened, and to whom.

use berth_ground::clock::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::{ShareAudience, audience_columns};

/// A share's id, as used in URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShareId(pub Uuid);

impl std::fmt::Display for ShareId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for ShareId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// A path of an instance that its owner opened to an audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    pub id: ShareId,
    /// `/`, or a path without a trailing slash. Everything below it is shared as well.
    pub path: String,
    #[serde(flatten)]
    pub audience: ShareAudience,
    pub made_at: Timestamp,
}

impl Share {
    /// A short text for the audit log and the CLI: `/docs to account bob`.
    #[must_use]
    pub fn summary(&self) -> String {
        let (audience, handle) = audience_columns(&self.audience);
        format!("{} to {audience} {handle}", self.path).trim_end().to_owned()
    }
}
