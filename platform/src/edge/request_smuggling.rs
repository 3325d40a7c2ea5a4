//! The guard against request smuggling: refuses requests that two HTTP parsers could read differently, and heads beyond
//! the limits, before anything else is decided.
//!
//! Smuggling needs two parsers that disagree about where a request ends (RFC 9112 11.2). hyper and Caddy refuse most
//! such requests themselves. The checks are repeated here so that the edge does not depend on the proxies around it.

use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::Response;

use crate::http::accept::accepts_html;
use crate::http::problem::Problem;

/// Longest request target, in bytes.
const MAX_TARGET_BYTES: usize = 8 * 1024;
/// Longest head, in bytes, counted as HTTP/1.1 would write it.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Most fields in a head.
const MAX_FIELDS: usize = 100;
/// Largest total of `Cookie` headers that the platform's own hosts accept, in bytes. The platform's cookies are short;
/// the rest was set by other hosts of the domain.
const MAX_COOKIE_BYTES: usize = 16 * 1024;

/// Checks that a request is unambiguous and within the limits.
///
/// # Errors
/// The refusal response, which closes the connection.
pub fn check_strictly(request: &Request) -> Result<(), Box<Response>> {
    check(request).map_err(|problem| {
        let mut response = if accepts_html(request.headers()) { problem.page("") } else { problem.json("") };
        // The end of this body is unknown. The bytes that follow on the connection must not be read as a request (RFC
        // 9112 6.3).
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Box::new(response)
    })
}

/// Refuses a cookie bomb sent to one of the platform's own hosts: a page on a tenant's host can set so many cookies for
/// the whole domain that every request exceeds the limits, which locks its visitor out.
///
/// # Errors
/// The refusal response, which makes the browser delete its cookies.
pub fn refuse_cookie_bombs(headers: &HeaderMap) -> Result<(), Box<Response>> {
    if headers.get_all(header::COOKIE).iter().map(HeaderValue::len).sum::<usize>() <= MAX_COOKIE_BYTES {
        return Ok(());
    }
    let mut response =
        too_large("Your browser sends too many cookies. They are deleted now; open this page again.").page("");
    response.headers_mut().insert("clear-site-data", HeaderValue::from_static("\"cookies\""));
    Err(Box::new(response))
}

fn check(request: &Request) -> Result<(), Problem> {
    let (headers, target) = (request.headers(), request.uri());
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        let detail = "CONNECT is for proxies, and TRACE would show what Berth adds to a request.";
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Not here", detail));
    }
    // The authority is not counted; it is checked where the host is parsed.
    let target = target.path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        let detail = "The address has more than 8 KiB. Send what is long in the body.";
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "target_too_long", "Too long", detail));
    }
    let head: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    if headers.len() > MAX_FIELDS || target + head > MAX_HEAD_BYTES {
        return Err(too_large("A request's head has at most 100 fields and 32 KiB."));
    }
    // A disguised framing header: hyper ignores it, but a program behind CGI or WSGI honours it.
    if headers.keys().any(|name| looks_like_framing(name.as_str())) {
        return Err(malformed("A field is named like Content-Length or Transfer-Encoding, but not quite."));
    }
    // TE.TE: `chunked` twice, or with a second coding, is decoded differently by different parsers. Only one coding
    // is needed, and any other must be refused if it is not understood (RFC 9112 6.1).
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if codings.next().is_some() || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(malformed("Transfer-Encoding may say \"chunked\", once, and nothing else."));
    }
    // CL.TE and TE.CL: with both, one parser goes by Content-Length and the other by Transfer-Encoding (RFC 9112 6.1
    // and 6.3). CL.CL: of two lengths, one parser takes the first and the other the last.
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && coding.is_some()) {
        return Err(malformed("A body's end is told by Content-Length or by Transfer-Encoding, once."));
    }
    // Request smuggling by `Expect`: a server that does not support an expectation may answer early and leave the body
    // unread. The next request on the connection is then parsed from that body (RFC 9110 10.1.1).
    let mut expected = headers.get_all(header::EXPECT).iter();
    let first = expected.next();
    if expected.next().is_some() || first.is_some_and(|first| !first.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let detail = "Expect may say \"100-continue\", once.";
        return Err(Problem::new(StatusCode::EXPECTATION_FAILED, "expectation", "Not understood", detail));
    }
    Ok(())
}

/// Whether a program that receives headers as CGI variables reads this name as a framing header: `Content_Length` and
/// `Content-Length` become the same variable (RFC 3875 4.1.18).
fn looks_like_framing(name: &str) -> bool {
    name.contains(['_', '.'])
        && ["content-length", "transfer-encoding"].contains(&name.replace(['_', '.'], "-").as_str())
}

fn malformed(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", "Not understood", detail)
}

fn too_large(detail: &str) -> Problem {
    Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "Too large", detail)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn status(method: &str, target: &str, fields: &[(&str, &str)]) -> u16 {
        let request = Request::builder().method(method).uri(target);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        check_strictly(&request.body(Body::empty()).unwrap()).map_or_else(|refused| refused.status().as_u16(), |()| 200)
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        for (fields, want) in [
            (&[("content-length", "5")][..], 200),
            (&[("transfer-encoding", "Chunked")], 200),
            (&[("expect", "100-Continue")], 200),
            (&[("content-length", "5"), ("content-length", "5")], 400),
            (&[("content-length", "5"), ("transfer-encoding", "chunked")], 400),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], 400),
            (&[("transfer-encoding", "gzip, chunked")], 400),
            (&[("transfer_encoding", "chunked")], 400),
            (&[("content.length", "5")], 400),
            (&[("expect", "100-continue, x")], 417),
            (&[("expect", "100-continue"), ("expect", "100-continue")], 417),
        ] {
            assert_eq!(status("POST", "/", fields), want, "{fields:?}");
        }
        assert_eq!((status("TRACE", "/", &[]), status("CONNECT", "a.example.com:443", &[])), (405, 405));
    }

    #[test]
    fn the_limits_are_exact() {
        let target = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert_eq!(status("GET", &target(MAX_TARGET_BYTES), &[]), 200);
        assert_eq!(status("GET", &target(MAX_TARGET_BYTES + 1), &[]), 414);
        assert_eq!(status("GET", "/", &vec![("x", "y"); MAX_FIELDS]), 200);
        assert_eq!(status("GET", "/", &vec![("x", "y"); MAX_FIELDS + 1]), 431);
        let value = |length: usize| "y".repeat(length - "/x: \r\n".len());
        assert_eq!(status("GET", "/", &[("x", &value(MAX_HEAD_BYTES))]), 200);
        assert_eq!(status("GET", "/", &[("x", &value(MAX_HEAD_BYTES + 1))]), 431);
    }

    #[test]
    fn a_cookie_bomb_is_refused_and_deleted() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "x".repeat(MAX_COOKIE_BYTES).parse().unwrap());
        assert!(refuse_cookie_bombs(&headers).is_ok());
        headers.append(header::COOKIE, HeaderValue::from_static("y"));
        let refused = refuse_cookie_bombs(&headers).unwrap_err();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["clear-site-data"]),
            (431, &HeaderValue::from_static("\"cookies\""))
        );
    }
}
