//! What a call used, as the provider counted it.

use serde::{Deserialize, Serialize};

use super::ServiceTier;

/// What the provider counted, kept with the receipt so that it can be rated again. The four input classes do not
/// overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub input_tokens: u64,
    pub cache_write_tokens: u64,
    pub cache_write_long_tokens: u64,
    pub cache_read_tokens: u64,
    pub output_tokens: u64,
    pub web_searches: u64,
    /// In which the provider says that it served the call.
    pub tier: ServiceTier,
    /// The provider says that it computed in the United States only.
    pub in_us: bool,
    /// The provider served it in a way that this program has no word for.
    pub unpriced: bool,
}

impl Usage {
    /// All classes of input together, which is what decides whether a call is long.
    #[must_use]
    pub fn all_input_tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_write_tokens)
            .saturating_add(self.cache_write_long_tokens)
            .saturating_add(self.cache_read_tokens)
    }
}

/// What is known of a call when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UsageReport {
    /// It never reached the provider, or the provider refused it: no charge.
    NoCharge,
    /// The provider's own final figures.
    Final(Usage),
    /// The provider broke off. `usage`: the provider's figures until then, if any came; `output_tokens`: an estimate, from what
    /// was seen of the answer, that is rather too high.
    Part { usage: Option<Usage>, output_tokens: u64 },
    /// The same, but it was this side that stopped listening, and the provider may have gone on.
    CutOff { usage: Option<Usage>, output_tokens: u64 },
    /// The provider finished and said nothing that can be read.
    Unreadable,
}

impl UsageReport {
    /// The same, when it was this side that stopped listening.
    #[must_use]
    pub fn cut_off(self) -> Self {
        match self {
            Self::Part { usage, output_tokens } => Self::CutOff { usage, output_tokens },
            other => other,
        }
    }
}
