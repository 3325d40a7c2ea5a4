//! Which names can be somebody's domain, and when a proof that is gone counts. Pure.

use std::time::Duration;

use crate::clock::Timestamp;

/// Days in a row after which a domain is lost whose proof is not there any more.
pub const MISSED_DAYS: i64 = 3;
/// How long after it was last asked about a proven domain is asked about again.
pub const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How soon an owner may have a domain looked up again.
pub const LOOKED_UP_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Stands before a domain in the name of its proof.
pub const PROOF_LABEL: &str = "_berth.";

/// Longest name, in bytes: 253 (RFC 1035 2.3.4, as text), with room for the proof's label.
const LONGEST_NAME: usize = 253 - PROOF_LABEL.len();
/// RFC 1035 2.3.4.
const LONGEST_LABEL: usize = 63;
/// Not delegated to anybody, or with a meaning of their own (RFC 6761, RFC 8375, RFC 9476, and what routers make up).
const NOBODYS: [&str; 14] = [
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
/// For the machinery of DNS.
const MACHINERY: &str = "arpa";

/// A domain as it is kept, from what its owner typed: lower case, without a dot at its end. `own` are the domains of this
/// installation.
///
/// # Errors
/// A sentence for the owner.
pub fn tidy_name(typed: &str, own: &[&str]) -> Result<String, &'static str> {
    let name = normal(typed.trim());
    if !name.is_ascii() {
        return Err("Write letters outside a to z the way DNS does, as in xn--mnchen-3ya.example.");
    }
    let labels: Vec<&str> = name.split('.').collect();
    if labels.len() < 2 || name.len() > LONGEST_NAME || !labels.iter().all(|label| is_label(label)) {
        return Err("That is not a domain. It looks like alice.org or docs.alice.org, without https:// or a path.");
    }
    let top = labels[labels.len() - 1];
    if !top.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err("That is an address. A domain is a name, such as docs.alice.org.");
    }
    if own.iter().any(|own| is_at_or_below(&name, own)) {
        return Err("This name belongs to this server. Bring a domain of your own.");
    }
    let is_ours = own.iter().any(|own| is_at_or_below(own, top));
    if top == MACHINERY || (NOBODYS.contains(&top) && !is_ours) {
        return Err("Nobody can own a name that ends like this. Bring a domain that is registered to you.");
    }
    Ok(name)
}

/// A name as DNS compares it: lower case, without a dot at its end.
#[must_use]
pub fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Letters, digits and hyphens (RFC 5890 2.3.1): two hyphens in third place only mark what is encoded.
fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let marked = label.as_bytes().get(2..4) == Some(b"--");
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && (!marked || label.starts_with("xn--"))
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

/// Decides after a day whose proof was missing `missed` days before.
#[must_use]
pub fn daily_check(seen: ProofLookup, missed: i64) -> DailyCheck {
    match seen {
        ProofLookup::Found => DailyCheck::Keeps { missed: 0 },
        ProofLookup::NoAnswer => DailyCheck::Keeps { missed },
        ProofLookup::Missing if missed + 1 >= MISSED_DAYS => DailyCheck::Lost,
        ProofLookup::Missing => DailyCheck::Keeps { missed: missed + 1 },
    }
}

/// Whether a proven domain that was last asked about at `checked_at` is to be asked about `now`.
#[must_use]
pub fn is_due(checked_at: Option<Timestamp>, now: Timestamp) -> bool {
    // A clock that was set back makes it due as well.
    checked_at.is_none_or(|at| now.since(at) >= ASKED_AGAIN_AFTER || at > now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: [&str; 3] = ["example.com", "app.example.com", "berth.test"];

    #[test]
    fn a_domain_is_a_name_that_somebody_can_own() {
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
            assert_eq!(tidy_name(typed, &OWN).ok().as_deref(), kept, "{typed}");
        }
        assert!(tidy_name(&format!("{}.org", "a".repeat(64)), &OWN).is_err());
        assert!(tidy_name(&format!("{}org", "a.".repeat(125)), &OWN).is_err());
        assert!(tidy_name("alice.test", &["example.com"]).is_err());
    }

    #[test]
    fn a_proof_may_be_missing_for_two_days_and_silence_is_no_word() {
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
            ("DNS is away", &[ProofLookup::NoAnswer; 30], None),
            (
                "it is away in between",
                &[ProofLookup::Missing, ProofLookup::NoAnswer, ProofLookup::Missing, ProofLookup::Missing],
                Some(4),
            ),
        ] {
            let mut missed = 0;
            let lost_on = days.iter().position(|seen| match daily_check(*seen, missed) {
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
        fn a_tidy_name_stays_as_it_is(typed in "[a-zA-Z0-9.-]{1,30}\\.(org|de|co\\.uk|com)\\.?") {
            if let Ok(name) = tidy_name(&typed, &OWN) {
                prop_assert_eq!(tidy_name(&name, &OWN), Ok(name.clone()));
                let below_ours = OWN.iter().any(|own| name == *own || name.ends_with(&[".", own].concat()));
                prop_assert!(!below_ours, "{}", name);
            }
        }
    }
}
