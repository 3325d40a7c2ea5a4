//! The readiness probe of a started container: `GET /healthz` of the instance contract. A raw socket instead of an HTTP
//! client, because the program behind it is untrusted and may answer anything.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Timeout of one probe: connecting and the first bytes of a response.
const TRY: Duration = Duration::from_secs(2);
/// Pauses between probes, doubling: short at first, because a small server is up within milliseconds of its start.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Probes until the program at `address` is ready; `false` when it is not within `limit`.
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

/// Whether one probe succeeds. Everything but a 5xx is ready: a program without this path, or one that does not speak
/// HTTP, promises no more than accepting a connection.
async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut head = [0; 12];
        // `HTTP/1.1 200`: the status code's first digit is byte 9. Reading no more bounds what an untrusted program can
        // send.
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    match timeout(TRY, ask).await {
        Ok(Ok(head)) => !head.starts_with(b"HTTP/1.") || head[9] != b'5',
        // The program accepted the connection and closed it before twelve bytes: it does not speak HTTP.
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        Err(_) => false,
    }
}
