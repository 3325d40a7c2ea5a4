//! Header filtering in both directions: hop-by-hop headers (RFC 9110 7.6.1), forged identity, the platform's cookies,
//! and response headers with an effect on other tenants' hosts.

use axum::http::header::{self, HeaderMap, HeaderValue};
use berth_net::cookies;
use berth_net::hop_by_hop::{connection_names, remove_hop_by_hop, remove_where};

/// Response headers that a tenant may not send: each affects more than its own host, or misstates who answered.
const FORBIDDEN_IN_RESPONSES: [&str; 9] = [
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

/// Removes the headers that a client may not send to the instance: hop-by-hop headers, the platform's cookies, and
/// every name that programs behind a proxy trust. Returns the protocol of a requested upgrade, if it may be tunnelled.
pub(in crate::edge) fn clean_request(headers: &mut HeaderMap) -> Option<HeaderValue> {
    // `Upgrade` counts only together with `Connection: upgrade` (RFC 9110 7.8). All three are read before they are
    // removed.
    let upgrade = headers.get(header::UPGRADE).cloned();
    let upgrade = upgrade.filter(|protocols| connection_names(headers, "upgrade") && !leads_to_http(protocols));
    let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(headers);
    // `TE` is hop-by-hop, but gRPC servers may refuse a call without it, and this proxy does forward trailers.
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // `Expect: 100-continue`: our server sends the 100 itself, when the container begins to take the body (hyper does
    // so on the first poll). Passed on, it would ask the container for a second 100, which nothing waits for.
    // `Trailer`: without this announcement hyper sends no trailer fields upstream. Trailers arrive after the body,
    // where no filter sees them, and some programs merge them into the head. `HTTP2-Settings` belongs to an h2c
    // upgrade, which is refused above.
    remove_where(headers, |name| {
        matches!(name, "http2-settings" | "expect" | "trailer") || is_trusted_by_programs(name)
    });
    cookies::remove_own(headers);
    upgrade
}

/// Removes the headers that an instance may not send to the browser. `host` is the host by which it was reached.
pub(super) fn clean_response(headers: &mut HeaderMap, host: &str) {
    // Order matters: read before `Transfer-Encoding` is removed as a hop-by-hop header. hyper frames the body anew.
    if !has_plain_length(headers) {
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    // `X-Accel-*` are commands to nginx, if an operator has one in front: X-Accel-Redirect would have it serve its own
    // files.
    remove_where(headers, |name| FORBIDDEN_IN_RESPONSES.contains(&name) || name.starts_with("x-accel-"));
    if headers.contains_key(header::SET_COOKIE) {
        let kept: Vec<HeaderValue> = headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter(|cookie| stays_on_host(cookie.as_bytes(), host))
            .cloned()
            .collect();
        headers.remove(header::SET_COOKIE);
        for cookie in kept {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

/// Removes the same names from a response's trailers as from its head: some clients merge the two, though RFC 9110
/// 6.5.1 forbids it.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    // All of them, not only those for other hosts: no browser accepts a cookie in a trailer.
    trailers.remove(header::SET_COOKIE);
    for name in FORBIDDEN_IN_RESPONSES {
        trailers.remove(name);
    }
}

/// Whether every recipient reads `Content-Length` alike, so that no two disagree where the response ends (response
/// smuggling). `Transfer-Encoding` overrides it (RFC 9112 6.3), and `5, 5` is a number to some parsers and an error to
/// others.
fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let plain = lengths.next().is_some_and(|length| length.as_bytes().iter().all(u8::is_ascii_digit));
    plain && lengths.next().is_none() && !headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether the upgrade is to HTTP again, as in h2c smuggling: requests inside the tunnel would bypass the edge, with
/// forged identity headers. Such an upgrade is ignored, as RFC 9110 7.8 allows.
fn leads_to_http(protocols: &HeaderValue) -> bool {
    let names = protocols.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii);
    names
        .map(|name| name.split(|&b| b == b'/').next().unwrap_or_default())
        .any(|name| ["h2c", "h2", "http", "tls"].iter().any(|http| name.eq_ignore_ascii_case(http.as_bytes())))
}

/// Whether programs behind a proxy take this header for the proxy's own statement about the client's identity, its
/// connection or the requested path.
fn is_trusted_by_programs(name: &str) -> bool {
    const TRUSTED_PREFIXES: [&str; 13] = [
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
    // Hot path: every header name of every request passes here, and the first letter rules out most of them.
    matches!(name.as_bytes().first(), Some(b'c' | b'f' | b'p' | b's' | b't' | b'x'))
        && (TRUSTED_PREFIXES.iter().any(|prefix| begins_with(name, prefix)) || name == "forwarded")
}

/// Whether `name` begins with `prefix`. Underscores and dots count as hyphens, because CGI and WSGI servers fold them
/// into one variable (RFC 3875 4.1.18): `X_Forwarded_For` would arrive as `HTTP_X_FORWARDED_FOR`, like the real header.
fn begins_with(name: &str, prefix: &str) -> bool {
    let folded = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(byte, wanted)| folded(byte) == wanted)
}

/// Whether a `Set-Cookie` sets a cookie for `host` alone, under a name that the platform does not use.
fn stays_on_host(cookie: &[u8], host: &str) -> bool {
    let mut parts = cookie.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    // Browsers read `=name=value` as a cookie without a name and send it back as `name=value`, which looks like ours
    // (RFC 6265bis has browsers refuse that for `__Host-`; older ones do not).
    let pair = parts.next().unwrap_or_default();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair).trim_ascii();
    let name = pair.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
    let ours = name.len() >= cookies::SESSION.len()
        && name[..cookies::SESSION.len()].eq_ignore_ascii_case(cookies::SESSION.as_bytes());
    let elsewhere = parts.any(|part| {
        let Some((key, value)) = part.iter().position(|&b| b == b'=').map(|at| (&part[..at], &part[at + 1..])) else {
            return false;
        };
        // A leading dot is ignored (RFC 6265 5.2.3).
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
    fn an_instance_sees_no_forged_headers_and_none_of_our_cookies() {
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
        // Removing from the map reorders the rest. The order of different names has no meaning (RFC 9110 5.3).
        let mut left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, [("accept", "*/*"), ("cookie", "a=1"), ("te", "trailers")]);
    }

    #[test]
    fn an_upgrade_counts_only_when_connection_names_it() {
        assert!(clean_request(&mut map(&[("connection", "Upgrade"), ("upgrade", "websocket")])).is_some());
        assert!(clean_request(&mut map(&[("upgrade", "websocket")])).is_none());
    }

    #[test]
    fn an_upgrade_to_http_is_ignored() {
        for protocols in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.2,HTTP/1.1"] {
            let mut headers = map(&[("connection", "upgrade"), ("upgrade", protocols), ("http2-settings", "AAMAAABk")]);
            assert_eq!((clean_request(&mut headers), headers.len()), (None, 0), "{protocols}");
        }
    }

    #[test]
    fn an_ambiguous_content_length_is_removed() {
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
    fn a_response_has_no_effect_beyond_its_own_host() {
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
