//! Handles: an account's name, which is also the DNS label of its instance. One grammar for sign-up, routing and
//! certificates.

use std::fmt;

use serde::Serialize;

/// Shortest and longest handle, in characters. A DNS label may have 63 (RFC 1035); 32 stays readable.
pub const LENGTH: std::ops::RangeInclusive<usize> = 3..=32;

/// A handle that follows the grammar: 3 to 32 of `a-z`, `0-9` and single hyphens, a letter first, no hyphen last. A
/// double hyphen is refused because it marks encoded labels (RFC 5890 2.3.1, `xn--`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Handle(String);

/// The rule that a text violates. `Display` is for the person who entered the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    #[error("Too short: a handle has at least 3 characters.")]
    TooShort,
    #[error("Too long: a handle has at most 32 characters.")]
    TooLong,
    #[error("A handle starts with a letter from a to z.")]
    FirstLetter,
    #[error("Only small letters a to z, digits and hyphens.")]
    Characters,
    #[error("A hyphen stands alone, and not at the end.")]
    Hyphens,
    #[error("That name is reserved.")]
    Reserved,
}

impl Handle {
    /// Parses a handle as it is stored and routed: lower case, grammar only. Reserved names pass.
    ///
    /// # Errors
    /// The first rule of the grammar that `text` violates.
    pub fn parse(text: &str) -> Result<Self, HandleError> {
        if text.len() < *LENGTH.start() {
            return Err(HandleError::TooShort);
        }
        if text.len() > *LENGTH.end() {
            return Err(HandleError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(HandleError::Characters);
        }
        // Cannot panic: the length was checked above.
        if !text.as_bytes()[0].is_ascii_lowercase() {
            return Err(HandleError::FirstLetter);
        }
        if text.ends_with('-') || text.contains("--") {
            return Err(HandleError::Hyphens);
        }
        Ok(Self(text.to_owned()))
    }

    /// Parses a handle that a person enters to claim it: surrounding space and capitals are accepted, reserved names
    /// are not.
    ///
    /// # Errors
    /// The first rule that `typed` violates.
    pub fn claim(typed: &str) -> Result<Self, HandleError> {
        let handle = Self::parse(&typed.trim().to_ascii_lowercase())?;
        if handle.is_reserved() { Err(HandleError::Reserved) } else { Ok(handle) }
    }

    /// The handle as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The skeleton: the handle with confusable characters folded together (compare Unicode TR 39). No two accounts
    /// have the same skeleton.
    #[must_use]
    pub fn skeleton(&self) -> String {
        skeleton(&self.0)
    }

    /// Whether mail, DNS, certificate authorities or this platform give the name a meaning, including its plural,
    /// digits appended (`ns1`), or confusable characters; or whether it has a word of our log-in or of a provider as a
    /// part between hyphens (`app-login`). Accounts that have such a name from earlier keep it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let bare = self.0.trim_end_matches(|c: char| c.is_ascii_digit());
        let single = bare.strip_suffix('s').unwrap_or(bare);
        let names = || RESERVED.split_ascii_whitespace();
        // `ns1` without its digits and `admins` without its plural; `adm1n` is caught by its skeleton.
        names().any(|name| [self.0.as_str(), bare, single].contains(&name))
            || names().any(|name| skeleton(name) == self.skeleton())
            || self.has_reserved_part()
    }

    /// Whether neighbouring parts, joined, are a reserved part: `my-sign-in` has `signin`.
    fn has_reserved_part(&self) -> bool {
        let parts: Vec<&str> = self.0.split('-').collect();
        (0..parts.len()).any(|first| (first..parts.len()).any(|last| is_reserved_part(&parts[first..=last].concat())))
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_reserved_part(part: &str) -> bool {
    let bare = skeleton(part.trim_end_matches(|c: char| c.is_ascii_digit()));
    let whole = skeleton(part);
    let is_part = |text: &str| RESERVED_PARTS.split_ascii_whitespace().any(|word| skeleton(word) == text);
    [whole.as_str(), bare.as_str(), bare.strip_suffix('s').unwrap_or(&bare)].into_iter().any(is_part)
}

fn skeleton(text: &str) -> String {
    // Order: hyphens go first, so that `r-n` folds like `rn`.
    text.replace('-', "")
        .replace("rn", "m")
        .replace("vv", "w")
        .replace('0', "o")
        .replace(['1', 'i'], "l")
        .replace('5', "s")
}

/// RFC 2142 mailboxes, names to which certificate authorities send mail, DNS and mail auto-discovery, and our own
/// names.
const RESERVED: &str = "
    info marketing sales support abuse noc security postmaster hostmaster usenet news webmaster www uucp ftp
    admin administrator
    ns dns mx mail smtp imap pop pop3 webmail autoconfig autodiscover wpad isatap mta-sts openpgpkey lyncdiscover
    localhost local broadcasthost internal
    id auth login logout account sso oauth api app root system status health metrics doc docs help blog cdn static
    asset media file download relay ws wss llm ai proxy caddy docker registry git ssh vpn test dev staging prod demo
    billing pay legal term privacy dmca me my user settings dashboard console invite signup register
    directory search explore about contact team staff mod moderator official verify verified nostr webauthn
    well-known berth platform provisioner edge quota operator
    superuser sysadmin portal webapp
    alarm awake code deletion domain export hand-off instance key landing leave leaving mailbox own-key
    passkey port receipt recover recovery recovery-code session share sharing spend stream usage webhook welcome
    anthropic openai google gemini mistral chatgpt microsoft apple github paypal stripe payment
";

/// Words that make a host look like a place to log in or to pay at: no handle has one as a part between hyphens.
const RESERVED_PARTS: &str = "
    app webapp portal login logon signin signon signup register logout auth sso oauth account passkey password
    recovery recover secure security verify verified verification webauthn
    admin administrator superuser sysadmin operator moderator official support
    billing payment invoice paypal stripe
    berth anthropic openai chatgpt google microsoft github
";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar() {
        for good in ["abc", "a-b", "alice", "a1-b2-c3", &"a".repeat(32)] {
            assert_eq!(Handle::parse(good).map(|h| h.0), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("ab", HandleError::TooShort),
            (&"a".repeat(33), HandleError::TooLong),
            ("1abc", HandleError::FirstLetter),
            ("Abc", HandleError::Characters),
            ("a_bc", HandleError::Characters),
            ("älice", HandleError::Characters),
            ("abc-", HandleError::Hyphens),
            ("xn--abc", HandleError::Hyphens),
        ] {
            assert_eq!(Handle::parse(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn names_with_a_meaning_cannot_be_claimed() {
        for name in ["admin", "Admins", "ns1", "mx9", "postmaster", "app", "adm1n", "well-known", "a-pp"] {
            assert_eq!(Handle::claim(name), Err(HandleError::Reserved), "{name}");
        }
        assert!(Handle::claim(" Alice ").is_ok());
    }

    #[test]
    fn no_handle_looks_like_a_place_to_log_in_or_to_pay_at() {
        const LURES: &str = "
            app-login login-app app-x sign-in signin signon secure-login account-recovery recovery passkeys berth-login
            admin-berth superuser sysadmin portal webapp hand-off welcome leave spend mailbox sharing domains payments
            anthropic openai paypal my-sign-in x-log-in-2 l0gin-here openai-billing app2-go pass-key-help
        ";
        for name in LURES.split_ascii_whitespace() {
            assert_eq!(Handle::claim(name), Err(HandleError::Reserved), "{name}");
            assert!(Handle::parse(name).is_ok(), "{name}: accounts that have it keep it");
        }
        for name in ["happy-otter", "snapper", "lap-pilot", "mary-ann", "applause", "paul-logan", "secured", "appleby"]
        {
            assert!(Handle::claim(name).is_ok(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_handle_is_one_dns_label(text in "[a-zA-Z0-9.-]{0,40}") {
            if let Ok(handle) = Handle::parse(&text) {
                prop_assert!(handle.as_str().len() <= 63 && !handle.as_str().contains('.') && !handle.as_str().starts_with('-'));
            }
        }
    }
}
