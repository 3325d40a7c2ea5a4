//! The configuration file of further providers (JSON): models behind the wire format of OpenAI or Anthropic, and
//! metered APIs with a price per call.

use std::collections::BTreeMap;

use berth_ground::money::Nanodollars;
pub use berth_providers::WireFormat;
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use super::parsers::{may_be_sent_a_key, parse_dollars};

/// Names with another meaning in the quota proxy's paths.
const RESERVED_NAMES: [&str; 6] = ["anthropic", "openai", "metered", "budget", "jobs", "alarms"];
const MAX_NAME_LENGTH: usize = 32;

/// The contents of the file.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Providers {
    pub models: BTreeMap<String, ModelProvider>,
    pub metered: BTreeMap<String, MeteredApi>,
}

/// A provider of models at `/NAME/v1/..`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelProvider {
    pub speaks: WireFormat,
    /// The address before `/v1`, without a slash at its end.
    pub url: String,
    #[serde(default)]
    pub keys: Vec<Zeroizing<String>>,
    pub models: BTreeMap<String, ModelPrice>,
}

/// Prices in dollars per million tokens. A class of tokens that is left out costs as much as fresh input.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    pub input: Dollars,
    pub output: Dollars,
    pub cache_read: Option<Dollars>,
    pub cache_write: Option<Dollars>,
    pub cache_write_long: Option<Dollars>,
    pub max_input_tokens: u64,
    pub max_output_tokens: u64,
}

/// An API at `/metered/NAME/..`, with the calls that are allowed.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeteredApi {
    pub url: String,
    pub key: Option<MeteredKey>,
    pub calls: Vec<MeteredCall>,
}

/// The authentication header of the API, with its complete value.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeteredKey {
    pub header: String,
    pub value: Zeroizing<String>,
}

/// An allowed call and its price.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeteredCall {
    pub method: String,
    /// `/v1/forecast/*`: a star matches one segment.
    pub path: String,
    pub dollars: Dollars,
    /// Applies to the bodies of request and response together.
    #[serde(default)]
    pub dollars_per_million_bytes: Dollars,
}

impl MeteredCall {
    /// Its name in price table and receipts.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// An amount of money, written as text: many JSON libraries read numbers as floating point, which is inexact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dollars {
    pub nanodollars: Nanodollars,
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom(format!("\"{text}\" is not an amount of dollars such as \"2.50\""));
        parse_dollars(&text).map(|nanodollars| Self { nanodollars }).ok_or_else(wrong)
    }
}

impl Providers {
    /// Parses the text of the file.
    ///
    /// # Errors
    /// A sentence for each mistake.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let providers: Self = serde_json::from_str(text).map_err(|error| vec![error.to_string()])?;
        let wrong = providers.mistakes();
        if wrong.is_empty() { Ok(providers) } else { Err(wrong) }
    }

    fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let urls = self.models.iter().map(|(name, provider)| (name, &provider.url));
        for (name, url) in urls.chain(self.metered.iter().map(|(name, api)| (name, &api.url))) {
            let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !is_plain || name.is_empty() || name.len() > MAX_NAME_LENGTH || RESERVED_NAMES.contains(&name.as_str()) {
                wrong
                    .push(format!("\"{name}\" cannot be a provider's name: a word in small letters that is not taken"));
            }
            // A slash at the end would double the one of the path.
            if !may_be_sent_a_key(url) || url.ends_with('/') {
                wrong.push(format!("{name}: its url must start with https:// and not end with a slash"));
            }
        }
        // Models and metered APIs share one namespace in the price table.
        for name in self.models.keys().filter(|name| self.metered.contains_key(*name)) {
            wrong.push(format!("{name} is there twice"));
        }
        for (name, api) in &self.metered {
            for call in &api.calls {
                let is_method = !call.method.is_empty() && call.method.bytes().all(|b| b.is_ascii_uppercase());
                let is_path = call.path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_part));
                if !is_method || !is_path {
                    wrong.push(format!("{name}: \"{}\" is not a method and a path such as GET /v1/x/*", call.name()));
                }
            }
        }
        wrong
    }
}

/// Whether `part` is a segment of a path: a star, or plain characters and not `.` or `..`, which a server may resolve.
fn is_part(part: &str) -> bool {
    let is_plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    part == "*" || (is_plain && !["", ".", ".."].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_there_is_and_what_it_costs() {
        let text = r#"{
            "models": { "groq": { "speaks": "openai", "url": "https://api.groq.example/openai", "keys": ["k"],
                "models": { "llama": { "input": "0.50", "output": "0.80", "max_input_tokens": 9, "max_output_tokens": 8 } } } },
            "metered": { "weather": { "url": "https://weather.example", "key": { "header": "x-key", "value": "k" },
                "calls": [ { "method": "GET", "path": "/v1/forecast/*", "dollars": "0.002" } ] } }
        }"#;
        let Ok(providers) = Providers::parse(text) else { panic!("not read") };
        assert_eq!(providers.models["groq"].models["llama"].input.nanodollars, Nanodollars(500_000_000));
        let call = &providers.metered["weather"].calls[0];
        assert_eq!((call.name().as_str(), call.dollars.nanodollars), ("GET /v1/forecast/*", Nanodollars(2_000_000)));
    }

    #[test]
    fn what_is_wrong_is_said_all_together() {
        let api = |url: &str, method: &str, path: &str| {
            format!(r#"{{"url":"{url}","calls":[{{"method":"{method}","path":"{path}","dollars":"1"}}]}}"#)
        };
        let wrong = |name: &str, api: &str| {
            Providers::parse(&format!(r#"{{"metered":{{"{name}":{api}}}}}"#)).err().unwrap_or_default().join("; ")
        };
        assert_eq!(wrong("ok", &api("https://a.example", "GET", "/a/*")), "");
        for (name, url, method, path, part) in [
            ("openai", "https://a.example", "GET", "/a", "cannot be a provider's name"),
            ("A", "https://a.example", "GET", "/a", "cannot be a provider's name"),
            ("a", "http://a.example", "GET", "/a", "must start with https://"),
            ("a", "https://a.example/", "GET", "/a", "slash"),
            ("a", "https://a.example", "get", "/a", "is not a method and a path"),
            ("a", "https://a.example", "GET", "/a/../b", "is not a method and a path"),
            ("a", "https://a.example", "GET", "a", "is not a method and a path"),
        ] {
            let said = wrong(name, &api(url, method, path));
            assert!(said.contains(part), "{name} {url} {method} {path}: {said}");
        }
        assert!(wrong("a", r#"{"url":"https://a.example","calls":[],"more":1}"#).contains("more"));
        let dollars = r#"{"url":"https://a.example","calls":[{"method":"GET","path":"/a","dollars":"a lot"}]}"#;
        assert!(wrong("a", dollars).contains("not an amount of dollars"));
    }
}
