//! When a started container counts as ready: the instance contract's `GET /healthz`, asked on a bare socket because the
//! program behind it is a stranger's and may answer anything.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// One try: connecting and the first bytes of an answer.
const TRY: Duration = Duration::from_secs(2);
/// Pauses between tries: short at first, because a small server is up within milliseconds of its start.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Waits until the program at `address` is ready; `false` when it is not within `limit`.
pub(super) async fn await_ready(address: SocketAddr, limit: Duration) -> bool {
    timeout(limit, async {
        let mut pause = FIRST_PAUSE;
        while !is_ready(address).await {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    })
    .await
    .is_ok()
}

/// Ready is a 2xx; or any answer that shows it has no such page, because then an accepted connection is all it
/// promises.
async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    match timeout(TRY, ask).await {
        Ok(Ok(head)) => !head.starts_with(b"HTTP/1.") || head[9] != b'5',
        // It accepted and closed without an answer of twelve bytes: it serves something else than HTTP.
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        Err(_) => false,
    }
}
