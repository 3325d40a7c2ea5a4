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
async fn alice(house: &TestModules) -> (Member, Session) {
    let member = sign_up(house, "alice").await;
    let session = session(house, &member.signed_in.session).await.unwrap();
    (member, session)
}

async fn code(house: &TestModules, session: &Session) -> Token {
    house.accounts.hand_off(session, HOST, STATE, &challenge()).await.unwrap()
}

async fn redeem(house: &TestModules, host: &str, code: &Token, state: &str, verifier: &str) -> Option<Token> {
    house.accounts.hand_off_redeem(host, code.reveal(), state, verifier, &somebody()).await.unwrap()
}

async fn on_instance(house: &TestModules, token: &Token) -> Option<Session> {
    house.accounts.authenticate(HOST, token.reveal()).await.unwrap()
}

#[tokio::test]
async fn a_code_becomes_a_login_on_the_instance_once() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let (_, session) = alice(&house).await;
        let code = code(&house, &session).await;
        let token = redeem(&house, "Alice.example.com:443", &code, STATE, VERIFIER).await.unwrap();
        let there = on_instance(&house, &token).await.expect("the instance's cookie is a login");
        assert_eq!(there.account, session.account, "{}", house.kind());
        assert!(super::session(&house, &token).await.is_none(), "not on the app host");
        assert!(redeem(&house, HOST, &code, STATE, VERIFIER).await.is_none(), "a second time");
        // A session on an instance's host has none of the rights of one on the app host.
        assert!(house.accounts.hand_off(&there, HOST, STATE, &challenge()).await.is_err());
        assert!(house.accounts.passkey_challenge(&there).await.is_err());
    }
}

#[tokio::test]
async fn of_concurrent_redemptions_of_a_code_one_succeeds() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let (_, session) = alice(&house).await;
        let code = code(&house, &session).await;
        let all = join_all((0..20).map(|_| redeem(&house, HOST, &code, STATE, VERIFIER))).await;
        assert_eq!(all.iter().flatten().count(), 1, "{}", house.kind());
    }
}

#[tokio::test]
async fn a_code_is_bound_to_host_state_verifier_and_half_a_minute() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let (_, session) = alice(&house).await;
        for (host, state, verifier) in [
            ("bob.example.com", STATE, VERIFIER),
            ("app.example.com", STATE, VERIFIER),
            ("nonsense", STATE, VERIFIER),
            (HOST, "another state", VERIFIER),
            (HOST, STATE, "another verifier"),
        ] {
            let code = code(&house, &session).await;
            assert!(redeem(&house, host, &code, state, verifier).await.is_none(), "{host} {state} {verifier}");
            assert!(redeem(&house, HOST, &code, STATE, VERIFIER).await.is_none(), "one wrong attempt uses it up");
        }
        let code = code(&house, &session).await;
        house.clock.advance(Duration::from_secs(30));
        assert!(redeem(&house, HOST, &code, STATE, VERIFIER).await.is_none(), "{}", house.kind());
    }
}

#[tokio::test]
async fn only_the_owner_is_handed_off() {
    let house = TestModules::on(sqlite().await).await;
    let (_, session) = alice(&house).await;
    sign_up(&house, "bob-box").await;
    for host in ["bob-box.example.com", "nobody.example.com"] {
        let refused = house.accounts.hand_off(&session, host, STATE, &challenge()).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{host}");
    }
    for host in ["app.example.com", "example.com", "evil.test"] {
        let refused = house.accounts.hand_off(&session, host, STATE, &challenge()).await;
        assert!(matches!(refused, Err(Error::NotFound)), "{host}");
    }
    for (state, challenge) in [("", challenge()), (STATE, "short".into()), (STATE, String::new())] {
        let refused = house.accounts.hand_off(&session, HOST, state, &challenge).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })));
    }
}

#[tokio::test]
async fn the_login_on_the_instance_ends_with_the_one_it_came_from() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let (_, session) = alice(&house).await;
        let token = redeem(&house, HOST, &code(&house, &session).await, STATE, VERIFIER).await.unwrap();
        assert!(on_instance(&house, &token).await.is_some());
        let unused = code(&house, &session).await;
        house.accounts.log_out(&session).await.unwrap();
        assert!(on_instance(&house, &token).await.is_none(), "{}", house.kind());
        assert!(redeem(&house, HOST, &unused, STATE, VERIFIER).await.is_none(), "nor can a code be used then");
    }
}

#[tokio::test]
async fn the_login_on_the_instance_ends_after_twelve_hours() {
    let house = TestModules::on(sqlite().await).await;
    let (_, session) = alice(&house).await;
    let token = redeem(&house, HOST, &code(&house, &session).await, STATE, VERIFIER).await.unwrap();
    house.clock.advance(Duration::from_secs(12 * 3600 - 1));
    assert!(on_instance(&house, &token).await.is_some());
    house.clock.advance(Duration::from_secs(1));
    assert!(on_instance(&house, &token).await.is_none());
}

#[tokio::test]
async fn made_up_codes_never_reach_the_databases_writer() {
    let house = TestModules::on(sqlite().await).await;
    let writing = house.db.begin().await.unwrap();
    // Any of these calls would time out after five seconds if it waited for the writer.
    let made_up = Token::new(&house.clock);
    assert!(redeem(&house, HOST, &made_up, STATE, VERIFIER).await.is_none());
    let pending = house.accounts.log_in_code(made_up.reveal(), "123456", &somebody()).await;
    assert!(matches!(pending, Err(Error::Forbidden(_))));
    let passkey = house.accounts.log_in(made_up.reveal(), serde_json::json!({}), None, &somebody()).await;
    assert!(matches!(passkey, Err(Error::Forbidden(_))));
    let finish = house.accounts.sign_up_finish(made_up.reveal(), &somebody()).await;
    assert!(matches!(finish, Err(Error::Conflict(_))));
    drop(writing);
}

#[tokio::test]
async fn one_address_may_finish_sixty_hand_offs_a_minute() {
    let house = TestModules::on(sqlite().await).await;
    let (client, made_up) = (somebody(), Token::new(&house.clock));
    let redeem = || house.accounts.hand_off_redeem(HOST, made_up.reveal(), STATE, VERIFIER, &client);
    for _ in 0..60 {
        assert!(redeem().await.unwrap().is_none());
    }
    assert!(matches!(redeem().await, Err(Error::TooMany { .. })));
}

#[tokio::test]
async fn a_visit_does_not_wait_for_the_databases_writer() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let (_, session) = alice(&house).await;
        let code = code(&house, &session).await;
        let token = redeem(&house, HOST, &code, STATE, VERIFIER).await.unwrap();
        house.clock.advance(Duration::from_secs(60 * 60));

        let _writing = house.db.begin().await.unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(1), on_instance(&house, &token)).await;
        assert!(answered.expect("nothing is written for a visit").is_some(), "{}", house.kind());
    }
}
