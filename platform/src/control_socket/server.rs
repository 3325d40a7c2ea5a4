//! The server of the control socket: the accept loop, and one request for each connection.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::corrections::{self, CorrectionOrder};
use super::{ANSWER_WITHIN, PRICES, WHY};
use crate::app::App;
use crate::db::InstanceId;

/// Maximum length of a request: a keyword and an id, or a correction with its reason, with room.
const LINE_BYTES: u64 = 4096;
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens until `shutdown`.
///
/// # Errors
/// When the socket cannot be created.
pub async fn listen(socket: &Path, app: App, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = bind(socket).with_context(|| format!("making the control socket {}", socket.display()))?;
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(error = %error, "could not accept a connection on the control socket");
                    // Without a free file descriptor accept fails again at once: without the pause this would be a busy
                    // loop.
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

async fn attend(stream: UnixStream, app: App) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let read = timeout(ANSWER_WITHIN, (&mut stream).take(LINE_BYTES).read_line(&mut line)).await;
    // `berth doctor` connects only to learn which process listens.
    if read.context("nothing was said")?? == 0 {
        return Ok(());
    }
    // No timeout for corrections: their duration depends on the number of receipts, and they report progress.
    if let Ok(order) = serde_json::from_str::<CorrectionOrder>(&line) {
        return corrections::carry_out(stream, &app, order).await;
    }
    timeout(ANSWER_WITHIN, answer(stream, app, line.trim())).await.context("it took too long")?
}

async fn answer(mut stream: BufReader<UnixStream>, app: App, line: &str) -> anyhow::Result<()> {
    if line == PRICES {
        app.quota.prices.reload().await?;
        return Ok(stream.write_all(b"ok\n").await?);
    }
    let (why, id) = line.strip_prefix(WHY).map_or((false, line), |id| (true, id));
    let id: InstanceId = id.parse().context("not an instance's id")?;
    let answer = if why {
        let instance = app.instances.by_id(id).context("there is no such instance")?;
        serde_json::to_string(&app.instances.awake_report(&instance))?
    } else {
        // The line does not say what changed, so every cache that a command can make stale is reloaded.
        let instance = app.instances.load_committed(id).await?;
        app.sharing.reload(id).await?;
        app.quota.admission.reload(instance.account).await?;
        "ok".to_owned()
    };
    Ok(stream.write_all(format!("{answer}\n").as_bytes()).await?)
}

fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    // A stale socket file of a killed process. A running platform holds the listening port, which is bound before this.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    // File permissions are the only authorisation: only the user of the platform and root can connect.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
