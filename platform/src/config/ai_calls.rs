//! Settings of AI calls: limits, providers, and the policy for unknown models.

use std::fmt;

use berth_ground::money::Nanodollars;
use zeroize::Zeroizing;

/// The policy for calls of models that the price table lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownModels {
    Refuse,
    /// Hold and charge them at the highest price of their provider.
    Dearest,
}

/// The limits on AI calls of one account. `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// Per calendar month in UTC.
    pub month_nanodollars: Nanodollars,
    pub day_nanodollars: Option<Nanodollars>,
    pub requests_a_minute: Option<u32>,
    /// Input and output together. A call in flight counts with its upper bound, a finished one with its usage.
    pub tokens_a_minute: Option<u32>,
    pub calls_at_once: u32,
}

/// The upstream address and API keys of a model provider.
#[derive(Clone)]
pub struct ProviderSettings {
    /// Without a trailing slash.
    pub url: String,
    /// Empty for the demo model, which needs no key.
    pub keys: Vec<Zeroizing<String>>,
    /// The provider's own address: calls under accounts' own keys go there, also while the demo model answers all
    /// others.
    pub url_for_own_keys: String,
}

// Written by hand, because a derived Debug would print the keys.
impl fmt::Debug for ProviderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderSettings({}, {} keys)", self.url, self.keys.len())
    }
}
