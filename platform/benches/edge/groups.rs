//! The groups of figures: the load, the proxies it is sent through, and the number of rounds.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use berth_ground::clock::Clock;
use clap::ValueEnum;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::figures::Figures;
use super::keep_alive_client::{KeepAliveClient, request};
use super::peers::{BenchSetup, ProxyUnderTest};
use super::streams::{EchoSocket, Pace, events};
use super::wrk;

/// The proxies take turns, so that other load on the machine affects all of them alike.
const ROUNDS: usize = 5;
/// Sequential requests on one connection in each turn, and the number of turns.
const ONE_BY_ONE: usize = 250;
const TURNS: usize = 20;
/// Requests on a connection before the first that is measured.
const WARM_UP: usize = 100;
/// Concurrent event streams; the events of each and the milliseconds between them, at a fixed pace and unthrottled.
const TICKERS: u64 = 64;
const PACED: Pace = Pace { count: 100, every_ms: 20 };
const UNTHROTTLED: Pace = Pace { count: 1000, every_ms: 0 };
const SOCKETS: usize = 32;
const IDLE_SOCKETS: usize = 2_000;
/// Several instances, because each is limited to 256 requests in flight.
const PEOPLE: usize = 8;
const AT_ONCE: usize = 64;
/// Time for memory that was used only while connecting to be freed.
const SETTLED: Duration = Duration::from_secs(2);
/// Load on `/ask`: connections, the interval on each, and the duration.
const ASKERS: u64 = 4;
const ASK_EVERY: Duration = Duration::from_millis(4);
const ASK_DURATION: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    Small,
    Big,
    Added,
    Caddy,
    Sse,
    Ws,
    Idle,
    Ask,
}

impl Group {
    /// Shown while the group is measured.
    pub fn description(self) -> &'static str {
        match self {
            Self::Small => "requests a second, small bodies",
            Self::Big => "requests a second, 1 MiB each",
            Self::Added => "added latency of a single request",
            Self::Caddy => "requests a second through our Caddy",
            Self::Sse => "server-sent events",
            Self::Ws => "messages on WebSockets",
            Self::Idle => "memory of idle WebSockets",
            Self::Ask => "on-demand TLS questions of Caddy",
        }
    }

    pub fn measure(self, stage: &BenchSetup, seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::Small => rates(stage, "edge.rps", "/small", seconds, figures),
            Self::Big => rates(stage, "edge.big.rps", "/big", seconds, figures),
            Self::Added => added(stage, figures),
            Self::Caddy => through_caddy(stage, seconds, figures),
            Self::Sse => on_this_thread(server_sent_events(stage, figures)),
            Self::Ws => on_this_thread(web_sockets(stage, seconds, figures)),
            Self::Idle => on_this_thread(idle_sockets(stage, figures)),
            Self::Ask => ask(stage, figures),
        }
    }
}

/// Runs the client on one thread, which leaves the other processor to the proxy under test.
fn on_this_thread(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn rates(
    stage: &BenchSetup,
    name: &'static str,
    path: &str,
    seconds: u64,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let rate = |peer: &ProxyUnderTest, seconds| {
        let rate = wrk::requests_a_second(&format!("http://{}{path}", peer.address), stage.visitor(), seconds);
        rate.with_context(|| format!("measuring {}", peer.name))
    };
    for peer in &stage.peers {
        rate(peer, 1)?;
    }
    for _ in 0..ROUNDS {
        for peer in &stage.peers {
            figures.of(name, peer.name, rate(peer, seconds)?, "requests/s");
        }
    }
    Ok(())
}

/// Latency of one request at a time on one connection. The time beyond a direct request's is the proxy's.
fn added(stage: &BenchSetup, figures: &mut Figures) -> anyhow::Result<()> {
    let peers = stage.some(&["direct", "nginx", "berth"]);
    let asked = request("/small", stage.visitor(), "");
    let mut lines = peers.iter().map(|peer| KeepAliveClient::open(peer.address)).collect::<anyhow::Result<Vec<_>>>()?;
    for line in &mut lines {
        for _ in 0..WARM_UP {
            ensure!(line.ask(&asked)? == 200, "it was not answered well");
        }
    }
    let mut took = vec![Vec::new(); peers.len()];
    for _ in 0..TURNS {
        for (line, took) in lines.iter_mut().zip(&mut took) {
            for _ in 0..ONE_BY_ONE {
                let began = Clock::system().monotonic();
                ensure!(line.ask(&asked)? == 200, "it was not answered well");
                took.push(began.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    for (whole, beyond, share) in
        [("edge.p50_us", "edge.added_p50_us", 0.5), ("edge.p99_us", "edge.added_p99_us", 0.99)]
    {
        let all: Vec<f64> = took.iter_mut().map(|took| percentile(took, share)).collect();
        for (peer, took) in peers.iter().zip(&all) {
            figures.of(whole, peer.name, *took, "us");
        }
        for (peer, took) in peers.iter().zip(&all).skip(1) {
            figures.of(beyond, peer.name, took - all[0], "us");
        }
    }
    Ok(())
}

/// Throughput through our own Caddy with TLS, with the edge behind it and with the upstream directly behind it.
fn through_caddy(stage: &BenchSetup, seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
    let (_straight, straight) = stage.our_caddy("straight", stage.peers[0].address)?;
    let (_through, through) = stage.our_caddy("through", stage.berth.addresses.listen)?;
    let visitor = stage.visitor();
    let rate =
        |port, seconds| wrk::requests_a_second(&format!("https://{}:{port}/small", visitor.host), visitor, seconds);
    // The first request of each makes Caddy issue a certificate.
    rate(straight, 1)?;
    rate(through, 1)?;
    for _ in 0..ROUNDS {
        figures.of("edge.through_caddy.rps", "caddy", rate(straight, seconds)?, "requests/s");
        figures.of("edge.through_caddy.rps", "caddy+berth", rate(through, seconds)?, "requests/s");
    }
    let ratio = figures.beside("edge.through_caddy.rps", "caddy+berth", "caddy").context("both were measured")?;
    figures.once("edge.through_caddy.ratio", ratio, "x");
    Ok(())
}

async fn server_sent_events(stage: &BenchSetup, figures: &mut Figures) -> anyhow::Result<()> {
    let (peers, visitor) = (stage.some(&["direct", "nginx", "berth"]), stage.visitor());
    for peer in &peers {
        let mut took: Vec<f64> = events(peer.address, visitor, TICKERS, PACED)
            .await
            .with_context(|| format!("events through {}", peer.name))?
            .into_iter()
            .map(|nanoseconds| nanoseconds as f64 / 1e3)
            .collect();
        figures.of("edge.sse.p50_us", peer.name, percentile(&mut took, 0.5), "us");
        figures.of("edge.sse.p99_us", peer.name, percentile(&mut took, 0.99), "us");
    }
    for _ in 0..ROUNDS {
        for peer in &peers {
            let began = Clock::system().monotonic();
            let came = events(peer.address, visitor, TICKERS, UNTHROTTLED).await?.len();
            figures.of("edge.sse.eps", peer.name, came as f64 / began.elapsed().as_secs_f64(), "events/s");
        }
    }
    Ok(())
}

async fn web_sockets(stage: &BenchSetup, seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
    for round in 0..=ROUNDS {
        for peer in stage.some(&["direct", "nginx", "berth"]) {
            let opened = (0..SOCKETS).map(|_| EchoSocket::open(peer.address, stage.visitor()));
            let mut sockets =
                try_join_all(opened).await.with_context(|| format!("WebSockets through {}", peer.name))?;
            let time = Duration::from_secs(seconds);
            let made: u64 = try_join_all(sockets.iter_mut().map(|socket| socket.round_trips(time))).await?.iter().sum();
            // The first round is a warm-up.
            if round > 0 {
                figures.of("edge.ws.rps", peer.name, made as f64 / time.as_secs_f64(), "round trips/s");
            }
        }
    }
    Ok(())
}

/// The memory by which a fresh platform grows for WebSockets that were opened, carried one message and are idle since.
async fn idle_sockets(stage: &BenchSetup, figures: &mut Figures) -> anyhow::Result<()> {
    let berth = stage.another_berth(PEOPLE)?;
    let open = async |number: usize| {
        let mut socket = EchoSocket::open(berth.addresses.listen, &berth.addresses.visitors[number % PEOPLE]).await?;
        socket.round_trip().await?;
        anyhow::Ok(socket)
    };
    let _first = open(0).await?;
    tokio::time::sleep(SETTLED).await;
    let before = berth.process.resident_kib()?;
    let sockets: Vec<EchoSocket> =
        futures_util::stream::iter(0..IDLE_SOCKETS).map(open).buffer_unordered(AT_ONCE).try_collect().await?;
    tokio::time::sleep(SETTLED).await;
    let grown = berth.process.resident_kib()? - before;
    figures.once("edge.ws_idle_kib", grown / sockets.len() as f64, "KiB each");
    Ok(())
}

/// Open-loop load: questions are due at a steady pace, and latency is measured from the due time, so that a slow answer
/// is not hidden by the wait for it (coordinated omission). Every other name is unknown.
fn ask(stage: &BenchSetup, figures: &mut Figures) -> anyhow::Result<()> {
    let ask_all = || -> anyhow::Result<Vec<f64>> {
        let mut line = KeepAliveClient::open(stage.berth.addresses.internal)?;
        let known = request(&format!("/ask?domain={}", stage.visitor().host), stage.visitor(), "");
        let (began, mut took) = (Clock::system().monotonic(), Vec::new());
        for number in 0..ASK_DURATION.as_millis() / ASK_EVERY.as_millis() {
            let due = began + ASK_EVERY * u32::try_from(number)?;
            std::thread::sleep(due.saturating_duration_since(Clock::system().monotonic()));
            let status = if number % 2 == 0 {
                line.ask(&known)?
            } else {
                line.ask(&request(&format!("/ask?domain=unknown{number}.example.com"), stage.visitor(), ""))?
            };
            ensure!(status == if number % 2 == 0 { 200 } else { 403 }, "a question was answered with {status}");
            took.push((Clock::system().monotonic() - due).as_secs_f64() * 1e3);
        }
        Ok(took)
    };
    let mut took = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(ask_all)).collect();
        let took = askers.into_iter().map(|asker| asker.join().expect("an asker does not panic"));
        took.collect::<anyhow::Result<Vec<_>>>()
    })?
    .concat();
    figures.once("edge.ask_p50_ms", percentile(&mut took, 0.5), "ms");
    figures.once("edge.ask_p99_ms", percentile(&mut took, 0.99), "ms");
    Ok(())
}

/// The smallest value that at least `share` of all do not exceed.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}
