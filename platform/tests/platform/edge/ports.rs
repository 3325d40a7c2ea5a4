//! Further ports of an instance: closed until the owner opens them, each with a host and an origin of its own, never
//! shared.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::any;
use berth::instances::{Cause, Fact, PortList, Wish};
use berth_containers::fake::Verb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::person::Person;
use berth_testing::web_client::WebClient;

const HOST: &str = "alice.example.com";
const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml");

struct Scene {
    platform: FakePlatform,
    alice: Person,
    /// The owner's session cookie of the instance's host.
    cookie: String,
    /// The port of a second program inside the instance.
    port: u16,
}

/// An instance with a second program on a port that is closed.
async fn scene() -> Scene {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let cookie = platform.instance_cookie(&alice).await;
    let listener = TcpListener::bind(SocketAddr::from((alice.instance.address(), 0))).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let program = Router::new().fallback(any(told));
    tokio::spawn(async move { axum::serve(listener, program).await });
    Scene { platform, alice, cookie, port }
}

/// The second program: echoes the request it received.
async fn told(request: Request) -> String {
    let mut told = format!("second program: {} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        told.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    told
}

impl Scene {
    async fn open(&self, ports: &str) {
        let ports = PortList::parse(ports).unwrap();
        self.platform.instances().set_ports(&self.alice.instance, &ports).await.unwrap();
    }

    async fn open_it(&self) {
        self.open(&self.port.to_string()).await;
    }

    fn host(&self) -> String {
        format!("{}--{HOST}", self.port)
    }

    fn path(&self, rest: &str) -> String {
        format!("/_port/{}{rest}", self.port)
    }

    /// Follows the hand-off to `host` as a browser that is logged in on the app host; the session cookie it gets.
    async fn hand_off(&self, host: &str) -> String {
        let sent = self.platform.get(host, "/deep?x=1", &[PAGE]).await;
        assert_eq!(sent.status, 302);
        let pending = sent.header("set-cookie").split(';').next().unwrap().to_owned();
        let app = self.alice.app_cookie();
        let path = sent.header("location").strip_prefix("https://app.example.com").unwrap().to_owned();
        let handed = self.platform.get("app.example.com", &path, &[("cookie", &app), PAGE]).await;
        let back = handed.header("location").strip_prefix(&format!("https://{host}")).expect(host).to_owned();
        let home = self.platform.get(host, &back, &[("cookie", &pending), PAGE]).await;
        assert_eq!((home.status, home.header("location")), (303, "/deep?x=1"));
        home.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    async fn asked_by_caddy(&self, host: &str) -> u16 {
        use tower::ServiceExt as _;
        let ask =
            Router::new().route("/ask", axum::routing::get(berth::edge::ask)).with_state(self.platform.app.clone());
        let request = Request::get(format!("/ask?domain={host}")).body(axum::body::Body::empty()).unwrap();
        ask.oneshot(request).await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_port_is_closed_until_its_owner_opens_it() {
    let scene = scene().await;
    let (platform, host, cookie) = (&scene.platform, scene.host(), ("cookie", scene.cookie.as_str()));
    let page = platform.get(&host, "/", &[PAGE]).await;
    assert_eq!(page.status, 404);
    assert!(page.text().contains("not open"), "{}", page.text());
    assert_eq!(scene.asked_by_caddy(&host).await, 403, "no certificate for a name that shows nothing");
    // While no port is open, the path belongs to the instance's own program.
    let own = platform.get(HOST, &format!("/echo/..{}", scene.path("/")), &[cookie]).await;
    assert_eq!(own.status, 404, "{}", own.text());

    scene.open_it().await;
    assert_eq!(scene.asked_by_caddy(&host).await, 200);
    assert_eq!(scene.asked_by_caddy(&format!("3000--{HOST}")).await, 403);
    assert_eq!(scene.asked_by_caddy(&format!("{}--nobody.example.com", scene.port)).await, 403);
    assert_eq!(platform.get(&host, "/", &[PAGE]).await.status, 302, "to log in");
    assert!(platform.get(HOST, &scene.path("/x"), &[cookie]).await.text().starts_with("second program: GET /x\n"));
    let other = platform.get(HOST, "/_port/3000/", &[cookie, PAGE]).await;
    assert_eq!(other.status, 404);

    scene.open("").await;
    assert_eq!(platform.get(&host, "/", &[PAGE]).await.status, 404, "closed at once");
    assert_eq!(scene.asked_by_caddy(&host).await, 403);
}

#[tokio::test]
async fn below_a_path_the_program_gets_the_prefix_in_a_header() {
    let scene = scene().await;
    scene.open_it().await;
    let sent = [("cookie", scene.cookie.as_str()), ("x-forwarded-prefix", "/forged")];
    let told = scene.platform.get(HOST, &scene.path("/a/b?c=%2F"), &sent).await.text();
    assert!(told.starts_with("second program: GET /a/b?c=%2F\n"), "{told}");
    let prefix = format!("x-forwarded-prefix: /_port/{}\n", scene.port);
    assert!(told.contains(&prefix) && !told.contains("forged"), "{told}");
    assert!(told.contains("x-berth-user: alice\n") && !told.contains("__Host-berth"), "{told}");
    // Without the slash, relative links of the page would resolve wrongly.
    let moved = scene.platform.get(HOST, &scene.path("?x=1"), &[("cookie", &scene.cookie), PAGE]).await;
    assert_eq!((moved.status, moved.header("location")), (308, scene.path("/?x=1").as_str()));
    // The instance's own program has its own paths.
    let own = scene.platform.get(HOST, "/echo", &[("cookie", &scene.cookie)]).await;
    assert_eq!(own.json()["uri"], "/echo");
}

#[tokio::test]
async fn a_ports_host_is_an_origin_with_a_session_of_its_own() {
    let scene = scene().await;
    scene.open_it().await;
    let (platform, host) = (&scene.platform, scene.host());
    let stranger = platform.get(&host, "/", &[("cookie", &scene.cookie)]).await;
    assert_eq!(stranger.status, 401, "the session of the instance's own host is no good here");
    let cookie = scene.hand_off(&host).await;
    assert_eq!(platform.get(HOST, "/echo", &[("cookie", &cookie)]).await.status, 401, "nor the other way round");
    let told = platform.get(&host, "/_port/3000/x", &[("cookie", &cookie), PAGE]).await.text();
    assert!(told.starts_with("second program: GET /_port/3000/x\n"), "nothing is taken off a path here: {told}");
    assert!(told.contains(&format!("x-forwarded-host: {host}\n")) && !told.contains("x-forwarded-prefix"), "{told}");
    let (theirs, own) = (format!("https://{HOST}"), format!("https://{host}"));
    for (origin, status) in [(theirs.as_str(), 403), (own.as_str(), 200)] {
        let answer = platform.send("POST", &host, "/", &[("cookie", &cookie), ("origin", origin)], "x").await;
        assert_eq!(answer.status, status, "from {origin}");
    }
    let crossing = [("cookie", scene.cookie.as_str()), ("origin", own.as_str())];
    assert_eq!(platform.send("POST", HOST, "/echo", &crossing, "x").await.status, 403, "a port's page is a sibling's");
}

#[tokio::test]
async fn a_port_is_for_the_owner_alone() {
    let scene = scene().await;
    scene.open_it().await;
    let (platform, host) = (&scene.platform, scene.host());
    let bob = platform.settle_in("bob").await;
    let bobs = platform.instance_cookie(&bob).await;
    let app = bob.app_cookie();
    for cookie in [&bobs, &app] {
        assert_eq!(platform.get(&host, "/", &[("cookie", cookie)]).await.status, 401);
        assert_eq!(platform.get(HOST, &scene.path("/"), &[("cookie", cookie)]).await.status, 401);
    }
    let sent = platform.get(&host, "/", &[PAGE]).await;
    let path = sent.header("location").strip_prefix("https://app.example.com").unwrap().to_owned();
    let refused = platform.get("app.example.com", &path, &[("cookie", &app), PAGE]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("opens only for its owner"), "{}", refused.text());
    let theirs = format!("{}--bob.example.com", scene.port);
    assert_eq!(platform.get(&theirs, "/", &[("cookie", &bobs)]).await.status, 404, "it is open in one instance alone");
}

#[tokio::test]
async fn a_visit_to_a_port_wakes_the_instance_and_a_passive_request_does_not() {
    let scene = scene().await;
    scene.open_it().await;
    let (platform, host) = (&scene.platform, scene.host());
    let cookie = scene.hand_off(&host).await;
    platform.instances().sleep(&scene.alice.instance, Wish::Stopped, Cause::OwnerAsked).await.unwrap();
    until(&scene.alice.instance, |s| s.fact == Fact::Stopped).await;
    platform.instances().settled().await;
    let starts = platform.host.calls(Verb::Start);
    for (host, path, cookie) in
        [(host.as_str(), "/favicon.ico", &cookie), (HOST, scene.path("/favicon.ico").as_str(), &scene.cookie)]
    {
        assert_eq!(platform.get(host, path, &[("cookie", cookie)]).await.status, 503, "{host}{path}");
    }
    assert_eq!(platform.get(&host, "/.berth/status", &[("cookie", &scene.cookie)]).await.status, 401);
    assert_eq!(platform.host.calls(Verb::Start), starts);
    let told = platform.get(&host, "/x", &[("cookie", &cookie)]).await;
    assert!(told.text().starts_with("second program: GET /x\n"), "held until it was awake: {}", told.text());
    assert!(told.header("server-timing").starts_with("wake;desc=stopped;dur="));
}

#[tokio::test]
async fn a_port_without_a_listener_explains_how_to_listen() {
    let scene = scene().await;
    scene.open(&format!("{}, 1025", scene.port)).await;
    let page = scene.platform.get(HOST, "/_port/1025/", &[("cookie", &scene.cookie), PAGE]).await;
    assert_eq!(page.status, 502);
    assert!(page.text().contains("listen on all addresses"), "{}", page.text());
    assert!(scene.alice.instance.is_awake(), "the instance itself is well");
}

#[tokio::test]
async fn connections_of_one_port_are_never_used_for_another() {
    let scene = scene().await;
    scene.open_it().await;
    for n in 0..20 {
        let own = scene.platform.get(HOST, "/echo", &[("cookie", &scene.cookie)]).await;
        assert_eq!(own.json()["uri"], "/echo", "{n}");
        let second = scene.platform.get(HOST, &scene.path("/echo"), &[("cookie", &scene.cookie)]).await;
        assert!(second.text().starts_with("second program: GET /echo\n"), "{n}: {}", second.text());
    }
}

#[tokio::test]
async fn a_websocket_passes_by_a_ports_host() {
    let scene = scene().await;
    // A second program that speaks the upgraded protocol.
    let inside = TcpListener::bind(SocketAddr::from((scene.alice.instance.address(), 0))).await.unwrap();
    let port = inside.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = inside.accept().await.unwrap();
        let mut head = [0; 4096];
        let n = stream.read(&mut head).await.unwrap();
        assert!(String::from_utf8_lossy(&head[..n]).to_lowercase().contains("upgrade: echo"));
        stream.write_all(b"HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
        let n = stream.read(&mut head).await.unwrap();
        stream.write_all(&head[..n]).await.unwrap();
    });
    scene.open(&port.to_string()).await;
    let host = format!("{port}--{HOST}");
    let cookie = scene.hand_off(&host).await;
    let mut stream = TcpStream::connect(scene.platform.address).await.unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nOrigin: https://{host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    let n = stream.read(&mut answer).await.unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer[..n]));
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
}

#[tokio::test]
async fn open_ports_outlast_a_restart() {
    let mut scene = scene().await;
    scene.open_it().await;
    scene.platform.restart().await;
    until(&scene.platform.instances().by_handle(&scene.alice.instance.handle).unwrap(), |s| s.fact == Fact::Awake)
        .await;
    let told = scene.platform.get(HOST, &scene.path("/x"), &[("cookie", &scene.cookie)]).await.text();
    assert!(told.starts_with("second program: GET /x\n"), "{told}");
}

#[tokio::test]
async fn webhooks_reach_only_the_program_on_the_contracts_port() {
    let scene = scene().await;
    scene.open_it().await;
    let (platform, host) = (&scene.platform, scene.host());
    let id = scene.alice.instance.id;
    platform.app.webhooks.open_path(id, "/hooks/a", berth::webhooks::PathSuffix::None).await.unwrap();
    assert_eq!(platform.send("POST", HOST, "/hooks/a", &[], "x").await.status, 202);
    assert_eq!(platform.send("POST", &host, "/hooks/a", &[], "x").await.status, 401);
}

#[tokio::test]
async fn ports_are_opened_on_the_dashboard_and_by_the_api() {
    let platform = FakePlatform::new(&[]).await;
    let mut alice = WebClient::of(&platform.app);
    alice.sign_up("handle=alice").await;
    assert_eq!(
        alice.get("/api/instance/ports").await.json().await,
        serde_json::json!({ "items": [], "next": null, "limit": 16 })
    );
    assert_eq!(alice.post("/instance/ports", "ports=8000-8001%2C+3000").await.in_short(), "303 /#ports");
    let page = alice.get("/").await.text().await;
    assert!(page.contains("value=\"3000, 8000-8001\"") && page.contains("href=\"https://3000--alice.example.com\""));
    assert!(page.contains("href=\"https://alice.example.com/_port/8001/\""), "{page}");
    for (typed, sentence) in [
        ("80", "80 is not between 1024 and 65535."),
        ("3000;4000", "numbers and ranges between commas"),
        ("3000-3016", "At most 16 ports"),
    ] {
        let page = alice.post("/instance/ports", &format!("ports={typed}")).await;
        assert_eq!(page.status, 422, "{typed}");
        let page = page.text().await;
        assert!(page.contains(sentence) && page.contains(&format!("value=\"{typed}\"")), "{typed}: {page}");
    }
    let instance = platform.instances().by_handle(&berth_ground::handle::Handle::parse("alice").unwrap()).unwrap();
    let own = instance.socket().port();
    let taken =
        alice.send_json(Method::PUT, "/api/instance/ports", &serde_json::json!({ "ports": own.to_string() })).await;
    assert_eq!(taken.status, 422);
    assert_eq!(taken.json().await["errors"][0]["field"], "ports");
    let now =
        alice.send_json(Method::PUT, "/api/instance/ports", &serde_json::json!({ "ports": "5173" })).await.json().await;
    let open = serde_json::json!({
        "port": 5173,
        "url": "https://5173--alice.example.com",
        "path_url": "https://alice.example.com/_port/5173/",
    });
    assert_eq!(now, serde_json::json!({ "items": [open], "next": null, "limit": 16 }));
    assert_eq!(alice.get("/api/instance/ports").await.json().await, now);
}
