//! Hand-off from the app host to the host of an instance.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::*;

const HOST: &str = "alice.example.com";
const STATE: &str = "the state";
const VERIFIER: &str = "the verifier that only the browser knows";

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER.as_bytes()))
}

/// Alice, logged in on the app host.
async fn alice(platform: &TestModules) -> (Member, Session) {
    let member = sign_up(platform, "alice").await;
    let session = session(platform, &member.signed_in.session).await.unwrap();
    (member, session)
}

async fn code(platform: &TestModules, session: &Session) -> Token {
    platform.accounts.hand_off(session, HOST, STATE, &challenge()).await.unwrap()
}

async fn redeem(platform: &TestModules, host: &str, code: &Token, state: &str, verifier: &str) -> Option<Token> {
    platform.accounts.hand_off_redeem(host, code.reveal(), state, verifier, &somebody()).await.unwrap()
}

async fn on_instance(platform: &TestModules, token: &Token) -> Option<Session> {
    platform.accounts.authenticate(HOST, token.reveal()).await.unwrap()
}

#[tokio::test]
async fn a_code_becomes_a_login_on_the_instance_once() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let (_, session) = alice(&platform).await;
        let code = code(&platform, &session).await;
        let token = redeem(&platform, "Alice.example.com:443", &code, STATE, VERIFIER).await.unwrap();
        let there = on_instance(&platform, &token).await.expect("the instance's cookie is a login");
        assert_eq!(there.account, session.account, "{}", platform.kind());
        assert!(super::session(&platform, &token).await.is_none(), "not on the app host");
        assert!(redeem(&platform, HOST, &code, STATE, VERIFIER).await.is_none(), "a second time");
        // A session on an instance's host has none of the rights of one on the app host.
        assert!(platform.accounts.hand_off(&there, HOST, STATE, &challenge()).await.is_err());
        assert!(platform.accounts.passkey_challenge(&there).await.is_err());
    }
}

#[tokio::test]
async fn of_concurrent_redemptions_of_a_code_one_succeeds() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let (_, session) = alice(&platform).await;
        let code = code(&platform, &session).await;
        let all = join_all((0..20).map(|_| redeem(&platform, HOST, &code, STATE, VERIFIER))).await;
        assert_eq!(all.iter().flatten().count(), 1, "{}", platform.kind());
    }
}

#[tokio::test]
async fn a_code_is_bound_to_host_state_verifier_and_half_a_minute() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let (_, session) = alice(&platform).await;
        for (host, state, verifier) in [
            ("bob.example.com", STATE, VERIFIER),
            ("app.example.com", STATE, VERIFIER),
            ("nonsense", STATE, VERIFIER),
            (HOST, "another state", VERIFIER),
            (HOST, STATE, "another verifier"),
        ] {
            let code = code(&platform, &session).await;
            assert!(redeem(&platform, host, &code, state, verifier).await.is_none(), "{host} {state} {verifier}");
            assert!(redeem(&platform, HOST, &code, STATE, VERIFIER).await.is_none(), "one wrong attempt uses it up");
        }
        let code = code(&platform, &session).await;
        platform.clock.advance(Duration::from_secs(30));
        assert!(redeem(&platform, HOST, &code, STATE, VERIFIER).await.is_none(), "{}", platform.kind());
    }
}

#[tokio::test]
async fn only_the_owner_is_handed_off() {
    let platform = TestModules::on(sqlite().await).await;
    let (_, session) = alice(&platform).await;
    sign_up(&platform, "bob-box").await;
    for host in ["bob-box.example.com", "nobody.example.com"] {
        let refused = platform.accounts.hand_off(&session, host, STATE, &challenge()).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{host}");
    }
    for host in ["app.example.com", "example.com", "evil.test"] {
        let refused = platform.accounts.hand_off(&session, host, STATE, &challenge()).await;
        assert!(matches!(refused, Err(Error::NotFound)), "{host}");
    }
    for (state, challenge) in [("", challenge()), (STATE, "short".into()), (STATE, String::new())] {
        let refused = platform.accounts.hand_off(&session, HOST, state, &challenge).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })));
    }
}

#[tokio::test]
async fn the_login_on_the_instance_ends_with_the_one_it_came_from() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let (_, session) = alice(&platform).await;
        let token = redeem(&platform, HOST, &code(&platform, &session).await, STATE, VERIFIER).await.unwrap();
        assert!(on_instance(&platform, &token).await.is_some());
        let unused = code(&platform, &session).await;
        platform.accounts.log_out(&session).await.unwrap();
        assert!(on_instance(&platform, &token).await.is_none(), "{}", platform.kind());
        assert!(redeem(&platform, HOST, &unused, STATE, VERIFIER).await.is_none(), "nor can a code be used then");
    }
}

#[tokio::test]
async fn the_login_on_the_instance_ends_after_twelve_hours() {
    let platform = TestModules::on(sqlite().await).await;
    let (_, session) = alice(&platform).await;
    let token = redeem(&platform, HOST, &code(&platform, &session).await, STATE, VERIFIER).await.unwrap();
    platform.clock.advance(Duration::from_secs(12 * 3600 - 1));
    assert!(on_instance(&platform, &token).await.is_some());
    platform.clock.advance(Duration::from_secs(1));
    assert!(on_instance(&platform, &token).await.is_none());
}

#[tokio::test]
async fn made_up_codes_never_reach_the_databases_writer() {
    let platform = TestModules::on(sqlite().await).await;
    let writing = platform.db.begin().await.unwrap();
    // Any of these calls would time out after five seconds if it waited for the writer.
    let made_up = Token::new(&platform.clock);
    assert!(redeem(&platform, HOST, &made_up, STATE, VERIFIER).await.is_none());
    let pending = platform.accounts.log_in_code(made_up.reveal(), "123456", &somebody()).await;
    assert!(matches!(pending, Err(Error::Forbidden(_))));
    let passkey = platform.accounts.log_in(made_up.reveal(), serde_json::json!({}), None, &somebody()).await;
    assert!(matches!(passkey, Err(Error::Forbidden(_))));
    let finish = platform.accounts.sign_up_finish(made_up.reveal(), &somebody()).await;
    assert!(matches!(finish, Err(Error::Conflict(_))));
    drop(writing);
}

#[tokio::test]
async fn one_address_may_finish_sixty_hand_offs_a_minute() {
    let platform = TestModules::on(sqlite().await).await;
    let (_, session) = alice(&platform).await;
    let client = somebody();
    let redeem = async |client| {
        let code = code(&platform, &session).await;
        platform.accounts.hand_off_redeem(HOST, code.reveal(), STATE, VERIFIER, client).await
    };
    for _ in 0..60 {
        assert!(redeem(&client).await.unwrap().is_some());
    }
    assert!(matches!(redeem(&client).await, Err(Error::TooMany { .. })));
    assert!(redeem(&somebody()).await.unwrap().is_some(), "from another address");
}

#[tokio::test]
async fn what_a_page_redeems_on_its_own_host_keeps_its_visitor_out_of_no_other() {
    let platform = TestModules::on(sqlite().await).await;
    let (_, session) = alice(&platform).await;
    let client = somebody();
    let try_on =
        async |host: &str, code: &str| platform.accounts.hand_off_redeem(host, code, STATE, VERIFIER, &client).await;
    let made_up = Token::new(&platform.clock);
    for host in ["evil.example.com", HOST] {
        for _ in 0..100 {
            assert!(try_on(host, made_up.reveal()).await.unwrap().is_none());
        }
    }
    for _ in 0..60 {
        // A code of another host counts there, and is spent.
        let stray = code(&platform, &session).await;
        assert!(try_on("evil.example.com", stray.reveal()).await.unwrap().is_none());
    }
    let stray = code(&platform, &session).await;
    assert!(matches!(try_on("evil.example.com", stray.reveal()).await, Err(Error::TooMany { .. })));
    let own = code(&platform, &session).await;
    assert!(try_on(HOST, own.reveal()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_visit_does_not_wait_for_the_databases_writer() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let (_, session) = alice(&platform).await;
        let code = code(&platform, &session).await;
        let token = redeem(&platform, HOST, &code, STATE, VERIFIER).await.unwrap();
        platform.clock.advance(Duration::from_secs(60 * 60));

        let _writing = platform.db.begin().await.unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(1), on_instance(&platform, &token)).await;
        assert!(answered.expect("nothing is written for a visit").is_some(), "{}", platform.kind());
    }
}
