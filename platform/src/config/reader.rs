//! Reading one variable after another, so that every mistake is found in one go.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{ContainerConfig, DiskLimit, Limits, Providers, Runtime, UnknownModels, Upstream, VARIABLES};
use crate::hosts::Hosts;

/// Looks variables up and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(super) mistakes: Vec<String>,
}

impl Reader<'_> {
    pub(super) fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    }

    pub(super) fn text(&self, name: &'static str) -> String {
        let default = VARIABLES.iter().find(|v| v.name == name).expect("every variable read is listed").default;
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn parsed<T: FromStr + Placeholder>(&mut self, name: &'static str, what: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.mistakes.push(format!("{name} is \"{text}\", which is not {what}."));
            T::placeholder()
        })
    }

    pub(super) fn address_or_none(&mut self, name: &'static str) -> Option<SocketAddr> {
        self.optional(name).is_some().then(|| self.parsed(name, "an address and port, such as 127.0.0.1:53"))
    }

    pub(super) fn seconds(&mut self, name: &'static str) -> Duration {
        let seconds: u32 = self.parsed(name, "a whole number of seconds");
        if seconds == 0 {
            self.mistakes.push(format!("{name} is 0; it must be at least 1 second."));
        }
        Duration::from_secs(u64::from(seconds))
    }

    pub(super) fn between(&mut self, name: &'static str, least: u32, most: u32) -> u32 {
        let number = self.parsed(name, "a whole number");
        if !(least..=most).contains(&number) {
            self.mistakes.push(format!("{name} is {number}; it must be from {least} to {most}."));
        }
        number
    }

    pub(super) fn one_of(&mut self, name: &'static str, yes: &str, no: &str) -> bool {
        let text = self.text(name);
        if text != yes && text != no {
            self.mistakes.push(format!("{name} is \"{text}\"; it is either {yes} or {no}."));
        }
        text == yes
    }

    /// One of `names`.
    pub(super) fn named(&mut self, name: &'static str, names: &[&str]) -> String {
        let text = self.text(name);
        if !names.contains(&text.as_str()) {
            self.mistakes.push(format!("{name} is \"{text}\"; it is one of {}.", names.join(", ")));
        }
        text
    }

    /// Without a limit where nobody outside issues them, or one certificate is good for all names.
    pub(super) fn certificates_a_week(&mut self) -> Option<NonZeroU32> {
        let weekly = NonZeroU32::new(self.between("BERTH_CERTIFICATES_A_WEEK", 0, 1_000_000));
        let one_by_one = self.text("BERTH_TLS_ISSUER") == "acme" && self.optional("BERTH_DNS_PROVIDER").is_none();
        weekly.filter(|_| one_by_one)
    }

    pub(super) fn secret(&mut self) -> String {
        let secret = self.optional("BERTH_SECRET").unwrap_or_default();
        if secret.chars().count() < 32 {
            self.mistakes.push(
                "BERTH_SECRET is missing or shorter than 32 characters. Make one with: openssl rand -base64 32".into(),
            );
        }
        secret
    }

    pub(super) fn dollars(&mut self, name: &'static str) -> i64 {
        let text = self.text(name);
        parse_dollars(&text).unwrap_or_else(|| {
            self.mistakes.push(format!("{name} is \"{text}\", which is not an amount in dollars such as 5 or 2.50."));
            0
        })
    }

    pub(super) fn limits(&mut self) -> Limits {
        let month_nanodollars = self.dollars("BERTH_ALLOWANCE_DOLLARS");
        let is_set = |name: &str| self.optional(name).is_some();
        let (day, requests, tokens) =
            (is_set("BERTH_DAY_DOLLARS"), is_set("BERTH_REQUESTS_A_MINUTE"), is_set("BERTH_TOKENS_A_MINUTE"));
        Limits {
            month_nanodollars,
            day_nanodollars: day.then(|| self.dollars("BERTH_DAY_DOLLARS")),
            requests_a_minute: requests.then(|| self.between("BERTH_REQUESTS_A_MINUTE", 1, u32::MAX)),
            tokens_a_minute: tokens.then(|| self.between("BERTH_TOKENS_A_MINUTE", 1, u32::MAX)),
            calls_at_once: self.parsed("BERTH_CALLS_AT_ONCE", "a whole number"),
        }
    }

    pub(super) fn upstream(&mut self, key: &'static str, url: &'static str, demo: &str) -> Upstream {
        let address = self.text(url).trim_end_matches('/').to_owned();
        if !may_be_sent_a_key(&address) {
            self.mistakes.push(format!(
                "{url} is \"{address}\"; it must start with https:// because a key is sent there, and have no user, \
                 query or fragment."
            ));
        }
        let Some(key) = self.optional(key) else {
            return Upstream { url: demo.to_owned(), keys: Vec::new(), url_for_own_keys: address };
        };
        let keys = key.split(',').map(str::trim).filter(|key| !key.is_empty());
        let keys = keys.map(|key| Zeroizing::new(key.to_owned())).collect();
        Upstream { url: address.clone(), keys, url_for_own_keys: address }
    }

    pub(super) fn unknown_models(&mut self) -> UnknownModels {
        let dearest = self.one_of("BERTH_UNKNOWN_MODELS", "dearest", "refuse");
        if dearest { UnknownModels::Dearest } else { UnknownModels::Refuse }
    }

    pub(super) fn providers(&mut self) -> Providers {
        let Some(path) = self.optional("BERTH_PROVIDERS") else { return Providers::default() };
        let read = std::fs::read_to_string(&path).map_err(|error| vec![error.to_string()]);
        read.and_then(|text| Providers::parse(&text)).unwrap_or_else(|wrong| {
            self.mistakes.extend(wrong.into_iter().map(|wrong| format!("BERTH_PROVIDERS is {path}: {wrong}.")));
            Providers::default()
        })
    }

    pub(super) fn hosts(&mut self) -> Hosts {
        let apex = self.text("BERTH_DOMAIN").to_ascii_lowercase();
        let instances = self.optional("BERTH_INSTANCE_DOMAIN").map_or_else(|| apex.clone(), |d| d.to_ascii_lowercase());
        for (name, domain) in [("BERTH_DOMAIN", &apex), ("BERTH_INSTANCE_DOMAIN", &instances)] {
            let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !domain.split('.').all(label) {
                self.mistakes.push(format!("{name} is \"{domain}\", which is not a domain name such as example.com."));
            }
        }
        let port: u16 = self.parsed("BERTH_HTTPS_PORT", "a port");
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        Hosts { app: format!("app.{apex}"), apex, instances, port }
    }

    /// The names in BERTH_IMAGES, and the ids that some are pinned to: `NAME` or `NAME@sha256:ID`.
    fn images(&mut self) -> (Vec<String>, BTreeMap<String, String>) {
        let (mut images, mut pins) = (Vec::new(), BTreeMap::new());
        for entry in self.text("BERTH_IMAGES").split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, pin) = entry.split_once('@').map_or((entry, None), |(name, pin)| (name, Some(pin)));
            if name.is_empty() || pin.is_some_and(|pin| !is_image_id(pin)) {
                self.mistakes.push(format!(
                    "BERTH_IMAGES has \"{entry}\"; write NAME:TAG, or NAME:TAG@sha256: and the 64 digits of the image's id."
                ));
            } else if images.iter().any(|image| image == name) {
                self.mistakes.push(format!("BERTH_IMAGES names {name} twice."));
            } else {
                images.push(name.to_owned());
                pins.extend(pin.map(|pin| (name.to_owned(), pin.to_owned())));
            }
        }
        if images.is_empty() && self.mistakes.iter().all(|mistake| !mistake.starts_with("BERTH_IMAGES")) {
            self.mistakes.push("BERTH_IMAGES names no image.".into());
        }
        (images, pins)
    }

    pub(super) fn containers(&mut self, data_dir: &std::path::Path) -> ContainerConfig {
        let network = self.text("BERTH_NETWORK");
        // A Linux interface name has at most 15 characters; the bridge's number takes two.
        if !(1..=11).contains(&network.len()) || !network.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            self.mistakes.push(format!("BERTH_NETWORK is \"{network}\"; use 1 to 11 small letters and digits."));
        }
        let subnet: Ipv4Addr = self.parsed("BERTH_SUBNET", "an IPv4 address such as 10.89.0.0");
        if !subnet.is_private() || subnet.octets()[2..] != [0, 0] {
            self.mistakes
                .push(format!("BERTH_SUBNET is {subnet}; it must be the start of a private /16, such as 10.89.0.0."));
        }
        let bridges: u8 = self.parsed("BERTH_BRIDGES", "a whole number");
        if !(1..=64).contains(&bridges) {
            self.mistakes.push(format!("BERTH_BRIDGES is {bridges}; it must be from 1 to 64."));
        }
        let (images, image_pins) = self.images();
        ContainerConfig {
            data_dir: data_dir.to_path_buf(),
            socket: data_dir.join("run/provisioner.sock"),
            network,
            subnet,
            bridges,
            images,
            sizes: self.sizes(),
            image_pins,
            runtime: if self.one_of("BERTH_RUNTIME", "runsc", "runc") { Runtime::Runsc } else { Runtime::Runc },
            disk_limit: if self.one_of("BERTH_DISK", "image", "none") { DiskLimit::Image } else { DiskLimit::None },
            delete_after: self.seconds("BERTH_DELETE_AFTER_SECONDS"),
            instance_port: 8080,
            quota_port: self.parsed("BERTH_QUOTA_PORT", "a port"),
        }
    }
}

/// Whether a text is an image's id: `sha256:` and 64 hex digits.
fn is_image_id(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

/// Whether `address` is encrypted, or does not leave this machine. It is parsed by what will call it.
pub(super) fn may_be_sent_a_key(address: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(address) else { return false };
    let is_here = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    let is_plain = url.username().is_empty() && url.password().is_none();
    is_plain
        && url.query().is_none()
        && url.fragment().is_none()
        && (url.scheme() == "https" || (url.scheme() == "http" && is_here))
}

/// What stands in for a value that did not parse, until the mistakes are reported and nothing starts.
pub(super) trait Placeholder {
    fn placeholder() -> Self;
}

macro_rules! placeholder {
    ($($type:ty => $value:expr),*) => { $(impl Placeholder for $type { fn placeholder() -> Self { $value } })* };
}
placeholder!(u8 => 1, u16 => 1, u32 => 1, f64 => 1.0, Ipv4Addr => Ipv4Addr::new(10, 0, 0, 0), SocketAddr => SocketAddr::from(([127, 0, 0, 1], 0)));

/// `2.50` as nano-dollars: digits, at most nine of them behind the point.
#[must_use]
pub fn parse_dollars(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 9 || !fraction.bytes().chain(whole.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_only_where_nobody_reads_along() {
        for (address, may) in [
            ("https://api.anthropic.com", true),
            ("https://gateway.example.com/anthropic", true),
            ("http://127.0.0.1:8703", true),
            ("http://localhost:8703", true),
            ("http://[::1]:8703", true),
            ("http://api.anthropic.com", false),
            ("http://127.0.0.1.evil.test", false),
            ("http://127.0.0.1@evil.test", false),
            ("https://user@api.anthropic.com", false),
            ("https://api.anthropic.com?x=1", false),
            ("ftp://127.0.0.1", false),
            ("api.anthropic.com", false),
        ] {
            assert_eq!(may_be_sent_a_key(address), may, "{address}");
        }
    }
}
