//! Many connections at once, each with one call at a time: wrk's work, from the addresses of instances, which wrk
//! cannot call from. On one thread, which leaves the other processor to the measured program.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use berth_ground::clock::Clock;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::answer::Head;
use super::line::connect;
use super::peers::Peer;
use super::questions::{Caller, call, chat};

const CONNECTIONS: usize = 32;

/// A kept connection of one caller.
pub struct Connection {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr, caller: &Caller) -> anyhow::Result<Self> {
        Ok(Self { stream: connect(address, caller).await?, came: Vec::with_capacity(16 * 1024) })
    }

    /// Makes a call and reads its answer to the last byte; its status and its body.
    pub async fn ask(&mut self, call: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.came.clear();
        self.stream.write_all(call).await?;
        let mut head = None;
        loop {
            ensure!(self.stream.read_buf(&mut self.came).await? > 0, "it hung up in the middle of an answer");
            if head.is_none() {
                head = Head::read(&self.came)?;
            }
            if let Some(head) = &head
                && head.is_whole(&self.came)
            {
                return Ok((head.status, &self.came[head.body..]));
            }
        }
    }
}

/// Small chat completions a second, each answered whole and with 200, over so many seconds.
pub async fn calls_a_second(peer: &Peer, callers: &[Caller], seconds: u64) -> anyhow::Result<f64> {
    let callers = || callers.iter().cycle().take(CONNECTIONS);
    let mut connections =
        try_join_all(callers().map(|caller| Connection::open(peer.address, caller))).await?.into_iter();
    let (began, time) = (Clock::system().monotonic(), Duration::from_secs(seconds));
    let all = callers().zip(&mut connections).map(|(caller, mut connection)| async move {
        let (asked, mut made) = (call(peer, caller, &chat("")), 0_u64);
        while began.elapsed() < time {
            let (status, body) = connection.ask(&asked).await?;
            ensure!(status == 200, "a call was answered with {status}: {}", String::from_utf8_lossy(body));
            made += 1;
        }
        anyhow::Ok(made)
    });
    let made: u64 = try_join_all(all).await?.iter().sum();
    Ok(made as f64 / began.elapsed().as_secs_f64())
}
