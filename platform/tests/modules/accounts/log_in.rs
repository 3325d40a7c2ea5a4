//! Logging in, honestly and not.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_known_browser_logs_in_with_the_passkey_alone_and_a_new_one_needs_a_code() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let known = log_in(&house, &member.browser, Some(&member.signed_in.device)).await.unwrap();
        let LogIn::SignedIn(known) = known else { panic!("a known browser was asked for a code") };
        assert!(session(&house, &known.session).await.is_some());
        // The device cookie was replaced: the one before is new again.
        let old = log_in(&house, &member.browser, Some(&member.signed_in.device)).await.unwrap();
        assert!(matches!(old, LogIn::CodeNeeded(_)));

        let token = half_way_in(&house, &member).await;
        house.next_code();
        let code = format!(" {} ", member.app.code(&house.clock));
        let signed_in = house.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap();
        assert!(session(&house, &signed_in.session).await.is_some(), "{}", house.kind());
        assert_eq!(audit(&house).await.last().unwrap(), "alice log_in alice");
        // Half way in counts once.
        house.next_code();
        let code = member.app.code(&house.clock);
        assert!(house.accounts.log_in_code(token.reveal(), &code, &somebody()).await.is_err());
    }
}

#[tokio::test]
async fn an_admin_gives_a_code_every_time() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let operator = sign_up_operator(&house).await;
        let known = log_in(&house, &operator.browser, Some(&operator.signed_in.device)).await.unwrap();
        assert!(matches!(known, LogIn::CodeNeeded(_)), "{}", house.kind());
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_login_the_sentence_is_the_same() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
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
            sentences.push(sentence(log_in(&house, &dishonest, None).await));
        }
        // A passkey that nobody registered here.
        let mut stranger = PasskeyBrowser::at_home();
        let other = TestModules::on(sqlite().await).await;
        let token = other.accounts.sign_up_begin("mallory", None, None, &somebody()).await.unwrap();
        stranger.create(&other.accounts.sign_up_passkey_challenge(token.reveal()).await.unwrap()).await;
        sentences.push(sentence(log_in(&house, &stranger, None).await));
        // An answer brought twice, one brought with another login's token, one too late, and nonsense.
        let (token, options) = house.accounts.log_in_challenge(&somebody()).await.unwrap();
        let answer = home.get(&options).await;
        house.accounts.log_in(token.reveal(), answer.clone(), None, &somebody()).await.unwrap();
        sentences.push(sentence(house.accounts.log_in(token.reveal(), answer.clone(), None, &somebody()).await));
        let (another, options) = house.accounts.log_in_challenge(&somebody()).await.unwrap();
        sentences.push(sentence(house.accounts.log_in(another.reveal(), answer, None, &somebody()).await));
        let (late, _) = house.accounts.log_in_challenge(&somebody()).await.unwrap();
        let answer = home.get(&options).await;
        house.clock.advance(Duration::from_secs(301));
        sentences.push(sentence(house.accounts.log_in(late.reveal(), answer, None, &somebody()).await));
        let (token, _) = house.accounts.log_in_challenge(&somebody()).await.unwrap();
        sentences.push(sentence(house.accounts.log_in(token.reveal(), serde_json::json!({}), None, &somebody()).await));
        // A suspended account with everything right.
        house.accounts.suspend(&member.signed_in.handle, "operator").await.unwrap();
        sentences.push(sentence(log_in(&house, home, None).await));

        assert!(sentences.iter().all(|s| *s == sentences[0]), "{}: {sentences:#?}", house.kind());
        house.accounts.restore(&member.signed_in.handle, "operator").await.unwrap();
        log_in(&house, home, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_code_opens_one_door_however_many_try_it_at_once() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let mut doors = Vec::new();
        for _ in 0..50 {
            doors.push((half_way_in(&house, &member).await, somebody()));
        }
        house.next_code();
        let code = member.app.code(&house.clock);
        let all =
            join_all(doors.iter().map(|(token, client)| house.accounts.log_in_code(token.reveal(), &code, client)));
        let all = all.await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", house.kind());
        assert!(all.iter().flat_map(|r| r.as_ref().err()).all(|e| matches!(e, Error::Invalid { field: "code", .. })));
        // And nobody is punished for the double click.
        house.next_code();
        let code = member.app.code(&house.clock);
        let (token, client) = all.iter().zip(&doors).find(|(r, _)| r.is_err()).map(|(_, door)| door).unwrap();
        house.accounts.log_in_code(token.reveal(), &code, client).await.unwrap();
    }
}

#[tokio::test]
async fn the_code_that_confirmed_the_app_is_used_up() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let token = half_way_in(&house, &member).await;
        let code = member.app.code(&house.clock);
        assert!(house.accounts.log_in_code(token.reveal(), &code, &somebody()).await.is_err(), "{}", house.kind());
    }
}

#[tokio::test]
async fn wrong_codes_are_slowed_down_and_after_a_hundred_only_recovery_helps() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let wrong = member.app.wrong_code(&house.clock);
        let token = half_way_in(&house, &member).await;
        for _ in 0..5 {
            let refused = house.accounts.log_in_code(token.reveal(), &wrong, &somebody()).await;
            assert!(matches!(refused, Err(Error::Invalid { field: "code", .. })));
        }
        // Now even the right one has to wait half a minute; then it forgives everything.
        let refused = house.accounts.log_in_code(token.reveal(), &wrong, &somebody()).await;
        assert!(matches!(refused, Err(Error::TooMany { retry_after, .. }) if retry_after == Duration::from_secs(30)));
        house.next_code();
        let right = member.app.code(&house.clock);
        house.accounts.log_in_code(token.reveal(), &right, &somebody()).await.unwrap();
        // A hundred in a row are not forgiven.
        assert_eq!(wrong_codes_until_closed(&house, &member).await, 100, "{}", house.kind());
        house.clock.advance(Duration::from_secs(3600));
        let (recovery, code) = (&member.recovery_codes[0], member.app.code(&house.clock));
        house.accounts.recover("alice", recovery, &code, &somebody()).await.unwrap();
        let token = half_way_in(&house, &member).await;
        house.next_code();
        let code = member.app.code(&house.clock);
        house.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap();
    }
}

/// Tries wrong codes, waiting as told, until no more are taken; how many were.
async fn wrong_codes_until_closed(house: &TestModules, member: &Member) -> u32 {
    let mut taken = 0;
    loop {
        let token = half_way_in(house, member).await;
        let wrong = member.app.wrong_code(&house.clock);
        match house.accounts.log_in_code(token.reveal(), &wrong, &somebody()).await {
            Err(Error::Invalid { .. }) => taken += 1,
            Err(Error::TooMany { retry_after, .. }) => house.clock.advance(retry_after),
            Err(Error::Forbidden(sentence)) if sentence.contains("recovery code") => return taken,
            _ => panic!("a wrong code was neither refused nor slowed down"),
        }
    }
}

#[tokio::test]
async fn one_address_may_try_ten_logins_a_minute() {
    let house = TestModules::on(sqlite().await).await;
    let client = somebody();
    for _ in 0..10 {
        let refused = house.accounts.log_in("nothing", serde_json::json!({}), None, &client).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))));
    }
    let refused = house.accounts.log_in("nothing", serde_json::json!({}), None, &client).await;
    assert!(matches!(refused, Err(Error::TooMany { .. })));
    house.clock.advance(Duration::from_secs(60));
    let refused = house.accounts.log_in("nothing", serde_json::json!({}), None, &client).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))));
}

#[tokio::test]
async fn one_address_that_opens_many_login_pages_shuts_out_nobody_else() {
    let house = TestModules::on(sqlite().await).await;
    let client = somebody();
    for _ in 0..10 {
        house.accounts.log_in_challenge(&client).await.unwrap();
    }
    let refused = house.accounts.log_in_challenge(&client).await;
    assert!(matches!(refused, Err(Error::TooMany { .. })));
    house.accounts.log_in_challenge(&somebody()).await.unwrap();
}

#[tokio::test]
async fn login_pages_that_were_left_do_not_pile_up() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let stored = async || {
            let text = "SELECT COUNT(*) AS n FROM challenges";
            let db = house.db.read();
            let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap().unwrap();
            row.try_get::<i64>("", "n").unwrap()
        };
        for _ in 0..20 {
            house.accounts.log_in_challenge(&somebody()).await.unwrap();
        }
        assert_eq!(stored().await, 20, "{}", house.kind());
        house.clock.advance(Duration::from_secs(301));
        for _ in 0..10 {
            house.accounts.log_in_challenge(&somebody()).await.unwrap();
        }
        assert_eq!(stored().await, 10, "{}", house.kind());
    }
}

#[tokio::test]
async fn of_copies_of_a_passkey_that_count_the_same_one_logs_in() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let token = house.accounts.sign_up_begin("alice", None, None, &somebody()).await.unwrap();
        let (browser, ..) = prepare_sign_up_with(&house, token.reveal(), PasskeyBrowser::that_counts()).await;
        house.accounts.sign_up_finish(token.reveal(), &somebody()).await.unwrap();
        let mut copies = Vec::new();
        for _ in 0..10 {
            let (token, options) = house.accounts.log_in_challenge(&somebody()).await.unwrap();
            copies.push((token, browser.get(&options).await, somebody()));
        }
        let all = copies.into_iter().map(|(token, answer, client)| {
            let accounts = house.accounts.clone();
            async move { accounts.log_in(token.reveal(), answer, None, &client).await }
        });
        let all = join_all(all).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", house.kind());
        let refused = all.into_iter().filter(|r| r.is_err()).map(sentence);
        assert!(refused.into_iter().all(|s| s.starts_with("That did not log you in.")));
    }
}
