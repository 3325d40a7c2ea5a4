//! Request smuggling: a corpus of ambiguous requests, sent directly and through Caddy.
//!
//! For each, the program in the container sees at most the requests that a strict parser of RFC 9112 and RFC 9113 sees,
//! and the next visitor on the connection gets the response to their own request.

mod corpus;
mod frames;

use corpus::{Case, Reads};
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpStream;

use berth_testing::caddy::CaddyProxy;
use berth_testing::fake_platform::FakePlatform;
use berth_testing::http1_client::{Reply, Stream, Wire};
use berth_testing::person::Person;
use berth_testing::raw_program::{RawProgram, Seen, ok};

/// Alice sends the ambiguous bytes, bob is the next visitor.
struct Scene {
    program: RawProgram,
    platform: FakePlatform,
    alice: Person,
    bob: Person,
    /// `Cookie` of each.
    alices: String,
    bobs: String,
}

impl Scene {
    async fn set() -> Self {
        let program = RawProgram::start(|seen| ok(&format!("{} {}", seen.at, seen.path()))).await;
        let platform = FakePlatform::with_programs_on(program.port, &[]).await;
        let (alice, bob) = (platform.settle_in("alice").await, platform.settle_in("bob").await);
        let (alices, bobs) = (platform.instance_cookie(&alice).await, platform.instance_cookie(&bob).await);
        Self { program, platform, alice, bob, alices, bobs }
    }

    /// The response of a person's program to a request for `path`.
    fn said(&self, person: &Person, path: &str) -> String {
        format!("{} {path}", person.instance.socket().ip())
    }

    /// Bob's request, after which the connection is closed.
    fn honest(&self, path: &str) -> Vec<u8> {
        let cookie = &self.bobs;
        format!("GET {path} HTTP/1.1\r\nHost: bob.example.com\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n").into()
    }
}

/// The result of one case, sent directly or through Caddy. Faults are collected in `wrong`.
struct Verdict<'a> {
    scene: &'a Scene,
    case: &'a str,
    reads: Reads,
    outer: String,
    inner: String,
    honest: String,
    wrong: Vec<String>,
}

impl<'a> Verdict<'a> {
    fn on(scene: &'a Scene, case: &'a str, reads: Reads, way: &str, n: usize) -> Self {
        let path = |what| format!("/{way}-{n}-{what}");
        let (outer, inner, honest) = (path("outer"), path("inner"), path("honest"));
        Self { scene, case, reads, outer, inner, honest, wrong: Vec::new() }
    }

    fn say(&mut self, what: String) {
        self.wrong.push(format!("{}: {what}", self.case));
    }

    /// Checks the responses on the connection that carried the ambiguous bytes: each answers a request of its own, in
    /// order, and bob's is bob's.
    fn answers(&mut self, answers: &[String]) {
        let alice = &self.scene.alice;
        let bob = &self.scene.bob;
        let mut turns = vec![self.scene.said(alice, &self.outer)];
        turns.extend((self.reads == Reads::Both).then(|| self.scene.said(alice, &self.inner)));
        turns.push(self.scene.said(bob, &self.honest));
        let mut turns = turns.iter();
        for answer in answers.iter() {
            if !turns.any(|turn| turn == answer) {
                self.say(format!("a response out of order: {answer}, among {answers:?}"));
            }
        }
    }

    /// Checks the requests that the programs received.
    fn seen(&mut self, seen: &[Seen]) {
        let count = |path: &str| seen.iter().filter(|s| s.path() == path && s.wrong.is_none()).count();
        let (outer, inner) = (count(&self.outer), count(&self.inner));
        let (least, most) = match self.reads {
            Reads::Nothing => ([0, 0], [0, 0]),
            Reads::One => ([0, 0], [1, 0]),
            Reads::Served => ([1, 0], [1, 0]),
            Reads::Both => ([0, 0], [1, 1]),
        };
        if outer < least[0] || outer > most[0] || inner < least[1] || inner > most[1] {
            self.say(format!(
                "{outer} of the outer request and {inner} of the inner, and a strict parser sees {:?}",
                self.reads
            ));
        }
        let home = self.scene.alice.instance.socket().ip();
        let theirs: Vec<&Seen> = seen.iter().filter(|s| s.path() == self.outer || s.path() == self.inner).collect();
        for seen in theirs {
            if let Some(wrong) = seen.wrong.filter(|wrong| !wrong.contains("ends in its middle")) {
                self.say(format!("the program was sent {wrong}: {:?}", seen.head));
            }
            let forged = ["http2-settings", "upgrade", "keep-alive", "proxy-connection", "trailer"];
            let forged = forged.iter().find(|name| !seen.all(name).is_empty());
            let named = [seen.all("host"), seen.all("x-forwarded-host"), seen.all("x-berth-user")];
            if seen.at != home || forged.is_some() || named != [["alice.example.com"], ["alice.example.com"], ["alice"]]
            {
                self.say(format!("the program at {} received forged headers: {:?}", seen.at, seen.head));
            }
        }
    }
}

/// Checks that bob is served on a connection of his own.
async fn bob_is_served(stream: impl Stream, verdict: &mut Verdict<'_>) {
    let fresh = format!("{}-fresh", verdict.honest);
    let mut wire = Wire::on(stream);
    wire.send(&verdict.scene.honest(&fresh)).await;
    let reply = wire.reply().await;
    if reply.as_ref().is_none_or(|reply| reply.body != verdict.scene.said(&verdict.scene.bob, &fresh)) {
        verdict.say(format!("bob got {reply:?}"));
    }
}

/// The bodies of the responses that came from a program. All others have to be clean refusals, with a reason if they
/// are the platform's.
fn told(replies: Vec<Reply>, verdict: &mut Verdict<'_>) -> Vec<String> {
    // The response to HEAD has no body.
    for reply in replies
        .iter()
        .filter(|reply| !reply.body.starts_with("127.89.") && (reply.status, reply.body.as_str()) != (200, ""))
    {
        let plain = reply.all("content-type").first().is_some_and(|kind| kind.starts_with("text/plain"));
        // The second is Caddy's page for a request that it could not forward.
        let says_why = ["\"detail\"", "Back in a moment"].iter().any(|words| reply.body.contains(words));
        let says_why = says_why || plain || reply.body.is_empty();
        if !(400..=505).contains(&reply.status) || !says_why {
            verdict.say(format!("no clean refusal: {reply:?}"));
        }
    }
    replies.into_iter().map(|reply| reply.body).filter(|body| body.starts_with("127.89.")).collect()
}

/// Fails with all faults of all cases.
fn judge(scene: &Scene, verdicts: Vec<Verdict<'_>>) {
    let seen = scene.program.seen();
    let mut wrong = Vec::new();
    for mut verdict in verdicts {
        verdict.seen(&seen);
        wrong.append(&mut verdict.wrong);
    }
    let strays: Vec<&Seen> =
        seen.iter().filter(|seen| !seen.path().starts_with('/') || seen.path().contains("smuggled")).collect();
    assert!(wrong.is_empty() && strays.is_empty(), "{}\n{strays:?}", wrong.join("\n"));
}

fn names(scene: &Scene, verdict: &Verdict<'_>) -> corpus::Names {
    corpus::Names { outer: verdict.outer.clone(), inner: verdict.inner.clone(), cookie: scene.alices.clone() }
}

/// Cases that run at a time, so that Caddy reuses its connections to the platform for different ones.
const AT_ONCE: usize = 8;

async fn tell_all<'a, C>(cases: Vec<C>, tell: impl AsyncFn(usize, C) -> Verdict<'a>) -> Vec<Verdict<'a>> {
    let told = stream::iter(cases.into_iter().enumerate()).map(|(n, case)| tell(n, case));
    told.buffer_unordered(AT_ONCE).collect().await
}

#[tokio::test]
async fn no_bytes_on_a_connection_to_the_platform_smuggle_a_request() {
    let scene = Scene::set().await;
    let connect = async || TcpStream::connect(scene.platform.address).await.unwrap();
    let verdicts = tell_all(corpus::cases(), async |n, Case { name, straight, bytes, .. }| {
        let mut verdict = Verdict::on(&scene, name, straight, "straight", n);
        let mut wire = Wire::on(connect().await);
        let sent = corpus::fill(&bytes, &names(&scene, &verdict));
        // Bob's request follows on the same connection, as when Caddy reuses one for another visitor.
        wire.send(&[sent, scene.honest(&verdict.honest)].concat()).await;
        let answers = told(wire.replies().await, &mut verdict);
        verdict.answers(&answers);
        bob_is_served(connect().await, &mut verdict).await;
        verdict
    })
    .await;
    judge(&scene, verdicts);
}

#[tokio::test]
async fn no_bytes_on_a_connection_to_caddy_smuggle_a_request() {
    let scene = Scene::set().await;
    let front = CaddyProxy::of(&scene.platform).await;
    let authority = front.own_authority();
    let connect = async |host| front.connect(&authority, host, &[b"http/1.1"]).await.unwrap();
    let verdicts = tell_all(corpus::cases(), async |n, Case { name, through_caddy, bytes, .. }| {
        let mut verdict = Verdict::on(&scene, name, through_caddy, "caddy", n);
        let mut wire = Wire::on(connect("alice.example.com").await);
        wire.send(&corpus::fill(&bytes, &names(&scene, &verdict))).await;
        let answers = told(wire.replies().await, &mut verdict);
        verdict.answers(&answers);
        bob_is_served(connect("bob.example.com").await, &mut verdict).await;
        verdict
    })
    .await;
    judge(&scene, verdicts);
}

#[tokio::test]
async fn no_http2_frames_smuggle_a_request() {
    let scene = Scene::set().await;
    let front = CaddyProxy::of(&scene.platform).await;
    let authority = front.own_authority();
    let connect = async |host, protocol: &[u8]| front.connect(&authority, host, &[protocol]).await.unwrap();
    let verdicts = tell_all(frames::cases(), async |n, case: frames::Case| {
        let mut verdict = Verdict::on(&scene, case.name, case.reads, "frames", n);
        let mut connection = frames::Connection::on(connect("alice.example.com", b"h2").await).await;
        let names = names(&scene, &verdict);
        let mut answers: Vec<String> = connection.odd(&case, &names).await.into_iter().collect();
        answers.extend(connection.honest("bob.example.com", &verdict.honest, &scene.bobs).await);
        answers.retain(|answer| answer.starts_with("127.89."));
        verdict.answers(&answers);
        bob_is_served(connect("bob.example.com", b"http/1.1").await, &mut verdict).await;
        verdict
    })
    .await;
    judge(&scene, verdicts);
}
