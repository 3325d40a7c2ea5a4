//! The demand of a call: everything in its request that determines the upper bound of its cost.

use std::borrow::Cow;

use super::ServiceTier;

/// The name of a provider in URLs, tables and logs: one of the two built-in providers, or one that the operator
/// configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Provider(Cow<'static, str>);

impl Provider {
    pub const ANTHROPIC: Self = Self(Cow::Borrowed("anthropic"));
    pub const OPENAI: Self = Self(Cow::Borrowed("openai"));

    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            // Nearly every call goes to one of these two; they need no allocation.
            "anthropic" => Self::ANTHROPIC,
            "openai" => Self::OPENAI,
            _ => Self(Cow::Owned(name.to_owned())),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The most expensive prompt cache write that a call can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWrites {
    Never,
    Short,
    Long,
}

/// An upper bound of a call's input tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputBound {
    /// Derived from the bytes of the body.
    Tokens(u64),
    /// Derived from the provider's own count of the input.
    Counted(u64),
    /// The model's context window, because the body contains images, documents or references. `at_least` is the bound
    /// by bytes, which applies where it is larger: some models take more input than the price table says.
    WholeModel { at_least: u64 },
}

/// The service tiers in which a call may be served. Always includes the standard tier, because providers fall back to
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierChoice {
    /// The request names no tier. The operator's account may use this one, for the models that have it.
    Auto(ServiceTier),
    /// The request names this tier.
    Named(ServiceTier),
}

/// The request of a call, reduced to the values that determine its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub provider: Provider,
    pub model: String,
    pub service: TierChoice,
    pub input: InputBound,
    pub cache_writes: CacheWrites,
    /// The output limit of one answer, in tokens; `None` for the model's own maximum.
    pub max_output_tokens: Option<u64>,
    /// The number of alternative answers, OpenAI's `n`.
    pub answers: u64,
    /// Tokens billed as output on top of each answer, such as rejected predictions.
    pub extra_output_tokens: u64,
    /// The most web searches that the model may make. After each search it reads the whole input again.
    pub web_searches: u64,
    /// Whether the surcharge for computing in the United States can apply.
    pub may_be_us: bool,
    /// Whether the provider may bill output that the response does not contain: reasoning, rejected predictions.
    pub may_hide_output: bool,
}
