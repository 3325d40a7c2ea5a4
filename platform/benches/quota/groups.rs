//! The groups of figures: the requests of each, the target, and the number of rounds.

use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::figures::Figures;
use super::line::{Line, Took};
use super::load::calls_a_second;
use super::overshoot;
use super::peers::{BenchSetup, Peer};
use super::questions::{call, chat};
use super::streams::lossless;

/// Peers take turns, so that whatever else the machine does reaches all of them.
const ROUNDS: usize = 5;
/// Calls one after the other on one connection, in each of as many turns.
const ONE_BY_ONE: usize = 80;
const TURNS: usize = 20;
/// Calls on a connection before any is counted.
const WARM_UP: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    Rps,
    Added,
    Ttft,
    Streams,
    Overshoot,
}

impl Group {
    /// The name that progress messages show.
    pub fn what(self) -> &'static str {
        match self {
            Self::Rps => "calls a second",
            Self::Added => "what a call alone takes longer",
            Self::Ttft => "what the first byte of a stream takes longer",
            Self::Streams => "streams at once",
            Self::Overshoot => "a thousand calls where seven fit",
        }
    }

    pub fn measure(self, stage: &BenchSetup, seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::Rps => in_here(rates(stage, seconds, figures)),
            Self::Added => added(stage, figures),
            Self::Ttft => first_bytes(stage, figures),
            Self::Streams => in_here(streams(stage, figures)),
            Self::Overshoot => in_here(overshoot::measure(stage, figures)),
        }
    }
}

/// On one thread, which leaves the other processor to the measured program.
fn in_here(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn rates(stage: &BenchSetup, seconds: u64, figures: &mut Figures) -> anyhow::Result<()> {
    let rate = async |peer: &Peer, seconds| {
        let rate = calls_a_second(peer, stage.callers(), seconds).await;
        rate.with_context(|| format!("measuring {}", peer.name))
    };
    for peer in &stage.peers {
        rate(peer, 1).await?;
    }
    for _ in 0..ROUNDS {
        for peer in &stage.peers {
            figures.of("quota.rps", peer.name, rate(peer, seconds).await?, "calls/s");
        }
    }
    Ok(())
}

/// One call at a time on one connection; the excess over the direct call is the proxy's.
fn added(stage: &BenchSetup, figures: &mut Figures) -> anyhow::Result<()> {
    let mut took = one_by_one(stage, &stage.peers, &chat(""), |took| took.whole)?;
    for (whole, beyond, share) in
        [("quota.p50_us", "quota.added_p50_us", 0.5), ("quota.p99_us", "quota.added_p99_us", 0.99)]
    {
        note_beyond_direct(&stage.peers, &mut took, (whole, beyond), share, figures);
    }
    Ok(())
}

/// The provider sends the first event at once.
fn first_bytes(stage: &BenchSetup, figures: &mut Figures) -> anyhow::Result<()> {
    let peers = stage.some(&["direct", "litellm", "berth"]);
    let asked = chat(r#","stream":true"#);
    let mut took = one_by_one(stage, &peers, &asked, |took| took.first_byte)?;
    note_beyond_direct(&peers, &mut took, ("quota.ttft_p50_us", "quota.added_ttft_p50_us"), 0.5, figures);
    note_beyond_direct(&peers, &mut took, ("quota.ttft_p99_us", "quota.added_ttft_p99_us"), 0.99, figures);
    Ok(())
}

/// What each took of each peer's, in microseconds.
fn one_by_one(
    stage: &BenchSetup,
    peers: &[Peer],
    asked: &str,
    of: fn(Took) -> Duration,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let caller = &stage.callers()[0];
    let calls: Vec<_> = peers.iter().map(|peer| call(peer, caller, asked)).collect();
    let mut lines = peers.iter().map(|peer| Line::open(peer.address, caller)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut took = vec![Vec::new(); peers.len()];
    for turn in 0..=TURNS {
        for (((line, call), took), peer) in lines.iter_mut().zip(&calls).zip(&mut took).zip(peers) {
            // The first turn warms up.
            for _ in 0..if turn == 0 { WARM_UP } else { ONE_BY_ONE } {
                let one = line.ask(call).with_context(|| format!("asking {}", peer.name))?;
                if turn > 0 {
                    took.push(of(one).as_secs_f64() * 1e6);
                }
            }
        }
    }
    Ok(took)
}

fn note_beyond_direct(
    peers: &[Peer],
    took: &mut [Vec<f64>],
    (whole, beyond): (&'static str, &'static str),
    share: f64,
    figures: &mut Figures,
) {
    let all: Vec<f64> = took.iter_mut().map(|took| percentile(took, share)).collect();
    for (peer, took) in peers.iter().zip(&all) {
        figures.of(whole, peer.name, *took, "us");
    }
    for (peer, took) in peers.iter().zip(&all).skip(1) {
        figures.of(beyond, peer.name, took - all[0], "us");
    }
}

async fn streams(stage: &BenchSetup, figures: &mut Figures) -> anyhow::Result<()> {
    for peer in stage.some(&["direct", "litellm", "berth"]) {
        let (whole, otherwise) = lossless(&peer, stage.callers()).await;
        if let Some(otherwise) = otherwise {
            eprintln!("of {}: {otherwise:#}", peer.name);
        }
        figures.of("quota.streams_lossless", peer.name, whole as f64, "streams");
    }
    Ok(())
}

/// The smallest value that at least `share` of all do not exceed.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}
