//! The fault-injecting proxy for HTTP/1.1 to the Engine: it opens a separate connection to the Engine for every request
//! and forwards the bytes of the answer as they arrive, so that streams pass.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::points::{FaultTiming, Points, RelayAction};

const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n{\"message\": \"lost on its way\"  }";

pub(super) async fn relay(client: UnixStream, to: &Path, points: &Points) -> io::Result<()> {
    let (from_client, mut to_client) = client.into_split();
    let mut from_client = BufReader::new(from_client);
    loop {
        let Some(head) = read_head(&mut from_client).await? else { return Ok(()) };
        let body = read_body(&mut from_client, &head).await?;
        let (name, first) = (name(&head), head.lines().next().unwrap_or_default().to_owned());
        let before = points.meet(&name, &first, FaultTiming::Before).await;
        match before {
            RelayAction::Drop => return Ok(()),
            RelayAction::Fail => {
                to_client.write_all(FAILED.as_bytes()).await?;
                continue;
            }
            RelayAction::Twice => {
                let (_, mut engine) = ask(to, &head, &body).await?;
                tokio::io::copy(&mut engine, &mut tokio::io::sink()).await?;
            }
            RelayAction::On => {}
        }
        let (answer, mut engine) = ask(to, &head, &body).await?;
        // The effect is there by the time the head is; for a stream, it has begun.
        match points.meet(&name, &first, FaultTiming::After).await {
            RelayAction::Drop => return Ok(()),
            RelayAction::Fail => {
                to_client.write_all(FAILED.as_bytes()).await?;
                continue;
            }
            RelayAction::Twice if name != "events" => {
                let mut whole = answer.clone().into_bytes();
                engine.read_to_end(&mut whole).await?;
                to_client.write_all(&[whole.clone(), whole].concat()).await?;
                continue;
            }
            RelayAction::Twice | RelayAction::On => {}
        }
        to_client.write_all(answer.as_bytes()).await?;
        tokio::select! {
            copied = tokio::io::copy_buf(&mut engine, &mut to_client) => { copied?; }
            // The client sends no request while an answer is being forwarded, so readable here means that it closed the
            // connection.
            _ = from_client.fill_buf() => return Ok(()),
        }
        if !says_its_length(&answer) {
            return Ok(());
        }
    }
}

/// Passes a request on, on a connection that ends with its answer: the head of that, and where the rest comes from.
async fn ask(to: &Path, head: &str, body: &[u8]) -> io::Result<(String, BufReader<UnixStream>)> {
    let mut engine = BufReader::new(UnixStream::connect(to).await?);
    let (first, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    engine.write_all(format!("{first}\r\nConnection: close\r\n{}", without(rest, "connection")).as_bytes()).await?;
    engine.write_all(body).await?;
    let answer = read_head(&mut engine).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((without(&answer, "connection"), engine))
}

/// Up to and with the empty line; `None` when the other side has hung up.
async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

async fn read_body(from: &mut (impl AsyncBufRead + Unpin), head: &str) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = header(head, "content-length").and_then(|length| length.parse::<u64>().ok()) {
        from.take(length).read_to_end(&mut body).await?;
    } else if header(head, "transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            from.read_line(&mut size).await?;
            body.extend_from_slice(size.as_bytes());
            let Ok(bytes) = u64::from_str_radix(size.trim(), 16) else { return Err(io::ErrorKind::InvalidData.into()) };
            from.take(bytes + 2).read_to_end(&mut body).await?;
            if bytes == 0 {
                break;
            }
        }
    }
    Ok(body)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).filter_map(|line| line.split_once(':')).find_map(|(there, value)| {
        let is = there.eq_ignore_ascii_case(name);
        is.then(|| value.trim())
    })
}

/// Without the lines of one header.
fn without(head: &str, name: &str) -> String {
    let is = |line: &str| line.split_once(':').is_some_and(|(there, _)| there.eq_ignore_ascii_case(name));
    head.split_inclusive("\r\n").filter(|line| !is(line)).collect()
}

fn says_its_length(answer: &str) -> bool {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    matches!(status, "204" | "304")
        || header(answer, "content-length").is_some()
        || header(answer, "transfer-encoding").is_some()
}

/// What a request is called: `container.pause`, `volumes.list`, `events`.
fn name(head: &str) -> String {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.first().is_some_and(|first| first.starts_with("v1.")) {
        parts.remove(0);
    }
    let noun = parts.first().copied().unwrap_or_default();
    let one = noun.trim_end_matches('s');
    match (method, &parts[..]) {
        ("GET", ["containers" | "images", "json"] | ["volumes" | "networks"]) => format!("{noun}.list"),
        (_, [alone]) => alone.trim_start_matches('_').to_owned(),
        ("GET", [_, .., "json"] | [_, _]) => format!("{one}.inspect"),
        ("DELETE", _) => format!("{one}.remove"),
        (_, [_, .., last]) => format!("{one}.{last}"),
        (_, []) => "nothing".into(),
    }
}

#[test]
fn requests_have_names() {
    for (request, said) in [
        ("GET /_ping HTTP/1.1", "ping"),
        ("GET /v1.41/events?since=1 HTTP/1.1", "events"),
        ("GET /v1.41/containers/json?all=true HTTP/1.1", "containers.list"),
        ("GET /containers/berth-1/json HTTP/1.1", "container.inspect"),
        ("POST /containers/create?name=a HTTP/1.1", "container.create"),
        ("POST /containers/a/pause HTTP/1.1", "container.pause"),
        ("DELETE /containers/a?force=true HTTP/1.1", "container.remove"),
        ("GET /images/a/b:latest/json HTTP/1.1", "image.inspect"),
        ("GET /volumes HTTP/1.1", "volumes.list"),
        ("GET /volumes/a HTTP/1.1", "volume.inspect"),
        ("POST /volumes/create HTTP/1.1", "volume.create"),
    ] {
        assert_eq!(name(request), said);
    }
}
