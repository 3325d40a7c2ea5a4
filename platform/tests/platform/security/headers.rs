//! Header filters, directly and through Caddy: a response has no effect beyond its own host, and a program sees no
//! forged headers and none of our cookies.

use std::net::Ipv4Addr;

use tokio::net::TcpStream;

use berth_testing::caddy::{CaddyProxy, VISITOR};
use berth_testing::fake_platform::FakePlatform;
use berth_testing::http1_client::{Reply, Stream, Wire};
use berth_testing::raw_program::{Act, RawProgram, Seen};

/// Headers of an instance's response, and whether the browser gets them.
const ANSWER: [(&str, &str, bool); 38] = [
    ("Set-Cookie", "a=1", true),
    ("Set-Cookie", "b=2; Path=/; HttpOnly", true),
    ("Set-Cookie", "own=3; Domain=alice.example.com", true),
    ("Set-Cookie", "dot=4; Domain=.Alice.Example.com", true),
    ("Set-Cookie", "empty=5; Domain=", true),
    ("Set-Cookie", "word=6; Path=/domain=example.com", true),
    ("Set-Cookie", "up=1; Domain=example.com", false),
    ("Set-Cookie", "up=2; Domain=.example.com", false),
    ("Set-Cookie", "up=3;DOMAIN=EXAMPLE.COM", false),
    ("Set-Cookie", "up=4;\tdomain =\t example.com", false),
    ("Set-Cookie", "up=5; Domain=alice.example.com; Domain=example.com", false),
    ("Set-Cookie", "up=6; Domain=example.com; Domain=alice.example.com", false),
    ("Set-Cookie", "side=7; Domain=bob.example.com", false),
    ("Set-Cookie", "app=8; Domain=app.example.com", false),
    ("Set-Cookie", "below=9; Domain=x.alice.example.com", false),
    ("Set-Cookie", "quoted=10; Domain=\"example.com\"", false),
    ("Set-Cookie", "__Host-berth=planted; Secure; Path=/", false),
    ("Set-Cookie", "__host-berth-pending=planted; Secure; Path=/", false),
    ("Set-Cookie", "=__Host-berth=planted", false),
    ("Set-Cookie", " = __Host-berth=planted", false),
    ("Set-Cookie", "__Host-berth", false),
    ("Clear-Site-Data", "\"cookies\"", false),
    ("clear-site-data", "\"*\"", false),
    ("Alt-Svc", "h3=\"evil.example.com:443\"; persist=1", false),
    ("Public-Key-Pins", "pin-sha256=\"x\"; includeSubDomains", false),
    ("Public-Key-Pins-Report-Only", "pin-sha256=\"x\"", false),
    ("Expect-CT", "enforce", false),
    ("NEL", "{\"report_to\":\"x\",\"include_subdomains\":true}", false),
    ("Report-To", "{\"group\":\"x\",\"include_subdomains\":true}", false),
    ("X-Accel-Redirect", "/etc/passwd", false),
    ("X-Accel-Buffering", "no", false),
    ("Via", "1.1 evil", false),
    ("Server", "evil", false),
    ("Keep-Alive", "timeout=99", false),
    ("Proxy-Authenticate", "Basic", false),
    ("X-Named", "in Connection", false),
    ("X-Kept", "one", true),
    ("X-Kept", "two", true),
];

/// Headers of a browser's request that the program must not see as they were sent.
const FORGED: [(&str, &str); 34] = [
    ("X-Forwarded-For", "6.6.6.6"),
    ("x-forwarded-for", "6.6.6.7, 6.6.6.8"),
    ("X_Forwarded_For", "6.6.6.6"),
    ("X.Forwarded.For", "6.6.6.6"),
    ("X-Forwarded_For", "6.6.6.6"),
    ("X-Forwarded-Host", "evil.test"),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Forwarded-Port", "6"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-Server", "evil"),
    ("X-Forwarded-User", "evil"),
    ("X-Forwarded", "for=6.6.6.6"),
    ("Forwarded", "for=6.6.6.6;host=evil.test"),
    ("FORWARDED", "for=\"[6::6]\""),
    ("X-Real-IP", "6.6.6.6"),
    ("X-Real-Ip", "6.6.6.6"),
    ("X_Real_Ip", "6.6.6.6"),
    ("X-Client-IP", "6.6.6.6"),
    ("True-Client-IP", "6.6.6.6"),
    ("CF-Connecting-IP", "6.6.6.6"),
    ("X-Original-URL", "/evil"),
    ("X-Original-Forwarded-For", "6.6.6.6"),
    ("X-Rewrite-URL", "/evil"),
    ("X-User-Id", "evil"),
    ("X-Berth-User", "evil"),
    ("x-berth-user", "evil"),
    ("X_Berth_User", "evil"),
    ("X.Berth.User", "evil"),
    ("X-Berth-Assertion", "evil"),
    ("X-Berth-Anything", "evil"),
    ("Keep-Alive", "timeout=evil"),
    ("Proxy-Connection", "evil"),
    ("Proxy-Authorization", "evil"),
    ("X-Named", "evil"),
];

struct Scene {
    program: RawProgram,
    platform: FakePlatform,
    cookie: String,
}

impl Scene {
    async fn set() -> Self {
        let program = RawProgram::start(answer).await;
        let platform = FakePlatform::with_programs_on(program.port, &[]).await;
        let alice = platform.settle_in("alice").await;
        let cookie = platform.instance_cookie(&alice).await;
        Self { program, platform, cookie }
    }

    async fn straight(&self) -> Wire<impl Stream> {
        Wire::on(TcpStream::connect(self.platform.address).await.unwrap())
    }

    /// Requests `/answer` with all forged headers.
    async fn ask(&self, wire: &mut Wire<impl Stream>, more: &str) -> Reply {
        let forged: String = FORGED.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET /answer HTTP/1.1\r\nHost: alice.example.com\r\nConnection: keep-alive, X-Named\r\n\
             Cookie: theirs=1; {}; __Host-berth-pending=evil; __HOST-BERTH-device=evil; more=2\r\n{forged}{more}\r\n",
            self.cookie
        );
        wire.send(request.as_bytes()).await;
        wire.reply().await.unwrap()
    }
}

fn answer(_: &Seen) -> Vec<Act> {
    let fields: String = ANSWER.iter().map(|(name, value, _)| format!("{name}: {value}\r\n")).collect();
    let mut acts = vec![Act::Say(format!("HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Named\r\n{fields}").into())];
    acts.push(Act::Say(b"Content-Length: 2\r\n\r\nok".to_vec()));
    acts
}

fn only_its_own(reply: &Reply) {
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    for name in ["set-cookie", "x-kept"] {
        let kept: Vec<&str> =
            ANSWER.iter().filter(|(n, _, kept)| n.eq_ignore_ascii_case(name) && *kept).map(|(_, v, _)| *v).collect();
        assert_eq!(reply.all(name), kept, "{name}: all allowed ones, separately and in order");
    }
    for (name, value, _) in ANSWER.iter().filter(|(name, _, kept)| !kept && *name != "Set-Cookie") {
        // Caddy adds its own Alt-Svc and Server.
        assert!(!reply.all(&name.to_lowercase()).contains(value), "{name}");
    }
}

fn nothing_forged(seen: &Seen, ip: Ipv4Addr) {
    assert!(
        !seen.head.contains("evil") && !seen.head.contains("6.6.6.") && !seen.head.contains("6::6"),
        "{}",
        seen.head
    );
    assert_eq!(seen.all("cookie"), ["theirs=1; more=2"]);
    assert_eq!(seen.all("x-forwarded-for"), [ip.to_string()]);
    assert_eq!(
        (seen.all("x-forwarded-proto"), seen.all("x-forwarded-host")),
        (vec!["https"], vec!["alice.example.com"])
    );
    assert_eq!((seen.all("x-berth-user"), seen.all("host")), (vec!["alice"], vec!["alice.example.com"]));
    let names = seen.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let names: Vec<String> = names.map(|(name, _)| name.to_lowercase().replace(['_', '.'], "-")).collect();
    for ours in names.iter().filter(|name| name.starts_with("x-forwarded") || name.starts_with("x-berth")) {
        let known = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-berth-user", "x-berth-assertion"];
        assert!(known.contains(&ours.as_str()), "{ours}");
    }
    assert!(names.iter().all(|name| name != "x-real-ip" && name != "forwarded"), "{names:?}");
}

#[tokio::test]
async fn a_response_has_no_effect_beyond_its_own_host() {
    let scene = Scene::set().await;
    only_its_own(&scene.ask(&mut scene.straight().await, "").await);
    let front = CaddyProxy::of(&scene.platform).await;
    let stream = front.connect(&front.own_authority(), "alice.example.com", &[b"http/1.1"]).await.unwrap();
    only_its_own(&scene.ask(&mut Wire::on(stream), "").await);
}

#[tokio::test]
async fn a_program_sees_no_forged_headers_and_none_of_our_cookies() {
    let scene = Scene::set().await;
    // As Caddy appends it, behind the forged values.
    scene.ask(&mut scene.straight().await, "X-Forwarded-For: 203.0.113.9\r\n").await;
    let front = CaddyProxy::of(&scene.platform).await;
    let stream = front.connect(&front.own_authority(), "alice.example.com", &[b"http/1.1"]).await.unwrap();
    scene.ask(&mut Wire::on(stream), "").await;
    let [straight, through_caddy] = &scene.program.seen()[..] else { panic!("{:?}", scene.program.seen()) };
    nothing_forged(straight, Ipv4Addr::new(203, 0, 113, 9));
    nothing_forged(through_caddy, VISITOR);
}

#[tokio::test]
async fn a_visitor_cannot_forge_their_address() {
    let scene = Scene::set().await;
    let front = CaddyProxy::of(&scene.platform).await;
    for (name, value) in FORGED {
        let stream = front.connect(&front.own_authority(), "alice.example.com", &[b"http/1.1"]).await.unwrap();
        let mut wire = Wire::on(stream);
        let request = format!(
            "GET /answer HTTP/1.1\r\nHost: alice.example.com\r\nCookie: {}\r\n{name}: {value}\r\nConnection: close, {name}\r\n\r\n",
            scene.cookie
        );
        wire.send(request.as_bytes()).await;
        assert_eq!(wire.reply().await.unwrap().status, 200);
        let seen = scene.program.seen().pop().unwrap();
        assert_eq!(seen.all("x-forwarded-for"), [VISITOR.to_string()], "{name}: {value}");
        let says = |line: &str| line.split_once(": ").is_some_and(|(_, said)| said == value);
        assert!(!seen.head.lines().any(says), "{name}: {value}");
    }
}

#[tokio::test]
async fn a_cookie_bomb_is_refused_and_deleted() {
    let platform = FakePlatform::new(&[]).await;
    let bomb: String = (0..5).map(|n| format!("planted{n}={}; ", "x".repeat(4000))).collect();
    for host in ["app.example.com", "example.com"] {
        let refused =
            platform.get(host, "/", &[("cookie", bomb.trim_end_matches("; ")), ("accept", "text/html")]).await;
        assert_eq!((refused.status, refused.header("clear-site-data")), (431, "\"cookies\""), "{host}");
        assert!(refused.text().contains("too many cookies"), "{}", refused.text());
    }
}
