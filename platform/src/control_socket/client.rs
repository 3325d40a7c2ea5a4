//! The client side of the control socket, for the operator's commands.

use std::path::Path;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ANSWER_WITHIN, PRICES, WHY};
use crate::db::InstanceId;
use crate::instances::AwakeLedger;

/// Longest answer that is read: a ledger with every job that an instance may have, with room.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Has the running platform look at `instance`; `false` when none runs.
///
/// # Errors
/// When it runs and did not accept the line.
pub async fn nudge(socket: &Path, instance: InstanceId) -> anyhow::Result<bool> {
    tell(socket, &instance.to_string()).await
}

/// Has the running platform read the price table again; `false` when none runs.
///
/// # Errors
/// When it runs and did not accept the line.
pub async fn tell_of_prices(socket: &Path) -> anyhow::Result<bool> {
    tell(socket, PRICES).await
}

async fn tell(socket: &Path, line: &str) -> anyhow::Result<bool> {
    // No platform listens here; it reads the wish from the database when it starts.
    let Ok(mut stream) = UnixStream::connect(socket).await else { return Ok(false) };
    let accepted = async {
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        anyhow::ensure!(answer == "ok\n", "the running platform did not accept the change; see its log");
        Ok(true)
    };
    timeout(ANSWER_WITHIN, accepted).await.context("the running platform does not answer on its control socket")?
}

/// Asks the running platform why `instance` is awake, or what it did last before it slept; `None` when none runs. The
/// question wakes nothing.
///
/// # Errors
/// When it runs and does not answer.
pub async fn ask_why(socket: &Path, instance: InstanceId) -> anyhow::Result<Option<AwakeLedger>> {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return Ok(None) };
    let answered = async {
        stream.write_all(format!("{WHY}{instance}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).take(ANSWER_BYTES).read_line(&mut answer).await?;
        serde_json::from_str(&answer)
            .context("the running platform is of another version, or does not know the instance")
    };
    timeout(ANSWER_WITHIN, answered)
        .await
        .context("the running platform does not answer on its control socket")?
        .map(Some)
}
