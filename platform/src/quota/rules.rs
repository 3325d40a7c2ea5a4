//! The arithmetic of money: what a call may cost at most, and what it did cost. Integers only, rounded up once.

use serde::{Deserialize, Serialize};

/// Whose prices apply, and whose wire shape a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    Anthropic,
    Openai,
}

impl Provider {
    /// The name in URLs, tables and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
        }
    }
}

/// Nano-dollars per million tokens, for each class of token. A class without its own price costs what fresh input does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    pub input: i64,
    /// Writing to the cache for a short time: 5 minutes (Anthropic), 30 minutes (OpenAI).
    pub cache_write: Option<i64>,
    /// Writing for a long time: 1 hour (Anthropic), 12 hours (OpenAI).
    pub cache_write_long: Option<i64>,
    pub cache_read: Option<i64>,
    pub output: i64,
}

impl Rates {
    fn dearest_input(&self, writes: CacheWrites) -> i64 {
        let short = self.cache_write.unwrap_or(self.input);
        let long = self.cache_write_long.unwrap_or(short);
        let write = match writes {
            CacheWrites::Never => self.input,
            CacheWrites::Short => short,
            CacheWrites::Long => short.max(long),
        };
        self.input.max(write).max(self.cache_read.unwrap_or(0))
    }
}

/// What one model costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    pub rates: Rates,
    /// Other rates for the whole call once its input, all classes together, has more tokens than the threshold.
    pub long_context: Option<LongContext>,
    /// Factor in thousandths when the provider computes in the United States only.
    pub us_permille: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongContext {
    pub above_tokens: u64,
    pub rates: Rates,
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
    /// As many as the model takes: the body holds pictures, documents or references. Or what its bytes bound, if that
    /// is more: what a model takes can be more than the table says.
    WholeModel { at_least: u64 },
}

/// What a call asks for, as far as money is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub provider: Provider,
    pub model: String,
    pub input: InputBound,
    pub cache_writes: CacheWrites,
    /// The most output tokens of one answer; `None`: as many as the model can make.
    pub max_output_tokens: Option<u64>,
    /// How many answers are asked for.
    pub answers: u64,
    /// Billed as output on top of each answer, such as predictions that were rejected.
    pub extra_output_tokens: u64,
    /// Whether the dearer price of a region can apply.
    pub may_be_us: bool,
    /// Whether output can be charged that the answer does not show: reasoning, rejected predictions.
    pub may_hide_output: bool,
}

/// The most a call can cost: what is held for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub input_nanodollars: i64,
    pub output_nanodollars: i64,
    pub may_hide_output: bool,
}

impl Bound {
    /// The hold.
    #[must_use]
    pub fn total_nanodollars(&self) -> i64 {
        self.input_nanodollars.saturating_add(self.output_nanodollars)
    }
}

/// The price table does not say how much this model takes in or gives out, so no bound can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBound;

/// The upper bound of what `demand` can cost at `price`: every input token at the dearest class that can apply to it,
/// every output token there can be, in the dearest tier of context that the input can reach.
///
/// # Errors
/// When the demand leaves input or output open and the table does not close it.
pub fn bound(price: &Price, demand: &Demand) -> Result<Bound, NoBound> {
    let input_tokens = match demand.input {
        InputBound::Tokens(tokens) => tokens,
        InputBound::WholeModel { at_least } => price.max_input_tokens.ok_or(NoBound)?.max(at_least),
    };
    let answer = demand.max_output_tokens.or(price.max_output_tokens).ok_or(NoBound)?;
    let output_tokens = answer.saturating_add(demand.extra_output_tokens).saturating_mul(demand.answers);
    let is_open = matches!(demand.input, InputBound::WholeModel { .. });
    let reaches = |long: &&LongContext| is_open || input_tokens > long.above_tokens;
    let reachable = price.long_context.as_ref().filter(reaches).map(|long| &long.rates);
    let dearest = |rate: &dyn Fn(&Rates) -> i64| rate(&price.rates).max(reachable.map_or(0, rate));
    let factor = if demand.may_be_us { price.us_permille.unwrap_or(1000).max(1000) } else { 1000 };
    Ok(Bound {
        input_tokens,
        output_tokens,
        input_nanodollars: charge_for(&[(input_tokens, dearest(&|r| r.dearest_input(demand.cache_writes)))], factor),
        output_nanodollars: charge_for(&[(output_tokens, dearest(&|r| r.output))], factor),
        may_hide_output: demand.may_hide_output,
    })
}

/// Tokens as the provider counts them. The four input classes do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub cache_write_tokens: u64,
    pub cache_write_long_tokens: u64,
    pub cache_read_tokens: u64,
    pub output_tokens: u64,
    /// The provider says that it computed in the United States only.
    pub in_us: bool,
    /// The provider served it in a way whose price is not known here, such as a priority tier.
    pub unpriced: bool,
}

impl Usage {
    /// All classes of input together, which is what decides the tier of context.
    #[must_use]
    pub fn all_input_tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_write_tokens)
            .saturating_add(self.cache_write_long_tokens)
            .saturating_add(self.cache_read_tokens)
    }
}

/// What `usage` costs at `price`, in nano-dollars.
#[must_use]
pub fn cost(price: &Price, usage: &Usage) -> i64 {
    let rates = match &price.long_context {
        Some(long) if usage.all_input_tokens() > long.above_tokens => &long.rates,
        _ => &price.rates,
    };
    let short = rates.cache_write.unwrap_or(rates.input);
    let factor = if usage.in_us { price.us_permille.unwrap_or(1000) } else { 1000 };
    charge_for(
        &[
            (usage.input_tokens, rates.input),
            (usage.cache_write_tokens, short),
            (usage.cache_write_long_tokens, rates.cache_write_long.unwrap_or(short)),
            (usage.cache_read_tokens, rates.cache_read.unwrap_or(rates.input)),
            (usage.output_tokens, rates.output),
        ],
        factor,
    )
}

/// Tokens times nano-dollars per million, times a factor in thousandths, rounded up once at the end.
fn charge_for(parts: &[(u64, i64)], permille: i64) -> i64 {
    let sum = parts
        .iter()
        .fold(0_i128, |sum, (tokens, rate)| sum.saturating_add(i128::from(*tokens).saturating_mul(i128::from(*rate))));
    let scaled = sum.saturating_mul(i128::from(permille));
    i64::try_from(scaled.saturating_add(999_999_999) / 1_000_000_000).unwrap_or(i64::MAX)
}

/// What is known of a call when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
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

impl Seen {
    /// The same, when it was this side that stopped listening.
    #[must_use]
    pub fn cut_off(self) -> Self {
        match self {
            Self::Part { usage, output_tokens } => Self::CutOff { usage, output_tokens },
            other => other,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    ClientGone,
    UpstreamBroke,
    /// By the provider.
    Refused,
    /// The platform died meanwhile; settled at the next start.
    Recovered,
}

impl Outcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientGone => "client_gone",
            Self::UpstreamBroke => "upstream_broke",
            Self::Refused => "refused",
            Self::Recovered => "recovered",
        }
    }
}

/// Where the amount of a receipt comes from: the provider's figures, what was observed, or the hold itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    Provider,
    Observed,
    Held,
}

impl Basis {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Observed => "observed",
            Self::Held => "held",
        }
    }
}

/// The amount a receipt shows, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    pub amount_nanodollars: i64,
    pub basis: Basis,
    pub usage: Usage,
}

/// What a finished call is charged.
///
/// The provider's figures are charged as they are, even above the hold: hiding a charge does not undo it. Estimates
/// never exceed the hold. A call that broke off before the provider named its input is charged the hold's whole
/// input part, because the provider has read the input by then.
///
/// Who hangs up just before the final figures has seen the whole answer, but not the reasoning that is charged with
/// it. So a call that was cut off from this side is read on to its figures (`llm/drain.rs`); where they did not come
/// in time, it is charged all the output that was held, unless the call had said that nothing is hidden. The input is
/// charged as the provider named it, if it did.
#[must_use]
pub fn charge(price: &Price, hold: &Bound, seen: Seen) -> Charge {
    let held = hold.total_nanodollars();
    let (amount_nanodollars, basis, usage) = match seen {
        Seen::NoCharge => (0, Basis::Provider, Usage::default()),
        Seen::Final(usage) if usage.unpriced => (cost(price, &usage).max(held), Basis::Held, usage),
        Seen::Final(usage) => (cost(price, &usage), Basis::Provider, usage),
        Seen::Part { usage: Some(usage), output_tokens } => {
            let usage = Usage { output_tokens: usage.output_tokens.max(output_tokens), ..usage };
            (cost(price, &usage).min(held), Basis::Observed, usage)
        }
        Seen::Part { usage: None, output_tokens } => {
            let output = cost(price, &Usage { output_tokens, ..Usage::default() });
            let usage = Usage { input_tokens: hold.input_tokens, output_tokens, ..Usage::default() };
            (hold.input_nanodollars.saturating_add(output).min(held), Basis::Observed, usage)
        }
        Seen::CutOff { usage, output_tokens } if !hold.may_hide_output => {
            return charge(price, hold, Seen::Part { usage, output_tokens });
        }
        Seen::CutOff { usage: Some(usage), .. } => {
            let usage = Usage { output_tokens: hold.output_tokens, ..usage };
            (cost(price, &usage).min(held), Basis::Held, usage)
        }
        Seen::CutOff { usage: None, .. } | Seen::Unreadable => (held, Basis::Held, Usage::default()),
    };
    Charge { amount_nanodollars, basis, usage }
}

/// Nano-dollars as dollars, exactly: `$1.50`, `$0.000031`; at least two decimals, and as many more as it takes.
#[must_use]
pub fn dollars(nanodollars: i64) -> String {
    let (sign, n) = (if nanodollars < 0 { "-" } else { "" }, nanodollars.unsigned_abs());
    let digits = format!("{:09}", n % 1_000_000_000);
    let kept = digits.trim_end_matches('0').len().max(2);
    format!("{sign}${}.{}", n / 1_000_000_000, &digits[..kept])
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
