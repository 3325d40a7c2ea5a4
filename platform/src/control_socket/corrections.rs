//! Corrections of receipts over the control socket, because the running platform is the only writer of receipts. The
//! request is one line of JSON; the response is lines of JSON, the last with the result or the reason of a refusal.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::OPERATOR;
use crate::app::App;
use crate::db::HoldId;
use crate::quota::ledger::{CorrectionResult, RepricingMode, RepricingOrder, RepricingResult};

/// Timeout for one line of the response: one batch of receipts is written meanwhile, perhaps on a busy database.
const LINE_WITHIN: Duration = Duration::from_secs(60);
/// Maximum size of the response: the last line names every account with a change, with room for 100,000.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// A change of receipts that a command requests.
#[derive(Debug, Serialize, Deserialize)]
pub enum CorrectionOrder {
    Correct { receipt: HoldId, nanodollars: Nanodollars, reason: String },
    Reprice(RepricingOrder),
}

/// One line of the response.
#[derive(Serialize, Deserialize)]
enum CorrectionReply {
    Corrected(CorrectionResult),
    /// Progress: the number of receipts examined so far.
    UnderWay(u64),
    Repriced(RepricingResult),
    Refused(String),
}

/// Corrects one receipt.
///
/// # Errors
/// When no platform runs here, or it refuses; the message says which.
pub async fn correct(socket: &Path, order: &CorrectionOrder) -> anyhow::Result<CorrectionResult> {
    match ask(socket, order).await? {
        CorrectionReply::Corrected(corrected) => Ok(corrected),
        _ => anyhow::bail!("the running platform is of another version"),
    }
}

/// Corrects receipts to the prices of another table.
///
/// # Errors
/// When no platform runs here, or it refuses; the message says which.
pub async fn reprice(socket: &Path, order: RepricingOrder) -> anyhow::Result<RepricingResult> {
    match ask(socket, &CorrectionOrder::Reprice(order)).await? {
        CorrectionReply::Repriced(result) => Ok(result),
        _ => anyhow::bail!("the running platform is of another version"),
    }
}

async fn ask(socket: &Path, order: &CorrectionOrder) -> anyhow::Result<CorrectionReply> {
    let mut stream = UnixStream::connect(socket).await.context(
        "the platform is not running, and only the running platform writes receipts: start it (berth serve)",
    )?;
    stream.write_all(format!("{}\n", serde_json::to_string(order)?).as_bytes()).await?;
    let mut lines = BufReader::new(stream.take(ANSWER_BYTES)).lines();
    loop {
        let line = timeout(LINE_WITHIN, lines.next_line()).await.context("the running platform does not answer")??;
        let line = line.context(
            "the platform stopped meanwhile; corrected receipts stay corrected, and the command can be repeated",
        )?;
        match serde_json::from_str(&line).context("the running platform is of another version")? {
            CorrectionReply::UnderWay(examined) => eprintln!("{examined} receipts examined ..."),
            CorrectionReply::Refused(sentence) => anyhow::bail!(sentence),
            last => return Ok(last),
        }
    }
}

/// The server side: executes the order and writes the response. A client that disconnects cancels it; the corrections
/// written until then stay, and a repeated run continues after them.
pub(super) async fn carry_out(
    mut stream: BufReader<UnixStream>,
    app: &App,
    order: CorrectionOrder,
) -> anyhow::Result<()> {
    let reply = match order {
        CorrectionOrder::Correct { receipt, nanodollars, reason } => {
            app.quota.ledger.correct(receipt, nanodollars, &reason, OPERATOR).await.map(CorrectionReply::Corrected)
        }
        CorrectionOrder::Reprice(order) => reprice_for(&mut stream, app, order).await.map(CorrectionReply::Repriced),
    };
    send(&mut stream, &reply.unwrap_or_else(|error| CorrectionReply::Refused(refusal(error)))).await
}

async fn reprice_for(stream: &mut BufReader<UnixStream>, app: &App, order: RepricingOrder) -> Result<RepricingResult> {
    let mut repricing = app.quota.ledger.reprice(order, RepricingMode::Apply { actor: OPERATOR.into() }).await?;
    while repricing.step().await? {
        // This also detects a disconnected client: the write fails, and no further receipt is changed.
        send(stream, &CorrectionReply::UnderWay(repricing.found().looked_at)).await?;
    }
    Ok(repricing.into_found())
}

async fn send(stream: &mut BufReader<UnixStream>, reply: &CorrectionReply) -> anyhow::Result<()> {
    Ok(stream.write_all(format!("{}\n", serde_json::to_string(reply)?).as_bytes()).await?)
}

fn refusal(error: Error) -> String {
    match error {
        Error::Internal(cause) => format!("{cause:#}"),
        error => error.to_string(),
    }
}
