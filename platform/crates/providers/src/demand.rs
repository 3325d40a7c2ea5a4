//! What a call asks for, as far as money is concerned.

use std::borrow::Cow;

use super::ServiceTier;

/// Whose prices apply: the name in URLs, tables and logs. There are as many as the operator's settings name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Provider(Cow<'static, str>);

impl Provider {
    pub const ANTHROPIC: Self = Self(Cow::Borrowed("anthropic"));
    pub const OPENAI: Self = Self(Cow::Borrowed("openai"));

    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
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

/// Which cache prices the input of a call can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWrites {
    Never,
    Short,
    Long,
}

/// How many input tokens a call can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputBound {
    /// At most this many.
    Tokens(u64),
    /// At most this many, by what the provider says that it counted.
    Counted(u64),
    /// As many as the model takes: the body holds pictures, documents or references. Or what its bytes bound, if that
    /// is more: what a model takes can be more than the table says.
    WholeModel { at_least: u64 },
}

/// In which tiers a call may be served. Standard is always one of them: providers fall back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierChoice {
    /// The call leaves it to the operator's account, which may use this tier for the models that have it.
    Auto(ServiceTier),
    /// The call names this tier.
    Named(ServiceTier),
}

/// What a call asks for, as far as money is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub provider: Provider,
    pub model: String,
    pub service: TierChoice,
    pub input: InputBound,
    pub cache_writes: CacheWrites,
    /// The most output tokens of one answer; `None`: as many as the model can make.
    pub max_output_tokens: Option<u64>,
    /// How many answers are asked for.
    pub answers: u64,
    /// Billed as output on top of each answer, such as predictions that were rejected.
    pub extra_output_tokens: u64,
    /// The most searches of the web. After each the model reads everything again.
    pub web_searches: u64,
    /// Whether the dearer price of a region can apply.
    pub may_be_us: bool,
    /// Whether output can be charged that the answer does not show: reasoning, rejected predictions.
    pub may_hide_output: bool,
}
