//! One person at home with everything that may happen to their instance.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use berth::containers::{ContainerHost as _, ContainerLoad};
use berth::instances::{Fact, LastWork, Work};
use berth::server::{self, PeerLimit};
use berth::{demo, instance_api, llm};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use berth_testing::databases::Database;
use berth_testing::fake_platform::{FakePlatform, Person};
use berth_testing::quota_platform::client;
use berth_testing::sqlite;

pub const HOST: &str = "alice.example.com";
pub const MINUTE: Duration = Duration::from_secs(60);
pub const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
pub const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

pub struct Scene {
    pub platform: FakePlatform,
    pub alice: Person,
    pub cookie: String,
    /// Where the programs inside reach the platform.
    pub door: SocketAddr,
    _running: DropGuard,
}

impl Scene {
    pub async fn new() -> Self {
        Self::on(sqlite().await).await
    }

    pub async fn on(database: Database) -> Self {
        let running = CancellationToken::new();
        let model = serve(demo::router(), &running).await;
        // Nothing is settled by the clock on the wall: the model is spoken to where no key is set.
        let platform = FakePlatform::on(database, &[("BERTH_DEMO_LISTEN", model.to_string().leak())]).await;
        platform.app.quota.begin().await.unwrap();
        let alice = platform.settle_in("alice").await;
        let cookie = platform.instance_cookie(&alice).await;
        let door = llm::router(platform.app.clone()).merge(instance_api::router(platform.app.clone()));
        let door = serve(door, &running).await;
        Self { platform, alice, cookie, door, _running: running.drop_guard() }
    }

    pub fn fact(&self) -> Fact {
        self.alice.instance.fact()
    }

    pub fn last(&self) -> Option<LastWork> {
        self.platform.instances().awake_report(&self.alice.instance).last
    }

    /// How many of `work` are open now.
    pub fn open(&self, work: Work) -> usize {
        let ledger = self.platform.instances().awake_report(&self.alice.instance);
        ledger.open.iter().find(|open| open.work == work).map_or(0, |open| open.count)
    }

    /// Waits until so many of `work` are open.
    pub async fn until_open(&self, work: Work, count: usize) {
        let opened = async {
            while self.open(work) != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), opened).await.expect("it is counted");
    }

    /// Lets five minutes pass until it has fallen asleep over what does not move.
    pub async fn until_frozen(&self) {
        for _ in 0..100 {
            self.platform.wait(FIVE_MINUTES).await;
            if self.fact() == Fact::Frozen {
                return;
            }
            // Buffers were still filling.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still {:?}: {:?}", self.fact(), self.platform.instances().awake_report(&self.alice.instance));
    }

    /// A connection on which a request with `head` and the first of `body` was sent.
    pub async fn request(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.platform.address).await.unwrap();
        let (line, more) = head.split_once('\n').unwrap_or((head, ""));
        let cookie = &self.cookie;
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nOrigin: https://{HOST}\r\nConnection: close\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        stream
    }

    /// An answer that passes on what the program is told to say, as `kind`. Its head is here.
    pub async fn flow(&self, kind: &str) -> TcpStream {
        let mut stream = self.request(&format!("GET /flow?kind={kind}"), "").await;
        read_until(&mut stream, "\r\n\r\n").await;
        self.until_open(Work::Request, 0).await;
        stream
    }

    /// The program says `text`, and the client has it.
    pub async fn say(&self, text: &'static str, stream: &mut TcpStream) {
        self.platform.said.send(text.into()).unwrap();
        read_until(stream, text).await;
    }

    pub async fn websocket(&self) -> WebSocketStream<TcpStream> {
        let mut request = format!("ws://{HOST}/websocket").into_client_request().unwrap();
        request.headers_mut().insert("cookie", self.cookie.parse().unwrap());
        request.headers_mut().insert("origin", format!("https://{HOST}").parse().unwrap());
        let stream = TcpStream::connect(self.platform.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        self.until_open(Work::Request, 0).await;
        socket
    }

    /// A request of the program inside, with its own token and from its own address.
    pub fn inside(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let token = self.platform.host.spec(self.alice.instance.id).unwrap().token;
        let url = format!("http://{}{path}", self.door);
        client(Some(self.alice.instance.address())).request(method.parse().unwrap(), url).bearer_auth(token)
    }

    /// Its container has used `cpu` in all, and the loop has taken a sample.
    pub async fn used(&self, cpu: Duration) {
        let id = self.alice.instance.container().unwrap().to_string();
        self.platform.host.set_load(|load| load.containers = vec![ContainerLoad { id, cpu, memory: 1 }]);
        self.platform.instances().note_processors(&self.platform.host.load().await.unwrap());
    }

    /// What is written of its changes, oldest first, without the first awakening.
    pub async fn changes(&self) -> Vec<(Fact, berth::instances::Cause)> {
        let history = self.platform.instances().history(self.alice.instance.id, 100).await.unwrap();
        let mut told: Vec<_> = history.iter().map(|change| (change.to, change.cause)).collect();
        told.reverse();
        told.remove(0);
        told
    }
}

/// Reads until `text` has come.
pub async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut chunk = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut chunk));
        let n = read.await.unwrap_or_else(|_| panic!("waited in vain for {text:?} after {seen:?}")).unwrap();
        assert!(n > 0, "it ended before {text:?} came: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    seen
}

async fn serve(router: axum::Router, running: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, router, PeerLimit::Unlimited, running.clone()));
    address
}
