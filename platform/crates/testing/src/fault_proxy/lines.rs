//! The fault-injecting proxy for the line protocol between platform and provisioner: one line per request, one line per
//! answer, and after `events` a stream of lines from the provisioner only.

use std::io;
use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::points::{FaultTiming, Points, RelayAction};

const FAILED: &str = "{\"Err\":\"Timeout\"}\n";

pub(super) async fn relay(client: UnixStream, to: &Path, points: &Points) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut provisioner = BufReader::new(UnixStream::connect(to).await?);
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let name = name(&line);
        match points.meet(&name, &line, FaultTiming::Before).await {
            RelayAction::Drop => return Ok(()),
            RelayAction::Fail => {
                client.write_all(FAILED.as_bytes()).await?;
                continue;
            }
            RelayAction::Twice => drop(ask(&mut provisioner, &line).await?),
            RelayAction::On => {}
        }
        let answer = ask(&mut provisioner, &line).await?;
        match points.meet(&name, &line, FaultTiming::After).await {
            RelayAction::Drop => return Ok(()),
            RelayAction::Fail => {
                client.write_all(FAILED.as_bytes()).await?;
                continue;
            }
            RelayAction::Twice => client.write_all(format!("{answer}{answer}").as_bytes()).await?,
            RelayAction::On => client.write_all(answer.as_bytes()).await?,
        }
        if name == "events" {
            tokio::io::copy_bidirectional(&mut client, &mut provisioner).await?;
            return Ok(());
        }
    }
}

async fn ask(provisioner: &mut BufReader<UnixStream>, line: &str) -> io::Result<String> {
    provisioner.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    match provisioner.read_line(&mut answer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(answer),
    }
}

/// The verb of a request.
fn name(line: &str) -> String {
    let request: Value = serde_json::from_str(line).unwrap_or_default();
    request["call"].as_object().and_then(|call| call.keys().next().cloned()).unwrap_or_default()
}
