//! Streaming and backpressure: transfers larger than memory arrive whole, and the platform buffers none of them.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use berth_testing::soak::SoakTest;

const MIB: usize = 1 << 20;
/// More than the socket buffers of the two connections of a request hold.
const KERNEL: usize = 32 * MIB;
/// Memory that the platform may use for a transfer of any size.
const FOR_PASSING: usize = 64 * MIB;
/// A socket on which nothing moves for this long counts as blocked.
const QUIET: Duration = Duration::from_millis(500);

/// The output of a shell command, with the instance's address in `$AT` and the owner's headers in the file `$HEADERS`.
async fn shell(scene: &Scene, words: &str) -> String {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("set -o pipefail; {words}")]);
    let headers = scene.folder.path().join("headers");
    let lines = format!("Host: {HOST}\nCookie: {}\nOrigin: {}\n", scene.cookie, scene.origin());
    std::fs::write(&headers, lines).unwrap();
    shell.env("AT", format!("http://{}", scene.platform.address)).env("HEADERS", format!("@{}", headers.display()));
    said(shell).await
}

/// The peak memory of this process since the last call, in bytes. It includes other tests in the same process, so it
/// means something only when this one runs alone.
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn in_bounds(long: &SoakTest, before: usize) {
    let grown = most_memory().saturating_sub(before);
    long.say(&format!("memory grew by {} KiB", grown / 1024));
    assert!(!long.is_whole() || grown < FOR_PASSING, "{grown} bytes of memory for a stream");
}

#[tokio::test]
async fn a_large_upload_arrives_whole() {
    let long = SoakTest::story("programs");
    let bytes = long.count(256 * MIB, 2048 * MIB);
    let scene = Scene::with_python("bulk.py").await;
    most_memory();
    let before = most_memory();
    let noise = "openssl enc -aes-128-ctr -nosalt -pass pass:berth -pbkdf2 -in /dev/zero 2>/dev/null";
    let sent = format!("{{ {noise} || true; }} | head -c {bytes}");
    let told = shell(&scene, &format!("{{ {sent}; }} | curl -sS -H \"$HEADERS\" -T - \"$AT/\"")).await;
    let told: Value = serde_json::from_str(&told).expect(&told);
    in_bounds(&long, before);
    assert_eq!(told["bytes"], bytes);
    let sum = shell(&scene, &format!("{{ {sent}; }} | sha256sum | cut -d' ' -f1")).await;
    assert_eq!(told["sha256"], sum.trim());
}

#[tokio::test]
async fn a_large_download_arrives_whole() {
    let long = SoakTest::story("programs");
    let bytes = long.count(256 * MIB, 10240 * MIB);
    let scene = Scene::with_python("bulk.py").await;
    most_memory();
    let before = most_memory();
    let got = format!("curl -sS -f -H \"$HEADERS\" \"$AT/?bytes={bytes}\" | sha256sum | cut -d' ' -f1");
    let got = shell(&scene, &got).await;
    in_bounds(&long, before);
    assert_eq!(got.trim(), shell(&scene, "curl -sS -H \"$HEADERS\" \"$AT/sum\"").await);
}

#[tokio::test]
async fn a_client_that_stops_reading_stops_the_program_and_nothing_is_buffered() {
    let scene = Scene::with_python("bulk.py").await;
    let bytes = 4 * KERNEL;
    let mut stream = TcpStream::connect(scene.platform.address).await.unwrap();
    let head = format!("GET /?bytes={bytes} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {}\r\n\r\n", scene.cookie);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    // The program stores the checksum of a download once it has written all of it. Real time: a program that could
    // write more would do so within this time.
    tokio::time::sleep(QUIET).await;
    let sum = "curl -sS -H \"$HEADERS\" \"$AT/sum\"";
    assert_eq!(
        shell(&scene, sum).await,
        "",
        "all {bytes} bytes were taken from the program, and the client reads none of them"
    );
    let mut got = vec![0; MIB];
    let mut left = bytes;
    while left > 0 {
        let n = stream.read(&mut got).await.unwrap();
        assert!(n > 0, "it broke off with {left} bytes to go");
        left = left.saturating_sub(n);
    }
    drop(stream);
}
