//! Sign-up: its steps in order, repeated, skipped, concurrent and expired.

use std::time::Duration;

use berth::accounts::{AccountState, HandleAvailability, Role};
use berth_ground::handle::HandleError;

use super::*;

#[tokio::test]
async fn signing_up_makes_an_account_an_instance_and_a_login() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, " Alice ").await;
        assert_eq!(member.signed_in.handle.as_str(), "alice");

        let session = session(&platform, &member.signed_in.session).await.expect("the new cookie is a login");
        assert_eq!((session.account, session.role), (member.signed_in.account, Role::Member));
        let instance = platform.instances.by_handle(&session.handle).expect("the instance is known at once");
        assert!(
            platform.host.spec(instance.id).is_none(),
            "only the reconciler makes the container; {}",
            platform.kind()
        );
        let account = platform.accounts.account(&session.handle).await.unwrap();
        assert_eq!((account.passkeys, account.recovery_codes_left, account.state), (1, 10, AccountState::Active));
        assert_eq!(audit(&platform).await, ["alice sign_up alice"]);
    }
}

#[tokio::test]
async fn passkeys_are_asked_to_be_discoverable_verified_and_unattested() {
    let platform = TestModules::on(sqlite().await).await;
    let token = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
    let options = platform.accounts.sign_up_passkey_challenge(token.reveal()).await.unwrap();
    let options = &options["publicKey"];
    assert_eq!(options["rp"]["id"], "app.example.com");
    assert_eq!(options["attestation"], "none");
    assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    let (_, options) = platform.accounts.log_in_challenge(&somebody()).await.unwrap();
    assert_eq!(options["publicKey"]["userVerification"], "required");
    assert_eq!(options["publicKey"]["rpId"], "app.example.com");
    assert!(options["publicKey"]["allowCredentials"].as_array().is_none_or(Vec::is_empty));
    assert!(options.get("mediation").is_none());
}

#[tokio::test]
async fn going_back_and_reloading_lose_nothing() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let first = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
        let (_, _, codes) = prepare_sign_up(&platform, first.reveal()).await;

        let again = platform.accounts.sign_up_begin("alice", Some(first.reveal()), None, &somebody()).await.unwrap();
        let sign_up = platform.accounts.sign_up(again.reveal()).await.unwrap();
        let SignUpStep::RecoveryCodes(same) = sign_up.step else { panic!("a step was lost") };
        assert_eq!(same, codes);
        // Neither another passkey nor a second code loses the other steps.
        let options = platform.accounts.sign_up_passkey_challenge(again.reveal()).await.unwrap();
        let answer = PasskeyBrowser::at_home().create(&options).await;
        platform.accounts.sign_up_passkey(again.reveal(), answer).await.unwrap();
        platform.accounts.sign_up_code(again.reveal(), "000000").await.unwrap();
        platform.accounts.sign_up_finish(again.reveal(), &somebody()).await.unwrap();
    }
}

#[tokio::test]
async fn the_steps_can_only_be_taken_in_order() {
    let platform = TestModules::on(sqlite().await).await;
    let token = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
    let token = token.reveal();
    assert!(matches!(platform.accounts.sign_up(token).await.unwrap().step, SignUpStep::Passkey));
    assert!(matches!(platform.accounts.sign_up_code(token, "123456").await, Err(Error::Conflict(_))));
    assert!(matches!(platform.accounts.sign_up_finish(token, &somebody()).await, Err(Error::Conflict(_))));
    prepare_sign_up(&platform, token).await;
    platform.accounts.sign_up_finish(token, &somebody()).await.unwrap();
}

#[tokio::test]
async fn a_handle_of_an_account_or_a_live_sign_up_is_taken() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        sign_up(&platform, "alice").await;
        platform.accounts.sign_up_begin("bob-box", None, None, &somebody()).await.unwrap();
        for taken in ["alice", "a-lice", "al1ce", "bob-box", "b0bbox"] {
            let HandleAvailability::Taken { suggestions } = platform.accounts.handle_availability(taken).await.unwrap()
            else {
                panic!("{taken} is not taken on {}", platform.kind())
            };
            assert_eq!(suggestions.len(), 3, "{taken}: {suggestions:?}");
            let refused = platform.accounts.sign_up_begin(taken, None, None, &somebody()).await;
            assert!(sentence(refused).contains(suggestions[0].as_str()));
        }
        assert_eq!(platform.accounts.handle_availability("carol").await.unwrap(), HandleAvailability::Free);
    }
}

#[tokio::test]
async fn an_invalid_handle_is_refused_with_the_reason() {
    let platform = TestModules::on(sqlite().await).await;
    for (typed, why) in [
        ("al", HandleError::TooShort),
        ("1alice", HandleError::FirstLetter),
        ("älice", HandleError::Characters),
        ("xn--alice", HandleError::Hyphens),
        ("admin", HandleError::Reserved),
    ] {
        assert_eq!(platform.accounts.handle_availability(typed).await.unwrap(), HandleAvailability::Invalid(why));
        let refused = platform.accounts.sign_up_begin(typed, None, None, &somebody()).await;
        assert!(matches!(&refused, Err(Error::Invalid { field: "handle", .. })));
        assert_eq!(sentence(refused), why.to_string());
    }
}

#[tokio::test]
async fn the_same_browser_may_change_its_handle() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let first = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
        let second = platform.accounts.sign_up_begin("al1ce", Some(first.reveal()), None, &somebody()).await.unwrap();
        assert!(matches!(platform.accounts.sign_up(first.reveal()).await, Err(Error::Conflict(_))));
        assert_eq!(platform.accounts.sign_up(second.reveal()).await.unwrap().handle.as_str(), "al1ce");
        let third = platform.accounts.sign_up_begin("carol", Some(second.reveal()), None, &somebody()).await.unwrap();
        assert_eq!(platform.accounts.handle_availability("alice").await.unwrap(), HandleAvailability::Free);
        finish_sign_up(&platform, third.reveal()).await;
    }
}

#[tokio::test]
async fn an_unfinished_sign_up_is_gone_after_half_an_hour() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let token = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
        prepare_sign_up(&platform, token.reveal()).await;
        platform.clock.advance(Duration::from_secs(30 * 60));
        let refused = platform.accounts.sign_up_finish(token.reveal(), &somebody()).await;
        assert!(sentence(refused).contains("begin again"));
        let next = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
        finish_sign_up(&platform, next.reveal()).await;
    }
}

#[tokio::test]
async fn of_concurrent_finishes_one_makes_the_account() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let token = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
        prepare_sign_up(&platform, token.reveal()).await;
        let client = somebody();
        let all = join_all((0..10).map(|_| platform.accounts.sign_up_finish(token.reveal(), &client))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", platform.kind());
        for refused in all.into_iter().filter(Result::is_err) {
            assert!(sentence(refused).contains("log in"));
        }
        assert_eq!(platform.accounts.accounts().await.unwrap().len(), 1);
        assert_eq!(platform.instances.all().len(), 1);
    }
}

#[tokio::test]
async fn of_concurrent_claims_of_a_handle_one_succeeds() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let clients: Vec<Client> = (0..10).map(|_| somebody()).collect();
        let all = join_all(clients.iter().map(|c| platform.accounts.sign_up_begin("alice", None, None, c))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", platform.kind());
        assert!(all.iter().flat_map(|r| r.as_ref().err()).all(|e| matches!(e, Error::Conflict(_))));
    }
}

#[tokio::test]
async fn a_passkey_made_elsewhere_or_for_another_challenge_is_refused() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let token = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
        let token = token.reveal();
        let home = PasskeyBrowser::at_home();
        for mut dishonest in [
            home.on_page_of("https://evil.example.com"),
            home.on_page_of("https://sub.app.example.com"),
            home.on_page_of("https://app.example.com:8443"),
            home.on_page_of("http://app.example.com"),
            home.saying(serde_json::json!({"crossOrigin": true})),
            home.saying(serde_json::json!({"crossOrigin": false, "topOrigin": "https://evil.example.com"})),
            home.saying(serde_json::json!({"challenge": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
        ] {
            let options = platform.accounts.sign_up_passkey_challenge(token).await.unwrap();
            let answer = dishonest.create(&options).await;
            let refused = platform.accounts.sign_up_passkey(token, answer).await;
            assert!(matches!(refused, Err(Error::Invalid { field: "passkey", .. })), "{}", dishonest.origin);
        }
        // A replayed response: its challenge was consumed.
        let options = platform.accounts.sign_up_passkey_challenge(token).await.unwrap();
        let answer = PasskeyBrowser::at_home().create(&options).await;
        platform.accounts.sign_up_passkey(token, answer.clone()).await.unwrap();
        assert!(platform.accounts.sign_up_passkey(token, answer).await.is_err());
        // Too late.
        let options = platform.accounts.sign_up_passkey_challenge(token).await.unwrap();
        let answer = PasskeyBrowser::at_home().create(&options).await;
        platform.clock.advance(Duration::from_secs(301));
        assert!(platform.accounts.sign_up_passkey(token, answer).await.is_err());
    }
}

#[tokio::test]
async fn one_address_may_begin_ten_sign_ups_an_hour() {
    let platform = TestModules::on(sqlite().await).await;
    let client = somebody();
    for n in 0..10 {
        platform.accounts.sign_up_begin(&format!("person-{n}-x"), None, None, &client).await.unwrap();
    }
    let Err(Error::TooMany { retry_after, .. }) =
        platform.accounts.sign_up_begin("eleventh", None, None, &client).await
    else {
        panic!("an eleventh sign-up was begun")
    };
    platform.accounts.sign_up_begin("eleventh", None, None, &somebody()).await.unwrap();
    platform.clock.advance(retry_after);
    platform.accounts.sign_up_begin("twelfth", None, None, &client).await.unwrap();
}
