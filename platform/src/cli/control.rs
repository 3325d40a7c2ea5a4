//! How the operator's commands reach the running platform: the wish, or what is shared, is in the database already, and one
//! line on a unix socket says for which instance, so that nobody waits for the next round. Another asks why an instance is awake, which only
//! the running platform knows; and JSON has it correct receipts, which it alone writes (`corrections`).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::corrections::{self, Order};
use crate::app::App;
use crate::db::InstanceId;
use crate::instances::AwakeLedger;

/// A word and an id, or a correction with its reason, with room.
const LINE_BYTES: u64 = 4096;
/// In place of an id: the price table is another.
const PRICES: &str = "prices";
/// Before the id, when it is asked why.
const WHY: &str = "why ";
/// A ledger with every job that an instance may have, with room.
const ANSWER_BYTES: u64 = 16 * 1024;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// After an accept failed (no file descriptors left, say), so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens until `shutdown`.
///
/// # Errors
/// When the socket cannot be made.
pub async fn listen(socket: &Path, app: App, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = bind(socket).with_context(|| format!("making the control socket {}", socket.display()))?;
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(error = %error, "could not accept a connection on the control socket");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let app = app.clone();
        tokio::spawn(async move {
            if let Err(error) = attend(stream, app).await {
                tracing::warn!(error = %format!("{error:#}"), "the control socket");
            }
        });
    }
}

/// Tells the running platform to look at `instance`; `false` when none runs.
///
/// # Errors
/// When it runs and did not take the word.
pub async fn nudge(socket: &Path, instance: InstanceId) -> anyhow::Result<bool> {
    tell(socket, &instance.to_string()).await
}

/// Tells the running platform that another price table is in force; `false` when none runs.
///
/// # Errors
/// When it runs and did not take the word.
pub async fn tell_of_prices(socket: &Path) -> anyhow::Result<bool> {
    tell(socket, PRICES).await
}

async fn tell(socket: &Path, word: &str) -> anyhow::Result<bool> {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return Ok(false) };
    let taken = async {
        stream.write_all(format!("{word}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        anyhow::ensure!(answer == "ok\n", "the running platform did not take the wish; its log says why");
        Ok(true)
    };
    timeout(ANSWER_WITHIN, taken).await.context("the running platform does not answer on its control socket")?
}

/// Asks the running platform why `instance` is awake, or after what it sleeps; `None` when none runs. Asking wakes nothing.
///
/// # Errors
/// When it runs and does not answer.
pub async fn ask_why(socket: &Path, instance: InstanceId) -> anyhow::Result<Option<AwakeLedger>> {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return Ok(None) };
    let asked = async {
        stream.write_all(format!("{WHY}{instance}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).take(ANSWER_BYTES).read_line(&mut answer).await?;
        serde_json::from_str(&answer)
            .context("the running platform is of another version, or does not know the instance")
    };
    timeout(ANSWER_WITHIN, asked).await.context("the running platform does not answer on its control socket")?.map(Some)
}

async fn attend(stream: UnixStream, app: App) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    timeout(ANSWER_WITHIN, (&mut stream).take(LINE_BYTES).read_line(&mut line)).await.context("nothing was said")??;
    if let Ok(order) = serde_json::from_str::<Order>(&line) {
        return corrections::obey(stream, &app, order).await;
    }
    timeout(ANSWER_WITHIN, answer(stream, app, line.trim())).await.context("it took too long")?
}

async fn answer(mut stream: BufReader<UnixStream>, app: App, line: &str) -> anyhow::Result<()> {
    if line == PRICES {
        app.quota.reread_prices().await?;
        return Ok(stream.write_all(b"ok\n").await?);
    }
    let (why, id) = line.strip_prefix(WHY).map_or((false, line), |id| (true, id));
    let id: InstanceId = id.parse().context("not an instance's id")?;
    let answer = if why {
        let instance = app.instances.by_id(id).context("there is no such instance")?;
        serde_json::to_string(&app.instances.ledger(&instance))?
    } else {
        let instance = app.instances.admit(id).await?;
        app.sharing.reload(id).await?;
        app.quota.reread(instance.account).await?;
        "ok".to_owned()
    };
    Ok(stream.write_all(format!("{answer}\n").as_bytes()).await?)
}

fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    // Left behind by a process that was killed. One that still runs holds the listening port, which is bound first.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
