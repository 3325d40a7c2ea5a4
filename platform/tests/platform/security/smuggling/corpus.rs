//! The corpus of ambiguous HTTP/1.1 requests.
//!
//! Placeholders: `OUTER`, `INNER` and `COOKIE` are the two paths and alice's cookie, `SMUGGLED` is a whole request for
//! the inner path, `LENGTH` the body's length in bytes, `SIZE` the smuggled request's length in hex. Every character is
//! one byte.

/// The requests that a strict parser sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// No complete request.
    Nothing,
    /// The outer request, which a parser may also refuse.
    One,
    /// The outer request, which is unambiguous and has to be served.
    Served,
    /// Two requests in sequence, both honestly sent by the same client.
    Both,
}

#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    pub straight: Reads,
    pub through_caddy: Reads,
    pub bytes: String,
}

/// The values of the placeholders.
pub struct Names {
    pub outer: String,
    pub inner: String,
    pub cookie: String,
}

pub fn fill(text: &str, names: &Names) -> Vec<u8> {
    let smuggled = smuggled(names);
    let text = text.replace("SIZE", &format!("{:x}", smuggled.len())).replace("SMUGGLED", &smuggled);
    let text = text.replace("OUTER", &names.outer).replace("COOKIE", &names.cookie).replace("INNER", &names.inner);
    let length = text.split_once("\r\n\r\n").map_or(0, |(_, body)| body.chars().count());
    let text = text.replace("LENGTH", &length.to_string());
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("one byte")).collect()
}

fn smuggled(names: &Names) -> String {
    format!("GET {} HTTP/1.1\r\nHost: alice.example.com\r\nCookie: {}\r\n\r\n", names.inner, names.cookie)
}

const HEAD: &str =
    "POST OUTER HTTP/1.1\r\nHost: alice.example.com\r\nCookie: COOKIE\r\nOrigin: https://alice.example.com\r\n";

/// One request to a parser that goes by Content-Length, two to one that goes by Transfer-Encoding.
const CL_TE: &str = "0\r\n\r\nSMUGGLED";
/// The reverse.
const TE_CL: &str = "SIZE\r\nSMUGGLED\r\n0\r\n\r\n";

pub fn cases() -> Vec<Case> {
    [both_lengths(), obfuscations(), lengths(), chunks(), lines(), hosts(), connections(), limits()].concat()
}

use Reads::{Both, Nothing, One, Served};

/// A request that is authorised, with these fields and this body.
fn post(name: &'static str, reads: Reads, fields: &str, body: &str) -> Case {
    whole(name, reads, &format!("{HEAD}{fields}\r\n\r\n{body}"))
}

fn whole(name: &'static str, reads: Reads, bytes: &str) -> Case {
    Case { name, straight: reads, through_caddy: reads, bytes: bytes.to_owned() }
}

impl Case {
    /// Caddy parses it differently, in a way that RFC 9112 allows, and forwards to the platform exactly what it parsed.
    fn by_caddy(self, reads: Reads) -> Self {
        Self { through_caddy: reads, ..self }
    }
}

/// Both framing fields (RFC 9112 6.3): only Transfer-Encoding counts, and the connection is closed. Caddy leaves it
/// open.
fn both_lengths() -> Vec<Case> {
    vec![
        post("CL.TE", One, "Content-Length: LENGTH\r\nTransfer-Encoding: chunked", CL_TE).by_caddy(Both),
        post("TE before CL", One, "Transfer-Encoding: chunked\r\nContent-Length: LENGTH", CL_TE).by_caddy(Both),
        post("TE.CL", One, "Content-Length: 4\r\nTransfer-Encoding: chunked", TE_CL),
        post("TE.CL, TE first", One, "Transfer-Encoding: chunked\r\nContent-Length: 4", TE_CL),
        post("CL.0 with TE", One, "Content-Length: 0\r\nTransfer-Encoding: chunked", TE_CL),
        post("TE and a CL that is none", One, "Transfer-Encoding: chunked\r\nContent-Length: x", CL_TE).by_caddy(Both),
    ]
}

/// TE.TE: a Transfer-Encoding that one parser takes for chunked and another does not.
fn obfuscations() -> Vec<Case> {
    let hidden = |name, field: &str| post(name, Nothing, &format!("Content-Length: LENGTH\r\n{field}"), CL_TE);
    vec![
        hidden("space before the colon", "Transfer-Encoding : chunked"),
        hidden("tab before the colon", "Transfer-Encoding\t: chunked"),
        hidden("xchunked", "Transfer-Encoding: xchunked"),
        hidden("vertical tab", "Transfer-Encoding:\x0bchunked"),
        hidden("form feed", "Transfer-Encoding: \x0cchunked"),
        hidden("no-break space", "Transfer-Encoding: \u{a0}chunked"),
        hidden("two lines, identity last", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        hidden("two lines, chunked last", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        hidden("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        hidden("folded value", "Transfer-Encoding:\r\n chunked").by_caddy(Both),
        hidden("folded into another field", "X: y\r\n Transfer-Encoding: chunked").by_caddy(One),
        hidden("chunked, identity", "Transfer-Encoding: chunked, identity"),
        hidden("identity, chunked", "Transfer-Encoding: identity, chunked"),
        hidden("gzip, chunked", "Transfer-Encoding: gzip, chunked"),
        hidden("quoted", "Transfer-Encoding: \"chunked\""),
        hidden("trailing CR", "Transfer-Encoding: chunked\r").by_caddy(Both),
        hidden("parameter", "Transfer-Encoding: chunked;q=1"),
        hidden("empty parameter", "Transfer-Encoding: chunked;"),
        hidden("comma before", "Transfer-Encoding: ,chunked"),
        hidden("comma after", "Transfer-Encoding: chunked,"),
        hidden("NUL after", "Transfer-Encoding: chunked\0"),
        hidden("LF after the colon", "Transfer-Encoding:\nchunked"),
        hidden("hidden behind a bare CR", "X: y\rTransfer-Encoding: chunked"),
        hidden("no colon", "Transfer-Encoding chunked"),
        hidden("underscore", "Transfer_Encoding: chunked"),
        hidden("dot", "Transfer.Encoding: chunked"),
        hidden("byte above 127 in the name", "Transfer-Encod\u{ef}ng: chunked"),
        hidden("NUL in the name", "Transfer-Encoding\0: chunked"),
        hidden("empty value", "Transfer-Encoding:"),
        // These do mean Transfer-Encoding: chunked, beside a Content-Length.
        hidden("hidden behind a bare LF", "X: y\nTransfer-Encoding: chunked").straight(One).by_caddy(Both),
        hidden("tab after the colon", "Transfer-Encoding:\tchunked").straight(One).by_caddy(Both),
        hidden("capitals", "TRANSFER-ENCODING: CHUNKED").straight(One).by_caddy(Both),
        // This one has nothing to do with framing.
        post("another field", Served, "Content-Length: LENGTH\r\nContent-Encoding: chunked", CL_TE),
    ]
}

impl Case {
    fn straight(self, reads: Reads) -> Self {
        Self { straight: reads, ..self }
    }
}

fn lengths() -> Vec<Case> {
    vec![
        post("an honest length", Served, "Content-Length: LENGTH", "hello SMUGGLED"),
        post("leading zeros", Served, "Content-Length: 0005", "hello"),
        post("the same twice", One, "Content-Length: 5\r\nContent-Length: 5", "hello"),
        post("two that differ", Nothing, "Content-Length: 5\r\nContent-Length: LENGTH", "helloSMUGGLED"),
        post("two that differ, long first", Nothing, "Content-Length: LENGTH\r\nContent-Length: 5", "helloSMUGGLED"),
        post("a list", Nothing, "Content-Length: 5, 5", "helloSMUGGLED"),
        post("a list that differs", Nothing, "Content-Length: 5, 9", "helloSMUGGLED"),
        post("plus", Nothing, "Content-Length: +5", "helloSMUGGLED"),
        post("minus", Nothing, "Content-Length: -5", "helloSMUGGLED"),
        post("hex", Nothing, "Content-Length: 0x5", "helloSMUGGLED"),
        post("space inside", Nothing, "Content-Length: 5 5", "helloSMUGGLED"),
        post("underscore inside", Nothing, "Content-Length: 1_0", "helloSMUGGLED"),
        post("exponent", Nothing, "Content-Length: 1e1", "helloSMUGGLED"),
        post("point", Nothing, "Content-Length: 5.0", "helloSMUGGLED"),
        post("other digits", Nothing, "Content-Length: \u{b2}", "helloSMUGGLED"),
        post("vertical tab behind", Nothing, "Content-Length: 5\x0b", "helloSMUGGLED"),
        // Go ignores an empty length.
        post("empty", Nothing, "Content-Length:", "SMUGGLED").by_caddy(Both),
        post("more than 64 bits", Nothing, "Content-Length: 18446744073709551621", "helloSMUGGLED"),
        post("all of 64 bits", Nothing, "Content-Length: 18446744073709551615", "helloSMUGGLED"),
        post("space before the colon of the length", Nothing, "Content-Length : 5", "helloSMUGGLED"),
        post("underscore in the name of the length", Nothing, "Content_Length: 5", "helloSMUGGLED"),
        post("folded length", Nothing, "Content-Length:\r\n 5", "hello").by_caddy(One),
        post("longer than what comes", Nothing, "Content-Length: 1000000", "hello"),
        post("CL.0", Both, "Content-Length: 0", "SMUGGLED"),
        post("none at all", Both, "X: y", "SMUGGLED"),
    ]
}

fn chunks() -> Vec<Case> {
    let chunked = |name, reads, body: &str| post(name, reads, "Transfer-Encoding: chunked", body);
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    vec![
        chunked("honest chunks", Served, "5\r\nhello\r\nSIZE\r\nSMUGGLED\r\n0\r\n\r\n"),
        chunked("an extension", Served, "5;a=\"b\"\r\nhello\r\n0\r\n\r\n"),
        chunked("small and capital digits", Served, "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        chunked("zeros before the size", One, "00000000000000000000005\r\nhello\r\n0\r\n\r\n"),
        // Go accepts a bare LF as a line end (RFC 9112 2.2 allows it), and forwards with CRLF.
        chunked("LF in an extension", Nothing, "5;a\nhello\r\n0\r\n\r\nSMUGGLED").by_caddy(Both),
        chunked("LF after the size", Nothing, "5\nhello\r\n0\r\n\r\nSMUGGLED").by_caddy(Both),
        chunked("LF after the last size", Nothing, "5\r\nhello\r\n0\n\r\nSMUGGLED").by_caddy(Both),
        chunked("LF after the data", Nothing, "5\r\nhello\n0\r\n\r\nSMUGGLED"),
        chunked("CR after the size", Nothing, "5\rhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("CR in an extension", Nothing, "5;a\rb\r\nhello\r\n0\r\n\r\nSMUGGLED").by_caddy(Both),
        chunked("NUL in an extension", One, "5;\0\r\nhello\r\n0\r\n\r\n"),
        chunked("an extension without an end", Nothing, &long),
        chunked("more data than the size says", Nothing, "5\r\nhello, you\r\n0\r\n\r\nSMUGGLED"),
        chunked("less data than the size says", Nothing, "ff\r\nhello\r\n0\r\n\r\n"),
        chunked("no line after the data", Nothing, "5\r\nhello0\r\n\r\nSMUGGLED"),
        chunked("a size that overflows", Nothing, "10000000000000005\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("all of 64 bits as size", Nothing, "ffffffffffffffff\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("minus in the size", Nothing, "-5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("plus in the size", Nothing, "+5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("0x before the size", Nothing, "0x5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("space before the size", Nothing, " 5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("underscore in the size", Nothing, "0_5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("no size", Nothing, "\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("no digit in the size", Nothing, "g\r\nhello\r\n0\r\n\r\nSMUGGLED"),
        chunked("no last chunk", Nothing, "5\r\nhello\r\n"),
        chunked("no empty line at the end", Nothing, "5\r\nhello\r\n0\r\n"),
        chunked(
            "framing fields behind the body",
            One,
            "5\r\nhello\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\nHost: bob.example.com\r\nX-Berth-User: root\r\n\r\n",
        ),
        chunked("a request behind the body", Nothing, "5\r\nhello\r\n0\r\nGET INNER HTTP/1.1\r\n\r\n"),
        chunked("a folded field behind the body", One, "5\r\nhello\r\n0\r\nX: y\r\n Content-Length: 99\r\n\r\n"),
        chunked("two ends", Nothing, "0\r\n\r\n0\r\n\r\n").straight(One).by_caddy(One),
    ]
}

/// The request line and line ends.
fn lines() -> Vec<Case> {
    let rest = "Host: alice.example.com\r\nCookie: COOKIE\r\n";
    let line = |name, reads, line: &str| whole(name, reads, &format!("{line}{rest}\r\n"));
    vec![
        line("an honest line", Served, "GET OUTER HTTP/1.1\r\n"),
        line("an empty line before", One, "\r\nGET OUTER HTTP/1.1\r\n"),
        line("two spaces", Nothing, "GET  OUTER HTTP/1.1\r\n"),
        line("a tab", Nothing, "GET\tOUTER HTTP/1.1\r\n"),
        line("a space behind", Nothing, "GET OUTER HTTP/1.1 \r\n"),
        line("a space in the path", Nothing, "GET OUTER x HTTP/1.1\r\n"),
        line("a NUL in the path", Nothing, "GET OUTER\0 HTTP/1.1\r\n"),
        line("a CR in the path", Nothing, "GET OUTER\rx HTTP/1.1\r\n"),
        line("HTTP/1.2", Nothing, "GET OUTER HTTP/1.2\r\n").by_caddy(One),
        line("HTTP/2.0", Nothing, "GET OUTER HTTP/2.0\r\n"),
        line("HTTP/1.10", Nothing, "GET OUTER HTTP/1.10\r\n"),
        line("http/1.1", Nothing, "GET OUTER http/1.1\r\n"),
        line("a space before the first field", Nothing, "GET OUTER HTTP/1.1\r\n ").by_caddy(One),
        line("a comma in the method", Nothing, "GE,T OUTER HTTP/1.1\r\n"),
        line("no version", Nothing, "GET OUTER\r\n"),
        whole("HTTP/0.9", Nothing, "GET OUTER\r\n\r\n"),
        whole("nothing but LF", One, "GET OUTER HTTP/1.1\nHost: alice.example.com\nCookie: COOKIE\n\n"),
        whole("HTTP/1.0 and chunked", Nothing, "POST OUTER HTTP/1.0\r\nHost: alice.example.com\r\nCookie: COOKIE\r\nOrigin: https://alice.example.com\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED").by_caddy(One),
        whole("HTTP/1.0, kept alive", Both, "GET OUTER HTTP/1.0\r\nHost: alice.example.com\r\nCookie: COOKIE\r\nConnection: keep-alive\r\n\r\nSMUGGLED"),
        whole("the preface of HTTP/2", Nothing, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nSMUGGLED"),
        whole("two honest ones", Both, "GET OUTER HTTP/1.1\r\nHost: alice.example.com\r\nCookie: COOKIE\r\n\r\nSMUGGLED"),
        whole("GET with a body", Served, "GET OUTER HTTP/1.1\r\nHost: alice.example.com\r\nCookie: COOKIE\r\nContent-Length: LENGTH\r\n\r\nSMUGGLED"),
        whole("GET with chunks", Served, "GET OUTER HTTP/1.1\r\nHost: alice.example.com\r\nCookie: COOKIE\r\nTransfer-Encoding: chunked\r\n\r\nSIZE\r\nSMUGGLED\r\n0\r\n\r\n"),
        whole("HEAD with a body", One, "HEAD OUTER HTTP/1.1\r\nHost: alice.example.com\r\nCookie: COOKIE\r\nContent-Length: LENGTH\r\nConnection: close\r\n\r\nSMUGGLED"),
        whole("TRACE", Nothing, "TRACE OUTER HTTP/1.1\r\nHost: alice.example.com\r\nCookie: COOKIE\r\nOrigin: https://alice.example.com\r\n\r\n"),
        whole("CONNECT", Nothing, "CONNECT alice.example.com:443 HTTP/1.1\r\nHost: alice.example.com:443\r\nCookie: COOKIE\r\nOrigin: https://alice.example.com\r\n\r\nSMUGGLED").by_caddy(Both),
    ]
}

/// The host that the request is for.
fn hosts() -> Vec<Case> {
    let host = |name, reads, target: &str, hosts: &str| {
        let hosts: String = hosts.split('|').map(|host| format!("Host: {host}\r\n")).collect();
        whole(name, reads, &format!("GET {target} HTTP/1.1\r\n{hosts}Cookie: COOKIE\r\n\r\n"))
    };
    vec![
        host("absolute form", Served, "http://alice.example.comOUTER", "alice.example.com"),
        host("absolute form of another's", Nothing, "http://bob.example.comOUTER", "alice.example.com"),
        // The target's host takes precedence (RFC 9112 3.2.2), so Caddy forwards to alice's.
        host("another's Host under absolute form", Nothing, "http://alice.example.comOUTER", "bob.example.com")
            .by_caddy(One),
        host("two", Nothing, "OUTER", "alice.example.com|bob.example.com"),
        host("the same twice", Nothing, "OUTER", "alice.example.com|alice.example.com"),
        host("a list", Nothing, "OUTER", "alice.example.com, bob.example.com"),
        host("a space", Nothing, "OUTER", "alice.example.com bob.example.com"),
        host("user information", Nothing, "OUTER", "alice.example.com@bob.example.com"),
        host("user information before", Nothing, "OUTER", "bob.example.com:80@alice.example.com"),
        host(
            "user information in absolute form",
            Nothing,
            "http://bob.example.com@alice.example.comOUTER",
            "bob.example.com@alice.example.com",
        ),
        host("a port that is none", Nothing, "OUTER", "alice.example.com:bob"),
        host("a path", Nothing, "OUTER", "alice.example.com/../bob.example.com"),
        host("a NUL", Nothing, "OUTER", "alice.example.com\0.bob.example.com"),
        host("empty", Nothing, "OUTER", ""),
        host("brackets", Nothing, "OUTER", "[alice.example.com]"),
        host("below another", Nothing, "OUTER", "bob.alice.example.com"),
        whole("none", Nothing, "GET OUTER HTTP/1.1\r\nCookie: COOKIE\r\n\r\n"),
        whole(
            "Host with an underscore",
            Nothing,
            "GET OUTER HTTP/1.1\r\nH_ost: bob.example.com\r\nCookie: COOKIE\r\n\r\n",
        ),
        whole(
            "Host with a space before the colon",
            Nothing,
            "GET OUTER HTTP/1.1\r\nHost: alice.example.com\r\nHost : bob.example.com\r\nCookie: COOKIE\r\n\r\n",
        ),
        whole(
            "Host folded",
            Nothing,
            "GET OUTER HTTP/1.1\r\nHost: alice.example.com\r\n bob.example.com\r\nCookie: COOKIE\r\n\r\n",
        ),
        whole(
            "forwarded for another",
            Served,
            "GET OUTER HTTP/1.1\r\nHost: alice.example.com\r\nX-Forwarded-Host: bob.example.com\r\nX-Host: bob.example.com\r\nForwarded: host=bob.example.com\r\nX-Original-URL: INNER\r\nX-Rewrite-URL: INNER\r\nCookie: COOKIE\r\n\r\n",
        ),
    ]
}

/// Hop-by-hop fields, upgrades and expectations.
fn connections() -> Vec<Case> {
    let names = |name, reads, named: &str| {
        post(name, reads, &format!("Connection: {named}\r\nContent-Length: LENGTH"), "hello SMUGGLED")
    };
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";
    vec![
        names("Connection names Content-Length", Served, "content-length"),
        names("Connection names Transfer-Encoding", Served, "transfer-encoding"),
        names("Connection names Host", Served, "host"),
        names("Connection names ours", Served, "x-berth-user, x-berth-assertion, x-forwarded-for, x-forwarded-host"),
        // Caddy removes the cookie, so the request is not logged in.
        names("Connection names Cookie", Served, "cookie").by_caddy(One),
        names("Connection names Origin", One, "origin"),
        names("Connection in bytes above 127", One, "\u{e9}, content-length"),
        post("h2c with a body", Served, &format!("{h2c}\r\nContent-Length: LENGTH"), "SMUGGLED"),
        whole(
            "h2c and its preface",
            One,
            &format!(
                "GET OUTER HTTP/1.1\r\nHost: alice.example.com\r\nCookie: COOKIE\r\n{h2c}\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\nSMUGGLED"
            ),
        ),
        post(
            "h2c in a list",
            One,
            "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\nContent-Length: LENGTH",
            "SMUGGLED",
        ),
        post(
            "TLS inside",
            One,
            "Connection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nContent-Length: LENGTH",
            "SMUGGLED",
        ),
        post("an upgrade that Connection does not name", One, "Upgrade: h2c\r\nContent-Length: LENGTH", "SMUGGLED"),
        post("Expect", Served, "Expect: 100-continue\r\nContent-Length: LENGTH", "SMUGGLED"),
        post(
            "Expect twice",
            Nothing,
            "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: LENGTH",
            "SMUGGLED",
        ),
        post("Expect something else", Nothing, "Expect: 200-ok\r\nContent-Length: LENGTH", "SMUGGLED"),
        post("Expect with more behind", Nothing, "Expect: 100-continue; y\r\nContent-Length: LENGTH", "SMUGGLED"),
        post("Expect with more before", Nothing, "Expect: y 100-continue\r\nContent-Length: LENGTH", "SMUGGLED"),
        post(
            "Expect and both lengths",
            One,
            "Expect: 100-continue\r\nContent-Length: LENGTH\r\nTransfer-Encoding: chunked",
            CL_TE,
        )
        .by_caddy(Both),
        post("Max-Forwards", One, "Max-Forwards: 0\r\nContent-Length: LENGTH", "SMUGGLED"),
        post("a field without a name", Nothing, ": x\r\nContent-Length: LENGTH", "SMUGGLED").by_caddy(One),
        post("a space in a name", Nothing, "X Y: z\r\nContent-Length: LENGTH", "SMUGGLED"),
        post("bytes above 127 in a value", One, "X: \u{ff}\u{80}\r\nContent-Length: LENGTH", "SMUGGLED"),
        post("a NUL in a value", Nothing, "X: a\0b\r\nContent-Length: LENGTH", "SMUGGLED"),
        post("a CR in a value", Nothing, "X: a\rb\r\nContent-Length: LENGTH", "SMUGGLED"),
    ]
}

/// Requests beyond the limits.
fn limits() -> Vec<Case> {
    let long = "x".repeat(9 * 1024);
    let many: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    let wide: String = (0..9).map(|n| format!("X-{n}: {}\r\n", "y".repeat(4000))).collect();
    vec![
        whole(
            "a long path",
            Nothing,
            &format!("GET OUTER?{long} HTTP/1.1\r\nHost: alice.example.com\r\nCookie: COOKIE\r\n\r\n"),
        ),
        post("many fields", Nothing, &format!("{many}Content-Length: LENGTH"), "SMUGGLED"),
        post("a wide head", Nothing, &format!("{wide}Content-Length: LENGTH"), "SMUGGLED"),
    ]
}
