//! The usage of a call: the provider's figures, or what was observed of them.

use serde::{Deserialize, Serialize};

use super::ServiceTier;

/// The provider's figures for one call. The four input classes do not overlap. A receipt stores them, so that the call
/// can be repriced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input that was neither written to the prompt cache nor read from it.
    pub input_tokens: u64,
    pub cache_write_tokens: u64,
    pub cache_write_long_tokens: u64,
    pub cache_read_tokens: u64,
    pub output_tokens: u64,
    pub web_searches: u64,
    /// The tier in which the provider reports to have served the call.
    pub tier: ServiceTier,
    /// Whether the provider reports to have computed in the United States only.
    pub in_us: bool,
    /// Whether the provider reports a tier or a tool that has no price here.
    pub unpriced: bool,
}

impl Usage {
    /// The sum of all input classes. It decides whether long-context prices apply.
    #[must_use]
    pub fn all_input_tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_write_tokens)
            .saturating_add(self.cache_write_long_tokens)
            .saturating_add(self.cache_read_tokens)
    }
}

/// What is known about a call's usage when the call has ended.
// The names of variants and fields are written to the journal on disk: renaming one makes old entries unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UsageReport {
    /// The call never reached the provider, or the provider refused it: no charge.
    NoCharge,
    /// The provider's final figures.
    Final(Usage),
    /// The provider broke off. `usage` are its latest figures, if any; `output_tokens` is an estimate from the bytes of
    /// the answer, too high rather than too low.
    Part { usage: Option<Usage>, output_tokens: u64 },
    /// As `Part`, but the platform stopped reading first, and the provider may have continued to generate.
    CutOff { usage: Option<Usage>, output_tokens: u64 },
    /// The provider finished, and its response contains no readable usage.
    Unreadable,
}

impl UsageReport {
    /// The same report for a stream that the platform stopped reading.
    #[must_use]
    pub fn cut_off(self) -> Self {
        match self {
            Self::Part { usage, output_tokens } => Self::CutOff { usage, output_tokens },
            other => other,
        }
    }
}
