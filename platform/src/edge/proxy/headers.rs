//! Which headers pass the edge, both ways (RFC 9110 7.6.1 for those of one hop; the rest keeps tenants apart).

use axum::http::header::{self, HeaderMap, HeaderValue};

use crate::cookies;
use crate::hop::{connection_names, drop_one_hop, drop_where};

/// What a tenant's answer may not say: each reaches beyond its own host, or lies about who answered.
const NOT_FOR_TENANTS: [&str; 9] = [
    "clear-site-data",
    "alt-svc",
    "public-key-pins",
    "public-key-pins-report-only",
    "expect-ct",
    "nel",
    "report-to",
    "via",
    "server",
];

/// Takes out what the client may not tell the instance: one-hop headers and those that `Connection` names, our cookies, and
/// every name that we, or programs behind proxies, believe. `TE: trailers` is put back; `Expect` is answered by us, when the
/// container takes the body; no `Trailer` announces fields behind it, which nobody has looked at, and without it none is sent.
/// Returns the protocol it asks to upgrade to.
pub(in crate::edge) fn clean_request(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(header::UPGRADE).cloned();
    let upgrade = asked.filter(|asked| connection_names(headers, "upgrade") && !leads_to_http(asked));
    let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    drop_one_hop(headers);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    drop_where(headers, |name| matches!(name, "http2-settings" | "expect" | "trailer") || is_believed(name));
    cookies::strip_ours(headers);
    upgrade
}

/// Takes out what the instance may not tell the browser.
pub(super) fn clean_response(headers: &mut HeaderMap, host: &str) {
    if !has_plain_length(headers) {
        headers.remove(header::CONTENT_LENGTH);
    }
    drop_one_hop(headers);
    drop_where(headers, |name| NOT_FOR_TENANTS.contains(&name) || name.starts_with("x-accel-"));
    if headers.contains_key(header::SET_COOKIE) {
        let kept: Vec<HeaderValue> = headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter(|cookie| is_own_cookie(cookie.as_bytes(), host))
            .cloned()
            .collect();
        headers.remove(header::SET_COOKIE);
        for cookie in kept {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

/// Takes out of an answer's trailers what would have been taken out of its head: some programs read both as one.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    trailers.remove(header::SET_COOKIE);
    for name in NOT_FOR_TENANTS {
        trailers.remove(name);
    }
}

/// Whether Content-Length says how long the body is, in a word that everybody reads alike. Beside Transfer-Encoding it does not
/// (RFC 9112 6.3), and of `5, 5` some say that it is no number. The body is as long as it is without it.
fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let plain = lengths.next().is_some_and(|length| length.as_bytes().iter().all(u8::is_ascii_digit));
    plain && lengths.next().is_none() && !headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether the upgrade leads to HTTP again: requests inside it would pass the edge unseen, with whatever they say of who sent them.
/// It is then as if nobody had asked (RFC 9110 7.8 lets a server ignore it).
fn leads_to_http(asked: &HeaderValue) -> bool {
    let names = asked.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii);
    names
        .map(|name| name.split(|&b| b == b'/').next().unwrap_or_default())
        .any(|name| ["h2c", "h2", "http", "tls"].iter().any(|http| name.eq_ignore_ascii_case(http.as_bytes())))
}

/// Names that say who the client is, how it came, or that it asked for another path.
fn is_believed(name: &str) -> bool {
    const BELIEVED: [&str; 13] = [
        "x-forwarded",
        "x-berth",
        "x-user",
        "x-real-ip",
        "x-client-ip",
        "x-original",
        "x-rewrite",
        "x-replaced",
        "x-script-name",
        "script-name",
        "path-info",
        "cf-connecting-ip",
        "true-client-ip",
    ];
    // Every name of every request comes by here, and most begin like none of them.
    matches!(name.as_bytes().first(), Some(b'c' | b'f' | b'p' | b's' | b't' | b'x'))
        && (BELIEVED.iter().any(|prefix| begins_with(name, prefix)) || name == "forwarded")
}

/// Underscores and dots count as hyphens, because CGI-like servers fold them.
fn begins_with(name: &str, prefix: &str) -> bool {
    let folded = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(byte, wanted)| folded(byte) == wanted)
}

/// A cookie stays on the host that sets it, and is not called like ours.
fn is_own_cookie(cookie: &[u8], host: &str) -> bool {
    let mut parts = cookie.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    // Of `=name=value` browsers send back `name=value`.
    let pair = parts.next().unwrap_or_default();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair).trim_ascii();
    let name = pair.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
    let ours = name.len() >= cookies::SESSION.len()
        && name[..cookies::SESSION.len()].eq_ignore_ascii_case(cookies::SESSION.as_bytes());
    let elsewhere = parts.any(|part| {
        let Some((key, value)) = part.iter().position(|&b| b == b'=').map(|at| (&part[..at], &part[at + 1..])) else {
            return false;
        };
        // A dot in front means nothing (RFC 6265 5.2.3).
        let value = value.trim_ascii();
        let value = value.strip_prefix(b".").unwrap_or(value);
        key.trim_ascii().eq_ignore_ascii_case(b"domain")
            && !value.is_empty()
            && !value.eq_ignore_ascii_case(host.as_bytes())
    });
    !ours && !elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn an_instance_sees_nothing_forged_and_none_of_our_cookies() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x-berth-user"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-berth-user", "root"),
            ("x.berth.user", "root"),
            ("x-original-url", "/private"),
            ("script_name", "/docs"),
            ("cookie", "a=1; __Host-berth=secret"),
            ("accept", "*/*"),
        ]);
        assert_eq!(clean_request(&mut headers), None);
        // Taking headers out of the map changes the order of the others, which has no meaning.
        let mut left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, [("accept", "*/*"), ("cookie", "a=1"), ("te", "trailers")]);
    }

    #[test]
    fn an_upgrade_is_one_only_when_connection_says_so() {
        assert!(clean_request(&mut map(&[("connection", "Upgrade"), ("upgrade", "websocket")])).is_some());
        assert!(clean_request(&mut map(&[("upgrade", "websocket")])).is_none());
    }

    #[test]
    fn an_upgrade_to_http_is_none() {
        for asked in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.2,HTTP/1.1"] {
            let mut headers = map(&[("connection", "upgrade"), ("upgrade", asked), ("http2-settings", "AAMAAABk")]);
            assert_eq!((clean_request(&mut headers), headers.len()), (None, 0), "{asked}");
        }
    }

    #[test]
    fn a_length_that_not_everybody_reads_alike_is_taken_out() {
        for (fields, kept) in [
            (&[("content-length", "5")][..], 1),
            (&[("content-length", "5"), ("transfer-encoding", "chunked")], 0),
            (&[("content-length", "5"), ("content-length", "5")], 0),
            (&[("content-length", "5, 5")], 0),
        ] {
            let mut headers = map(fields);
            clean_response(&mut headers, "alice.example.com");
            assert_eq!(headers.len(), kept, "{fields:?}");
        }
    }

    #[test]
    fn an_instance_cannot_reach_beyond_its_own_host() {
        let mut headers = map(&[
            ("set-cookie", "a=1; Path=/"),
            ("set-cookie", "b=2; Domain=example.com"),
            ("set-cookie", "c=3; domain=alice.example.com"),
            ("set-cookie", "__Host-berth=theirs; Secure; Path=/"),
            ("clear-site-data", "\"cookies\""),
            ("alt-svc", "h3=\":443\""),
            ("x-accel-redirect", "/etc"),
            ("server", "nginx"),
            ("content-type", "text/plain"),
        ]);
        clean_response(&mut headers, "alice.example.com");
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(cookies, ["a=1; Path=/", "c=3; domain=alice.example.com"]);
        assert_eq!(headers.len(), 3);
    }
}
