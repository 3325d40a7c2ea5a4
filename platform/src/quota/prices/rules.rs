//! The arithmetic of cost: the upper bound of a call's cost, and its charge. Integers only, rounded up once.

use berth_ground::money::Nanodollars;
use berth_providers::{Demand, InputBound, ServiceTier, TierChoice, Usage, UsageReport};
use serde::{Deserialize, Serialize};

use super::tariffs::{Price, TokenRates};

/// The upper bound of the cost of a call, which is the amount of its hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostBound {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub input_nanodollars: Nanodollars,
    pub output_nanodollars: Nanodollars,
    /// The cost of searches, and the price per call.
    #[serde(default)]
    pub other_nanodollars: Nanodollars,
    /// The model may search, and reads its whole input again after each search.
    #[serde(default)]
    pub reads_again: bool,
    /// The provider counted the input.
    #[serde(default)]
    pub is_counted: bool,
    pub may_hide_output: bool,
}

impl CostBound {
    /// The hold.
    #[must_use]
    pub fn total_nanodollars(&self) -> Nanodollars {
        self.input_nanodollars.saturating_add(self.output_nanodollars).saturating_add(self.other_nanodollars)
    }
}

/// The figure that the price table lacks, so that no bound can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnboundedCost {
    /// The most input or output tokens of the model.
    Size,
    /// The price in the tier that the call names.
    Tier(ServiceTier),
    /// The price of a web search.
    WebSearch,
}

/// The upper bound of the cost of `demand` at `price`: every input token at the dearest class that can apply to it, and
/// every possible output token, in the dearest tier and at the dearer of long and short rates that the call can meet.
///
/// # Errors
/// When neither the demand nor the table bounds a figure.
pub fn bound(price: &Price, demand: &Demand) -> Result<CostBound, UnboundedCost> {
    let other = match demand.service {
        TierChoice::Auto(tier) => price.tariff(tier),
        TierChoice::Named(tier) => Some(price.tariff(tier).ok_or(UnboundedCost::Tier(tier))?),
    };
    let search = match demand.web_searches {
        0 => Nanodollars::ZERO,
        _ => price.web_search_nanodollars.ok_or(UnboundedCost::WebSearch)?,
    };
    let readings = demand.web_searches.saturating_add(1);
    let input_tokens = match demand.input {
        InputBound::Tokens(tokens) | InputBound::Counted(tokens) => tokens,
        InputBound::WholeModel { at_least } => price.max_input_tokens.ok_or(UnboundedCost::Size)?.max(at_least),
    }
    .saturating_mul(readings);
    let answer = demand.max_output_tokens.or(price.max_output_tokens).ok_or(UnboundedCost::Size)?;
    let output_tokens =
        answer.saturating_add(demand.extra_output_tokens).saturating_mul(demand.answers).saturating_mul(readings);
    let is_open = matches!(demand.input, InputBound::WholeModel { .. });
    let may_be_long = is_open || price.is_long(input_tokens);
    let dearest = |rate: &dyn Fn(&TokenRates) -> i64| {
        let tariffs = [Some(&price.standard), other].into_iter().flatten();
        tariffs.map(|tariff| rate(&tariff.rates).max(rate(tariff.rates(may_be_long)))).max().unwrap_or(i64::MAX)
    };
    let factor = if demand.may_be_us { price.us_permille.unwrap_or(1000).max(1000) } else { 1000 };
    Ok(CostBound {
        input_tokens,
        output_tokens,
        input_nanodollars: charge_for(&[(input_tokens, dearest(&|r| r.dearest_input(demand.cache_writes)))], factor),
        output_nanodollars: charge_for(&[(output_tokens, dearest(&|r| r.output))], factor),
        other_nanodollars: times(demand.web_searches, search).saturating_add(price.call_nanodollars),
        reads_again: demand.web_searches > 0,
        is_counted: matches!(demand.input, InputBound::Counted(_)),
        may_hide_output: demand.may_hide_output,
    })
}

/// The cost of `usage` at `price`, in the tier that served it; where that tier has no price, at the dearest tier.
#[must_use]
pub fn cost(price: &Price, usage: &Usage) -> Nanodollars {
    let is_long = price.is_long(usage.all_input_tokens());
    let served = price.tariff(usage.tier).map(|tariff| tariff.rates(is_long));
    let rate = |of: fn(&TokenRates) -> i64| {
        let dearest = || price.tiers.values().chain([&price.standard]).map(|tariff| of(tariff.rates(is_long))).max();
        served.map(of).or_else(dearest).unwrap_or(i64::MAX)
    };
    let factor = if usage.in_us { price.us_permille.unwrap_or(1000) } else { 1000 };
    let tokens = [
        (usage.input_tokens, rate(|r| r.input)),
        (usage.cache_write_tokens, rate(TokenRates::short_write)),
        (usage.cache_write_long_tokens, rate(TokenRates::long_write)),
        (usage.cache_read_tokens, rate(TokenRates::read)),
        (usage.output_tokens, rate(|r| r.output)),
    ];
    let searches = times(usage.web_searches, price.web_search_nanodollars.unwrap_or_default());
    charge_for(&tokens, factor).saturating_add(searches).saturating_add(price.call_nanodollars)
}

/// Whether the table has a price for all of the usage.
#[must_use]
pub fn is_priced(price: &Price, usage: &Usage) -> bool {
    let searched = usage.web_searches > 0;
    !usage.unpriced && price.tariff(usage.tier).is_some() && (!searched || price.web_search_nanodollars.is_some())
}

/// Tokens times nano-dollars per million, times a factor in thousandths, rounded up once at the end.
fn charge_for(parts: &[(u64, i64)], permille: i64) -> Nanodollars {
    let sum = parts
        .iter()
        .fold(0_i128, |sum, (tokens, rate)| sum.saturating_add(i128::from(*tokens).saturating_mul(i128::from(*rate))));
    let scaled = sum.saturating_mul(i128::from(permille));
    within_i64(scaled.saturating_add(999_999_999) / 1_000_000_000)
}

/// The share of `amount` that `part` has in `whole`, rounded up; all of it at most.
fn share(amount: Nanodollars, part: u64, whole: u64) -> Nanodollars {
    let (part, whole) = (i128::from(part.min(whole)), i128::from(whole.max(1)));
    within_i64((i128::from(amount.0) * part + whole - 1) / whole)
}

fn times(count: u64, amount: Nanodollars) -> Nanodollars {
    within_i64(i128::from(count).saturating_mul(i128::from(amount.0)))
}

/// An amount that was computed in 128 bits; the largest there is where it does not fit, so that no account can pay it.
fn within_i64(nanodollars: i128) -> Nanodollars {
    i64::try_from(nanodollars).map_or(Nanodollars::MAX, Nanodollars)
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    Completed,
    ClientGone,
    UpstreamBroke,
    /// The provider refused the call.
    Refused,
    /// The platform died during the call, which was settled at the next start.
    Recovered,
}

impl CallOutcome {
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

/// The source of a receipt's amount: the provider's figures, the observed part of the answer, or the hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeBasis {
    Provider,
    Observed,
    Held,
}

impl ChargeBasis {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Observed => "observed",
            Self::Held => "held",
        }
    }
}

/// The amount of a receipt, its basis, and the usage that was priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    pub amount_nanodollars: Nanodollars,
    pub basis: ChargeBasis,
    pub usage: Usage,
}

/// The charge of a finished call.
///
/// The provider's figures are charged as they are, even above the hold: hiding a charge does not undo it. Estimates
/// never exceed the hold. A call that broke off before the provider named its input is charged the hold's whole
/// input part, because the provider has read the input by then.
///
/// A client that disconnects just before the final figures has seen the whole answer, but not the hidden reasoning that
/// the provider charges for. So after a disconnect the answer is read on to its figures (`llm/drain.rs`). Where they do
/// not come in time, all held output is charged, unless the request excludes hidden output. The input is charged as the
/// provider reported it, if it did.
#[must_use]
pub fn charge(price: &Price, hold: &CostBound, seen: UsageReport) -> Charge {
    let held = hold.total_nanodollars();
    let (amount_nanodollars, basis, usage) = match seen {
        UsageReport::NoCharge => (Nanodollars::ZERO, ChargeBasis::Provider, Usage::default()),
        UsageReport::Final(usage) if !is_priced(price, &usage) => {
            (cost(price, &usage).max(held), ChargeBasis::Held, usage)
        }
        UsageReport::Final(usage) => (cost(price, &usage), ChargeBasis::Provider, usage),
        UsageReport::Part { usage: Some(usage), output_tokens } => {
            let usage = Usage { output_tokens: usage.output_tokens.max(output_tokens), ..usage };
            (cost(price, &usage).min(held), ChargeBasis::Observed, usage)
        }
        UsageReport::Part { usage: None, output_tokens } => {
            let output = share(hold.output_nanodollars, output_tokens, hold.output_tokens);
            let usage = Usage { input_tokens: hold.input_tokens, output_tokens, ..Usage::default() };
            (hold.input_nanodollars.saturating_add(output).min(held), ChargeBasis::Observed, usage)
        }
        UsageReport::CutOff { usage, output_tokens } if !hold.may_hide_output && !hold.reads_again => {
            return charge(price, hold, UsageReport::Part { usage, output_tokens });
        }
        // Figures from before a search do not count the input that the model reads again after it.
        UsageReport::CutOff { usage: Some(usage), .. } if !hold.reads_again => {
            let usage = Usage { output_tokens: hold.output_tokens, ..usage };
            (cost(price, &usage).min(held), ChargeBasis::Held, usage)
        }
        UsageReport::CutOff { .. } | UsageReport::Unreadable => (held, ChargeBasis::Held, Usage::default()),
    };
    Charge { amount_nanodollars, basis, usage }
}

/// An amount in dollars, exactly: `$1.50`, `$0.000031`; at least two decimals, and as many more as needed.
#[must_use]
pub fn dollars(amount: Nanodollars) -> String {
    let (sign, n) = (if amount < Nanodollars::ZERO { "-" } else { "" }, amount.0.unsigned_abs());
    let digits = format!("{:09}", n % 1_000_000_000);
    let kept = digits.trim_end_matches('0').len().max(2);
    format!("{sign}${}.{}", n / 1_000_000_000, &digits[..kept])
}

#[cfg(test)]
#[path = "rules_tests.rs"]
pub(in crate::quota) mod tests;
