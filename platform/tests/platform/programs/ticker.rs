//! Server-sent events are not buffered: each arrives before the program sends the next, also when it compresses them.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;

const EVENTS: usize = 20;

/// Reads events from `path`, of which the program sends each only when the one before has arrived. The head of the
/// response.
async fn read_one_by_one(path: &str) -> String {
    let scene = Scene::with_python("ticker.py").await;
    let mut stream = tokio::process::Command::from(scene.curl(&["-N", "-i", "--compressed"], path))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    let mut head = String::new();
    let mut events = 0;
    while events < EVENTS {
        let line = lines.next_line().await.unwrap().expect("the stream goes on");
        if line == format!("data: {events}") {
            events += 1;
            assert_eq!(said(scene.curl(&[], "/next")).await, "said\n");
        } else if events == 0 {
            head.push_str(&line.to_lowercase());
            head.push('\n');
        } else {
            assert_eq!(line, "", "nothing else is on the stream");
        }
    }
    head
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let head = read_one_by_one("/ticks").await;
    assert!(head.contains("content-type: text/event-stream\n") && !head.contains("content-encoding"), "{head}");
}

#[tokio::test]
async fn compressed_events_arrive_one_by_one_and_unchanged() {
    let head = read_one_by_one("/packed").await;
    assert!(head.contains("content-encoding: gzip\n"), "{head}");
}
