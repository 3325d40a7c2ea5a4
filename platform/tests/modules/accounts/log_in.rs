//! Login: valid ones, and every kind of invalid one.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_known_browser_logs_in_with_the_passkey_alone_and_a_new_one_needs_a_code() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let known = log_in(&platform, &member.browser, Some(&member.signed_in.device)).await.unwrap();
        let LogInOutcome::Complete(known) = known else { panic!("a code was required in a known browser") };
        assert!(session(&platform, &known.session).await.is_some());
        // The login replaced the device cookie, so the old one no longer identifies a known browser.
        let old = log_in(&platform, &member.browser, Some(&member.signed_in.device)).await.unwrap();
        assert!(matches!(old, LogInOutcome::CodeRequired(_)));

        let token = pending_log_in(&platform, &member).await;
        platform.next_code();
        let code = format!(" {} ", member.app.code(&platform.clock));
        let signed_in = platform.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap();
        assert!(session(&platform, &signed_in.session).await.is_some(), "{}", platform.kind());
        assert_eq!(audit(&platform).await.last().unwrap(), "alice log_in alice");
        // A pending login can be completed once.
        platform.next_code();
        let code = member.app.code(&platform.clock);
        assert!(platform.accounts.log_in_code(token.reveal(), &code, &somebody()).await.is_err());
    }
}

#[tokio::test]
async fn an_admin_needs_a_code_at_every_login() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let operator = sign_up_operator(&platform).await;
        let known = log_in(&platform, &operator.browser, Some(&operator.signed_in.device)).await.unwrap();
        assert!(matches!(known, LogInOutcome::CodeRequired(_)), "{}", platform.kind());
    }
}

#[tokio::test]
async fn every_failed_login_gets_the_same_sentence() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let home = &member.browser;
        let mut sentences = Vec::new();
        for dishonest in [
            home.on_page_of("https://evil.example.com"),
            home.on_page_of("https://sub.app.example.com"),
            home.on_page_of("https://app.example.com:8443"),
            home.saying(serde_json::json!({"crossOrigin": true})),
            home.saying(serde_json::json!({"crossOrigin": false, "topOrigin": "https://evil.example.com"})),
            home.saying(serde_json::json!({"challenge": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})),
            home.saying(serde_json::json!({"type": "webauthn.create"})),
        ] {
            sentences.push(sentence(log_in(&platform, &dishonest, None).await));
        }
        // A passkey that is registered at another server.
        let mut stranger = PasskeyBrowser::at_home();
        let other = TestModules::on(sqlite().await).await;
        let token = other.accounts.sign_up_begin("mallory", None, None, &somebody()).await.unwrap();
        stranger.create(&other.accounts.sign_up_passkey_challenge(token.reveal()).await.unwrap()).await;
        sentences.push(sentence(log_in(&platform, &stranger, None).await));
        // A replayed response, a response with another login's token, an expired one, and nonsense.
        let (token, options) = platform.accounts.log_in_challenge(&somebody()).await.unwrap();
        let answer = home.get(&options).await;
        platform.accounts.log_in(token.reveal(), answer.clone(), None, &somebody()).await.unwrap();
        sentences.push(sentence(platform.accounts.log_in(token.reveal(), answer.clone(), None, &somebody()).await));
        let (another, options) = platform.accounts.log_in_challenge(&somebody()).await.unwrap();
        sentences.push(sentence(platform.accounts.log_in(another.reveal(), answer, None, &somebody()).await));
        let (late, _) = platform.accounts.log_in_challenge(&somebody()).await.unwrap();
        let answer = home.get(&options).await;
        platform.clock.advance(Duration::from_secs(301));
        sentences.push(sentence(platform.accounts.log_in(late.reveal(), answer, None, &somebody()).await));
        let (token, _) = platform.accounts.log_in_challenge(&somebody()).await.unwrap();
        sentences
            .push(sentence(platform.accounts.log_in(token.reveal(), serde_json::json!({}), None, &somebody()).await));
        // A valid response for a suspended account.
        platform.accounts.suspend(&member.signed_in.handle, "operator").await.unwrap();
        sentences.push(sentence(log_in(&platform, home, None).await));

        assert!(sentences.iter().all(|s| *s == sentences[0]), "{}: {sentences:#?}", platform.kind());
        platform.accounts.restore(&member.signed_in.handle, "operator").await.unwrap();
        log_in(&platform, home, None).await.unwrap();
    }
}

#[tokio::test]
async fn of_concurrent_logins_with_one_code_one_succeeds() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let mut pending = Vec::new();
        for _ in 0..50 {
            pending.push((pending_log_in(&platform, &member).await, somebody()));
        }
        platform.next_code();
        let code = member.app.code(&platform.clock);
        let all = join_all(
            pending.iter().map(|(token, client)| platform.accounts.log_in_code(token.reveal(), &code, client)),
        );
        let all = all.await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", platform.kind());
        assert!(all.iter().flat_map(|r| r.as_ref().err()).all(|e| matches!(e, Error::Invalid { field: "code", .. })));
        // A reused code is not counted as a failure: a double click must not slow anyone down.
        platform.next_code();
        let code = member.app.code(&platform.clock);
        let (token, client) = all.iter().zip(&pending).find(|(r, _)| r.is_err()).map(|(_, login)| login).unwrap();
        platform.accounts.log_in_code(token.reveal(), &code, client).await.unwrap();
    }
}

#[tokio::test]
async fn the_code_that_confirmed_the_app_cannot_be_used_to_log_in() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let token = pending_log_in(&platform, &member).await;
        let code = member.app.code(&platform.clock);
        assert!(
            platform.accounts.log_in_code(token.reveal(), &code, &somebody()).await.is_err(),
            "{}",
            platform.kind()
        );
    }
}

#[tokio::test]
async fn wrong_codes_are_throttled_and_after_a_hundred_only_recovery_is_left() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let wrong = member.app.wrong_code(&platform.clock);
        let token = pending_log_in(&platform, &member).await;
        for _ in 0..5 {
            let refused = platform.accounts.log_in_code(token.reveal(), &wrong, &somebody()).await;
            assert!(matches!(refused, Err(Error::Invalid { field: "code", .. })));
        }
        // Now the right code has to wait half a minute, too. Accepting it resets the failure count.
        let refused = platform.accounts.log_in_code(token.reveal(), &wrong, &somebody()).await;
        assert!(matches!(refused, Err(Error::TooMany { retry_after, .. }) if retry_after == Duration::from_secs(30)));
        platform.next_code();
        let right = member.app.code(&platform.clock);
        platform.accounts.log_in_code(token.reveal(), &right, &somebody()).await.unwrap();
        // A hundred failures in a row lock the account out.
        assert_eq!(wrong_codes_until_closed(&platform, &member).await, 100, "{}", platform.kind());
        platform.clock.advance(Duration::from_secs(3600));
        let (recovery, code) = (&member.recovery_codes[0], member.app.code(&platform.clock));
        platform.accounts.recover("alice", recovery, &code, &somebody()).await.unwrap();
        let token = pending_log_in(&platform, &member).await;
        platform.next_code();
        let code = member.app.code(&platform.clock);
        platform.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap();
    }
}

/// Tries wrong codes, waiting as required, until the account is locked out. Returns their number.
async fn wrong_codes_until_closed(platform: &TestModules, member: &Member) -> u32 {
    let mut taken = 0;
    loop {
        let token = pending_log_in(platform, member).await;
        let wrong = member.app.wrong_code(&platform.clock);
        match platform.accounts.log_in_code(token.reveal(), &wrong, &somebody()).await {
            Err(Error::Invalid { .. }) => taken += 1,
            Err(Error::TooMany { retry_after, .. }) => platform.clock.advance(retry_after),
            Err(Error::Forbidden(sentence)) if sentence.contains("recovery code") => return taken,
            _ => panic!("a wrong code was neither refused nor throttled"),
        }
    }
}

#[tokio::test]
async fn one_address_may_try_ten_logins_a_minute() {
    let platform = TestModules::on(sqlite().await).await;
    let client = somebody();
    for _ in 0..10 {
        let refused = platform.accounts.log_in("nothing", serde_json::json!({}), None, &client).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))));
    }
    let refused = platform.accounts.log_in("nothing", serde_json::json!({}), None, &client).await;
    assert!(matches!(refused, Err(Error::TooMany { .. })));
    platform.clock.advance(Duration::from_secs(60));
    let refused = platform.accounts.log_in("nothing", serde_json::json!({}), None, &client).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))));
}

#[tokio::test]
async fn one_address_that_opens_many_login_pages_does_not_block_others() {
    let platform = TestModules::on(sqlite().await).await;
    let client = somebody();
    for _ in 0..10 {
        platform.accounts.log_in_challenge(&client).await.unwrap();
    }
    let refused = platform.accounts.log_in_challenge(&client).await;
    assert!(matches!(refused, Err(Error::TooMany { .. })));
    platform.accounts.log_in_challenge(&somebody()).await.unwrap();
}

#[tokio::test]
async fn abandoned_login_challenges_do_not_accumulate() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let stored = async || {
            let text = "SELECT COUNT(*) AS n FROM challenges";
            let db = platform.db.read();
            let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap().unwrap();
            row.try_get::<i64>("", "n").unwrap()
        };
        for _ in 0..20 {
            platform.accounts.log_in_challenge(&somebody()).await.unwrap();
        }
        assert_eq!(stored().await, 20, "{}", platform.kind());
        platform.clock.advance(Duration::from_secs(301));
        for _ in 0..10 {
            platform.accounts.log_in_challenge(&somebody()).await.unwrap();
        }
        assert_eq!(stored().await, 10, "{}", platform.kind());
    }
}

#[tokio::test]
async fn of_cloned_passkeys_with_the_same_counter_one_logs_in() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let token = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
        let (browser, ..) = prepare_sign_up_with(&platform, token.reveal(), PasskeyBrowser::that_counts()).await;
        platform.accounts.sign_up_finish(token.reveal(), &somebody()).await.unwrap();
        let mut copies = Vec::new();
        for _ in 0..10 {
            let (token, options) = platform.accounts.log_in_challenge(&somebody()).await.unwrap();
            copies.push((token, browser.get(&options).await, somebody()));
        }
        let all = copies.into_iter().map(|(token, answer, client)| {
            let accounts = platform.accounts.clone();
            async move { accounts.log_in(token.reveal(), answer, None, &client).await }
        });
        let all = join_all(all).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", platform.kind());
        let refused = all.into_iter().filter(|r| r.is_err()).map(sentence);
        assert!(refused.into_iter().all(|s| s.starts_with("That did not log you in.")));
    }
}
