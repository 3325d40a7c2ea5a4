//! The main job, end to end on real parts: a real browser, Caddy's certificate, a real container, real bytes through
//! the quota proxy. One platform and one test, because the parts take a while to start.

mod another_image;

use std::process::Command;

use serde_json::Value;

use berth_testing::chromium::ChromiumUser;
use berth_testing::deployed_stack::{DeployedStack, root};

#[tokio::test(flavor = "multi_thread")]
async fn first_light() {
    another_image::import();
    let stack = DeployedStack::up_with(&[("BERTH_IMAGES", another_image::allowed())]);
    let mut admin = ChromiumUser::at(&stack).await;
    the_first_account_is_the_admin(&stack, &mut admin).await;
    let mut alice = ChromiumUser::at(&stack).await;
    somebody_signs_up_and_lands_in_their_own_container(&stack, &mut alice).await;
    an_answer_is_streamed_and_paid_for(&stack, &alice).await;
    programs_inside_use_the_official_sdks(&stack);
    asleep_and_woken_by_a_visit(&stack, &alice).await;
    a_program_is_held_until_it_is_awake(&stack, &alice).await;
    another_image::runs_on_the_same_files(&stack, &alice).await;
    stack.berth(&["instance", "sleep", "alice", "--stop"]);
    stack.until_fact("alice", &["stopped"]);
    a_stranger_neither_opens_nor_wakes_it(&stack, &admin).await;
    a_handle_that_does_not_exist_gets_no_certificate(&stack);
    out_and_in_again(&stack, &alice).await;
    the_admin_needs_a_code_as_well(&stack, &admin).await;
    killed_in_the_middle_it_converges(&stack, &alice).await;
    the_engine_stops_and_comes_back(&stack, &alice).await;
    suspended_is_out(&stack, &alice).await;
}

async fn the_first_account_is_the_admin(stack: &DeployedStack, admin: &mut ChromiumUser) {
    let link = stack.berth(&["setup-link"]);
    admin.sign_up(stack, &link, "harbourmaster").await;
    assert!(stack.berth(&["user", "list"]).contains("admin"));
    let again = stack.try_berth(&["setup-link"]);
    assert!(!again.status.success(), "there is an account now");
    admin.goto(&format!("{}/admin", stack.origin("app"))).await;
    admin.until_it_says("harbourmaster").await;
}

async fn somebody_signs_up_and_lands_in_their_own_container(stack: &DeployedStack, alice: &mut ChromiumUser) {
    alice.goto(&stack.origin("")).await;
    alice.until_it_says("Claim your handle").await;
    alice.goto(&format!("{}/sign-up", stack.origin("app"))).await;
    for (typed, note) in [("al", "Too short"), ("admin", "reserved"), ("harbourmaster", "is taken"), ("alice", "free")]
    {
        alice.type_into("#handle", typed).await;
        alice
            .until(&format!("\"{note}\" beside {typed}"), async || {
                alice
                    .find("[data-note]")
                    .await
                    .text()
                    .await
                    .unwrap_or_default()
                    .to_lowercase()
                    .contains(&note.to_lowercase())
            })
            .await;
    }
    let first_page = format!("{}/sign-up", stack.origin("app"));
    alice.sign_up(stack, &first_page, "alice").await;
    assert_eq!(visits(alice).await, 1);
    alice.page.refresh().await.unwrap();
    assert_eq!(visits(alice).await, 2, "counted in the volume");
}

async fn an_answer_is_streamed_and_paid_for(stack: &DeployedStack, alice: &ChromiumUser) {
    alice.type_into("textarea", "How deep is the harbour?").await;
    alice.click("main form button").await;
    alice.until_it_says("demo model").await;
    alice.goto(&stack.origin("app")).await;
    let spend = format!("{}/api/usage", stack.origin("app"));
    alice
        .until("the call to be settled", async || {
            let spend = page_json(alice, &spend).await;
            spend["held_nanodollars"] == 0 && spend["spent_nanodollars"].as_i64().is_some_and(|spent| spent > 0)
        })
        .await;
    alice.goto(&stack.origin("app")).await;
    alice.until_it_says("claude-haiku-4-5").await;
}

/// In the container's own network, with the container's own environment: only the interpreter comes from outside.
fn programs_inside_use_the_official_sdks(stack: &DeployedStack) {
    let shown = stack.berth(&["instance", "show", "alice"]);
    let word = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    let container = stack.container(&word("id"));
    let gateway = word("address").rsplit_once('.').map(|(net, _)| format!("{net}.1")).unwrap();
    let environment =
        container["Config"]["Env"].as_array().unwrap().iter().filter_map(|pair| pair.as_str()?.split_once('='));
    let run = Command::new("nsenter")
        .args(["--net", "--target", &container["State"]["Pid"].to_string()])
        .arg(berth_testing::python())
        .arg(root().join("platform/tests/fixtures/sdk_hello.py"))
        .envs(environment.filter(|(name, _)| name.contains("_API_KEY") || name.contains("_BASE_URL")).map(
            |(name, value)| {
                // The name stands in the container's own hosts file.
                (name.to_owned(), value.replace("berth.internal", &gateway))
            },
        ))
        .env("LOCAL_ADDRESS", word("address"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&[run.stdout, run.stderr].concat()));
}

async fn asleep_and_woken_by_a_visit(stack: &DeployedStack, alice: &ChromiumUser) {
    for (how, fact) in
        [(&["instance", "sleep", "alice"][..], "frozen"), (&["instance", "sleep", "alice", "--stop"][..], "stopped")]
    {
        assert!(stack.berth(how).contains(fact));
        alice.goto(&stack.origin("alice")).await;
        // Whatever is shown meanwhile turns into the instance by itself.
        alice.until_it_says("AI budget left").await;
        stack.until_fact("alice", &["awake"]);
    }
    assert_eq!(visits(alice).await, 4, "the same volume");
    alice.goto(&stack.origin("app")).await;
    alice.click("[data-sleep]").await;
    stack.until_fact("alice", &["frozen"]);
    alice.goto(&stack.origin("app")).await;
    alice.click("[data-wake]").await;
    stack.until_fact("alice", &["awake"]);
}

async fn a_program_is_held_until_it_is_awake(stack: &DeployedStack, alice: &ChromiumUser) {
    alice.goto(&stack.origin("alice")).await;
    alice.until_it_says("AI budget left").await;
    let cookie = alice.cookie("__Host-berth").await;
    let cookie = format!("Cookie: {cookie}");
    stack.berth(&["instance", "sleep", "alice", "--stop"]);
    let (status, body) = stack.curl("alice", "/whoami", &["-H", &cookie]);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("alice") && body.contains(r#""assertion":"valid""#), "{body}");
    // A person's page does not wait for the Engine.
    stack.berth(&["instance", "sleep", "alice", "--stop"]);
    let (status, body) = stack.curl("alice", "/", &["-H", &cookie, "-H", "Accept: text/html"]);
    assert_eq!(status, 503);
    assert!(body.contains("/.berth/assets/"), "the waiting page: {body}");
    stack.until_fact("alice", &["awake"]);
}

async fn a_stranger_neither_opens_nor_wakes_it(stack: &DeployedStack, stranger: &ChromiumUser) {
    stack.berth(&["instance", "sleep", "alice", "--stop"]);
    stranger.goto(&stack.origin("alice")).await;
    stranger.until_it_says("private").await;
    assert!(stranger.url().await.starts_with(&stack.origin("app")), "{}", stranger.url().await);
    let (status, body) = stack.curl("alice", "/", &[]);
    assert_eq!(status, 401, "{body}");
    stack.until_fact("alice", &["stopped"]);
}

fn a_handle_that_does_not_exist_gets_no_certificate(stack: &DeployedStack) {
    let refused = stack.try_curl("nobody-here", "/", &[]);
    assert!(!refused.status.success(), "a handshake succeeded");
    assert!(
        String::from_utf8_lossy(&refused.stderr).to_lowercase().contains("ssl") || refused.status.code() == Some(35)
    );
}

async fn out_and_in_again(stack: &DeployedStack, alice: &ChromiumUser) {
    alice.goto(&stack.origin("app")).await;
    alice.log_out().await;
    alice.goto(&stack.origin("alice")).await;
    alice.log_in(&stack.origin("alice")).await;
    alice.until_it_says("AI budget left").await;
}

async fn the_admin_needs_a_code_as_well(stack: &DeployedStack, admin: &ChromiumUser) {
    admin.goto(&stack.origin("app")).await;
    admin.log_out().await;
    admin.log_in(&format!("{}/log-in/code", stack.origin("app"))).await;
    let clock = berth_ground::clock::Clock::system();
    let codes = admin.codes.as_ref().unwrap();
    admin.type_into("#code", &codes.wrong_code(&clock)).await;
    admin.click("main form button").await;
    admin.until_it_says("code").await;
    // A code works once, so the one that set the app up may still be shown: then the next one is waited for.
    admin
        .until("a code that is taken", async || {
            if !admin.url().await.contains("/log-in/code") {
                return true;
            }
            admin.type_into("#code", &codes.code(&clock)).await;
            admin.click("main form button").await;
            // Real time: a refused code shows the same page again, so no change of the page could be awaited.
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            !admin.url().await.contains("/log-in/code")
        })
        .await;
    admin.until_it_says("harbourmaster").await;
}

async fn killed_in_the_middle_it_converges(stack: &DeployedStack, alice: &ChromiumUser) {
    // In the middle of a provision: removed, wished awake again, and the platform dies while the container is made.
    stack.berth(&["instance", "remove", "alice"]);
    let containers = stack.containers().len();
    std::thread::scope(|scope| {
        scope.spawn(|| stack.try_berth(&["instance", "wake", "alice"]));
        stack.until("a container to be begun", || stack.containers().len() > containers);
        stack.kill("platform");
    });
    stack.up_again();
    stack.until_fact("alice", &["awake"]);
    assert_eq!(stack.containers().len(), containers + 1, "one instance, one container");
    // In the middle of a wake.
    stack.berth(&["instance", "sleep", "alice", "--stop"]);
    std::thread::scope(|scope| {
        scope.spawn(|| stack.try_berth(&["instance", "wake", "alice"]));
        // Real time: the kill is to hit the command at some moment of its wake.
        std::thread::sleep(std::time::Duration::from_millis(60));
        stack.kill("platform");
        stack.kill("provisioner");
    });
    stack.up_again();
    stack.until_fact("alice", &["awake"]);
    assert_eq!(stack.containers().len(), containers + 1, "one instance, one container");
    alice.goto(&stack.origin("alice")).await;
    alice.until_it_says("AI budget left").await;
    assert!(visits(alice).await >= 5, "the volume went through all of it");
}

async fn the_engine_stops_and_comes_back(stack: &DeployedStack, alice: &ChromiumUser) {
    engine("stop");
    alice.goto(&stack.origin("app")).await;
    alice.until_it_says("alice").await;
    alice.goto(&stack.origin("alice")).await;
    alice.until_it_says("your files are safe").await;
    engine("start");
    alice.goto(&stack.origin("alice")).await;
    alice.until_it_says("AI budget left").await;
    stack.until_fact("alice", &["awake"]);
}

async fn suspended_is_out(stack: &DeployedStack, alice: &ChromiumUser) {
    stack.berth(&["user", "suspend", "alice"]);
    stack.until_fact("alice", &["stopped"]);
    alice.goto(&stack.origin("app")).await;
    alice.until_at(&format!("{}/log-in", stack.origin("app"))).await;
    stack.berth(&["user", "restore", "alice"]);
    assert!(stack.berth(&["user", "show", "alice"]).contains("active"));
    assert!(stack.try_berth(&["doctor"]).status.success());
}

async fn visits(alice: &ChromiumUser) -> u64 {
    alice.find("#visits").await.text().await.unwrap().parse().unwrap()
}

/// What the API tells the person who is logged in, fetched by their own browser.
async fn page_json(visitor: &ChromiumUser, url: &str) -> Value {
    let script = "const done = arguments[arguments.length - 1]; fetch(arguments[0]).then(a => a.json()).then(done)";
    let told = visitor.page.execute_async(script, vec![Value::from(url)]).await.unwrap();
    told.json().clone()
}

fn engine(word: &str) {
    let done = Command::new(root().join("platform/tests/fixtures/engine")).arg(word).status().unwrap();
    assert!(done.success(), "the Docker Engine does not {word}");
}
