//! What is refused before it is looked at whose a request is: what two readers of HTTP could read in two ways (RFC 9110 and
//! 9112), and more than a request may carry. Most of the former never gets here, because hyper and Caddy refuse it.

use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::Response;

use crate::http::accept::accepts_html;
use crate::http::problem::Problem;

/// Longest request target, in bytes.
const TARGET_BYTES: usize = 8 * 1024;
/// Longest head, in bytes, counted as HTTP/1.1 would write it.
const HEAD_BYTES: usize = 32 * 1024;
/// Most fields in a head.
const FIELDS: usize = 100;
/// Longest cookies that the platform's own hosts take, in bytes. Ours are short; what comes on top, other hosts have set.
const COOKIE_BYTES: usize = 16 * 1024;

/// Whether a request can mean one thing only and keeps the limits.
///
/// # Errors
/// The refusal, after which the connection is closed: who sends such a head is not believed about where its body ends.
pub fn read_strictly(request: &Request) -> Result<(), Box<Response>> {
    look(request).map_err(|problem| {
        let mut response = if accepts_html(request.headers()) { problem.page("") } else { problem.json("") };
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Box::new(response)
    })
}

/// Whether the cookies for one of the platform's own hosts are few enough to be read.
///
/// # Errors
/// The refusal, which has the browser forget them: a page on a neighbouring host may have planted them to keep somebody out.
pub fn refuse_cookie_bombs(headers: &HeaderMap) -> Result<(), Box<Response>> {
    if headers.get_all(header::COOKIE).iter().map(HeaderValue::len).sum::<usize>() <= COOKIE_BYTES {
        return Ok(());
    }
    let mut response =
        too_large("Your browser sends too many cookies. They are deleted now; open this page again.").page("");
    response.headers_mut().insert("clear-site-data", HeaderValue::from_static("\"cookies\""));
    Err(Box::new(response))
}

fn look(request: &Request) -> Result<(), Problem> {
    let (headers, target) = (request.headers(), request.uri());
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        let sentence = "CONNECT is for proxies, and TRACE would show what Berth adds to a request.";
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Not here", sentence));
    }
    let target = target.path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES {
        let sentence = "The address has more than 8 KiB. Send what is long in the body.";
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "target_too_long", "Too long", sentence));
    }
    let head: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    if headers.len() > FIELDS || target + head > HEAD_BYTES {
        return Err(too_large("A request's head has at most 100 fields and 32 KiB."));
    }
    if headers.keys().any(|name| looks_like_framing(name.as_str())) {
        return Err(malformed("A field is named like Content-Length or Transfer-Encoding, but not quite."));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if codings.next().is_some() || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(malformed("Transfer-Encoding may say \"chunked\", once, and nothing else."));
    }
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && coding.is_some()) {
        return Err(malformed("A body's end is told by Content-Length or by Transfer-Encoding, once."));
    }
    let mut expected = headers.get_all(header::EXPECT).iter();
    let first = expected.next();
    if expected.next().is_some() || first.is_some_and(|first| !first.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let sentence = "Expect may say \"100-continue\", once.";
        return Err(Problem::new(StatusCode::EXPECTATION_FAILED, "expectation", "Not understood", sentence));
    }
    Ok(())
}

/// Programs that get their fields as CGI variables take these for the real ones (RFC 3875 4.1.18).
fn looks_like_framing(name: &str) -> bool {
    name.contains(['_', '.'])
        && ["content-length", "transfer-encoding"].contains(&name.replace(['_', '.'], "-").as_str())
}

fn malformed(sentence: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", "Not understood", sentence)
}

fn too_large(sentence: &str) -> Problem {
    Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "Too large", sentence)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn status(method: &str, target: &str, fields: &[(&str, &str)]) -> u16 {
        let request = Request::builder().method(method).uri(target);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        read_strictly(&request.body(Body::empty()).unwrap()).map_or_else(|refused| refused.status().as_u16(), |()| 200)
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
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
    fn a_request_carries_so_much_and_no_more() {
        let target = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert_eq!(status("GET", &target(TARGET_BYTES), &[]), 200);
        assert_eq!(status("GET", &target(TARGET_BYTES + 1), &[]), 414);
        assert_eq!(status("GET", "/", &vec![("x", "y"); FIELDS]), 200);
        assert_eq!(status("GET", "/", &vec![("x", "y"); FIELDS + 1]), 431);
        let value = |length: usize| "y".repeat(length - "/x: \r\n".len());
        assert_eq!(status("GET", "/", &[("x", &value(HEAD_BYTES))]), 200);
        assert_eq!(status("GET", "/", &[("x", &value(HEAD_BYTES + 1))]), 431);
    }

    #[test]
    fn too_many_cookies_are_forgotten() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "x".repeat(COOKIE_BYTES).parse().unwrap());
        assert!(refuse_cookie_bombs(&headers).is_ok());
        headers.append(header::COOKIE, HeaderValue::from_static("y"));
        let refused = refuse_cookie_bombs(&headers).unwrap_err();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["clear-site-data"]),
            (431, &HeaderValue::from_static("\"cookies\""))
        );
    }
}
