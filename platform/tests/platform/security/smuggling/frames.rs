//! The corpus of ambiguous HTTP/2 requests, written frame by frame, because a library would refuse to send most of
//! them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::corpus::{Names, Reads};
use berth_testing::http1_client::Stream;

/// After this much silence no response is expected any more.
const SILENCE: Duration = Duration::from_millis(700);

/// Types and flags of frames (RFC 9113 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Field = (&'static str, &'static str);

/// A request as a list of fields, with the placeholders of the HTTP/1.1 corpus.
pub struct Case {
    pub name: &'static str,
    pub reads: Reads,
    fields: Vec<Field>,
    /// `None`: the stream ends with its fields.
    body: Option<&'static str>,
    trailers: Vec<Field>,
}

const LINE: [Field; 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "alice.example.com"), (":path", "OUTER")];
const LETS_IN: [Field; 2] = [("cookie", "COOKIE"), ("origin", "https://alice.example.com")];

/// A request that is authorised, with these fields.
fn post(name: &'static str, reads: Reads, more: &[Field], body: &'static str) -> Case {
    let fields = [&LINE[..], &LETS_IN, more].concat();
    Case { name, reads, fields, body: Some(body), trailers: Vec::new() }
}

/// A request with these pseudo-header fields in place of the usual ones.
fn line(name: &'static str, reads: Reads, line: &[Field]) -> Case {
    Case { name, reads, fields: [line, &LETS_IN[..]].concat(), body: None, trailers: Vec::new() }
}

pub fn cases() -> Vec<Case> {
    [bodies(), fields(), lines()].into_iter().flatten().collect()
}

use Reads::{Nothing, One, Served};

fn bodies() -> Vec<Case> {
    let mut cases = vec![
        post("an honest one", Served, &[("content-length", "5")], "hello"),
        post("no length", Served, &[], "hello SMUGGLED"),
        // Go takes an invalid length as 0, and cuts a body that is longer than its length.
        post("H2.CL, none of it", One, &[("content-length", "0")], "SMUGGLED"),
        post("H2.CL, too short", Nothing, &[("content-length", "5")], "helloSMUGGLED"),
        post("H2.CL, too long", Nothing, &[("content-length", "5000")], "hello"),
        post("H2.CL, two that differ", One, &[("content-length", "5"), ("content-length", "6")], "hello"),
        post("H2.CL, plus", One, &[("content-length", "+5")], "hello"),
        post("H2.CL, a list", One, &[("content-length", "5, 5")], "hello"),
        post("H2.CL, empty", One, &[("content-length", "")], "hello"),
        post("H2.CL, more than 64 bits", One, &[("content-length", "18446744073709551621")], "hello"),
        post("H2.TE", Nothing, &[("transfer-encoding", "chunked")], "0\r\n\r\nSMUGGLED"),
        post("H2.TE with a length", Nothing, &[("content-length", "5"), ("transfer-encoding", "chunked")], "0\r\n\r\n"),
        post("H2.TE, identity", Nothing, &[("transfer-encoding", "identity")], "SMUGGLED"),
        post("H2.TE, underscore", Nothing, &[("transfer_encoding", "chunked")], "0\r\n\r\nSMUGGLED"),
        post("H2.CL, underscore", Nothing, &[("content_length", "0")], "SMUGGLED"),
    ];
    let trailers = [
        ("content-length", "0"),
        ("transfer-encoding", "chunked"),
        ("x-berth-user", "root"),
        ("host", "bob.example.com"),
    ];
    cases.push(Case { trailers: trailers.to_vec(), ..post("framing fields behind the body", One, &[], "SMUGGLED") });
    cases.push(Case { trailers: vec![(":path", "INNER")], ..post("a path behind the body", Nothing, &[], "hello") });
    cases
}

fn fields() -> Vec<Case> {
    let field = |name, reads, field: Field| post(name, reads, &[field], "hello");
    vec![
        field("Connection", Nothing, ("connection", "content-length")),
        field("Keep-Alive", Nothing, ("keep-alive", "timeout=5")),
        field("Proxy-Connection", Nothing, ("proxy-connection", "keep-alive")),
        field("Upgrade", Nothing, ("upgrade", "h2c")),
        field("TE that is more than trailers", Nothing, ("te", "trailers, chunked")),
        field("TE", Served, ("te", "trailers")),
        field("CRLF in a value", Nothing, ("x", "y\r\nTransfer-Encoding: chunked")),
        field("LF in a value", Nothing, ("x", "y\ntransfer-encoding: chunked")),
        field("CR in a value", Nothing, ("x", "y\rtransfer-encoding: chunked")),
        field("NUL in a value", Nothing, ("x", "y\0z")),
        field("a request in a value", Nothing, ("x", "y\r\n\r\nSMUGGLED")),
        field("CRLF in a name", Nothing, ("x\r\nhost", "bob.example.com")),
        field("a colon in a name", Nothing, ("x: y\r\nz", "w")),
        field("a space in a name", Nothing, ("transfer-encoding ", "chunked")),
        field("a capital in a name", Nothing, ("Transfer-Encoding", "chunked")),
        field("an empty name", Nothing, ("", "x")),
        field("a pseudo-field after others", Nothing, (":path", "INNER")),
        field("a pseudo-field that is none", Nothing, (":berth", "x")),
        field("Host that differs", One, ("host", "bob.example.com")),
        field("Host that does not", One, ("host", "alice.example.com")),
        field("Expect", One, ("expect", "100-continue")),
        field("Expect something else", Nothing, ("expect", "200-ok")),
        field("whom we forward for", One, ("x-forwarded-host", "bob.example.com")),
    ]
}

/// Pseudo-header fields (RFC 9113 8.3).
fn lines() -> Vec<Case> {
    let [_, scheme, alice, path] = LINE;
    let get = (":method", "GET");
    vec![
        line("GET", Served, &[get, scheme, alice, path]),
        line("no authority, but Host", One, &[get, scheme, path, ("host", "alice.example.com")]),
        line("no authority", Nothing, &[get, scheme, path]),
        line("two authorities", Nothing, &[get, scheme, alice, (":authority", "bob.example.com"), path]),
        line("two paths", Nothing, &[get, scheme, alice, path, (":path", "INNER")]),
        line("two methods", Nothing, &[get, (":method", "POST"), scheme, alice, path]),
        line("no method", Nothing, &[scheme, alice, path]),
        line("no path", Nothing, &[get, scheme, alice]),
        line("user information", Nothing, &[get, scheme, (":authority", "bob.example.com@alice.example.com"), path]),
        line(
            "a space in the authority",
            One,
            &[get, scheme, (":authority", "alice.example.com bob.example.com"), path],
        ),
        line("CRLF in the authority", Nothing, &[get, scheme, (":authority", "alice.example.com\r\nx: y"), path]),
        line(
            "a request in the path",
            Nothing,
            &[get, scheme, alice, (":path", "OUTER HTTP/1.1\r\nHost: bob.example.com\r\n\r\nSMUGGLED")],
        ),
        line("no slash", Nothing, &[get, scheme, alice, (":path", "smuggled")]),
        line("an absolute path", One, &[get, scheme, alice, (":path", "http://bob.example.comOUTER")]),
        line("a request in the method", Nothing, &[(":method", "GET INNER HTTP/1.1\r\nX: y\r\n"), scheme, alice, path]),
        line("a space in the method", Nothing, &[(":method", "GET INNER"), scheme, alice, path]),
        line("a request in the scheme", One, &[get, (":scheme", "https://bob.example.comINNER?"), alice, path]),
        line("CONNECT with a path", Nothing, &[(":method", "CONNECT"), scheme, alice, path]),
        line(
            "CONNECT for a WebSocket",
            Nothing,
            &[(":method", "CONNECT"), (":protocol", "websocket"), scheme, alice, path],
        ),
        line("TRACE", Nothing, &[(":method", "TRACE"), scheme, alice, path]),
    ]
}

/// A connection that speaks HTTP/2.
pub struct Connection<S> {
    stream: S,
    next: u32,
    open: bool,
}

impl<S: Stream> Connection<S> {
    pub async fn on(mut stream: S) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { stream, next: 1, open: true }
    }

    /// Sends the request of `case`; the body of the response, if there is one.
    pub async fn odd(&mut self, case: &Case, names: &Names) -> Option<String> {
        let bytes = |text: &str| super::corpus::fill(text, names);
        let id = self.next;
        let block = |fields: &[Field]| -> Vec<u8> {
            fields.iter().flat_map(|(name, value)| literal(&bytes(name), &bytes(value))).collect()
        };
        let ends = |last: bool| if last { END_STREAM } else { 0 };
        let mut sent = frame(HEADERS, END_HEADERS | ends(case.body.is_none()), id, &block(&case.fields));
        if let Some(body) = case.body {
            sent.extend(frame(DATA, ends(case.trailers.is_empty()), id, &bytes(body)));
        }
        if !case.trailers.is_empty() {
            sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &block(&case.trailers)));
        }
        self.ask(sent).await
    }

    /// Sends an honest request on the same connection, as browsers do for every name of its certificate.
    pub async fn honest(&mut self, host: &str, path: &str, cookie: &str) -> Option<String> {
        let fields =
            [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", path), ("cookie", cookie)];
        let block: Vec<u8> =
            fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect();
        self.ask(frame(HEADERS, END_HEADERS | END_STREAM, self.next, &block)).await
    }

    async fn ask(&mut self, sent: Vec<u8>) -> Option<String> {
        let id = self.next;
        self.next += 2;
        if !self.open || self.stream.write_all(&sent).await.is_err() {
            return None;
        }
        let mut body = Vec::new();
        loop {
            let Ok(Some((kind, flags, stream, payload))) = tokio::time::timeout(SILENCE, self.frame()).await else {
                self.open = false;
                return None;
            };
            match kind {
                GO_AWAY => self.open = false,
                RESET if stream == id => return None,
                DATA if stream == id => body.extend(payload),
                _ => {}
            }
            if stream == id && flags & END_STREAM != 0 && matches!(kind, DATA | HEADERS) {
                return Some(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((kind, flags, u32::from_be_bytes(id), payload))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal header field (RFC 7541 6.2.2), with any bytes.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0], &length(name.len())[..], name, &length(value.len()), value].concat()
}

/// An integer with a 7-bit prefix (RFC 7541 5.1).
fn length(length: usize) -> Vec<u8> {
    let Some(mut rest) = length.checked_sub(127) else { return vec![u8::try_from(length).unwrap()] };
    let mut bytes = vec![127];
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}
