//! A thousand calls at once against an allowance for exactly seven, each of which costs all that can be held for it: so
//! one more would show as money served beyond the allowance.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use serde::Deserialize;

use super::berth_role::PLENTY;
use super::figures::Figures;
use super::load::Connection;
use super::peers::{BenchSetup, Berth, Peer};
use super::questions::{Caller, MOST_OUTPUT_TOKENS, call, chat, get};
use super::upstream::Served;

const CALLS: usize = 1_000;
const FITTING: i64 = 7;
/// Of gpt-4o-mini, by OpenAI's list: 0.15 and 0.60 dollars a million.
const NANODOLLARS_A_PROMPT_TOKEN: i64 = 150;
const NANODOLLARS_AN_OUTPUT_TOKEN: i64 = 600;
/// How long the call takes whose hold is looked at.
const LOOKED_AT_MS: i64 = 500;
const LOOKS: usize = 25;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// What the proxy says is left of an allowance, as far as it is compared here.
#[derive(Deserialize)]
struct Budget {
    spent_nanodollars: i64,
    held_nanodollars: i64,
}

pub async fn measure(stage: &BenchSetup, figures: &mut Figures) -> anyhow::Result<()> {
    let hold = held_for_a_call(&stage.another_berth(PLENTY)?).await?;
    let prompt_tokens = (hold - MOST_OUTPUT_TOKENS * NANODOLLARS_AN_OUTPUT_TOKEN) / NANODOLLARS_A_PROMPT_TOKEN;
    let berth = stage.another_berth(FITTING * hold)?;
    let (peer, caller) = (berth.peer(), &berth.said.callers[0]);
    let upstream = stage.some(&["direct"])[0];
    let before: Served = json(&upstream, "/served", caller).await?;
    let admitted = all_at_once(&peer, caller, &asking(prompt_tokens, MOST_OUTPUT_TOKENS, 0)).await?;
    let after: Served = json(&upstream, "/served", caller).await?;
    let served = cost(&after) - cost(&before);
    let Budget { spent_nanodollars, held_nanodollars } = json(&peer, "/budget", caller).await?;
    ensure!(
        (spent_nanodollars, held_nanodollars) == (served, 0),
        "{served} was served, and the books say that {spent_nanodollars} was spent and {held_nanodollars} is held"
    );
    figures.once("quota.overshoot_admitted", admitted as f64, "calls");
    figures.once("quota.overshoot_nanodollars", (served - FITTING * hold).max(0) as f64, "nano-dollars");
    Ok(())
}

fn cost(served: &Served) -> i64 {
    served.prompt_tokens * NANODOLLARS_A_PROMPT_TOKEN + served.completion_tokens * NANODOLLARS_AN_OUTPUT_TOKEN
}

/// A call that is said to have used so much. However much that is, it has as many bytes, which are what its hold goes
/// by.
fn asking(prompt_tokens: i64, completion_tokens: i64, after_ms: i64) -> String {
    chat(&format!(
        r#","user":"prompt_tokens={prompt_tokens:06} completion_tokens={completion_tokens:06} after_ms={after_ms:04}""#
    ))
}

/// Looked up while one is in flight.
async fn held_for_a_call(berth: &Berth) -> anyhow::Result<i64> {
    let (peer, caller) = (berth.peer(), &berth.said.callers[0]);
    let mut connection = Connection::open(peer.address, caller).await?;
    let asked = call(&peer, caller, &asking(1, 1, LOOKED_AT_MS));
    let in_flight = async { connection.ask(&asked).await.map(|(status, _)| status) };
    let look = async {
        for _ in 0..LOOKS {
            let Budget { held_nanodollars, .. } = json(&peer, "/budget", caller).await?;
            if held_nanodollars > 0 {
                return Ok(held_nanodollars);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        bail!("nothing is held for a call in flight")
    };
    let (status, held) = tokio::try_join!(in_flight, look)?;
    ensure!(status == 200, "a call was answered with {status}");
    Ok(held)
}

/// How many of them were admitted.
async fn all_at_once(peer: &Peer, caller: &Caller, asked: &str) -> anyhow::Result<usize> {
    let mut connections = try_join_all((0..CALLS).map(|_| Connection::open(peer.address, caller))).await?;
    let asked = call(peer, caller, asked);
    let statuses = try_join_all(connections.iter_mut().map(async |connection| {
        let (status, body) = connection.ask(&asked).await?;
        ensure!(status == 200 || status == 429, "a call was answered with {status}: {}", String::from_utf8_lossy(body));
        Ok(status)
    }))
    .await?;
    Ok(statuses.iter().filter(|status| **status == 200).count())
}

async fn json<T: for<'a> Deserialize<'a>>(peer: &Peer, path: &str, caller: &Caller) -> anyhow::Result<T> {
    let mut connection = Connection::open(peer.address, caller).await?;
    let (status, body) = connection.ask(&get(peer, path, caller)).await?;
    ensure!(status == 200, "{path} was answered with {status}");
    serde_json::from_slice(body).with_context(|| format!("reading {path}"))
}
