//! Cookie parsing, byte by byte, because tenants can set cookies that reach our hosts (cookie tossing).
//!
//! A library that percent-decodes names would take a tenant's `__%48ost-berth` for `__Host-berth`. A library that
//! requires UTF-8 drops the whole header for one stray byte, which would log the visitor out. Both are attacks here.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The session cookie, on the app host and on each instance's host. Each host has a session of its own under this name.
pub const SESSION: &str = "__Host-berth";
/// The device cookie: marks a browser in which an account logged in before. App host only.
pub const DEVICE: &str = "__Host-berth-device";
/// The pending cookie: the state of an unfinished sign-up, login, or hand-off on an instance's host.
pub const PENDING: &str = "__Host-berth-pending";

/// The value of the cookie `name`. `None` when it is absent, empty, not ASCII, or ambiguous: of two different values a
/// script of this host planted one, so neither is trusted.
#[must_use]
pub fn get<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut first: Option<&[u8]> = None;
    for (key, value) in pairs(headers) {
        if key == name.as_bytes() {
            match first {
                Some(other) if other != value => return None,
                _ => first = Some(value),
            }
        }
    }
    first.and_then(|value| std::str::from_utf8(value).ok()).filter(|value| !value.is_empty() && value.is_ascii())
}

/// Whether the cookie `name` is present with two different values, so that [`get`] trusts neither.
#[must_use]
pub fn is_ambiguous(headers: &HeaderMap, name: &str) -> bool {
    let mut values = pairs(headers).filter(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value);
    values.next().is_some_and(|first| values.any(|other| other != first))
}

/// Whether the cookie `name` is present, with any value.
#[must_use]
pub fn is_present(headers: &HeaderMap, name: &str) -> bool {
    pairs(headers).any(|(key, _)| key == name.as_bytes())
}

/// `Set-Cookie` values that delete the session and pending cookies, and planted ones of the same names.
#[must_use]
pub fn delete_all() -> Vec<HeaderValue> {
    let names = [SESSION, PENDING].into_iter();
    names
        .flat_map(|name| {
            let plain = set(name, "", 0).1;
            // A cookie set with `Partitioned` (CHIPS) exists beside the one without, and only a `Partitioned` deletion
            // deletes it.
            let partitioned = [plain.as_bytes(), b"; Partitioned"].concat();
            let partitioned =
                HeaderValue::from_bytes(&partitioned).expect("header text with an ASCII attribute is header text");
            [plain, partitioned]
        })
        .collect()
}

/// Removes our cookies from a request, so that an instance never sees them. Several `Cookie` lines (HTTP/2 may split
/// it) become one, as HTTP/1.1 requires (RFC 9113 8.2.3).
pub fn remove_own(headers: &mut HeaderMap) {
    // By prefix and in any case: all three names begin with the session's, and some programs compare names loosely.
    let is_own =
        |key: &[u8]| key.len() >= SESSION.len() && key[..SESSION.len()].eq_ignore_ascii_case(SESSION.as_bytes());
    let is_split = headers.get_all(header::COOKIE).iter().nth(1).is_some();
    if !is_split && !pairs(headers).any(|(key, _)| is_own(key)) {
        return;
    }
    let kept: Vec<Vec<u8>> = pairs(headers)
        .filter(|(key, _)| !is_own(key))
        .map(|(key, value)| if value.is_empty() { [key, b"="].concat() } else { [key, b"=", value].concat() })
        .collect();
    headers.remove(header::COOKIE);
    if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_bytes(&kept.join(&b"; "[..]))) {
        headers.insert(header::COOKIE, value);
    }
}

/// A `Set-Cookie` header for one of our cookies, for `seconds`; zero deletes it.
#[must_use]
pub fn set(name: &str, value: &str, seconds: u64) -> (HeaderName, HeaderValue) {
    // The prefix `__Host-` requires Secure and Path=/ and forbids Domain: browsers then send the cookie to this host
    // only.
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    (header::SET_COOKIE, HeaderValue::from_str(&text).expect("our names and URL-safe tokens are header text"))
}

/// The name-value pairs of every `Cookie` header: split at `;`, trimmed of space and tab, split at the first `=`.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|&b| b == b';')).map(|pair| {
        let pair = trim(pair);
        let split = pair.iter().position(|&b| b == b'=').unwrap_or(pair.len());
        (&pair[..split], pair.get(split + 1..).unwrap_or_default())
    })
}

// Only space and tab, as browsers do. `trim_ascii` also removes form feeds and line ends, and a Unicode trim would turn
// a tenant's "\u{2000}__Host-berth" into our name.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_planted_cookie_is_never_taken_for_ours() {
        let cases: [(&[&[u8]], Option<&str>); 8] = [
            (&[b"__Host-berth=mine"], Some("mine")),
            (&[b"a=1; __Host-berth=mine; b=2"], Some("mine")),
            (&[b"__Host-berth=mine; __%48ost-berth=theirs"], Some("mine")),
            (&[b"__Host-berth=mine; \xe2\x80\x80__Host-berth=theirs"], Some("mine")),
            (&[b"__Host-berth=mine; x=\xc3\xa9"], Some("mine")),
            (&[b"__Host-berth=mine", b"__Host-berth=theirs"], None),
            (&[b"__host-berth=theirs"], None),
            (&[b"__Host-berth="], None),
        ];
        for (lines, want) in cases {
            assert_eq!(get(&headers(lines), SESSION), want, "{lines:?}");
            assert_eq!(is_ambiguous(&headers(lines), SESSION), lines.len() == 2, "{lines:?}");
        }
    }

    #[test]
    fn our_cookies_are_removed_and_others_kept() {
        let mut with = headers(&[b"a=1; __Host-berth=x; __Host-berth-pending=y", b"b=\xc3\xa9; flag"]);
        remove_own(&mut with);
        assert_eq!(with.get(header::COOKIE).unwrap().as_bytes(), b"a=1; b=\xc3\xa9; flag=");
        let mut cut = headers(&[b"a=1", b"b=2; c=3"]);
        remove_own(&mut cut);
        let whole: Vec<_> = cut.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(whole, [b"a=1; b=2; c=3"]);
        let mut only = headers(&[b"__Host-berth=x"]);
        remove_own(&mut only);
        assert!(only.get(header::COOKIE).is_none());
    }
}
