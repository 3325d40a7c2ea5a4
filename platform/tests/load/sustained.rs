//! Sustained load: requests at a steady rate and WebSockets with traffic, all through the edge. The error rate stays
//! near zero, connections stay open, the rate is held, and memory does not grow. `scripts/bench edge` measures latency.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::time::interval_at;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use berth_testing::fake_platform::FakePlatform;
use berth_testing::soak::SoakTest;
use berth_testing::stub_program::BUFFER;

/// An instance has at most 256 requests in flight, and these share the WebSockets.
const OWNERS: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];
/// Clients that send requests, each the next one when it is due.
const CLIENTS: usize = 32;
/// The longest message, and the longest body of a request. On average half of it goes each way on every WebSocket,
/// every second.
const LONGEST: usize = 16 << 10;
const TALKS_EVERY: Duration = Duration::from_secs(1);
/// WebSockets opened at once.
const AT_ONCE: usize = 64;
/// How far the platform's clock moves at a time, and how long that takes.
const TICK: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_web_sockets_go_on_at_their_pace_and_memory_stays_where_it_was() {
    let mut long = SoakTest::story("sustained");
    allow_many_files();
    let (sockets, rate) = (long.count(200, 2_000), long.count(200, 1_000));
    let lasts = Duration::from_secs(long.count(5, 5 * 60) as u64);
    let platform = FakePlatform::new(&[]).await;
    let _time = let_time_pass(&platform);
    let mut visitors = Vec::new();
    for handle in OWNERS {
        let person = platform.settle_in(handle).await;
        let cookie = platform.instance_cookie(&person).await;
        visitors.push(Visitor { at: platform.address, host: format!("{handle}.example.com"), cookie });
    }
    let lengths: Arc<[usize]> = (0..256).map(|_| 1 + long.below(LONGEST)).collect();
    let opened: Vec<_> = stream::iter(0..sockets)
        .map(|number| visitors[number % OWNERS.len()].open_socket())
        .buffered(AT_ONCE)
        .collect()
        .await;

    let end = CancellationToken::new();
    let talks = opened.into_iter().map(|socket| {
        let first = platform.clock.monotonic() + TALKS_EVERY.mul_f64(long.below(1_000) as f64 / 1e3);
        tokio::spawn(talk(socket, first, (long.below(lengths.len()), Arc::clone(&lengths)), end.clone()))
    });
    let talks: Vec<_> = talks.collect();
    let pace = Duration::from_secs(1) * CLIENTS as u32 / rate as u32;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (visitor, first) = (visitors[number % OWNERS.len()].clone(), long.below(lengths.len()));
            tokio::spawn(send_requests(visitor, pace, (first, Arc::clone(&lengths)), end.clone()))
        })
        .collect();
    // Real time: the load lasts. Memory is compared from the first fifth on, when all connections are open.
    tokio::time::sleep(lasts / 5).await;
    let before = resident_kib();
    tokio::time::sleep(lasts * 4 / 5).await;
    let after = resident_kib();
    end.cancel();

    let (requests, talks) = (Done::of(clients).await, Done::of(talks).await);
    let due = (rate as f64 * lasts.as_secs_f64(), sockets as f64 * (lasts.as_secs_f64() / TALKS_EVERY.as_secs_f64()));
    let told = format!(
        "{} of {} requests and {} of {} messages in {lasts:?}, {:.1} MB/s each way on {sockets} WebSockets; {} requests \
         failed, {} WebSockets were cut off; memory was {before} KiB after a fifth of it and {after} KiB in the end",
        requests.well,
        due.0,
        talks.well,
        due.1,
        talks.bytes as f64 / lasts.as_secs_f64() / 1e6,
        requests.failed,
        talks.failed,
    );
    long.say(&told);
    if long.is_whole() {
        assert!(requests.failed * 1000 < requests.well + requests.failed, "errors: {told}");
        assert!(talks.failed * 100 < sockets, "disconnects: {told}");
        assert!(requests.well as f64 >= 0.9 * due.0 && talks.well as f64 >= 0.9 * due.1, "throughput: {told}");
        assert!(after as f64 <= 1.05 * before as f64, "memory: {told}");
    } else {
        assert_eq!((requests.failed, talks.failed), (0, 0), "{told}");
        assert!(requests.well > 0 && talks.well > 0, "nothing happened: {told}");
    }
}

/// A person and the address of their instance.
#[derive(Clone)]
struct Visitor {
    at: SocketAddr,
    host: String,
    cookie: String,
}

impl Visitor {
    async fn open_socket(&self) -> WebSocketStream<TcpStream> {
        let mut request = format!("ws://{}/websocket", self.host).into_client_request().unwrap();
        request.headers_mut().insert(header::COOKIE, self.cookie.parse().unwrap());
        request.headers_mut().insert(header::ORIGIN, format!("https://{}", self.host).parse().unwrap());
        let stream = TcpStream::connect(self.at).await.unwrap();
        let small = WebSocketConfig::default().read_buffer_size(BUFFER);
        tokio_tungstenite::client_async_with_config(request, stream, Some(small)).await.unwrap().0
    }

    /// Whether a request with a body of that length arrived whole and was answered well.
    async fn send(&self, client: &legacy::Client<HttpConnector, Body>, length: usize) -> bool {
        let request = Request::post(format!("http://{}/echo", self.at))
            .header(header::HOST, &self.host)
            .header(header::COOKIE, &self.cookie)
            .header(header::ORIGIN, format!("https://{}", self.host))
            .body(Body::from(vec![b'x'; length]))
            .unwrap();
        let Ok(response) = client.request(request).await else { return false };
        let (head, body) = response.into_parts();
        let Ok(body) = axum::body::to_bytes(Body::new(body), usize::MAX).await else { return false };
        let told = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        head.status == StatusCode::OK && told["bytes"] == length
    }
}

/// What went well and what did not.
#[derive(Default)]
struct Done {
    well: usize,
    failed: usize,
    bytes: usize,
}

impl Done {
    async fn of(parts: Vec<tokio::task::JoinHandle<Self>>) -> Self {
        join_all(parts).await.into_iter().map(Result::unwrap).fold(Self::default(), |sum, part| Self {
            well: sum.well + part.well,
            failed: sum.failed + part.failed,
            bytes: sum.bytes + part.bytes,
        })
    }
}

/// Says something every second and hears it come back, until the end or until it is cut off.
async fn talk(
    mut socket: WebSocketStream<TcpStream>,
    first: std::time::Instant,
    (at, lengths): (usize, Arc<[usize]>),
    end: CancellationToken,
) -> Done {
    let (mut done, mut due) = (Done::default(), interval_at(first.into(), TALKS_EVERY));
    for length in lengths.iter().cycle().skip(at) {
        tokio::select! {
            () = end.cancelled() => break,
            _ = due.tick() => {}
        }
        let said = Message::text("m".repeat(*length));
        if socket.send(said.clone()).await.is_err() || !matches!(socket.next().await, Some(Ok(heard)) if heard == said)
        {
            return Done { failed: 1, ..done };
        }
        done = Done { well: done.well + 1, bytes: done.bytes + length, ..done };
    }
    done
}

/// Sends a request whenever one is due, and those that it is behind with at once.
async fn send_requests(
    visitor: Visitor,
    pace: Duration,
    (at, lengths): (usize, Arc<[usize]>),
    end: CancellationToken,
) -> Done {
    let client = legacy::Client::builder(TokioExecutor::new()).build_http();
    let (mut done, mut due) = (Done::default(), tokio::time::interval(pace));
    for length in lengths.iter().cycle().skip(at) {
        tokio::select! {
            () = end.cancelled() => break,
            _ = due.tick() => {}
        }
        match visitor.send(&client, *length).await {
            true => done = Done { well: done.well + 1, bytes: done.bytes + length, ..done },
            false => done.failed += 1,
        }
    }
    done
}

/// The platform's clock goes as the world's does, so that sessions are asked after and instances looked at as in real
/// life.
fn let_time_pass(platform: &FakePlatform) -> tokio_util::sync::DropGuard {
    let (clock, end) = (platform.clock.clone(), CancellationToken::new());
    let ended = end.clone();
    tokio::spawn(async move {
        while tokio::time::timeout(TICK, ended.cancelled()).await.is_err() {
            clock.advance(TICK);
        }
    });
    end.drop_guard()
}

/// What this process has in memory: the platform, the programs in the containers and their visitors.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// All ends of all connections are in this process.
fn allow_many_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}
