//! Programs that violate HTTP (response smuggling and worse).
//!
//! Whatever a program sends, its visitor gets a complete response, a clean refusal, or a response that visibly breaks
//! off, never bytes that belong to the next request. All other visitors are served meanwhile.

use std::time::Duration;

use tokio::net::TcpStream;

use berth_testing::caddy::CaddyProxy;
use berth_testing::fake_platform::FakePlatform;
use berth_testing::http1_client::{Reply, Stream, Wire};
use berth_testing::raw_program::{Act, RawProgram, Seen, ok};

use self::Visitor::{Cut, CutInChunks, Gets, Refused, Status};

/// The response that the visitor has to get.
#[derive(Clone, Copy, Debug)]
enum Visitor {
    /// 502 with an explanation.
    Refused,
    /// 200 with this body.
    Gets(&'static str),
    /// Another status without a body.
    Status(u16),
    /// The beginning of a response, or nothing, and then the end of the connection, which a client does not take for
    /// the whole.
    Cut,
    /// The same, except that Caddy 2.6.2 ends the chunks properly, as if the body were complete (later versions do
    /// not).
    CutInChunks,
}

struct Case {
    name: &'static str,
    method: &'static str,
    visitor: Visitor,
    acts: Vec<Act>,
}

const STOLEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";

/// A program that sends these bytes and closes the connection.
fn says(name: &'static str, visitor: Visitor, bytes: &str) -> Case {
    let bytes =
        bytes.replace("STOLEN", STOLEN).chars().map(|c| u8::try_from(u32::from(c)).expect("one byte")).collect();
    does(name, visitor, vec![Act::Say(bytes), Act::Close])
}

/// A program that sends these bytes and waits for the next request.
fn goes_on(name: &'static str, visitor: Visitor, bytes: &str) -> Case {
    let mut case = says(name, visitor, bytes);
    case.acts.pop();
    case
}

fn does(name: &'static str, visitor: Visitor, acts: Vec<Act>) -> Case {
    Case { name, method: "GET", visitor, acts }
}

fn cases() -> Vec<Case> {
    [heads(), bodies(), other_answers()].into_iter().flatten().collect()
}

fn heads() -> Vec<Case> {
    let many: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    vec![
        says("an empty answer", Refused, ""),
        says("half a status line", Refused, "HTTP/1.1 2"),
        says("half a head", Refused, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: "),
        says("a huge field", Refused, &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20))),
        says("a field too long", Refused, &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\nhello", "y".repeat(65 << 10))),
        says("a huge reason", Refused, &format!("HTTP/1.1 200 {}\r\n\r\n", "y".repeat(1 << 20))),
        says("many fields", Refused, &format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n")),
        does(
            "fields without end",
            Refused,
            vec![Act::Say(b"HTTP/1.1 200 OK\r\n".to_vec()), Act::Repeat(b"X: y\r\n".to_vec())],
        ),
        says("garbage", Refused, "\0\x01\x02\u{ff}\r\n\r\n"),
        says("HTTP/0.9", Refused, "<h1>hello</h1>\r\n"),
        says("another protocol", Refused, "SSH-2.0-OpenSSH_9.2\r\n"),
        says("the beginning of TLS", Refused, "\x15\x03\x01\0\x02\x02\x46"),
        says("HTTP/2", Refused, "\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\u{80}\0\x04\0\x01\0\0\0\x05\0\u{ff}\u{ff}\u{ff}"),
        says("the preface of HTTP/2", Refused, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        says("HTTP/3.0", Refused, "HTTP/3.0 200 OK\r\n\r\n"),
        says("a status of two digits", Refused, "HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n"),
        says("a status of four digits", Refused, "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
        says("a status that is a word", Refused, "HTTP/1.1 OK OK\r\nContent-Length: 0\r\n\r\n"),
        says("a space before the colon", Refused, "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
        says("a folded field", Refused, "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok"),
        says(
            "a CR in a field",
            Refused,
            "HTTP/1.1 200 OK\r\nX: y\rSet-Cookie: a=planted\r\nContent-Length: 2\r\n\r\nok",
        ),
        says("a NUL in a field", Refused, "HTTP/1.1 200 OK\r\nX: y\0z\r\nContent-Length: 2\r\n\r\nok"),
        // A bare LF ends a line here. The rest is a field of its own, and passes the same filters.
        goes_on(
            "an LF in a field",
            Gets("ok"),
            "HTTP/1.1 200 OK\r\nX: y\nSet-Cookie: a=planted; Domain=example.com\r\nContent-Length: 2\r\n\r\nok",
        ),
        says(
            "two lengths that differ",
            Refused,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        ),
        says("a length that is none", Refused, "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello"),
        says("a negative length", Refused, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
        says(
            "a length of more than 64 bits",
            Refused,
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
        ),
        goes_on(
            "the same length twice",
            Gets("hello"),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        ),
        goes_on("a list of lengths", Gets("hello"), "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
    ]
}

fn bodies() -> Vec<Case> {
    let head = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let sized = |size: usize| format!("{head}Content-Length: {size}\r\n\r\n");
    vec![
        says("less than its length", Cut, &format!("{}hello", sized(50))),
        says("none of its length", Cut, &sized(50)),
        goes_on("more than its length", Gets("hello"), &format!("{}helloSTOLEN", sized(5))),
        goes_on("two answers", Gets("hello"), &format!("{}helloSTOLENSTOLEN", sized(5))),
        says("chunks that stop", CutInChunks, &format!("{chunked}5\r\nhello\r\n")),
        says("a chunk that stops", CutInChunks, &format!("{chunked}ff\r\nhello")),
        says("a size that is none", CutInChunks, &format!("{chunked}5\r\nhello\r\nzz\r\nhello\r\n0\r\n\r\n")),
        says(
            "a size that overflows",
            CutInChunks,
            &format!("{chunked}5\r\nhello\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        says("more in a chunk than its size", CutInChunks, &format!("{chunked}5\r\nhello, you\r\n0\r\n\r\n")),
        goes_on("chunks and an answer more", Gets("hello"), &format!("{chunked}5\r\nhello\r\n0\r\n\r\nSTOLEN")),
        goes_on(
            "chunks and a length",
            Gets("hello"),
            &format!("{head}Content-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        goes_on(
            "chunks and a shorter length",
            Gets("hello"),
            &format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        goes_on(
            "fields behind the chunks",
            Gets("hello"),
            &format!(
                "{chunked}5\r\nhello\r\n0\r\nSet-Cookie: a=planted; Domain=example.com\r\nClear-Site-Data: \"*\"\r\n\r\n"
            ),
        ),
        says("no length at all", Gets("hello"), &format!("{head}\r\nhello")),
        says("HTTP/1.0", Gets("hello"), "HTTP/1.0 200 OK\r\n\r\nhello"),
        does(
            "byte by byte",
            Gets("hello"),
            vec![Act::Trickle(format!("{}hello", sized(5)).into(), Duration::from_millis(10))],
        ),
    ]
}

fn other_answers() -> Vec<Case> {
    let early =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nSet-Cookie: a=planted; Domain=example.com\r\n\r\n";
    let head = |case: Case| Case { method: "HEAD", ..case };
    vec![
        goes_on(
            "a storm of 1xx",
            Gets("hello"),
            &format!("{}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", early.repeat(1000)),
        ),
        says("1xx and no more", Refused, early),
        says(
            "101 that was not requested",
            Refused,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\nSTOLEN",
        ),
        goes_on("204 with a body", Status(204), "HTTP/1.1 204 No Content\r\nContent-Length: 64\r\n\r\nSTOLEN"),
        goes_on("304 with a body", Status(304), "HTTP/1.1 304 Not Modified\r\nContent-Length: 64\r\n\r\nSTOLEN"),
        goes_on(
            "304 in chunks",
            Status(304),
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nSTOLEN",
        ),
        head(goes_on("HEAD with a body", Status(200), "HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\nSTOLEN")),
        head(goes_on(
            "HEAD in chunks",
            Status(200),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nSTOLEN",
        )),
        head(goes_on("HEAD with two lengths", Status(200), "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n")),
    ]
}

struct Scene {
    program: RawProgram,
    platform: FakePlatform,
    alices: String,
    bobs: String,
}

impl Scene {
    async fn set() -> Self {
        let acts: Vec<Vec<Act>> = cases().into_iter().map(|case| case.acts).collect();
        let program = RawProgram::start(move |seen: &Seen| match seen.path().strip_prefix("/case/") {
            Some(number) => acts[number.parse::<usize>().unwrap()].clone(),
            None if seen.path() == "/endless" => vec![
                Act::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
                Act::Repeat(b"5\r\nhello\r\n".to_vec()),
            ],
            None if seen.path() == "/storm" => vec![Act::Repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())],
            None if seen.path() == "/silent" => vec![Act::Hold],
            None => ok(&format!("{} {}", seen.all("host")[0], seen.path())),
        })
        .await;
        let platform = FakePlatform::with_programs_on(program.port, &[]).await;
        let (alice, bob) = (platform.settle_in("alice").await, platform.settle_in("bob").await);
        let (alices, bobs) = (platform.instance_cookie(&alice).await, platform.instance_cookie(&bob).await);
        Self { program, platform, alices, bobs }
    }

    async fn straight(&self) -> Wire<TcpStream> {
        Wire::on(TcpStream::connect(self.platform.address).await.unwrap())
    }

    async fn ask(&self, wire: &mut Wire<impl Stream>, method: &str, who: &str, path: &str) -> Option<Reply> {
        let cookie = if who == "alice" { &self.alices } else { &self.bobs };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {who}.example.com\r\nCookie: {cookie}\r\n\r\n");
        wire.send(request.as_bytes()).await;
        if method == "HEAD" { wire.reply_to_head().await } else { wire.reply().await }
    }
}

/// The fault in the response to one case, if there is one.
fn wrong(case: &Case, reply: Option<&Reply>) -> Option<String> {
    let Some(reply) = reply else {
        return (!matches!(case.visitor, Cut)).then(|| format!("{}: no answer at all", case.name));
    };
    // When nothing of a body has arrived, the head has not been sent either, and Caddy reports that it got no response.
    let away = reply.status == 503 && reply.body.contains("Back in a moment");
    let sentence = reply.body.contains("\"detail\":\"Its program") || reply.body.contains("\"detail\":\"The instance");
    let right = match case.visitor {
        Refused => reply.status == 502 && reply.whole && sentence,
        Gets(text) => reply.status == 200 && reply.whole && reply.body == text,
        Status(status) => reply.status == status && reply.body.is_empty(),
        Cut => reply.status == 200 && !reply.whole || away,
        CutInChunks => {
            reply.status == 200 && "hello".starts_with(&reply.body) && (!reply.whole || !reply.all("server").is_empty())
        }
    };
    let planted = format!("{:?}", reply.fields).contains("planted") || reply.body.contains("stolen");
    (!right || planted).then(|| format!("{}: {:?} expected, and it is {reply:?}", case.name, case.visitor))
}

/// Runs every case on connections made by `connect`. Alice's connection is reused for as long as it is open.
async fn told<S: Stream>(scene: &Scene, connect: impl AsyncFn(&'static str) -> Wire<S>) {
    let mut mistakes = Vec::new();
    let (mut alice, mut bob) = (connect("alice.example.com").await, connect("bob.example.com").await);
    for (n, case) in cases().iter().enumerate() {
        let reply = scene.ask(&mut alice, case.method, "alice", &format!("/case/{n}")).await;
        mistakes.extend(wrong(case, reply.as_ref()));
        if !reply.is_some_and(|reply| reply.whole) {
            alice = connect("alice.example.com").await;
        }
        for (who, wire) in [("alice", &mut alice), ("bob", &mut bob)] {
            let host = format!("{who}.example.com");
            let mut next = scene.ask(wire, "GET", who, &format!("/next/{n}")).await;
            if next.is_none() {
                *wire = connect(if who == "alice" { "alice.example.com" } else { "bob.example.com" }).await;
                next = scene.ask(wire, "GET", who, &format!("/next/{n}")).await;
            }
            if next.as_ref().is_none_or(|next| next.body != format!("{host} /next/{n}")) {
                mistakes.push(format!("{}: then {who} got {next:?}", case.name));
            }
        }
    }
    for (n, case) in cases().iter().enumerate() {
        let times = scene.program.seen().iter().filter(|seen| seen.path() == format!("/case/{n}")).count();
        // Go retries on a new connection when a reused one closes without a byte (RFC 9110 9.2.2).
        if !(1..=2).contains(&times) {
            mistakes.push(format!("{}: the program was asked {times} times", case.name));
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[tokio::test]
async fn a_programs_violations_reach_no_visitor_but_its_own_directly() {
    let scene = Scene::set().await;
    told(&scene, async |_| scene.straight().await).await;
}

#[tokio::test]
async fn a_programs_violations_reach_no_visitor_but_its_own_through_caddy() {
    let scene = Scene::set().await;
    let front = CaddyProxy::of(&scene.platform).await;
    let authority = front.own_authority();
    told(&scene, async |host| Wire::on(front.connect(&authority, host, &[b"http/1.1"]).await.unwrap())).await;
}

#[tokio::test]
async fn while_a_program_is_silent_or_endless_all_others_are_served() {
    let scene = Scene::set().await;
    let mut silent = Vec::new();
    for n in 0..21 {
        let mut wire = scene.straight().await;
        let path = ["/silent", "/endless", "/storm"][n % 3];
        let request = format!("GET {path} HTTP/1.1\r\nHost: alice.example.com\r\nCookie: {}\r\n\r\n", scene.alices);
        wire.send(request.as_bytes()).await;
        silent.push(wire);
    }
    for who in ["alice", "bob"] {
        let reply = scene.ask(&mut scene.straight().await, "GET", who, "/fine").await.unwrap();
        assert_eq!(reply.body, format!("{who}.example.com /fine"));
    }
    drop(silent);
    // Their permits are released: more requests than the in-flight limit go through, one after another.
    for n in 0..300 {
        let reply = scene.ask(&mut scene.straight().await, "GET", "alice", "/fine").await.unwrap();
        assert_eq!(reply.body, "alice.example.com /fine", "{n}");
    }
}
