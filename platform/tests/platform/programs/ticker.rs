//! An event stream: each event arrives before the next is said, also one that the program compressed.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;

const EVENTS: usize = 20;

/// Reads events from `path`; each next one is said only once the one before has come out at the other end. What came of
/// the answer's head.
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
async fn what_a_program_compressed_arrives_as_it_compressed_it_and_as_soon() {
    let head = read_one_by_one("/packed").await;
    assert!(head.contains("content-encoding: gzip\n"), "{head}");
}
