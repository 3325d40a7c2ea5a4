//! Backpressure on uploads to a sleeping instance: the body stays with the client until the program can read it.

use super::*;

/// More than the socket buffers of both sides hold. Bytes written beyond it were read by the platform.
const KERNEL: usize = 16 << 20;
const UPLOAD: usize = 64 << 20;
/// A socket that accepts or sends nothing for this long counts as blocked.
const QUIET: Duration = Duration::from_millis(500);

fn head(cookie: &str, bytes: usize, more: &str) -> String {
    format!(
        "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nOrigin: https://{HOST}\r\nConnection: close\r\nContent-Length: {bytes}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn expect_100_continue_is_answered_when_the_instance_is_awake() {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    let mut stream = TcpStream::connect(platform.address).await.unwrap();
    stream.write_all(head(&cookie, 5, "Expect: 100-continue\r\n").as_bytes()).await.unwrap();
    until(&alice.instance, |s| s.fact == Fact::Waking).await;
    let mut answer = [0; 1024];
    assert!(tokio::time::timeout(QUIET, stream.read(&mut answer)).await.is_err(), "it is not awake yet");
    platform.host.release(Verb::Start);
    let n = stream.read(&mut answer).await.unwrap();
    assert_eq!(&answer[..n], b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200") && rest.contains("\"body\":\"hello\""), "{rest}");
}

#[tokio::test]
async fn a_large_upload_is_not_buffered_while_the_instance_wakes() {
    let (platform, alice, cookie) = at_home().await;
    put_to_sleep(&platform, &alice, Wish::Stopped, Fact::Stopped).await;
    platform.host.hold(Verb::Start, HoldPoint::BeforeEffect);
    let stream = TcpStream::connect(platform.address).await.unwrap();
    let (mut answer, mut upload) = stream.into_split();
    upload.write_all(head(&cookie, UPLOAD, "").as_bytes()).await.unwrap();
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0;
    while let Ok(n) = tokio::time::timeout(QUIET, upload.write(&piece[..piece.len().min(UPLOAD - sent)])).await {
        sent += n.unwrap();
        assert!(sent < KERNEL, "{sent} bytes were buffered while the program could not read them");
    }
    platform.host.release(Verb::Start);
    while sent < UPLOAD {
        sent += upload.write(&piece[..piece.len().min(UPLOAD - sent)]).await.unwrap();
    }
    let mut text = String::new();
    answer.read_to_string(&mut text).await.unwrap();
    assert!(text.contains(&format!("\"bytes\":{UPLOAD}")), "{text}");
}
