//! Service tiers: the speed classes that providers price differently.

use serde::{Deserialize, Serialize};

/// A service tier: OpenAI's `service_tier`, or Anthropic's `speed`. It decides the price of a token.
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
    /// Parses OpenAI's `service_tier` of a response, or the operator's setting. `None` for an unknown name.
    #[must_use]
    pub fn of_openai(name: &str) -> Option<Self> {
        match name {
            // `scale` is capacity that the operator paid for in advance; its tokens have the standard price.
            "default" | "auto" | "standard" | "scale" => Some(Self::Standard),
            "batch" => Some(Self::Batch),
            "flex" => Some(Self::Flex),
            // OpenAI uses both names for one tier.
            "priority" | "fast" => Some(Self::Priority),
            "ultrafast" => Some(Self::Ultrafast),
            _ => None,
        }
    }

    /// The name in tables and messages.
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
