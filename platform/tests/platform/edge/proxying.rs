//! Proxying: keep-alive connections and their race, retries, disconnects, bodies, trailers, size limits, HTTP/2.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post};
use berth_net::server::{self, PeerLimit};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use berth_testing::fake_platform::FakePlatform;
use berth_testing::http1_client::Wire;
use berth_testing::person::Person;
use berth_testing::raw_program::{Act, RawProgram, Seen, ok};
use berth_testing::wait::eventually;

const HOST: &str = "alice.example.com";
const ORIGIN: &str = "https://alice.example.com";

async fn home_of(port: u16, settings: &[(&'static str, &'static str)]) -> (FakePlatform, Person, String) {
    let platform = FakePlatform::with_programs_on(port, settings).await;
    let alice = platform.settle_in("alice").await;
    let cookie = platform.instance_cookie(&alice).await;
    (platform, alice, cookie)
}

fn get_of(path: &str, cookie: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n{more}\r\n").into_bytes()
}

async fn wire(platform: &FakePlatform) -> Wire<TcpStream> {
    Wire::on(TcpStream::connect(platform.address).await.unwrap())
}

#[tokio::test]
async fn trailers_reach_a_client_that_accepts_them_without_forbidden_fields() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, set-cookie\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\nSet-Cookie: a=1\r\n\r\n";
    let program = RawProgram::start(move |_: &Seen| vec![Act::Say(answer.as_bytes().to_vec())]).await;
    let (platform, _alice, cookie) = home_of(program.port, &[]).await;
    let mut stream = TcpStream::connect(platform.address).await.unwrap();
    stream.write_all(&get_of("/", &cookie, "TE: trailers\r\nConnection: close, te\r\n")).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"), "{said}");
    assert!(!said.to_lowercase().contains("set-cookie: "), "{said}");
    assert_eq!(program.seen()[0].all("te"), ["trailers"]);
}

#[tokio::test]
async fn coalesced_chunks_arrive_whole_in_order_and_with_their_trailers() {
    // Hundreds of small chunks with large ones between them.
    let pieces: Vec<String> =
        (0..1500).map(|n| format!("{n},").repeat(if n % 500 == 250 { 20_000 } else { 3 })).collect();
    let whole = pieces.concat();
    let chunks: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    let answer =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n{chunks}0\r\nx-sum: 7\r\n\r\n");
    let program = RawProgram::start(move |_: &Seen| vec![Act::Say(answer.clone().into_bytes())]).await;
    let (platform, _alice, cookie) = home_of(program.port, &[]).await;
    for _ in 0..2 {
        let stream = TcpStream::connect(platform.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::get("/").header("host", HOST).header("cookie", &cookie).header("te", "trailers");
        let answer = sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().map(|trailers| trailers["x-sum"].to_str().unwrap().to_owned()), Some("7".into()));
        assert!(body.to_bytes() == whole.as_bytes(), "the body differs");
    }
}

#[tokio::test]
async fn a_requests_trailers_do_not_reach_the_program() {
    let (port, running) = echoing().await;
    let (platform, _alice, cookie) = home_of(port, &[]).await;
    let mut wire = wire(&platform).await;
    let head = format!(
        "POST /behind HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nOrigin: {ORIGIN}\r\nTrailer: x-berth-user\r\n"
    );
    wire.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Berth-User: root\r\n\r\n").as_bytes())
        .await;
    let told = wire.reply().await.unwrap();
    assert_eq!((told.status, told.body.as_str()), (200, "None"));
    running.cancel();
}

#[tokio::test]
async fn a_program_that_closes_after_every_response_loses_no_request() {
    let closes = |_: &Seen| [ok("once"), vec![Act::Close]].concat();
    let program = RawProgram::start(closes).await;
    let (platform, _alice, cookie) = home_of(program.port, &[]).await;
    for turn in 0..30 {
        let answer = platform.get(HOST, "/", &[("cookie", &cookie)]).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "once"), "{turn}");
    }
    assert_eq!(program.seen().len(), 30);
}

/// A program that closes the connection on its second request, without a response: the keep-alive race.
async fn closing_once() -> RawProgram {
    let asked = AtomicUsize::new(0);
    let script = move |_: &Seen| match asked.fetch_add(1, Ordering::SeqCst) {
        1 => vec![Act::Close],
        _ => ok("here"),
    };
    RawProgram::start(script).await
}

#[tokio::test]
async fn a_safe_request_is_sent_again_when_its_idle_connection_was_closing() {
    let program = closing_once().await;
    let (platform, _alice, cookie) = home_of(program.port, &[]).await;
    assert_eq!(platform.get(HOST, "/", &[("cookie", &cookie)]).await.status, 200);
    // Real time: a connection pool measures idle time by the monotonic clock. This is longer than the idle time from
    // which safe requests are cloned for a retry.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let again = platform.get(HOST, "/?x=1", &[("cookie", &cookie), ("x-kept", "yes")]).await;
    assert_eq!((again.status, again.text().as_str()), (200, "here"));
    let seen = program.seen();
    assert_eq!(seen.iter().map(Seen::path).collect::<Vec<_>>(), ["/", "/?x=1", "/?x=1"]);
    assert_eq!(seen[2].all("x-kept"), ["yes"]);
}

#[tokio::test]
async fn an_unsafe_request_is_never_sent_twice() {
    let program = closing_once().await;
    let (platform, _alice, cookie) = home_of(program.port, &[]).await;
    assert_eq!(platform.get(HOST, "/", &[("cookie", &cookie)]).await.status, 200);
    // Real time, as above.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let answer = platform.send("POST", HOST, "/pay", &[("cookie", &cookie), ("origin", ORIGIN)], "1").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (502, Some("no_answer")));
    assert_eq!(program.seen().iter().filter(|seen| seen.path() == "/pay").count(), 1);
}

#[tokio::test]
async fn a_client_that_disconnects_ends_its_request() {
    let endless = |seen: &Seen| match seen.path() {
        "/silent" => vec![Act::Hold],
        _ => vec![
            Act::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            Act::Repeat(b"4\r\nmore\r\n".to_vec()),
        ],
    };
    let program = RawProgram::start(endless).await;
    let (platform, alice, cookie) = home_of(program.port, &[]).await;
    for path in ["/silent", "/endless"] {
        let before = program.seen().len();
        let mut wire = wire(&platform).await;
        wire.send(&get_of(path, &cookie, "")).await;
        while program.seen().len() == before {
            tokio::task::yield_now().await;
        }
        assert!(!platform.instances().awake_report(&alice.instance).open.is_empty(), "{path} is under way");
        drop(wire);
        let has_ended = async || platform.instances().awake_report(&alice.instance).open.is_empty();
        eventually("the request ends with its client", has_ended).await;
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_by_its_length_and_while_it_streams() {
    let program = RawProgram::start(|_: &Seen| ok("taken")).await;
    let (platform, _alice, cookie) = home_of(program.port, &[("BERTH_UPLOAD_MIB", "1")]).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nOrigin: {ORIGIN}\r\n");
    let mut announced = wire(&platform).await;
    announced.send(format!("{head}Content-Length: 1048577\r\n\r\n").as_bytes()).await;
    let refused = announced.reply().await.unwrap();
    assert!(refused.status == 413 && refused.body.contains("at most 1 MiB"), "{refused:?}");
    assert!(program.seen().is_empty(), "nothing reached the program");

    let mut grown = wire(&platform).await;
    grown.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await;
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    for _ in 0..17 {
        grown.send(&chunk).await;
    }
    let refused = grown.reply().await.unwrap();
    assert_eq!((refused.status, refused.all("content-type")), (413, vec!["application/problem+json"]));

    let most = "x".repeat(1 << 20);
    let taken = platform.send("POST", HOST, "/", &[("cookie", &cookie), ("origin", ORIGIN)], &most).await;
    assert_eq!(taken.status, 200);
}

/// A program that echoes a body while it arrives (full duplex), on every instance's address.
async fn echoing() -> (u16, CancellationToken) {
    let listener = TcpListener::bind(("0.0.0.0", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/",
            get(|request: Request| async move {
                format!("{:?}", request.headers().get_all("cookie").iter().collect::<Vec<_>>())
            }),
        )
        .route("/behind", post(|body: Body| async move { format!("{:?}", body.collect().await.unwrap().trailers()) }))
        .route("/back", post(|body: Body| async move { body }));
    let running = CancellationToken::new();
    tokio::spawn(server::serve(listener, router, PeerLimit::Unlimited, running.clone()));
    (port, running)
}

#[tokio::test]
async fn a_response_may_begin_while_its_request_body_is_still_arriving() {
    let (port, running) = echoing().await;
    let (platform, _alice, cookie) = home_of(port, &[]).await;
    let stream = TcpStream::connect(platform.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let head = format!(
        "POST /back HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nOrigin: {ORIGIN}\r\nContent-Length: 8000000\r\nConnection: close\r\n\r\n"
    );
    writing.write_all(head.as_bytes()).await.unwrap();
    writing.write_all(&[b'a'; 1000]).await.unwrap();
    let mut back = Vec::new();
    while back.windows(8).all(|window| window != b"aaaaaaaa") {
        let mut chunk = [0; 4096];
        let n = reading.read(&mut chunk).await.unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&back));
        back.extend(&chunk[..n]);
    }
    let rest = async move { writing.write_all(&vec![b'!'; 7_999_000]).await.map(|()| writing) };
    let (sent, received) = tokio::join!(rest, reading.read_to_end(&mut back));
    drop((sent.unwrap(), received.unwrap()));
    assert_eq!(back.iter().filter(|byte| **byte == b'!').count(), 7_999_000);
    running.cancel();
}

#[tokio::test]
async fn http2_is_spoken_with_clients_that_start_with_its_preface() {
    let (port, running) = echoing().await;
    let (platform, _alice, cookie) = home_of(port, &[]).await;
    let stream = TcpStream::connect(platform.address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::handshake::<_, _, Full<axum::body::Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    // Many requests at a time on the one connection, with the cookie split into several fields as browsers do.
    let asked = (0..40).map(|_| {
        let mut sender = sender.clone();
        let request = hyper::Request::get(format!("https://{HOST}/")).header("cookie", "a=1").header("cookie", &cookie);
        let request = request.header("cookie", "b=2").body(Full::default()).unwrap();
        async move { sender.send_request(request).await.unwrap() }
    });
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.status(), 200);
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&text), "[\"a=1; b=2\"]", "one line for the container, without our cookie");
    }
    let mut sender = sender;
    let upload =
        hyper::Request::post(format!("https://{HOST}/back")).header("cookie", &cookie).header("origin", ORIGIN);
    let body = vec![b'x'; 3 << 20];
    let answer = sender.send_request(upload.body(Full::from(body.clone())).unwrap()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body);
    running.cancel();
}
