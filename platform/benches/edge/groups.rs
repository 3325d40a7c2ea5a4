//! The groups of figures: what is done to whom, and how often.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use berth::clock::Clock;
use clap::ValueEnum;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::figures::Figures;
use super::line::{Line, request};
use super::peers::{Peer, Stage};
use super::streams::{Socket, events};
use super::wrk;

/// Peers take turns, so that whatever else the machine does reaches all of them.
const ROUNDS: usize = 5;
/// Requests one after the other on one connection, in each of as many turns.
const ONE_BY_ONE: usize = 250;
const TURNS: usize = 20;
/// Requests on a connection before any is counted.
const WARM_UP: usize = 100;
/// Streams of events at once, what each sends at its own pace, and as fast as it is taken.
const TICKERS: u64 = 64;
const PACED: (u64, u64) = (100, 20);
const AS_FAST_AS_GOES: (u64, u64) = (1000, 0);
const SOCKETS: usize = 32;
const IDLE_SOCKETS: usize = 2_000;
/// An instance has at most 256 requests in flight.
const PEOPLE: usize = 8;
const AT_ONCE: usize = 64;
/// Until what opening them took has been given back.
const SETTLED: Duration = Duration::from_secs(2);
/// Questions of Caddy's: on so many connections, each so often, for so long.
const ASKERS: u64 = 4;
const ASKED_EVERY: Duration = Duration::from_millis(4);
const ASKED_FOR: Duration = Duration::from_secs(10);

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
    /// In words, for whoever waits.
    pub fn what(self) -> &'static str {
        match self {
            Self::Small => "requests a second, small bodies",
            Self::Big => "requests a second, 1 MiB each",
            Self::Added => "what a request alone takes longer",
            Self::Caddy => "requests a second through our Caddy",
            Self::Sse => "server-sent events",
            Self::Ws => "messages on WebSockets",
            Self::Idle => "memory of WebSockets on which nothing happens",
            Self::Ask => "Caddy's questions",
        }
    }

    pub fn measure(self, stage: &Stage, seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::Small => rates(stage, ("edge.rps", "/small"), seconds, figures),
            Self::Big => rates(stage, ("edge.big.rps", "/big"), seconds, figures),
            Self::Added => added(stage, figures),
            Self::Caddy => through_caddy(stage, seconds, figures),
            Self::Sse => in_here(server_sent_events(stage, figures)),
            Self::Ws => in_here(web_sockets(stage, seconds, figures)),
            Self::Idle => in_here(idle_sockets(stage, figures)),
            Self::Ask => ask(stage, figures),
        }
    }
}

/// On one thread, which leaves the other processor to whoever is measured.
fn in_here(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn rates(stage: &Stage, (name, path): (&'static str, &str), seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
    let rate = |peer: &Peer, seconds| {
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

/// One request at a time on one connection; what is beyond direct's is the proxy's.
fn added(stage: &Stage, figures: &mut Figures) -> anyhow::Result<()> {
    let peers = stage.some(&["direct", "nginx", "berth"]);
    let asked = request("/small", stage.visitor(), "");
    let mut lines = peers.iter().map(|peer| Line::open(peer.address)).collect::<anyhow::Result<Vec<_>>>()?;
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

/// TLS by our own Caddy both times; behind it the edge, or the upstream at once.
fn through_caddy(stage: &Stage, seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
    let (_straight, straight) = stage.our_caddy("straight", stage.peers[0].address)?;
    let (_through, through) = stage.our_caddy("through", stage.berth.said.listen)?;
    let visitor = stage.visitor();
    let rate =
        |port, seconds| wrk::requests_a_second(&format!("https://{}:{port}/small", visitor.host), visitor, seconds);
    // The first of each has its certificate made.
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

async fn server_sent_events(stage: &Stage, figures: &mut Figures) -> anyhow::Result<()> {
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
            let came = events(peer.address, visitor, TICKERS, AS_FAST_AS_GOES).await?.len();
            figures.of("edge.sse.eps", peer.name, came as f64 / began.elapsed().as_secs_f64(), "events/s");
        }
    }
    Ok(())
}

async fn web_sockets(stage: &Stage, seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
    for round in 0..=ROUNDS {
        for peer in stage.some(&["direct", "nginx", "berth"]) {
            let opened = (0..SOCKETS).map(|_| Socket::open(peer.address, stage.visitor()));
            let mut sockets =
                try_join_all(opened).await.with_context(|| format!("WebSockets through {}", peer.name))?;
            let time = Duration::from_secs(seconds);
            let made: u64 = try_join_all(sockets.iter_mut().map(|socket| socket.round_trips(time))).await?.iter().sum();
            // The first round warms up.
            if round > 0 {
                figures.of("edge.ws.rps", peer.name, made as f64 / time.as_secs_f64(), "round trips/s");
            }
        }
    }
    Ok(())
}

/// What a platform that has done nothing else yet grows by when they are opened, have carried a message and fall silent.
async fn idle_sockets(stage: &Stage, figures: &mut Figures) -> anyhow::Result<()> {
    let berth = stage.another_berth(PEOPLE)?;
    let open = async |number: usize| {
        let mut socket = Socket::open(berth.said.listen, &berth.said.visitors[number % PEOPLE]).await?;
        socket.round_trip().await?;
        anyhow::Ok(socket)
    };
    let _first = open(0).await?;
    tokio::time::sleep(SETTLED).await;
    let before = berth.process.resident_kib()?;
    let sockets: Vec<Socket> =
        futures_util::stream::iter(0..IDLE_SOCKETS).map(open).buffer_unordered(AT_ONCE).try_collect().await?;
    tokio::time::sleep(SETTLED).await;
    let grown = berth.process.resident_kib()? - before;
    figures.once("edge.ws_idle_kib", grown / sockets.len() as f64, "KiB each");
    Ok(())
}

/// At a steady pace, whatever the answers take: from the moment at which each was due. Every other name is nobody's.
fn ask(stage: &Stage, figures: &mut Figures) -> anyhow::Result<()> {
    let ask_all = || -> anyhow::Result<Vec<f64>> {
        let mut line = Line::open(stage.berth.said.internal)?;
        let known = request(&format!("/ask?domain={}", stage.visitor().host), stage.visitor(), "");
        let (began, mut took) = (Clock::system().monotonic(), Vec::new());
        for number in 0..ASKED_FOR.as_millis() / ASKED_EVERY.as_millis() {
            let due = began + ASKED_EVERY * u32::try_from(number)?;
            std::thread::sleep(due.saturating_duration_since(Clock::system().monotonic()));
            let status = if number % 2 == 0 {
                line.ask(&known)?
            } else {
                line.ask(&request(&format!("/ask?domain=nobody{number}.example.com"), stage.visitor(), ""))?
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
