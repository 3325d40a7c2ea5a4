//! gRPC: binary messages with HTTP trailers, and gRPC-Web with the trailers inside the body.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// A gRPC frame (PROTOCOL-HTTP2, "Length-Prefixed-Message") that contains every byte value.
fn message() -> Vec<u8> {
    let payload: Vec<u8> = (0..=255).collect();
    [&[0, 0, 0, 1, 0], &payload[..]].concat()
}

#[tokio::test]
async fn grpc_web_passes_byte_for_byte() {
    let scene = Scene::with_python("grpc.py").await;
    let sent = scene.folder.path().join("message");
    std::fs::write(&sent, message()).unwrap();
    let data = format!("@{}", sent.display());
    let kind = "Content-Type: application/grpc-web+proto";
    let got = scene.folder.path().join("answer");
    said(scene.curl(&["--data-binary", &data, "-H", kind, "-o", got.to_str().unwrap()], "/berth.Test/Echo")).await;
    let trailers = b"grpc-status:0\r\ngrpc-message:fine\r\n";
    let want = [&message()[..], &[0x80, 0, 0, 0, trailers.len() as u8], trailers].concat();
    assert_eq!(std::fs::read(got).unwrap(), want);
}

/// The end of the response to a call with these further headers.
async fn call(scene: &Scene, more: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(scene.platform.address).await.unwrap();
    let (cookie, message) = (&scene.cookie, message());
    let head = format!(
        "POST /berth.Test/Echo HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nOrigin: {}\r\nContent-Type: application/grpc\r\nContent-Length: {}\r\n{more}\r\n",
        scene.origin(),
        message.len(),
    );
    stream.write_all(&[head.as_bytes(), &message].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let body = answer.windows(message.len()).position(|window| window == message).expect("the message came back");
    answer.split_off(body + message.len())
}

#[tokio::test]
async fn trailers_reach_a_client_that_accepts_them() {
    let scene = Scene::with_python("grpc.py").await;
    let end = call(&scene, "TE: trailers\r\nConnection: TE, close\r\n").await;
    assert_eq!(String::from_utf8_lossy(&end), "\r\n0\r\ngrpc-status: 0\r\ngrpc-message: fine\r\n\r\n");
    // RFC 9110 6.5.1: not sent to a client that did not send `TE: trailers`.
    let end = call(&scene, "Connection: close\r\n").await;
    assert_eq!(String::from_utf8_lossy(&end), "\r\n0\r\n\r\n");
}
