//! A fixture with one account and an awake instance, and the requests that visitors, its program and the model make.

use std::net::SocketAddr;
use std::time::Duration;

use berth::instances::{Fact, LastWork, Work};
use berth::{instance_api, llm};
use berth_containers::{ContainerHost as _, ContainerLoad};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use berth_testing::databases::Database;
use berth_testing::fake_platform::FakePlatform;
use berth_testing::person::Person;
use berth_testing::process::serve;
use berth_testing::quota_platform::client;
use berth_testing::sqlite;
use berth_testing::wait::{PATIENCE, Wait};

pub const HOST: &str = "alice.example.com";
pub const MINUTE: Duration = Duration::from_secs(60);
pub const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60);
pub const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

pub struct Scene {
    pub platform: FakePlatform,
    pub alice: Person,
    pub cookie: String,
    /// Address of the quota proxy and the instance API, which the program calls.
    pub internal: SocketAddr,
    _running: DropGuard,
}

impl Scene {
    pub async fn new() -> Self {
        Self::on(sqlite().await).await
    }

    pub async fn on(database: Database) -> Self {
        let running = CancellationToken::new();
        let model = serve(berth_demo::router(), &running).await;
        // Without a provider key the platform calls the demo model at this address.
        let platform = FakePlatform::on(database, &[("BERTH_DEMO_LISTEN", model.to_string().leak())]).await;
        platform.app.quota.begin().await.unwrap();
        let alice = platform.settle_in("alice").await;
        let cookie = platform.instance_cookie(&alice).await;
        let router = llm::router(platform.app.clone()).merge(instance_api::router(platform.app.clone()));
        let internal = serve(router, &running).await;
        Self { platform, alice, cookie, internal, _running: running.drop_guard() }
    }

    pub fn fact(&self) -> Fact {
        self.alice.instance.fact()
    }

    pub fn last(&self) -> Option<LastWork> {
        self.platform.instances().awake_report(&self.alice.instance).last
    }

    /// The number of open entries of `work`.
    pub fn open(&self, work: Work) -> usize {
        let ledger = self.platform.instances().awake_report(&self.alice.instance);
        ledger.open.iter().find(|open| open.work == work).map_or(0, |open| open.count)
    }

    /// Waits until `count` entries of `work` are open.
    pub async fn until_open(&self, work: Work, count: usize) {
        let opened = async {
            while self.open(work) != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), opened).await.expect("it is counted");
    }

    /// Lets five minutes pass, again and again, until the instance is frozen although a transfer stalls.
    pub async fn until_frozen(&self) {
        // Buffers may still be filling, which counts as work.
        let is_frozen = async || {
            self.platform.wait(FIVE_MINUTES).await;
            self.fact() == Fact::Frozen
        };
        let frozen = Wait::within(PATIENCE).every(Duration::from_millis(10)).succeeds(is_frozen).await;
        assert!(frozen, "{:?}: {:?}", self.fact(), self.platform.instances().awake_report(&self.alice.instance));
    }

    /// A connection on which a request with `head` and the beginning of its `body` was sent.
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

    /// A streamed response of content type `kind`, whose head has arrived. [`Scene::say`] sends its chunks.
    pub async fn flow(&self, kind: &str) -> TcpStream {
        let mut stream = self.request(&format!("GET /flow?kind={kind}"), "").await;
        read_until(&mut stream, "\r\n\r\n").await;
        self.until_open(Work::Request, 0).await;
        stream
    }

    /// The program sends `text`; returns once the client has read it.
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

    /// A request by the program in the instance, with its token and from its address.
    pub fn inside(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let token = self.platform.host.spec(self.alice.instance.id).unwrap().token;
        let url = format!("http://{}{path}", self.internal);
        client(Some(self.alice.instance.address())).request(method.parse().unwrap(), url).bearer_auth(token)
    }

    /// Sets the processor time that the container has used in all, and has the platform take a sample.
    pub async fn used(&self, cpu: Duration) {
        let id = self.alice.instance.container().unwrap().to_string();
        self.platform.host.set_load(|load| load.containers = vec![ContainerLoad { id, cpu, memory: 1 }]);
        self.platform.instances().note_processors(&self.platform.host.load().await.unwrap());
    }

    /// The recorded changes of fact, oldest first, without the first start.
    pub async fn changes(&self) -> Vec<(Fact, berth::instances::Cause)> {
        let history = self.platform.instances().history(self.alice.instance.id, 100).await.unwrap();
        let mut told: Vec<_> = history.iter().map(|change| (change.to, change.cause)).collect();
        told.reverse();
        told.remove(0);
        told
    }
}

/// Reads until `text` has arrived.
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
