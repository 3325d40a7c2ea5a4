//! Whom a share lets in, and which paths it is about. Pure.

use serde::Serialize;

use crate::handle::Handle;

/// Shares that one instance may have.
pub const MOST_SHARES: usize = 50;
/// Longest path of a share, in bytes.
pub const LONGEST_PATH: usize = 200;

/// Who visits an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visitor {
    Owner,
    /// Somebody else who is logged in, and agreed to be known to this instance.
    Guest(Handle),
    /// Nobody known.
    Stranger,
}

/// To whom something is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "audience", rename_all = "snake_case")]
pub enum ShareAudience {
    Account {
        handle: Handle,
    },
    /// Whoever has an account here.
    SignedIn,
    /// Anybody, without a login. `wakes`: also while the instance sleeps.
    Everyone {
        wakes: bool,
    },
}

/// What a visitor may do at a path, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessDecision {
    /// Nothing: it is not for them.
    Refused,
    /// See it while it is awake. It is neither woken nor kept awake for them.
    WhileAwake,
    /// See it, and wake it.
    Wakes,
}

impl ShareAudience {
    /// Whether `handle` may log in on the instance's host by this: being seen without a login needs none.
    #[must_use]
    pub fn invites(&self, handle: &Handle) -> bool {
        match self {
            Self::Account { handle: invited } => invited == handle,
            Self::SignedIn => true,
            Self::Everyone { .. } => false,
        }
    }

    /// Whether both mean the same people.
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

/// What `visitor` may do at `path`, a request's path as it was sent. The most that any of the shares gives.
pub fn admit<'s>(
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

/// Whether a share of `prefix` is about `path`, whatever the program inside makes of it. Programs fold paths in many ways:
/// some decode once or twice, some take `\` or `;` for a slash or an end, some climb at `..`. So the prefix must stand there as
/// it is, letter for letter, and what follows must be a path that nobody reads in two ways. When in doubt it is private.
#[must_use]
pub fn covers(prefix: &str, path: &str) -> bool {
    if prefix == "/" {
        return path.starts_with('/');
    }
    match path.strip_prefix(prefix) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('/').is_some_and(is_unmistakable),
        None => false,
    }
}

/// Whether everybody reads the segments of `below` alike, and none of them climbs. The last may be empty: a folder.
fn is_unmistakable(below: &str) -> bool {
    let (folders, last) = below.rsplit_once('/').map_or((None, below), |(folders, last)| (Some(folders), last));
    let folders = folders.into_iter().flat_map(|folders| folders.split('/'));
    folders.chain(Some(last).filter(|last| !last.is_empty())).all(is_plain)
}

/// A segment that stays one when it is decoded, and is no dots by another spelling: some programs trim spaces, which others
/// write as `+`.
fn is_plain(segment: &str) -> bool {
    let Some(decoded) = decoded(segment) else { return false };
    let spaced = decoded.starts_with(' ') || decoded.ends_with(' ');
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@ ".contains(c) || is_letter_abroad(c);
    decoded.chars().all(is_harmless) && !spaced && !decoded.trim_matches(['.', ' ', '+']).is_empty()
}

/// A letter outside ASCII. Signs and digits there can become dots and slashes when a program normalises them (U+FF0E, U+2488).
fn is_letter_abroad(c: char) -> bool {
    !c.is_ascii() && c.is_alphabetic()
}

/// Percent-decoded, once. `None` for what is no encoding, or no text.
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

/// The path of a share as it is kept, from what its owner typed: `/`, or `/docs` without a slash at its end.
///
/// # Errors
/// A sentence for the owner.
pub fn tidy_path(typed: &str) -> Result<String, &'static str> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn handle(name: &str) -> Handle {
        Handle::parse(name).unwrap()
    }

    #[test]
    fn a_share_lets_in_whom_it_names_and_nobody_else() {
        use AccessDecision::{Refused, Wakes, WhileAwake};
        let [bob, carol] = ["bob", "carol"].map(|name| Visitor::Guest(handle(name)));
        for (sentence, audience, [to_owner, to_bob, to_carol, to_stranger]) in [
            ("to bob", ShareAudience::Account { handle: handle("bob") }, [Wakes, Wakes, Refused, Refused]),
            ("to whoever is signed in", ShareAudience::SignedIn, [Wakes, Wakes, Wakes, Refused]),
            ("to everyone", ShareAudience::Everyone { wakes: true }, [Wakes; 4]),
            ("to be seen", ShareAudience::Everyone { wakes: false }, [Wakes, WhileAwake, WhileAwake, WhileAwake]),
        ] {
            let seen = |visitor| admit(visitor, "/docs/a", [("/docs", &audience)]);
            let all = [&Visitor::Owner, &bob, &carol, &Visitor::Stranger].map(seen);
            assert_eq!(all, [to_owner, to_bob, to_carol, to_stranger], "{sentence}");
            assert_eq!(admit(&bob, "/private", [("/docs", &audience)]), Refused, "{sentence}, elsewhere");
        }
        assert_eq!(admit(&bob, "/", []), Refused);
    }

    #[test]
    fn of_several_shares_the_widest_counts_and_a_doubtful_path_has_only_the_whole() {
        let (seen, to_bob) =
            (ShareAudience::Everyone { wakes: false }, ShareAudience::Account { handle: handle("bob") });
        let shares = [("/", &seen), ("/docs", &to_bob)];
        let bob = Visitor::Guest(handle("bob"));
        assert_eq!(admit(&bob, "/docs/a", shares), AccessDecision::Wakes);
        assert_eq!(admit(&bob, "/docs/../a", shares), AccessDecision::WhileAwake);
        assert_eq!(admit(&Visitor::Stranger, "/docs/a", shares), AccessDecision::WhileAwake);
    }

    #[test]
    fn a_path_is_covered_only_where_nobody_can_read_it_otherwise() {
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
    fn what_an_owner_types_becomes_a_plain_path() {
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
            assert_eq!(tidy_path(typed).ok().as_deref(), kept, "{typed}");
        }
        assert!(tidy_path(&format!("/{}", "a".repeat(LONGEST_PATH))).is_err());
    }

    /// The path as the most willing program would read it: decodes until nothing changes, takes every sign that ever stood for
    /// a slash for one, cuts parameters off, trims, and climbs.
    fn folded(path: &str) -> Vec<String> {
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
        fn whatever_is_covered_stays_below_its_prefix_however_it_is_folded(
            pieces in prop::collection::vec(prop_oneof![3 => piece(), 1 => Just("/".to_owned())], 0..12),
        ) {
            let path = format!("/docs{}", pieces.concat());
            if covers("/docs", &path) {
                let folded = folded(&path);
                prop_assert_eq!(folded.first().map(String::as_str), Some("docs"), "{}", path);
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
        fn a_tidy_path_stays_as_it_is_and_covers_itself(typed in "/[a-z.~_/-]{0,20}") {
            if let Ok(path) = tidy_path(&typed) {
                prop_assert_eq!(tidy_path(&path), Ok(path.clone()));
                prop_assert!(covers(&path, &path));
            }
        }
    }
}
