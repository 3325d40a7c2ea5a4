//! The client of the control socket, for the operator's commands: one line of request, one line of response.

use std::path::Path;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ANSWER_WITHIN, PRICES, WHY};
use crate::db::InstanceId;
use crate::instances::AwakeReport;

/// Maximum size of a response: an awake report with every job that an instance may have, with room.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Has the running platform reload `instance`; `false` when no platform runs here.
///
/// # Errors
/// When the platform runs and did not accept the line.
pub async fn nudge(socket: &Path, instance: InstanceId) -> anyhow::Result<bool> {
    tell(socket, &instance.to_string()).await
}

/// Has the running platform reload the price table; `false` when no platform runs here.
///
/// # Errors
/// When the platform runs and did not accept the line.
pub async fn tell_of_prices(socket: &Path) -> anyhow::Result<bool> {
    tell(socket, PRICES).await
}

async fn tell(socket: &Path, line: &str) -> anyhow::Result<bool> {
    // No platform listens here. It finds the committed change in the database when it starts.
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

/// The awake report of `instance` from the running platform; `None` when no platform runs here. The query is no
/// activity and wakes nothing.
///
/// # Errors
/// When the platform runs and does not answer.
pub async fn ask_why(socket: &Path, instance: InstanceId) -> anyhow::Result<Option<AwakeReport>> {
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
