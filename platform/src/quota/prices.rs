//! The price table: embedded data, read once at start, kept in the database under a version that is a hash of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::rules::{LongContext, Price, Provider, Rates};

/// LiteLLM's rows for Anthropic and OpenAI; licence beside it.
const TABLE: &str = include_str!("../../../data/model_prices.json");
/// The built-in demo model. Its prices buy nothing, but are spent like real ones, so that everything can be seen.
const DEMO: &str = include_str!("demo_prices.json");

/// Every model that can be called, with its price.
pub struct PriceBook {
    /// Twelve hexadecimal digits of the SHA-256 of the data.
    pub version: String,
    prices: HashMap<(Provider, String), Arc<Price>>,
}

impl PriceBook {
    /// The book this program was built with.
    ///
    /// # Errors
    /// When the embedded data is not what it should be; a test reads it, so never in a release.
    pub fn embedded() -> anyhow::Result<Self> {
        let mut prices = HashMap::new();
        for table in [TABLE, DEMO] {
            let rows: HashMap<String, Map<String, Value>> =
                serde_json::from_str(table).context("reading the embedded price table")?;
            for (name, row) in rows {
                let Some(provider) = provider_of(&row) else { continue };
                let model = name.strip_prefix(&format!("{}/", provider.as_str())).unwrap_or(&name).to_owned();
                if is_metered(&model, &row) {
                    let price = read_price(&row).with_context(|| format!("reading the price of {name}"))?;
                    prices.insert((provider, model), Arc::new(price));
                }
            }
        }
        let digest = Sha256::new().chain_update(TABLE).chain_update(DEMO).finalize();
        let version = digest.iter().take(6).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(Self { version, prices })
    }

    /// The price of `model`, or `None`: then it cannot be called.
    #[must_use]
    pub fn find(&self, provider: Provider, model: &str) -> Option<Arc<Price>> {
        // A HashMap keyed by a pair cannot be asked with a borrowed half.
        self.prices.get(&(provider, model.to_owned())).cloned()
    }

    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = (Provider, &str, &Price)> {
        self.prices.iter().map(|((provider, model), price)| (*provider, model.as_str(), price.as_ref()))
    }
}

fn provider_of(row: &Map<String, Value>) -> Option<Provider> {
    match row.get("litellm_provider")?.as_str()? {
        "anthropic" => Some(Provider::Anthropic),
        "openai" => Some(Provider::Openai),
        _ => None,
    }
}

/// Models of the two APIs served here, whose every charge is a token price of text: sound has prices of its own, and
/// the models that always search the web charge for each search.
fn is_metered(model: &str, row: &Map<String, Value>) -> bool {
    row.get("mode").and_then(Value::as_str) == Some("chat")
        && !row.keys().any(|key| key.contains("audio"))
        && !["-search-", "-research"].iter().any(|name| model.contains(name))
}

fn read_price(row: &Map<String, Value>) -> anyhow::Result<Price> {
    let long = row
        .keys()
        .find_map(|key| key.strip_prefix("input_cost_per_token_above_")?.strip_suffix("k_tokens")?.parse::<u64>().ok());
    Ok(Price {
        max_input_tokens: row.get("max_input_tokens").and_then(Value::as_u64),
        max_output_tokens: row.get("max_output_tokens").and_then(Value::as_u64),
        rates: read_rates(row, "")?,
        long_context: match long {
            None => None,
            Some(thousand) => Some(LongContext {
                above_tokens: thousand * 1000,
                rates: read_rates(row, &format!("_above_{thousand}k_tokens"))?,
            }),
        },
        us_permille: row
            .get("provider_specific_entry")
            .and_then(|entry| entry.get("us"))
            .and_then(Value::as_f64)
            .map(|factor| scaled(factor, 1e3)),
    })
}

fn read_rates(row: &Map<String, Value>, tier: &str) -> anyhow::Result<Rates> {
    // Dollars per token in the table; nano-dollars per million tokens here.
    let rate =
        |key: &str| row.get(&format!("{key}{tier}")).and_then(Value::as_f64).map(|dollars| scaled(dollars, 1e15));
    let long_write = |hours: &str| rate(&format!("cache_creation_input_token_cost_above_{hours}"));
    Ok(Rates {
        input: rate("input_cost_per_token").context("input_cost_per_token is missing")?,
        cache_write: rate("cache_creation_input_token_cost"),
        cache_write_long: long_write("1hr").or_else(|| long_write("12hr")),
        cache_read: rate("cache_read_input_token_cost"),
        output: rate("output_cost_per_token").context("output_cost_per_token is missing")?,
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

    #[test]
    fn the_embedded_table_reads_as_the_providers_price_pages_say() {
        let book = PriceBook::embedded().unwrap();
        let sonnet = book.find(Provider::Anthropic, "claude-sonnet-4-6").unwrap();
        assert_eq!((sonnet.rates.input, sonnet.rates.output), (3_000_000_000, 15_000_000_000));
        assert_eq!(sonnet.rates.cache_write_long, Some(6_000_000_000));
        assert_eq!(sonnet.us_permille, Some(1100));
        let haiku = book.find(Provider::Anthropic, "claude-haiku-5-5").unwrap();
        let long = haiku.long_context.as_ref().unwrap();
        assert_eq!((long.above_tokens, long.rates.input), (100_000, 5 * haiku.rates.input));
        let sol = book.find(Provider::Openai, "gpt-6.1-sol").unwrap();
        assert_eq!((sol.rates.cache_write, sol.rates.cache_write_long), (Some(2_500_000_000), Some(5_000_000_000)));
        for provider in [Provider::Anthropic, Provider::Openai] {
            assert_eq!(book.find(provider, "berth-demo").unwrap().rates.output, 500_000_000);
        }
    }

    #[test]
    fn what_is_not_charged_by_text_token_alone_is_not_in_the_book() {
        let book = PriceBook::embedded().unwrap();
        for model in ["gpt-audio", "gpt-4o-search-preview", "gpt-5-codex", "text-embedding-3-small", "no-such-model"] {
            assert!(book.find(Provider::Openai, model).is_none(), "{model}");
        }
    }
}
