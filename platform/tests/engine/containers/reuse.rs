//! Address reuse on a real Engine: an account is deleted, another one gets its address, and no request reaches the
//! wrong instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use berth::instances::Fact;
use berth::serve::Front;
use berth_ground::clock::Clock;
use berth_ground::handle::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use berth_testing::container_hosts::{WITH_HOME, docker_cli, engine_for};
use berth_testing::fake_platform;
use berth_testing::person::Person;
use berth_testing::process::start_app;
use berth_testing::tenant_image::forget_firewall;
use berth_testing::wait::eventually;
use berth_testing::{config, sqlite};

const REQUESTS: usize = 10_000;
const AT_ONCE: usize = 8;
const INSTALLATION: &str = "ctestreuse";
const SETTINGS: &[(&str, &str)] = &[
    ("BERTH_NETWORK", INSTALLATION),
    ("BERTH_SUBNET", "10.98.0.0"),
    ("BERTH_IMAGES", WITH_HOME),
    ("BERTH_MEMORY_MIB", "64"),
    ("BERTH_DISK_MIB", "64"),
    ("BERTH_DISK", "image"),
];

/// Removes the objects of this test from the Engine when it is dropped.
struct Swept;

impl Drop for Swept {
    fn drop(&mut self) {
        sweep();
    }
}

fn sweep() {
    let label = format!("label=berth.installation={INSTALLATION}");
    for (list, remove) in [
        (&["ps", "-aq"][..], &["rm", "-fv"][..]),
        (&["volume", "ls", "-q"], &["volume", "rm", "-f"]),
        (&["network", "ls", "-q"], &["network", "rm"]),
    ] {
        let there = docker_cli(&[list, &["--filter", &label]].concat());
        let there: Vec<&str> = there.split_whitespace().collect();
        if !there.is_empty() {
            docker_cli(&[remove, &there].concat());
        }
    }
    forget_firewall(INSTALLATION);
}

/// Whom a request reached: the handle that the program inside was told.
async fn reached(front: &Front, handle: &str, cookie: &str) -> Option<String> {
    let request = Request::get("/env").header("host", format!("{handle}.example.com")).header("cookie", cookie);
    let answer = front.respond(request.body(Body::empty()).unwrap()).await;
    if answer.status() != 200 {
        return None;
    }
    let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.ok()?;
    let told = String::from_utf8_lossy(&body).into_owned();
    told.lines().find_map(|line| line.strip_prefix("BERTH_HANDLE=")).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_while_an_address_passes_on_reach_nobody_else() {
    let database = sqlite().await;
    let (config, clock) = (config(&database, SETTINGS), Clock::manual(Clock::system().now()));
    let (host, _engine) = engine_for(config.containers.clone(), &clock).await;
    sweep();
    let _swept = Swept;
    let host: Arc<dyn berth_containers::ContainerHost> = Arc::new(host);
    host.ensure_networks().await.unwrap();
    let end = CancellationToken::new();
    let app = start_app(config, clock.clone(), Arc::clone(&host), &end).await;
    let front = berth::serve::public_router(app.clone());

    let alice = Person::sign_up(&app, "alice").await;
    fake_platform::until(&alice.instance, |status| status.fact == Fact::Awake).await;
    let (tell, cookies) = watch::channel([alice.cookie_for(&app.accounts, &alice.host()).await, String::new()]);
    let sent = Arc::new(AtomicUsize::new(0));
    let answered = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let visitors: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (front, cookies) = (front.clone(), cookies.clone());
            let (sent, answered) = (Arc::clone(&sent), Arc::clone(&answered));
            tokio::spawn(async move {
                loop {
                    let n = sent.fetch_add(1, Ordering::SeqCst);
                    if n >= REQUESTS {
                        return;
                    }
                    let who = n % 2;
                    let handle = ["alice", "bob-box"][who];
                    let cookie = cookies.borrow()[who].clone();
                    if let Some(told) = reached(&front, handle, &cookie).await {
                        assert_eq!(told, handle, "request {n} was misrouted");
                        answered[who].fetch_add(1, Ordering::SeqCst);
                    } else {
                        // Real time: refused requests cost nothing, and some of the requests must be left for bob.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            })
        })
        .collect();

    eventually("alice was visited a hundred times", async || answered[0].load(Ordering::SeqCst) >= 100).await;
    app.accounts.schedule_deletion_of(&Handle::parse("alice").unwrap(), "operator").await.unwrap();
    fake_platform::until(&alice.instance, |status| status.fact == Fact::Stopped).await;
    app.accounts.advance_deletions(&app.modules).await.unwrap();
    clock.advance(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(app.accounts.advance_deletions(&app.modules).await.unwrap(), 1);
    clock.advance(Duration::from_secs(24 * 3600));
    let bob = Person::sign_up(&app, "bob-box").await;
    assert_eq!(bob.instance.address(), alice.instance.address(), "the place is given again");
    fake_platform::until(&bob.instance, |status| status.fact == Fact::Awake).await;
    let bobs = bob.cookie_for(&app.accounts, &bob.host()).await;
    tell.send_modify(|cookies| cookies[1] = bobs);
    for visitor in visitors {
        visitor.await.unwrap();
    }
    assert!(answered[1].load(Ordering::SeqCst) >= 100, "{answered:?}");
    end.cancel();
}
