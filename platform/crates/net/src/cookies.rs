//! The Cookie header, read byte by byte. Libraries that percent-decode names let a tenant's cookie `__%48ost-berth` stand in
//! for `__Host-berth`, and those that insist on text drop the whole header for one stray byte: both are attacks here.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The session cookie of the app host, and of each instance's host. Never the same value.
pub const SESSION: &str = "__Host-berth";
/// Says that this browser is not new to an account. App host only.
pub const DEVICE: &str = "__Host-berth-device";
/// A ceremony that is half way: signing up, logging in, or a hand-off on an instance's host.
pub const PENDING: &str = "__Host-berth-pending";

/// The value of the cookie called `name`. `None` when it is absent, empty, not plain ASCII, or there twice with
/// different values: then somebody planted one, and neither is believed.
#[must_use]
pub fn get<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found: Option<&[u8]> = None;
    for (key, value) in pairs(headers) {
        if key == name.as_bytes() {
            match found {
                Some(other) if other != value => return None,
                _ => found = Some(value),
            }
        }
    }
    found.and_then(|value| std::str::from_utf8(value).ok()).filter(|value| !value.is_empty() && value.is_ascii())
}

/// Whether the cookie called `name` is there with two different values, so that [`get`] believes neither.
#[must_use]
pub fn is_twice(headers: &HeaderMap, name: &str) -> bool {
    let mut values = pairs(headers).filter(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value);
    values.next().is_some_and(|first| values.any(|other| other != first))
}

/// Whether a cookie called `name` is there, believed or not.
#[must_use]
pub fn is_there(headers: &HeaderMap, name: &str) -> bool {
    pairs(headers).any(|(key, _)| key == name.as_bytes())
}

/// Set-Cookie values that delete the session and what is half way, and their doubles: browsers keep a cookie that was set
/// with `Partitioned` beside the one of the same name without it, and delete each only by its own kind.
#[must_use]
pub fn all_off() -> Vec<HeaderValue> {
    let names = [SESSION, PENDING].into_iter();
    names
        .flat_map(|name| {
            let plain = set(name, "", 0).1;
            let partitioned = [plain.as_bytes(), b"; Partitioned"].concat();
            let partitioned =
                HeaderValue::from_bytes(&partitioned).expect("header text with a word more is header text");
            [plain, partitioned]
        })
        .collect()
}

/// Takes our own cookies out of the request, so that an instance never sees one. What HTTP/2 cut into several lines becomes
/// one again, as HTTP/1.1 wants it (RFC 9113 8.2.3).
pub fn strip_ours(headers: &mut HeaderMap) {
    let is_ours =
        |key: &[u8]| key.len() >= SESSION.len() && key[..SESSION.len()].eq_ignore_ascii_case(SESSION.as_bytes());
    let in_pieces = headers.get_all(header::COOKIE).iter().nth(1).is_some();
    if !in_pieces && !pairs(headers).any(|(key, _)| is_ours(key)) {
        return;
    }
    let kept: Vec<Vec<u8>> = pairs(headers)
        .filter(|(key, _)| !is_ours(key))
        .map(|(key, value)| if value.is_empty() { [key, b"="].concat() } else { [key, b"=", value].concat() })
        .collect();
    headers.remove(header::COOKIE);
    if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_bytes(&kept.join(&b"; "[..]))) {
        headers.insert(header::COOKIE, value);
    }
}

/// A Set-Cookie for one of our cookies, for `seconds`; zero deletes it. `__Host-` asks for Secure and Path=/ and forbids Domain.
#[must_use]
pub fn set(name: &str, value: &str, seconds: u64) -> (HeaderName, HeaderValue) {
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    (header::SET_COOKIE, HeaderValue::from_str(&text).expect("our names and URL-safe tokens are header text"))
}

/// The pairs of every Cookie header: split at `;`, trimmed of space and tab only, split at the first `=`.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|&b| b == b';')).map(|pair| {
        let pair = trim(pair);
        let split = pair.iter().position(|&b| b == b'=').unwrap_or(pair.len());
        (&pair[..split], pair.get(split + 1..).unwrap_or_default())
    })
}

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
    fn planted_cookies_never_stand_in_for_ours() {
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
            assert_eq!(is_twice(&headers(lines), SESSION), lines.len() == 2, "{lines:?}");
        }
    }

    #[test]
    fn our_cookies_are_taken_out_and_the_others_kept() {
        let mut with = headers(&[b"a=1; __Host-berth=x; __Host-berth-pending=y", b"b=\xc3\xa9; flag"]);
        strip_ours(&mut with);
        assert_eq!(with.get(header::COOKIE).unwrap().as_bytes(), b"a=1; b=\xc3\xa9; flag=");
        let mut cut = headers(&[b"a=1", b"b=2; c=3"]);
        strip_ours(&mut cut);
        let whole: Vec<_> = cut.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(whole, [b"a=1; b=2; c=3"]);
        let mut only = headers(&[b"__Host-berth=x"]);
        strip_ours(&mut only);
        assert!(only.get(header::COOKIE).is_none());
    }
}
