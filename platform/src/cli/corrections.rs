//! What changes receipts, carried to the running platform: it alone writes them. One line on the control socket says what
//! is to be done; lines of JSON come back, the last of them with what was done or why it was not.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::OPERATOR;
use crate::app::App;
use crate::db::HoldId;
use crate::error::{Error, Result};
use crate::quota::ledger::{CorrectionResult, RepricingMode, RepricingOrder, RepricingResult};

/// For a line: some receipts are written down meanwhile, or a database that is busy is waited for.
const LINE_WITHIN: Duration = Duration::from_secs(60);
/// The last line names every account of which something changed, with room for 100,000.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    Correct { receipt: HoldId, nanodollars: i64, because: String },
    Rerate(RepricingOrder),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Corrected(CorrectionResult),
    /// So many receipts were looked at.
    UnderWay(u64),
    Rerated(RepricingResult),
    Refused(String),
}

/// Corrects one receipt.
pub(super) async fn correct(socket: &Path, order: &Order) -> anyhow::Result<CorrectionResult> {
    match ask(socket, order).await? {
        Answer::Corrected(corrected) => Ok(corrected),
        _ => anyhow::bail!("the running platform is of another version"),
    }
}

/// Rates receipts again.
pub(super) async fn rerate(socket: &Path, order: RepricingOrder) -> anyhow::Result<RepricingResult> {
    match ask(socket, &Order::Rerate(order)).await? {
        Answer::Rerated(rerated) => Ok(rerated),
        _ => anyhow::bail!("the running platform is of another version"),
    }
}

async fn ask(socket: &Path, order: &Order) -> anyhow::Result<Answer> {
    let mut stream = UnixStream::connect(socket)
        .await
        .context("Berth does not run here just now, and it alone writes receipts: start it (berth serve)")?;
    stream.write_all(format!("{}\n", serde_json::to_string(order)?).as_bytes()).await?;
    let mut lines = BufReader::new(stream.take(ANSWER_BYTES)).lines();
    loop {
        let line = timeout(LINE_WITHIN, lines.next_line()).await.context("the running platform does not answer")??;
        let line = line.context("the running platform ended meanwhile; what it did stays, and can be said again")?;
        match serde_json::from_str(&line).context("the running platform is of another version")? {
            Answer::UnderWay(looked_at) => eprintln!("{looked_at} receipts were looked at ..."),
            Answer::Refused(sentence) => anyhow::bail!(sentence),
            over => return Ok(over),
        }
    }
}

/// Does what a command asked for. Whoever asked and went away ends it; what was done until then stays.
pub(super) async fn obey(mut stream: BufReader<UnixStream>, app: &App, order: Order) -> anyhow::Result<()> {
    let answer = match order {
        Order::Correct { receipt, nanodollars, because } => {
            app.quota.ledger.correct(receipt, nanodollars, &because, OPERATOR).await.map(Answer::Corrected)
        }
        Order::Rerate(order) => rerate_for(&mut stream, app, order).await.map(Answer::Rerated),
    };
    say(&mut stream, &answer.unwrap_or_else(|error| Answer::Refused(refusal(error)))).await
}

async fn rerate_for(stream: &mut BufReader<UnixStream>, app: &App, order: RepricingOrder) -> Result<RepricingResult> {
    let mut rerating = app.quota.ledger.reprice(order, RepricingMode::Apply { actor: OPERATOR.into() }).await?;
    while rerating.step().await? {
        say(stream, &Answer::UnderWay(rerating.found().looked_at)).await?;
    }
    Ok(rerating.into_found())
}

async fn say(stream: &mut BufReader<UnixStream>, answer: &Answer) -> anyhow::Result<()> {
    Ok(stream.write_all(format!("{}\n", serde_json::to_string(answer)?).as_bytes()).await?)
}

fn refusal(error: Error) -> String {
    match error {
        Error::Internal(cause) => format!("{cause:#}"),
        error => error.to_string(),
    }
}
