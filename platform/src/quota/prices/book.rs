//! Price tables: the built-in one, and those that an operator imports. A table combined with the settings is stored in
//! the database under a version, which is a hash of both, and never changes; one is in force.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use berth_ground::money::Nanodollars;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::tariffs::{Price, Tariff, TokenRates};
use super::unknown_models;
use crate::config::{Dollars, MeteredCall, ModelPrice, Providers};
use berth_providers::Provider;
use berth_providers::ServiceTier;

/// LiteLLM's rows for Anthropic and OpenAI, US dollars per token; its licence beside it.
pub const TABLE: &str = include_str!("../../../../data/model_prices.json");
/// The built-in demo model. Its prices buy nothing, but are spent like real ones, so that everything can be seen.
const DEMO: &str = include_str!("demo_prices.json");

/// How the names of its models begin.
const DEMO_MODEL: &str = "berth-demo";

/// The format of a stored price. It is part of the version, so that a later format has other versions.
const FORM: &str = "tariffs in tiers";

/// Every model and every call that can be made, with its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    /// Twelve hexadecimal digits of the SHA-256 of the data and its form.
    pub version: String,
    prices: HashMap<Provider, HashMap<String, Arc<Price>>>,
    /// Of each provider, for models that have no price of their own.
    dearest: HashMap<Provider, Arc<Price>>,
}

impl PriceBook {
    /// A stored version.
    #[must_use]
    pub fn kept(version: String, rows: Vec<(Provider, String, Price)>) -> Self {
        let mut prices: HashMap<Provider, HashMap<String, Arc<Price>>> = HashMap::new();
        for (provider, model, price) in rows {
            prices.entry(provider).or_default().insert(model, Arc::new(price));
        }
        Self::new(version, prices)
    }

    fn new(version: String, prices: HashMap<Provider, HashMap<String, Arc<Price>>>) -> Self {
        let of_one = |(provider, its): (&Provider, &HashMap<String, Arc<Price>>)| {
            Some((provider.clone(), Arc::new(unknown_models::of(its.values().map(Arc::as_ref))?)))
        };
        let dearest = prices.iter().filter_map(of_one).collect();
        Self { version, prices, dearest }
    }

    /// Reads `table` in LiteLLM's format: an object with a row for each model, US dollars per token. The demo model and
    /// the prices in the operator's settings are in every book.
    ///
    /// # Errors
    /// A sentence that names the row that cannot be read; when no row is of a model that can be called.
    pub fn read(table: &str, providers: &Providers) -> anyhow::Result<Self> {
        let mut prices: HashMap<Provider, HashMap<String, Arc<Price>>> = HashMap::new();
        for text in [table, DEMO] {
            let rows: HashMap<String, &RawValue> =
                serde_json::from_str(text).context("this is not a JSON object of models")?;
            for (name, row) in rows {
                let row = &serde_json::from_str(row.get()).with_context(|| format!("{name} is not an object"))?;
                let Some(provider) = provider_of(row) else { continue };
                let model = name.strip_prefix(&format!("{}/", provider.as_str())).unwrap_or(&name).to_owned();
                if is_metered(&model, row) {
                    let price = read_price(row).with_context(|| format!("reading the price of {name}"))?;
                    prices.entry(provider).or_default().insert(model, Arc::new(price));
                }
            }
        }
        let called = prices.values().flat_map(HashMap::keys).filter(|model| !model.starts_with(DEMO_MODEL)).count();
        anyhow::ensure!(called > 0, "no row is of a model of Anthropic or OpenAI that can be called");
        let mut digest = Sha256::new().chain_update(FORM).chain_update(table).chain_update(DEMO);
        for (provider, name, price) in of_the_operator(providers) {
            let written = serde_json::to_string(&price).context("writing a price down")?;
            for part in [provider, name.as_str(), written.as_str()] {
                digest.update(part);
                digest.update([0]);
            }
            prices.entry(Provider::named(provider)).or_default().insert(name, Arc::new(price));
        }
        let version = hex::encode(&digest.finalize()[..6]);
        Ok(Self::new(version, prices))
    }

    /// The price of `model`, or `None`: then it cannot be called.
    #[must_use]
    pub fn find(&self, provider: &Provider, model: &str) -> Option<Arc<Price>> {
        self.prices.get(provider)?.get(model).cloned()
    }

    /// A price that no model of `provider` exceeds; `None` when that provider has no price.
    #[must_use]
    pub fn dearest(&self, provider: &Provider) -> Option<Arc<Price>> {
        self.dearest.get(provider).cloned()
    }

    /// How `self` differs from `other`.
    #[must_use]
    pub fn compared_with(&self, other: &Self) -> PriceChanges {
        let missing_in = |book: &Self, rows: &Self| {
            rows.rows().filter(|(provider, model, _)| book.find(provider, model).is_none()).count()
        };
        let (models, new, gone) = (self.rows().count(), missing_in(other, self), missing_in(self, other));
        let is_same = |(provider, model, price): &(&Provider, &str, &Price)| {
            other.find(provider, model).as_deref() == Some(*price)
        };
        PriceChanges { models, new, gone, changed: models - new - self.rows().filter(is_same).count() }
    }

    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = (&Provider, &str, &Price)> {
        let of_one = |(provider, prices)| std::iter::repeat(provider).zip(prices);
        self.prices.iter().flat_map(of_one).map(|(provider, (model, price))| (provider, model.as_str(), price.as_ref()))
    }
}

/// How a price table differs from another, in models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceChanges {
    pub models: usize,
    pub new: usize,
    pub changed: usize,
    pub gone: usize,
}

/// Prices that are only in the operator's settings: provider, model or call, price.
fn of_the_operator(providers: &Providers) -> impl Iterator<Item = (&str, String, Price)> {
    let models = providers.models.iter().flat_map(|(provider, its)| {
        its.models.iter().map(|(model, price)| (provider.as_str(), model.clone(), of_model(price)))
    });
    let calls = providers
        .metered
        .iter()
        .flat_map(|(name, api)| api.calls.iter().map(|call| (name.as_str(), call.name(), of_call(call))));
    models.chain(calls)
}

fn of_model(price: &ModelPrice) -> Price {
    let rate = |dollars: Dollars| dollars.nanodollars.0;
    let rates = TokenRates {
        input: rate(price.input),
        cache_write: price.cache_write.map(rate),
        cache_write_long: price.cache_write_long.map(rate),
        cache_read: price.cache_read.map(rate),
        output: rate(price.output),
    };
    Price {
        max_input_tokens: Some(price.max_input_tokens),
        max_output_tokens: Some(price.max_output_tokens),
        ..Price::flat(rates)
    }
}

/// The price of a metered call, in which bytes take the place of tokens.
fn of_call(call: &MeteredCall) -> Price {
    let byte = call.dollars_per_million_bytes.nanodollars.0;
    let rates = TokenRates { input: byte, cache_write: None, cache_write_long: None, cache_read: None, output: byte };
    Price { call_nanodollars: call.dollars.nanodollars, ..Price::flat(rates) }
}

fn provider_of(row: &Map<String, Value>) -> Option<Provider> {
    match row.get("litellm_provider")?.as_str()? {
        "anthropic" => Some(Provider::ANTHROPIC),
        "openai" => Some(Provider::OPENAI),
        _ => None,
    }
}

/// Whether each charge of a model is a price of text tokens or of a search that the call limits: sound has prices of
/// its own, and models that search the web by themselves do it without a limit.
fn is_metered(model: &str, row: &Map<String, Value>) -> bool {
    let mode = row.get("mode").and_then(Value::as_str).unwrap_or_default();
    ["chat", "responses", "embedding"].contains(&mode)
        && !row.keys().any(|key| key.contains("audio"))
        && !["-search-", "-research"].iter().any(|name| model.contains(name))
}

/// The table's suffixes for OpenAI's service tiers.
const TIERS: [(ServiceTier, &str); 4] = [
    (ServiceTier::Batch, "_batches"),
    (ServiceTier::Flex, "_flex"),
    (ServiceTier::Priority, "_priority"),
    (ServiceTier::Ultrafast, "_ultrafast"),
];

fn read_price(row: &Map<String, Value>) -> anyhow::Result<Price> {
    let long_above_thousand = row
        .keys()
        .find_map(|key| key.strip_prefix("input_cost_per_token_above_")?.strip_suffix("k_tokens")?.parse::<u64>().ok());
    let long = long_above_thousand.map(|thousand| format!("_above_{thousand}k_tokens"));
    let standard = Tariff {
        rates: read_rates(row, "").context("a price of input or output is missing")?,
        long: match &long {
            None => None,
            Some(long) => Some(read_rates(row, long).context("a price of long input or output is missing")?),
        },
    };
    let in_tiers = TIERS.iter().filter_map(|(tier, suffix)| Some((*tier, read_tariff(row, suffix, &standard, &long)?)));
    let factor = |name: &str| Some(scaled(row.get("provider_specific_entry")?.get(name)?.as_f64()?, 1e3));
    let fast = factor("fast").map(|permille| (ServiceTier::Fast, in_thousandths(&standard, permille)));
    Ok(Price {
        max_input_tokens: row.get("max_input_tokens").and_then(Value::as_u64),
        max_output_tokens: row.get("max_output_tokens").and_then(Value::as_u64),
        long_above_tokens: long_above_thousand.map(|thousand| thousand * 1000),
        tiers: in_tiers.chain(fast).collect(),
        standard,
        us_permille: factor("us"),
        web_search_nanodollars: row.get("search_context_cost_per_query").and_then(Value::as_object).and_then(|sizes| {
            sizes.values().filter_map(Value::as_f64).map(|dollars| Nanodollars(scaled(dollars, 1e9))).max()
        }),
        call_nanodollars: Nanodollars::ZERO,
    })
}

/// A tier, if the model is offered in it. A class that has no price of its own there costs what it does in the standard
/// one. Where long input has none, the provider serves it in the standard tier, or not at all: the dearer of the two.
fn read_tariff(row: &Map<String, Value>, tier: &str, standard: &Tariff, long: &Option<String>) -> Option<Tariff> {
    let read = |suffix: &str, or: &TokenRates| {
        let rates = read_rates(row, suffix)?;
        Some(TokenRates {
            cache_write: rates.cache_write.or(or.cache_write),
            cache_write_long: rates.cache_write_long.or(or.cache_write_long),
            cache_read: rates.cache_read.or(or.cache_read),
            ..rates
        })
    };
    let rates = read(tier, &standard.rates)?;
    let long = long.as_ref().zip(standard.long.as_ref());
    let long = long.map(|(long, usual)| read(&format!("{long}{tier}"), usual).unwrap_or_else(|| dearer(usual, &rates)));
    Some(Tariff { rates, long })
}

fn dearer(a: &TokenRates, b: &TokenRates) -> TokenRates {
    TokenRates {
        input: a.input.max(b.input),
        cache_write: a.cache_write.max(b.cache_write),
        cache_write_long: a.cache_write_long.max(b.cache_write_long),
        cache_read: a.cache_read.max(b.cache_read),
        output: a.output.max(b.output),
    }
}

fn in_thousandths(tariff: &Tariff, permille: i64) -> Tariff {
    // Rounded up, where the table has a price so fine.
    let times = |rate: i64| (rate * permille + 999) / 1000;
    let rates = |rates: &TokenRates| TokenRates {
        input: times(rates.input),
        cache_write: rates.cache_write.map(times),
        cache_write_long: rates.cache_write_long.map(times),
        cache_read: rates.cache_read.map(times),
        output: times(rates.output),
    };
    Tariff { rates: rates(&tariff.rates), long: tariff.long.as_ref().map(rates) }
}

/// `None` where the table has no price of input or output under this suffix.
fn read_rates(row: &Map<String, Value>, suffix: &str) -> Option<TokenRates> {
    // Dollars per token in the table; nano-dollars per million tokens here.
    let rate =
        |key: &str| row.get(&format!("{key}{suffix}")).and_then(Value::as_f64).map(|dollars| scaled(dollars, 1e15));
    let long_write = |hours: &str| rate(&format!("cache_creation_input_token_cost_above_{hours}"));
    Some(TokenRates {
        input: rate("input_cost_per_token")?,
        cache_write: rate("cache_creation_input_token_cost"),
        cache_write_long: long_write("1hr").or_else(|| long_write("12hr")),
        cache_read: rate("cache_read_input_token_cost"),
        output: rate("output_cost_per_token")?,
    })
}

/// The table's figures have at most six significant digits, so rounding the product gives the exact integer.
#[expect(clippy::cast_possible_truncation, reason = "prices are far below 2^53")]
fn scaled(figure: f64, by: f64) -> i64 {
    (figure * by).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded() -> PriceBook {
        PriceBook::read(TABLE, &Providers::default()).unwrap()
    }

    #[test]
    fn a_table_says_how_it_differs_and_one_that_cannot_be_read_says_where() {
        let book = embedded();
        let row = r#"{"a": {"litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 1e-6,
            "output_cost_per_token": 2e-6}, "sample_spec": {"mode": "chat"}}"#;
        let small = PriceBook::read(row, &Providers::default()).unwrap();
        let PriceChanges { models, new, changed, gone } = small.compared_with(&book);
        assert_eq!((new, changed, gone), (1, 0, book.rows().count() + 1 - models));
        for (table, sentence) in [
            ("[]", "this is not a JSON object of models"),
            (r#"{"a": 1}"#, "a is not an object"),
            (r#"{"a": {"litellm_provider": "anthropic", "mode": "chat"}}"#, "reading the price of a"),
            ("{}", "no row is of a model"),
        ] {
            let refused = PriceBook::read(table, &Providers::default()).unwrap_err().to_string();
            assert!(refused.starts_with(sentence), "{refused}");
        }
    }

    #[test]
    fn the_embedded_table_reads_as_the_providers_price_pages_say() {
        let book = embedded();
        let sonnet = book.find(&Provider::ANTHROPIC, "claude-sonnet-4-6").unwrap();
        assert_eq!((sonnet.standard.rates.input, sonnet.standard.rates.output), (3_000_000_000, 15_000_000_000));
        assert_eq!(sonnet.standard.rates.cache_write_long, Some(6_000_000_000));
        assert_eq!((sonnet.us_permille, sonnet.web_search_nanodollars), (Some(1100), Some(Nanodollars(10_000_000))));
        assert!(sonnet.tariff(ServiceTier::Fast).is_none());
        let haiku = book.find(&Provider::ANTHROPIC, "claude-haiku-5-5").unwrap();
        let long = haiku.standard.long.as_ref().unwrap();
        assert_eq!((haiku.long_above_tokens, long.input), (Some(100_000), 5 * haiku.standard.rates.input));
        for provider in [Provider::ANTHROPIC, Provider::OPENAI] {
            assert_eq!(book.find(&provider, "berth-demo").unwrap().standard.rates.output, 500_000_000);
        }
        let small = book.find(&Provider::OPENAI, "text-embedding-3-small").unwrap();
        assert_eq!((small.standard.rates.input, small.standard.rates.output), (20_000_000, 0));
    }

    #[test]
    fn tiers_and_speeds_have_tariffs_of_their_own() {
        let book = embedded();
        let sol = book.find(&Provider::OPENAI, "gpt-6.1-sol").unwrap();
        let rates = &sol.standard.rates;
        assert_eq!((rates.cache_write, rates.cache_write_long), (Some(2_500_000_000), Some(5_000_000_000)));
        for (tier, twice) in
            [(ServiceTier::Batch, 1), (ServiceTier::Flex, 1), (ServiceTier::Priority, 4), (ServiceTier::Ultrafast, 12)]
        {
            let tariff = sol.tariff(tier).unwrap();
            assert_eq!((2 * tariff.rates.input, 2 * tariff.rates.output), (twice * rates.input, twice * rates.output));
            let long = tariff.long.as_ref().unwrap();
            assert_eq!((long.input, 2 * long.output), (2 * tariff.rates.input, 3 * tariff.rates.output), "{tier:?}");
        }
        let opus = book.find(&Provider::ANTHROPIC, "claude-opus-5").unwrap();
        let fast = &opus.tariff(ServiceTier::Fast).unwrap().rates;
        assert_eq!((fast.input, fast.output, fast.cache_read), (10_000_000_000, 50_000_000_000, Some(1_000_000_000)));
    }

    #[test]
    fn a_tier_without_a_price_for_long_input_costs_the_dearer_of_its_own_and_the_standard_one() {
        let five = embedded().find(&Provider::OPENAI, "gpt-5.4").unwrap();
        let (priority, usual) = (five.tariff(ServiceTier::Priority).unwrap(), five.standard.long.as_ref().unwrap());
        let long = priority.long.as_ref().unwrap();
        assert_eq!((long.input, long.output), (usual.input.max(priority.rates.input), priority.rates.output));
    }

    #[test]
    fn the_cheaper_tiers_are_cheaper_so_that_a_hold_for_the_standard_one_covers_them() {
        for (_, model, price) in embedded().rows() {
            for tariff in [ServiceTier::Batch, ServiceTier::Flex].iter().filter_map(|tier| price.tariff(*tier)) {
                let pairs = [(&tariff.rates, &price.standard.rates)]
                    .into_iter()
                    .chain(tariff.long.as_ref().zip(price.standard.long.as_ref()));
                for (its, usual) in pairs {
                    assert_eq!(dearer(its, usual), *usual, "{model}");
                }
            }
        }
    }

    #[test]
    fn what_is_charged_by_more_than_text_and_limited_searches_is_not_in_the_book() {
        let book = embedded();
        for model in ["gpt-audio", "gpt-4o-search-preview", "o3-deep-research", "no-such-model"] {
            assert!(book.find(&Provider::OPENAI, model).is_none(), "{model}");
        }
        assert!(book.find(&Provider::OPENAI, "gpt-5-codex").is_some());
    }

    #[test]
    fn what_the_operator_adds_is_in_the_book_and_in_its_version() {
        let file = r#"{"models":{"groq":{"speaks":"openai","url":"https://x.example","models":{"llama":
            {"input":"0.50","output":"0.80","max_input_tokens":9,"max_output_tokens":8}}}},
            "metered":{"weather":{"url":"https://x.example","calls":[{"method":"GET","path":"/a","dollars":"0.002"}]}}}"#;
        let Ok(providers) = Providers::parse(file) else { panic!("not read") };
        let book = PriceBook::read(TABLE, &providers).unwrap();
        let llama = book.find(&Provider::named("groq"), "llama").unwrap();
        assert_eq!((llama.standard.rates.output, llama.max_output_tokens), (800_000_000, Some(8)));
        assert_eq!(book.find(&Provider::named("weather"), "GET /a").unwrap().call_nanodollars, Nanodollars(2_000_000));
        assert_ne!(book.version, embedded().version);
    }
}
