//! Parsers of single values, shared by variables and the operator's file of providers.

use berth_ground::money::Nanodollars;

/// Whether an API key may be sent to `address`: TLS, or a connection that does not leave this machine. Parsed by the
/// HTTP client's own parser, because two parsers may disagree on the host of a crafted URL.
pub(super) fn may_be_sent_a_key(address: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(address) else { return false };
    let is_here = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    let is_plain = url.username().is_empty() && url.password().is_none();
    is_plain
        && url.query().is_none()
        && url.fragment().is_none()
        && (url.scheme() == "https" || (url.scheme() == "http" && is_here))
}

/// Parses `2.50` to nanodollars, exactly: digits, at most nine of them after the point. Floating point would round.
#[must_use]
pub fn parse_dollars(text: &str) -> Option<Nanodollars> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 9 || !fraction.bytes().chain(whole.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(fraction).map(Nanodollars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_only_over_tls_or_loopback() {
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
