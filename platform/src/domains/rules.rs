//! Pure rules of custom domains: which names can be claimed, and when a missing proof revokes a name.

use std::time::Duration;

use berth_ground::clock::Timestamp;

/// Consecutive days without its proof after which a domain is lost.
pub const MISSED_DAYS: i64 = 3;
/// Interval of the check of a proven domain.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest time between two checks at the owner's request (rate limit).
pub const MANUAL_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Prefix of the domain in the name of its TXT record.
pub const PROOF_LABEL: &str = "_berth.";

/// Longest name, in bytes: 253 (RFC 1035, 2.3.4, in text form) minus the prefix of the proof.
const LONGEST_NAME: usize = 253 - PROOF_LABEL.len();
/// Longest label, in bytes (RFC 1035, 2.3.4).
const LONGEST_LABEL: usize = 63;
/// Top-level domains that cannot be registered: special-use names (RFC 6761, RFC 8375, RFC 9476) and names that routers
/// use.
const UNREGISTRABLE: [&str; 14] = [
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "test",
    "invalid",
    "example",
    "onion",
    "alt",
];
/// The infrastructure top-level domain of DNS.
const INFRASTRUCTURE: &str = "arpa";

/// Parses and normalizes a domain as typed by its owner: lower case, without a trailing dot. `own` are the domains of
/// this installation.
///
/// # Errors
/// A sentence for the owner.
pub fn parse_name(typed: &str, own: &[&str]) -> Result<String, &'static str> {
    let name = normal(typed.trim());
    if !name.is_ascii() {
        return Err("Write letters outside a to z the way DNS does, as in xn--mnchen-3ya.example.");
    }
    let labels: Vec<&str> = name.split('.').collect();
    if labels.len() < 2 || name.len() > LONGEST_NAME || !labels.iter().all(|label| is_label(label)) {
        return Err("That is not a domain. It looks like alice.org or docs.alice.org, without https:// or a path.");
    }
    // URL parsers read a host with a numeric last label as an IPv4 address ("1.2.3.4", and also "0x7f.1").
    let top = labels[labels.len() - 1];
    if !top.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err("That is an address. A domain is a name, such as docs.alice.org.");
    }
    if own.iter().any(|own| is_at_or_below(&name, own)) {
        return Err("This name belongs to this server. Bring a domain of your own.");
    }
    // An installation below `.test` or `.localhost` may use names there.
    let is_ours = own.iter().any(|own| is_at_or_below(own, top));
    if top == INFRASTRUCTURE || (UNREGISTRABLE.contains(&top) && !is_ours) {
        return Err("A name that ends like this cannot be registered. Bring a domain that is registered to you.");
    }
    Ok(name)
}

/// The canonical form of a name, for comparison: lower case, without a trailing dot.
#[must_use]
pub fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether this is an LDH label (letters, digits, hyphens; RFC 5890, 2.3.1).
fn is_label(label: &str) -> bool {
    // Hyphens in third and fourth place are reserved for encodings, of which only `xn--` (Punycode) is in use.
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let has_prefix = label.as_bytes().get(2..4) == Some(b"--");
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && (!has_prefix || label.starts_with("xn--"))
}

fn is_at_or_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The result of looking up a domain's proof in DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofLookup {
    Found,
    /// DNS answered without the proof.
    Missing,
    /// DNS did not answer, which says nothing about the owner of the domain.
    NoAnswer,
}

/// The result of the daily check of a proven domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DailyCheck {
    Keeps { missed: i64 },
    Lost,
}

/// Evaluates the daily check of a domain whose proof was missing on the `missed` previous days.
#[must_use]
pub fn daily_check(lookup: ProofLookup, missed: i64) -> DailyCheck {
    match lookup {
        ProofLookup::Found => DailyCheck::Keeps { missed: 0 },
        ProofLookup::NoAnswer => DailyCheck::Keeps { missed },
        ProofLookup::Missing if missed + 1 >= MISSED_DAYS => DailyCheck::Lost,
        ProofLookup::Missing => DailyCheck::Keeps { missed: missed + 1 },
    }
}

/// Whether the check of a proven domain is due.
#[must_use]
pub fn is_due(checked_at: Option<Timestamp>, now: Timestamp) -> bool {
    // A time in the future means that the clock was set back. The check is then due now, not at some distant time.
    checked_at.is_none_or(|at| now.since(at) >= CHECK_INTERVAL || at > now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: [&str; 3] = ["example.com", "app.example.com", "berth.test"];

    #[test]
    fn only_registrable_names_outside_this_server_are_domains() {
        for (typed, kept) in [
            ("alice.org", Some("alice.org")),
            (" Docs.Alice.ORG. ", Some("docs.alice.org")),
            ("xn--mnchen-3ya.de", Some("xn--mnchen-3ya.de")),
            ("a.b.c.d.e.co.uk", Some("a.b.c.d.e.co.uk")),
            ("1.alice.org", Some("1.alice.org")),
            ("alice.test", Some("alice.test")),
            ("", None),
            ("alice", None),
            ("alice..org", None),
            (".alice.org", None),
            ("alice.org..", None),
            ("https://alice.org", None),
            ("alice.org/docs", None),
            ("alice.org:443", None),
            ("*.alice.org", None),
            ("_berth.alice.org", None),
            ("-a.org", None),
            ("a-.org", None),
            ("ab--c.org", None),
            ("münchen.de", None),
            ("127.0.0.1", None),
            ("1.2.3.4", None),
            ("::1", None),
            ("0x7f.1", None),
            ("alice.localhost", None),
            ("alice.local", None),
            ("alice.internal", None),
            ("alice.home.arpa", None),
            ("1.0.0.127.in-addr.arpa", None),
            ("example.com", None),
            ("alice.example.com", None),
            ("x.app.example.com", None),
            ("alice.berth.test", None),
            ("notexample.com", Some("notexample.com")),
            ("example.com.evil.org", Some("example.com.evil.org")),
        ] {
            assert_eq!(parse_name(typed, &OWN).ok().as_deref(), kept, "{typed}");
        }
        assert!(parse_name(&format!("{}.org", "a".repeat(64)), &OWN).is_err());
        assert!(parse_name(&format!("{}org", "a.".repeat(125)), &OWN).is_err());
        assert!(parse_name("alice.test", &["example.com"]).is_err());
    }

    #[test]
    fn a_proof_may_be_missing_for_two_days_and_a_timeout_does_not_count() {
        for (sentence, days, lost) in [
            ("it stays", &[ProofLookup::Found; 9][..], None),
            ("it goes", &[ProofLookup::Missing; 3], Some(3)),
            (
                "it comes back",
                &[
                    ProofLookup::Missing,
                    ProofLookup::Missing,
                    ProofLookup::Found,
                    ProofLookup::Missing,
                    ProofLookup::Missing,
                ],
                None,
            ),
            ("DNS does not answer", &[ProofLookup::NoAnswer; 30], None),
            (
                "DNS does not answer in between",
                &[ProofLookup::Missing, ProofLookup::NoAnswer, ProofLookup::Missing, ProofLookup::Missing],
                Some(4),
            ),
        ] {
            let mut missed = 0;
            let lost_on = days.iter().position(|lookup| match daily_check(*lookup, missed) {
                DailyCheck::Lost => true,
                DailyCheck::Keeps { missed: now } => {
                    missed = now;
                    false
                }
            });
            assert_eq!(lost_on.map(|day| day + 1), lost, "{sentence}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(typed in "[a-zA-Z0-9.-]{1,30}\\.(org|de|co\\.uk|com)\\.?") {
            if let Ok(name) = parse_name(&typed, &OWN) {
                prop_assert_eq!(parse_name(&name, &OWN), Ok(name.clone()));
                let below_ours = OWN.iter().any(|own| name == *own || name.ends_with(&[".", own].concat()));
                prop_assert!(!below_ours, "{}", name);
            }
        }
    }
}
