//! The end of a share: open streams and WebSockets end when it is revoked, a guest is suspended, or an account is
//! deleted.

use std::time::Duration;

use berth::control_socket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cli;

/// Longer than a connection may outlive its share, with a margin for a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// An accepted connection to Alice's host.
pub struct Open(TcpStream);

impl Open {
    /// A response that streams.
    pub async fn flow(platform: &FakePlatform, cookie: &str) -> Self {
        Self::with(platform, cookie, "/flow?kind=text/event-stream", "", " 200 ").await
    }

    /// A WebSocket.
    pub async fn socket(platform: &FakePlatform, cookie: &str) -> Self {
        let upgrade = "Origin: https://alice.example.com\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
        Self::with(platform, cookie, "/socket", upgrade, " 101 ").await
    }

    /// A request that the program answers late.
    pub async fn late(platform: &FakePlatform, cookie: &str) -> Self {
        Self::with(platform, cookie, "/late", "", "").await
    }

    async fn with(platform: &FakePlatform, cookie: &str, path: &str, more: &str, status: &str) -> Self {
        let mut stream = TcpStream::connect(platform.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut open = Self(stream);
        if !status.is_empty() {
            let answer = open.until("\r\n\r\n").await;
            assert!(answer.lines().next().unwrap().contains(status), "{path}: {answer}");
        }
        open
    }

    /// Reads until `what` arrives.
    pub async fn until(&mut self, what: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(what) {
            let mut chunk = [0; 4096];
            let n = self.0.read(&mut chunk).await.unwrap();
            assert!(n > 0, "the connection ended after {seen}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
        }
        seen
    }

    /// Waits for the end of the connection. Returns what arrived.
    async fn ended(mut self) -> String {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(SOON, self.0.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection outlived its share");
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// Checks that the connections of a guest, and of a stranger if `of_strangers`, end after `end`.
async fn all_end(shared: &SharedInstance, end: impl AsyncFn(), of_strangers: bool) {
    let bobs = shared.cookie(&shared.bob).await;
    let mut open = Vec::new();
    for cookie in if of_strangers { vec![bobs.as_str(), ""] } else { vec![bobs.as_str()] } {
        open.push(Open::flow(&shared.platform, cookie).await);
        open.push(Open::socket(&shared.platform, cookie).await);
    }
    let late = Open::late(&shared.platform, &bobs).await;
    end().await;
    let (ended, late) = tokio::join!(futures_util::future::join_all(open.into_iter().map(Open::ended)), async {
        let mut late = late;
        tokio::time::timeout(SOON, late.until("\r\n\r\n")).await.expect("the connection outlived its share")
    });
    assert!(late.starts_with("HTTP/1.1 401"), "{late}");
    for rest in ended {
        assert!(!rest.contains("0\r\n\r\n"), "the response must be cut off, not completed: {rest}");
    }
    assert_ne!(shared.get("/flow?kind=text/plain", &bobs).await.status, 200);
}

#[tokio::test]
async fn revoking_a_share_ends_its_connections() {
    let shared = SharedInstance::new().await;
    shared.open("/lobby", account("bob")).await;
    let share = shared.open("/", ShareAudience::Everyone { wakes: true }).await;
    let alices = shared.cookie(&shared.alice).await;
    let mut owners = Open::flow(&shared.platform, &alices).await;
    all_end(&shared, async || shared.revoke(&share).await, true).await;
    shared.platform.said.send("goes on".into()).unwrap();
    owners.until("goes on").await;
}

#[tokio::test]
async fn suspending_a_guest_ends_their_connections() {
    let shared = SharedInstance::new().await;
    shared.open("/", account("bob")).await;
    let suspend = async || shared.platform.app.accounts.suspend(&shared.bob.instance.handle, "operator").await.unwrap();
    all_end(&shared, suspend, false).await;
}

#[tokio::test]
async fn suspending_the_owner_ends_every_visitors_connections() {
    let shared = SharedInstance::new().await;
    shared.open("/", ShareAudience::Everyone { wakes: true }).await;
    shared.open("/lobby", account("bob")).await;
    let bobs = shared.cookie(&shared.bob).await;
    shared.platform.app.accounts.suspend(&shared.alice.instance.handle, "operator").await.unwrap();
    assert_eq!(shared.get("/echo", &bobs).await.status, 403);
    assert_eq!(shared.get("/echo", "").await.status, 403);
    until(&shared.alice.instance, |s| s.fact == Fact::Stopped).await;
    shared.platform.app.accounts.restore(&shared.alice.instance.handle, "operator").await.unwrap();
    assert_eq!(shared.get("/echo", "").await.status, 200, "the shares are in force again");
}

#[tokio::test]
async fn shares_are_deleted_with_their_owner_and_with_the_guest_they_name() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let [alice, bob, carol] =
            [platform.settle_in("alice").await, platform.settle_in("bob").await, platform.sign_up("carol").await];
        let sharing = &platform.app.sharing;
        sharing.add(&alice.instance, "/", account("bob")).await.unwrap();
        sharing.add(&alice.instance, "/docs", account("carol")).await.unwrap();
        sharing.add(&bob.instance, "/", ShareAudience::Everyone { wakes: true }).await.unwrap();
        platform.app.accounts.schedule_deletion_of(&bob.instance.handle, "operator").await.unwrap();
        platform.look().await;
        platform.app.accounts.advance_deletions(&platform.app.modules).await.unwrap();
        platform.wait(Duration::from_secs(7 * 24 * 3600)).await;
        assert_eq!(platform.app.accounts.advance_deletions(&platform.app.modules).await.unwrap(), 1);
        let again =
            Sharing::open(platform.app.db.clone(), platform.clock.clone(), platform.instances().clone()).await.unwrap();
        for sharing in [sharing, &again] {
            assert!(sharing.of(bob.instance.id).is_empty());
            let left: Vec<String> = sharing.of(alice.instance.id).iter().map(Share::summary).collect();
            assert_eq!(left, ["/docs to account carol"]);
        }
        drop(carol);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_another_process_takes_effect_with_its_notification() {
    let shared = SharedInstance::new().await;
    let (platform, alice) = (&shared.platform, &shared.alice.instance);
    let elsewhere =
        Sharing::open(platform.app.db.clone(), platform.clock.clone(), platform.instances().clone()).await.unwrap();
    let (socket, end) = (platform.app.config.control_socket(), CancellationToken::new());
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listening = tokio::spawn({
        let (socket, app, end) = (socket.clone(), platform.app.clone(), end.clone());
        async move { control_socket::listen(&socket, app, end).await }
    });
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    let share = elsewhere.add(alice, "/echo", ShareAudience::Everyone { wakes: true }).await.unwrap();
    assert_eq!(shared.get("/echo", "").await.status, 401);
    assert!(control_socket::nudge(&socket, alice.id).await.unwrap());
    assert_eq!(shared.get("/echo", "").await.status, 200);
    let operator = async |arguments: &[&str]| {
        let output = cli::berth(&platform.app.config, &[&["instance", "shares", "alice"], arguments].concat()).await;
        assert!(output.succeeded, "{output:?}");
        output.text
    };
    assert_eq!(operator(&[]).await, format!("{}  /echo to everyone\n", share.id));
    assert_eq!(operator(&["--remove", &share.id.to_string()]).await, "");
    assert_eq!(shared.get("/echo", "").await.status, 401, "and at once");
    end.cancel();
    listening.await.unwrap().unwrap();
}
