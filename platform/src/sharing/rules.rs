//! Pure rules of access: which visitors a share admits, and which request paths it covers.

use berth_ground::handle::Handle;
use serde::Serialize;

/// Most shares of one instance.
pub const MOST_SHARES: usize = 50;
/// Longest path of a share, in bytes.
pub const LONGEST_PATH: usize = 200;

/// The client of a request to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visitor {
    Owner,
    /// Another account, logged in on the instance's host. Its owner consented to reveal the handle to the instance.
    Guest(Handle),
    /// A visitor without a login.
    Stranger,
}

/// The visitors that a share admits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "audience", rename_all = "snake_case")]
pub enum ShareAudience {
    Account {
        handle: Handle,
    },
    /// Every account of this server, after logging in on the instance's host.
    SignedIn,
    /// Every visitor, without a login. `wakes`: whether their requests wake the instance.
    Everyone {
        wakes: bool,
    },
}

/// The access of a visitor to a path. Ordered: of several shares the maximum applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessDecision {
    /// No access.
    Refused,
    /// Access while the instance is awake. The visit neither wakes it nor keeps it awake.
    WhileAwake,
    /// Access, and the visit wakes the instance.
    Wakes,
}

impl ShareAudience {
    /// Whether this allows `handle` to log in on the instance's host. A share with everyone needs no login and grants
    /// none.
    #[must_use]
    pub fn invites(&self, handle: &Handle) -> bool {
        match self {
            Self::Account { handle: invited } => invited == handle,
            Self::SignedIn => true,
            Self::Everyone { .. } => false,
        }
    }

    /// Whether both admit the same visitors, regardless of `wakes`.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self == other || matches!((self, other), (Self::Everyone { .. }, Self::Everyone { .. }))
    }

    fn admits(&self, visitor: &Visitor) -> AccessDecision {
        match (self, visitor) {
            (_, Visitor::Owner) | (Self::Everyone { wakes: true }, _) => AccessDecision::Wakes,
            (Self::Everyone { wakes: false }, _) => AccessDecision::WhileAwake,
            (_, Visitor::Guest(handle)) if self.invites(handle) => AccessDecision::Wakes,
            _ => AccessDecision::Refused,
        }
    }
}

/// Decides the access of `visitor` to `path`, the request's path exactly as sent: the widest access that any share
/// grants.
pub fn decide_access<'s>(
    visitor: &Visitor,
    path: &str,
    shares: impl IntoIterator<Item = (&'s str, &'s ShareAudience)>,
) -> AccessDecision {
    if *visitor == Visitor::Owner {
        return AccessDecision::Wakes;
    }
    let opened = shares.into_iter().filter(|(prefix, _)| covers(prefix, path));
    opened.map(|(_, audience)| audience.admits(visitor)).max().unwrap_or(AccessDecision::Refused)
}

/// Whether a share of `prefix` covers `path`, no matter how the program in the instance normalizes paths. An ambiguous
/// path is not covered.
#[must_use]
pub fn covers(prefix: &str, path: &str) -> bool {
    // Path traversal. The program behind may decode once or twice, treat `\` or `;` as a separator, and resolve `..`:
    // `/docs/..%2fprivate` then passes a prefix check here and is `/private` there. Its normalization is unknown, and a
    // path normalized here would no longer be the forwarded path. So the prefix must match byte for byte, and the rest
    // must be a path that every normalization leaves below it.
    if prefix == "/" {
        return path.starts_with('/');
    }
    match path.strip_prefix(prefix) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('/').is_some_and(is_unambiguous),
        None => false,
    }
}

/// Whether every program reads the segments of `below` alike and none of them resolves to a parent. The last segment
/// may be empty (a folder).
fn is_unambiguous(below: &str) -> bool {
    let (folders, last) = below.rsplit_once('/').map_or((None, below), |(folders, last)| (Some(folders), last));
    let folders = folders.into_iter().flat_map(|folders| folders.split('/'));
    folders.chain(Some(last).filter(|last| !last.is_empty())).all(is_plain)
}

/// Whether a segment is still one segment after decoding, and is not `..` in another spelling.
fn is_plain(segment: &str) -> bool {
    let Some(decoded) = decoded(segment) else { return false };
    // A second decoding must find nothing to decode, hence no `%` among the allowed characters. Some programs trim
    // spaces, and some read `+` as a space, so ". ." and "..+" count as dots.
    let spaced = decoded.starts_with(' ') || decoded.ends_with(' ');
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@ ".contains(c) || is_non_ascii_letter(c);
    decoded.chars().all(is_harmless) && !spaced && !decoded.trim_matches(['.', ' ', '+']).is_empty()
}

/// Whether this is a letter outside ASCII. Other characters there can become dots and slashes under Unicode
/// normalization (NFKC), such as U+FF0E and U+2488.
fn is_non_ascii_letter(c: char) -> bool {
    !c.is_ascii() && c.is_alphabetic()
}

/// Percent-decodes once. `None` for a malformed encoding or invalid UTF-8 (such as the overlong `%c0%ae` for a dot).
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let [high, low, after @ ..] = after else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Parses and normalizes the path of a share as typed by its owner: `/`, or `/docs` without a trailing slash.
///
/// # Errors
/// A sentence for the owner.
pub fn parse_path(typed: &str) -> Result<String, &'static str> {
    let typed = typed.trim();
    if !typed.starts_with('/') {
        return Err("A path begins with a slash, such as /docs. A slash alone is the whole instance.");
    }
    if typed.len() > LONGEST_PATH {
        return Err("A path has at most 200 characters.");
    }
    let path = typed.strip_suffix('/').unwrap_or(typed);
    if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)) {
        return Err("A path is made of letters, digits, and the signs / - . _ and ~.");
    }
    if path.split('/').skip(1).any(|part| part.is_empty() || part.starts_with('.')) {
        return Err("No part of a path is empty or begins with a dot.");
    }
    Ok(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

/// The two columns of an audience: its kind, and the handle or an empty text.
pub(super) fn audience_columns(audience: &ShareAudience) -> (&'static str, &str) {
    match audience {
        ShareAudience::Account { handle } => ("account", handle.as_str()),
        ShareAudience::SignedIn => ("signed_in", ""),
        ShareAudience::Everyone { wakes: false } => ("everyone_while_awake", ""),
        ShareAudience::Everyone { wakes: true } => ("everyone", ""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn handle(name: &str) -> Handle {
        Handle::parse(name).unwrap()
    }

    #[test]
    fn a_share_admits_its_audience_and_no_other_visitor() {
        use AccessDecision::{Refused, Wakes, WhileAwake};
        let [bob, carol] = ["bob", "carol"].map(|name| Visitor::Guest(handle(name)));
        for (sentence, audience, [to_owner, to_bob, to_carol, to_stranger]) in [
            ("to bob", ShareAudience::Account { handle: handle("bob") }, [Wakes, Wakes, Refused, Refused]),
            ("to every account", ShareAudience::SignedIn, [Wakes, Wakes, Wakes, Refused]),
            ("to everyone", ShareAudience::Everyone { wakes: true }, [Wakes; 4]),
            (
                "to everyone while awake",
                ShareAudience::Everyone { wakes: false },
                [Wakes, WhileAwake, WhileAwake, WhileAwake],
            ),
        ] {
            let seen = |visitor| decide_access(visitor, "/docs/a", [("/docs", &audience)]);
            let all = [&Visitor::Owner, &bob, &carol, &Visitor::Stranger].map(seen);
            assert_eq!(all, [to_owner, to_bob, to_carol, to_stranger], "{sentence}");
            assert_eq!(decide_access(&bob, "/private", [("/docs", &audience)]), Refused, "{sentence}, elsewhere");
        }
        assert_eq!(decide_access(&bob, "/", []), Refused);
    }

    #[test]
    fn of_several_shares_the_widest_counts_and_a_doubtful_path_has_only_the_whole() {
        let (seen, to_bob) =
            (ShareAudience::Everyone { wakes: false }, ShareAudience::Account { handle: handle("bob") });
        let shares = [("/", &seen), ("/docs", &to_bob)];
        let bob = Visitor::Guest(handle("bob"));
        assert_eq!(decide_access(&bob, "/docs/a", shares), AccessDecision::Wakes);
        assert_eq!(decide_access(&bob, "/docs/../a", shares), AccessDecision::WhileAwake);
        assert_eq!(decide_access(&Visitor::Stranger, "/docs/a", shares), AccessDecision::WhileAwake);
    }

    #[test]
    fn an_ambiguous_path_is_not_covered() {
        for path in [
            "/docs",
            "/docs/",
            "/docs/a",
            "/docs/a/b.html",
            "/docs/a/",
            "/docs/.hidden",
            "/docs/my%20file.pdf",
            "/docs/%61",
            "/docs/M%C3%BCnchen",
            "/docs/v1.2...3",
            "/docs/@me/~x/a:b,c=d",
        ] {
            assert!(covers("/docs", path), "{path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/private",
            "/doc",
            "/docs2",
            "/docs.html",
            "/docs%2Fa",
            "/docs;x",
            "/Docs/a",
            "/%64ocs/a",
            "//docs/a",
            "/./docs/a",
            "/x/../docs/a",
            "/docs/..",
            "/docs/../private",
            "/docs/a/../../private",
            "/docs/./a",
            "/docs/%2e%2e/private",
            "/docs/.%2E/private",
            "/docs/%252e%252e/private",
            "/docs/..%2fprivate",
            "/docs/%2e%2e%2fprivate",
            "/docs/..%5cprivate",
            "/docs/..\\private",
            "/docs/..;/private",
            "/docs/a;b",
            "/docs/a%3bb",
            "/docs//private",
            "/docs//",
            "/docs/a//b",
            "/docs/%2fprivate",
            "/docs/%00",
            "/docs/..%00/private",
            "/docs/..%20/private",
            "/docs/%20../private",
            "/docs/..+/private",
            "/docs/.../private",
            "/docs/%c0%ae%c0%ae/private",
            "/docs/%u002e%u002e/private",
            "/docs/%EF%BC%8E%EF%BC%8E/private",
            "/docs/a%EF%BC%8F..",
            "/docs/%E2%80%A5/private",
            "/docs/%2",
            "/docs/%zz",
            "/docs/%+1",
            "/docs/%0d%0aHost:x",
            "/docs/a%3F",
            "/docs/a%23",
        ] {
            assert!(!covers("/docs", path), "{path}");
            assert_eq!(covers("/", path), path.starts_with('/'), "{path}");
        }
    }

    #[test]
    fn a_typed_path_is_normalised_or_refused() {
        for (typed, kept) in [
            ("/", Some("/")),
            (" /docs/ ", Some("/docs")),
            ("/a/b-c_d.e~f", Some("/a/b-c_d.e~f")),
            ("docs", None),
            ("", None),
            ("//", None),
            ("/docs//a", None),
            ("/docs//", None),
            ("/../a", None),
            ("/.berth/x", None),
            ("/a b", None),
            ("/%61", None),
            ("/ä", None),
            ("/a;b", None),
            ("/a?b", None),
        ] {
            assert_eq!(parse_path(typed).ok().as_deref(), kept, "{typed}");
        }
        assert!(parse_path(&format!("/{}", "a".repeat(LONGEST_PATH))).is_err());
    }

    /// The path as the most lenient program would normalize it: decodes until nothing changes, treats every look-alike
    /// of a slash as one, removes parameters, trims spaces, and resolves `..`.
    fn normalised(path: &str) -> Vec<String> {
        let mut text = path.to_owned();
        while let Some(again) = decoded(&text).filter(|again| *again != text) {
            text = again;
        }
        let text = text.replace(['\\', '\u{ff0f}', '\u{2044}', '\u{2215}'], "/").replace(['\u{ff0e}', '\u{2024}'], ".");
        let mut segments = Vec::new();
        for segment in text.split('/') {
            let name = segment.split([';', '\0', '?', '#']).next().unwrap_or_default().replace('+', " ");
            match name.trim() {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                name => segments.push(name.to_owned()),
            }
        }
        segments
    }

    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("docs".to_owned()),
            Just("private".to_owned()),
            "[a-z]{1,3}",
            "(\\.|%2e|%2E|%252e|\u{ff0e}|%20|\\+| |;x|%00|%3b){1,4}",
            "(/|//|\\\\|%2f|%5c|%252f|%EF%BC%8F)",
            "%[0-9a-fA-F]{0,2}",
            "\\PC{1,2}",
        ]
    }

    proptest! {
        #[test]
        fn a_covered_path_stays_below_its_prefix_under_every_normalisation(
            pieces in prop::collection::vec(prop_oneof![3 => piece(), 1 => Just("/".to_owned())], 0..12),
        ) {
            let path = format!("/docs{}", pieces.concat());
            if covers("/docs", &path) {
                let segments = normalised(&path);
                prop_assert_eq!(segments.first().map(String::as_str), Some("docs"), "{}", path);
            }
        }

        #[test]
        fn plain_paths_below_a_prefix_are_covered(names in prop::collection::vec("[a-z0-9][a-z0-9._~-]{0,8}", 0..5)) {
            let path = format!("/docs/{}", names.join("/"));
            prop_assert!(covers("/docs", &path));
            let elsewhere = format!("/docsx/{}", names.join("/"));
            prop_assert!(!covers("/docs", &elsewhere));
        }

        #[test]
        fn parsing_is_idempotent_and_a_path_covers_itself(typed in "/[a-z.~_/-]{0,20}") {
            if let Ok(path) = parse_path(&typed) {
                prop_assert_eq!(parse_path(&path), Ok(path.clone()));
                prop_assert!(covers(&path, &path));
            }
        }
    }
}
