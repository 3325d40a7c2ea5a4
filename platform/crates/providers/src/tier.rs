//! Service tiers.

use serde::{Deserialize, Serialize};

/// How a provider served a call, which decides what a token costs: OpenAI's service tiers, and Anthropic's speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    #[default]
    Standard,
    Batch,
    Flex,
    Priority,
    /// Anthropic's `speed: fast`.
    Fast,
    Ultrafast,
}

impl ServiceTier {
    /// The tier that OpenAI's `service_tier` names in an answer, or an operator in a setting. `None`: one without a
    /// word here.
    #[must_use]
    pub fn of_openai(name: &str) -> Option<Self> {
        match name {
            // `scale` is capacity that was paid for beforehand.
            "default" | "auto" | "standard" | "scale" => Some(Self::Standard),
            "batch" => Some(Self::Batch),
            "flex" => Some(Self::Flex),
            // Two names of one tier.
            "priority" | "fast" => Some(Self::Priority),
            "ultrafast" => Some(Self::Ultrafast),
            _ => None,
        }
    }

    /// The name in tables and sentences.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Fast => "fast",
            Self::Ultrafast => "ultrafast",
        }
    }
}
