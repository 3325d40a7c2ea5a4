//! Parsers of the platform's own environment variables.

use std::num::NonZeroU32;

use berth_ground::money::Nanodollars;
use berth_ground::settings::SettingsReader;
use berth_net::hosts::Hosts;
use zeroize::Zeroizing;

use super::ai_calls::{CallLimits, ProviderSettings, UnknownModels};
use super::parsers::{may_be_sent_a_key, parse_dollars};
use super::providers::Providers;

/// The weekly limit of certificates; `None` with our own CA, which has no rate limit, and with a wildcard certificate,
/// which covers all names.
pub(super) fn certificates_a_week(settings: &mut SettingsReader<'_>) -> Option<NonZeroU32> {
    let weekly = NonZeroU32::new(settings.between("BERTH_CERTIFICATES_A_WEEK", 0, 1_000_000));
    let one_by_one = settings.text("BERTH_TLS_ISSUER") == "acme" && settings.optional("BERTH_DNS_PROVIDER").is_none();
    weekly.filter(|_| one_by_one)
}

pub(super) fn secret(settings: &mut SettingsReader<'_>) -> String {
    let secret = settings.optional("BERTH_SECRET").unwrap_or_default();
    // 32 characters of base64 have 192 bits; the randomness itself cannot be checked.
    if secret.chars().count() < 32 {
        settings.mistake(
            "BERTH_SECRET is missing or shorter than 32 characters. Make one with: openssl rand -base64 32".into(),
        );
    }
    secret
}

pub(super) fn dollars(settings: &mut SettingsReader<'_>, name: &'static str) -> Nanodollars {
    let text = settings.text(name);
    parse_dollars(&text).unwrap_or_else(|| {
        settings.mistake(format!("{name} is \"{text}\", which is not an amount in dollars such as 5 or 2.50."));
        Nanodollars::ZERO
    })
}

pub(super) fn limits(settings: &mut SettingsReader<'_>) -> CallLimits {
    let month_nanodollars = dollars(settings, "BERTH_ALLOWANCE_DOLLARS");
    let is_set = |name: &str| settings.optional(name).is_some();
    let (day, requests, tokens) =
        (is_set("BERTH_DAY_DOLLARS"), is_set("BERTH_REQUESTS_A_MINUTE"), is_set("BERTH_TOKENS_A_MINUTE"));
    CallLimits {
        month_nanodollars,
        day_nanodollars: day.then(|| dollars(settings, "BERTH_DAY_DOLLARS")),
        requests_a_minute: requests.then(|| settings.between("BERTH_REQUESTS_A_MINUTE", 1, u32::MAX)),
        tokens_a_minute: tokens.then(|| settings.between("BERTH_TOKENS_A_MINUTE", 1, u32::MAX)),
        calls_at_once: settings.parsed("BERTH_CALLS_AT_ONCE", "a whole number"),
    }
}

pub(super) fn upstream(
    settings: &mut SettingsReader<'_>,
    key: &'static str,
    url: &'static str,
    demo: &str,
) -> ProviderSettings {
    let address = settings.text(url).trim_end_matches('/').to_owned();
    // Also without a key of the operator's: accounts' own keys are sent there too.
    if !may_be_sent_a_key(&address) {
        settings.mistake(format!(
            "{url} is \"{address}\"; it must start with https:// because a key is sent there, and have no user, \
             query or fragment."
        ));
    }
    let Some(key) = settings.optional(key) else {
        return ProviderSettings { url: demo.to_owned(), keys: Vec::new(), url_for_own_keys: address };
    };
    let keys = key.split(',').map(str::trim).filter(|key| !key.is_empty());
    let keys = keys.map(|key| Zeroizing::new(key.to_owned())).collect();
    ProviderSettings { url: address.clone(), keys, url_for_own_keys: address }
}

pub(super) fn unknown_models(settings: &mut SettingsReader<'_>) -> UnknownModels {
    let dearest = settings.one_of("BERTH_UNKNOWN_MODELS", "dearest", "refuse");
    if dearest { UnknownModels::Dearest } else { UnknownModels::Refuse }
}

pub(super) fn providers(settings: &mut SettingsReader<'_>) -> Providers {
    let Some(path) = settings.optional("BERTH_PROVIDERS") else { return Providers::default() };
    let read = std::fs::read_to_string(&path).map_err(|error| vec![error.to_string()]);
    read.and_then(|text| Providers::parse(&text)).unwrap_or_else(|wrong| {
        wrong.into_iter().for_each(|wrong| settings.mistake(format!("BERTH_PROVIDERS is {path}: {wrong}.")));
        Providers::default()
    })
}

pub(super) fn hosts(settings: &mut SettingsReader<'_>) -> Hosts {
    let apex = settings.text("BERTH_DOMAIN").to_ascii_lowercase();
    let instances = settings.optional("BERTH_INSTANCE_DOMAIN").map_or_else(|| apex.clone(), |d| d.to_ascii_lowercase());
    for (name, domain) in [("BERTH_DOMAIN", &apex), ("BERTH_INSTANCE_DOMAIN", &instances)] {
        let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !domain.split('.').all(label) {
            settings.mistake(format!("{name} is \"{domain}\", which is not a domain name such as example.com."));
        }
    }
    let port: u16 = settings.parsed("BERTH_HTTPS_PORT", "a port");
    // Browsers leave the default port out of origins and Host headers.
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    Hosts { app: format!("app.{apex}"), apex, instances, port }
}
