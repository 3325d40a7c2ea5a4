//! Pure rules of authentication: when a second factor is needed, how long sessions last, how guessing is throttled.

use std::net::IpAddr;
use std::time::Duration;

use berth_ground::clock::Timestamp;
use berth_ground::handle::{Handle, LENGTH};

use super::session::Role;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Wrong one-time codes in a row that cause no delay: people mistype.
pub(super) const FREE_FAILURES: i64 = 5;
/// Wrong one-time codes in a row that lock out the factor (NIST SP 800-63B-4 on throttling: at most 100).
pub(super) const MOST_FAILURES: i64 = 100;
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = HOUR;

/// Whether another one-time code may be tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeGate {
    Open,
    Wait(Duration),
    /// Locked out: only a login with a recovery code is left.
    Closed,
}

/// The gate after `failures` wrong codes in a row, the last of which set `blocked_until`.
pub(super) fn code_gate(failures: i64, blocked_until: Timestamp, now: Timestamp) -> CodeGate {
    if failures >= MOST_FAILURES {
        CodeGate::Closed
    } else if blocked_until > now {
        CodeGate::Wait(blocked_until.since(now))
    } else {
        CodeGate::Open
    }
}

/// The delay after the `failures`th wrong code in a row: exponential backoff from 30 seconds after five to an hour.
pub(super) fn wait_after(failures: i64) -> Duration {
    let Ok(doublings) = u32::try_from(failures - FREE_FAILURES) else { return Duration::ZERO };
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_WAIT)
}

/// The absolute and the idle timeout of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionLifetime {
    pub(super) overall: Duration,
    pub(super) idle: Duration,
}

/// The longest absolute timeout of a session on the app host.
pub const LONGEST_SESSION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Members: 30 days, and 7 days idle. That is longer than the 24 hours that NIST recommends, so that a weekly visitor
/// stays logged in. Admins, who can stop every instance: 12 hours, and 30 minutes idle.
pub(super) fn lifetime(role: Role) -> SessionLifetime {
    match role {
        Role::Member => SessionLifetime { overall: LONGEST_SESSION, idle: 7 * DAY },
        Role::Admin => SessionLifetime { overall: 12 * HOUR, idle: 30 * MINUTE },
    }
}

/// Whether a passkey is bound to one device (WebAuthn's backup eligibility flag).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasskeyKind {
    /// The private key never leaves its authenticator.
    DeviceBound,
    /// Backup eligible: a takeover of the person's sync account yields the private key.
    Synced,
}

/// Whether the browser has logged in to this account before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceStatus {
    Known,
    New,
}

/// Whether a valid passkey has to be accompanied by a one-time code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecondFactor {
    NotNeeded,
    Needed,
}

/// Admins always need a one-time code. Members need one when a synced passkey is used in an unknown browser.
pub(super) fn second_factor(role: Role, passkey: PasskeyKind, device: DeviceStatus) -> SecondFactor {
    match (role, passkey, device) {
        (Role::Admin, _, _) | (Role::Member, PasskeyKind::Synced, DeviceStatus::New) => SecondFactor::Needed,
        _ => SecondFactor::NotNeeded,
    }
}

/// Handles similar to `wanted`, best first. They may be taken.
pub(super) fn suggestions(wanted: &Handle) -> Vec<Handle> {
    let cut = |room: usize| wanted.as_str()[..wanted.as_str().len().min(LENGTH.end() - room)].trim_end_matches('-');
    let behind = ["-hq", "2", "3", "4", "-box", "7", "8"].map(|tail| format!("{}{tail}", cut(tail.len())));
    let before = ["the-", "hey-", "its-"].map(|head| format!("{head}{}", cut(head.len())));
    behind.iter().chain(&before).filter_map(|text| Handle::claim(text).ok()).collect()
}

/// Whether the browser's `clientDataJSON` says that the ceremony ran in a cross-origin frame (clickjacking).
/// webauthn-rs 0.6.2 checks `crossOrigin` only at a registration, and `topOrigin` never.
pub(super) fn is_framed(client_data_json: &[u8]) -> bool {
    // Fails closed: unreadable data counts as framed.
    let Ok(serde_json::Value::Object(data)) = serde_json::from_slice(client_data_json) else { return true };
    let cross_origin = data.get("crossOrigin").is_some_and(|v| !v.is_null() && *v != serde_json::Value::Bool(false));
    cross_origin || data.contains_key("topOrigin")
}

/// Crockford's base32: digits and letters without the look-alikes I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a recovery code: 25 characters of 5 bits each are 125 bits.
pub(super) const RECOVERY_CODE_LENGTH: usize = 25;

/// A recovery code in the form that is shown: five groups of five characters.
pub(super) fn recovery_code(random: [u8; RECOVERY_CODE_LENGTH]) -> String {
    // 5 bits of each random byte: 32 divides 256, so the characters are uniformly distributed.
    let text: Vec<char> = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
    text.chunks(5).map(String::from_iter).collect::<Vec<_>>().join("-")
}

/// Normalizes a recovery code as typed: drops hyphens and spaces, replaces look-alikes. `None` when the shape is wrong.
pub(super) fn read_recovery_code(typed: &str) -> Option<String> {
    let text: String = typed
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    let known = text.bytes().all(|byte| ALPHABET.contains(&byte));
    (known && text.len() == RECOVERY_CODE_LENGTH).then_some(text)
}

/// Browser and system named by a user agent: "Chrome on Linux".
pub(super) fn device_name(user_agent: &str) -> String {
    let first = |names: &[(&str, &'static str)]| names.iter().find(|(mark, _)| user_agent.contains(mark)).map(|n| n.1);
    // Order matters: Edge and Opera also send "Chrome", and Chrome also sends "Safari".
    let browser = first(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("CriOS/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    // Likewise, Android also sends "Linux", and iPhones send "like Mac OS X".
    let system = first(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "Unknown device".to_owned(),
    }
}

/// An address without its last part: enough to recognize one's own network, too little to identify a person.
pub(super) fn shorten(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.*")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}:*")
        }
    }
}

/// The /48 prefix of an IPv6 address, which a provider may assign to one customer. It contains 65 536 of the /64
/// prefixes that rate limits count as one address.
pub(super) fn site_key(ip: IpAddr) -> Option<IpAddr> {
    match ip.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(IpAddr::V6((v6.to_bits() >> 80 << 80).into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_codes_are_slowed_down_more_and_more() {
        for (failures, seconds) in [(0, 0), (4, 0), (5, 30), (6, 60), (7, 120), (11, 1920), (12, 3600), (99, 3600)] {
            assert_eq!(wait_after(failures), Duration::from_secs(seconds), "after {failures}");
        }
    }

    #[test]
    fn the_gate_opens_again_but_not_after_a_hundred() {
        let at = Timestamp;
        for (failures, blocked_until, now, gate) in [
            (0, at(0), at(10), CodeGate::Open),
            (5, at(40_000), at(10_000), CodeGate::Wait(Duration::from_secs(30))),
            (5, at(40_000), at(40_000), CodeGate::Open),
            (99, at(0), at(10), CodeGate::Open),
            (100, at(0), at(10), CodeGate::Closed),
        ] {
            assert_eq!(code_gate(failures, blocked_until, now), gate, "{failures} until {blocked_until:?}");
        }
    }

    #[test]
    fn admins_and_new_browsers_with_synced_passkeys_need_a_second_factor() {
        use {DeviceStatus::*, PasskeyKind::*, Role::*, SecondFactor::*};
        for (role, passkey, device, want) in [
            (Member, DeviceBound, New, NotNeeded),
            (Member, DeviceBound, Known, NotNeeded),
            (Member, Synced, Known, NotNeeded),
            (Member, Synced, New, Needed),
            (Admin, DeviceBound, Known, Needed),
            (Admin, Synced, Known, Needed),
        ] {
            assert_eq!(second_factor(role, passkey, device), want, "{role:?} {passkey:?} {device:?}");
        }
    }

    #[test]
    fn suggestions_are_handles_also_for_the_longest() {
        for wanted in ["alice", "abc", &"a".repeat(32), &format!("{}-b", "a".repeat(28))] {
            let wanted = Handle::parse(wanted).unwrap();
            let found = suggestions(&wanted);
            assert!(found.len() >= 8, "{wanted}: {found:?}");
            assert!(found.iter().all(|other| other.skeleton() != wanted.skeleton()), "{wanted}: {found:?}");
        }
    }

    #[test]
    fn a_ceremony_in_a_frame_is_recognised() {
        for (json, framed) in [
            (r#"{"type":"webauthn.get","crossOrigin":false}"#, false),
            (r#"{"type":"webauthn.get"}"#, false),
            (r#"{"crossOrigin":true}"#, true),
            (r#"{"crossOrigin":"true"}"#, true),
            (r#"{"crossOrigin":false,"topOrigin":"https://evil.test"}"#, true),
            ("[]", true),
            ("", true),
        ] {
            assert_eq!(is_framed(json.as_bytes()), framed, "{json}");
        }
    }

    #[test]
    fn a_recovery_code_is_read_however_it_is_typed() {
        let code = recovery_code(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        assert_eq!(code, "01234-56789-ABCDE-FGHJK-MNPQR");
        for (typed, read) in [
            ("01234-56789-ABCDE-FGHJK-MNPQR", true),
            (" o1234 56789abcde fghjkmnpqr ", true),
            ("ol234-56789-ABCDE-FGHJK-MNPQR", true),
            ("01234-56789-ABCDE-FGHJK-MNPQ", false),
            ("01234-56789-ABCDE-FGHJK-MNPQU", false),
            ("", false),
        ] {
            let want = read.then(|| "0123456789ABCDEFGHJKMNPQR".to_owned());
            assert_eq!(read_recovery_code(typed), want, "{typed}");
        }
    }

    #[test]
    fn a_device_is_named_in_a_few_words() {
        for (user_agent, words) in [
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36", "Chrome on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0",
                "Edge on Windows",
            ),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14_0) Version/17.0 Safari/605.1.15", "Safari on macOS"),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Safari/604.1", "Safari on iPhone"),
            ("Mozilla/5.0 (Android 14; Mobile; rv:130.0) Gecko/130.0 Firefox/130.0", "Firefox on Android"),
            ("curl/8.5.0", "curl"),
            ("", "Unknown device"),
        ] {
            assert_eq!(device_name(user_agent), words);
        }
    }

    #[test]
    fn addresses_are_shortened_and_counted_by_household() {
        for (ip, short, key) in [
            ("203.0.113.9", "203.0.113.*", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.*", "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:*", "2001:db8:1:2::"),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!((shorten(ip), berth_net::peer::limit_key(ip).to_string()), (short.to_owned(), key.to_owned()));
        }
        let site = |ip: &str| site_key(ip.parse().unwrap()).map(|site| site.to_string());
        assert_eq!(site("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1::"));
        assert_eq!((site("203.0.113.9"), site("::ffff:203.0.113.9")), (None, None));
    }
}
