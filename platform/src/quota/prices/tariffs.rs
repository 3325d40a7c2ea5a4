//! Tariffs of models: a rate for each class of token in each tier, for short and for long input.

use std::collections::BTreeMap;

use berth_ground::money::Nanodollars;
use berth_providers::{CacheWrites, ServiceTier};
use serde::{Deserialize, Serialize};

/// Rates in nano-dollars per million tokens, for each class of token. A class without a rate has that of fresh input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRates {
    pub input: i64,
    /// Writing to the cache for a short time: 5 minutes (Anthropic), 30 minutes (OpenAI).
    pub cache_write: Option<i64>,
    /// Writing for a long time: 1 hour (Anthropic), 12 hours (OpenAI).
    pub cache_write_long: Option<i64>,
    pub cache_read: Option<i64>,
    pub output: i64,
}

impl TokenRates {
    pub(super) fn short_write(&self) -> i64 {
        self.cache_write.unwrap_or(self.input)
    }

    pub(super) fn long_write(&self) -> i64 {
        self.cache_write_long.unwrap_or_else(|| self.short_write())
    }

    pub(super) fn read(&self) -> i64 {
        self.cache_read.unwrap_or(self.input)
    }

    pub(super) fn dearest_input(&self, writes: CacheWrites) -> i64 {
        let write = match writes {
            CacheWrites::Never => self.input,
            CacheWrites::Short => self.short_write(),
            CacheWrites::Long => self.short_write().max(self.long_write()),
        };
        self.input.max(write).max(self.read())
    }
}

/// The rates of one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tariff {
    pub rates: TokenRates,
    /// The rates for the whole call once its input is long; see [`Price::long_above_tokens`].
    pub long: Option<TokenRates>,
}

impl Tariff {
    pub(super) fn rates(&self, is_long: bool) -> &TokenRates {
        self.long.as_ref().filter(|_| is_long).unwrap_or(&self.rates)
    }
}

/// The price of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    /// With more input tokens than this, all classes together, a call is long.
    pub long_above_tokens: Option<u64>,
    pub standard: Tariff,
    /// The other tiers that the model is offered in.
    pub tiers: BTreeMap<ServiceTier, Tariff>,
    /// Factor in thousandths when the provider computes in the United States only.
    pub us_permille: Option<i64>,
    /// The price of a web search; `None`: the model may not search.
    pub web_search_nanodollars: Option<Nanodollars>,
    /// The price of a call as such, in addition to its tokens.
    pub call_nanodollars: Nanodollars,
}

impl Price {
    /// The same rates in every tier, for short and long input.
    pub(in crate::quota) fn flat(rates: TokenRates) -> Self {
        Self {
            max_input_tokens: None,
            max_output_tokens: None,
            long_above_tokens: None,
            standard: Tariff { rates, long: None },
            tiers: BTreeMap::new(),
            us_permille: None,
            web_search_nanodollars: None,
            call_nanodollars: Nanodollars::ZERO,
        }
    }

    /// The tariff of `tier`, if the model is offered in it.
    #[must_use]
    pub fn tariff(&self, tier: ServiceTier) -> Option<&Tariff> {
        if tier == ServiceTier::Standard { Some(&self.standard) } else { self.tiers.get(&tier) }
    }

    pub(super) fn is_long(&self, input_tokens: u64) -> bool {
        self.long_above_tokens.is_some_and(|threshold| input_tokens > threshold)
    }
}
