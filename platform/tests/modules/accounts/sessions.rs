//! Managing sessions, passkeys and recovery codes after a login.

use std::time::Duration;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Logs in again with the passkey and a fresh code.
async fn log_in_again(platform: &TestModules, member: &Member) -> NewSession {
    let token = pending_log_in(platform, member).await;
    platform.next_code();
    let code = member.app.code(&platform.clock);
    platform.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap()
}

#[tokio::test]
async fn a_session_cookie_is_valid_on_its_own_host_only() {
    let platform = TestModules::on(sqlite().await).await;
    let member = sign_up(&platform, "alice").await;
    let token = member.signed_in.session.reveal();
    assert!(platform.accounts.authenticate("app.example.com", token).await.unwrap().is_some());
    for (host, token) in [("alice.example.com", token), ("example.com", token), ("app.example.com", "nonsense")] {
        assert!(platform.accounts.authenticate(host, token).await.unwrap().is_none(), "{host}");
    }
}

#[tokio::test]
async fn logging_out_ends_the_login_at_once() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let current = session(&platform, &member.signed_in.session).await.unwrap();
        platform.accounts.log_out(&current).await.unwrap();
        // No time has passed: the cached session was invalidated.
        assert!(session(&platform, &member.signed_in.session).await.is_none(), "{}", platform.kind());
        platform.accounts.log_out(&current).await.unwrap();
        assert_eq!(audit(&platform).await.last().unwrap(), "alice log_out alice");
    }
}

#[tokio::test]
async fn a_session_ended_by_another_process_is_refused_within_two_seconds() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let current = session(&platform, &member.signed_in.session).await.unwrap();
        platform.accounts_elsewhere().await.log_out(&current).await.unwrap();
        platform.clock.advance(Duration::from_secs(2));
        assert!(session(&platform, &member.signed_in.session).await.is_none(), "{}", platform.kind());
    }
}

#[tokio::test]
async fn the_list_shows_the_callers_sessions_and_each_can_be_ended() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let second = log_in_again(&platform, &member).await;
        let current = session(&platform, &second.session).await.unwrap();
        let list = platform.accounts.sessions(&current).await.unwrap();
        assert_eq!(list.iter().map(|v| v.current).collect::<Vec<_>>(), [true, false]);
        assert_eq!(list[0].device, "Chrome on Linux");
        assert!(list[0].ip.ends_with(".*"), "{}", list[0].ip);

        let stranger = sign_up(&platform, "bob-box").await;
        let stranger = session(&platform, &stranger.signed_in.session).await.unwrap();
        let refused = platform.accounts.session_end(&stranger, list[1].id).await;
        assert!(matches!(refused, Err(Error::NotFound)), "{}", platform.kind());
        platform.accounts.session_end(&current, list[1].id).await.unwrap();
        assert!(session(&platform, &member.signed_in.session).await.is_none());
        assert!(session(&platform, &second.session).await.is_some());
    }
}

#[tokio::test]
async fn a_session_ends_at_its_idle_and_its_absolute_timeout() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let (operator, member) = (sign_up_operator(&platform).await, sign_up(&platform, "alice").await);
        platform.clock.advance(29 * MINUTE);
        assert!(session(&platform, &operator.signed_in.session).await.is_some());
        platform.clock.advance(29 * MINUTE);
        assert!(session(&platform, &operator.signed_in.session).await.is_some(), "being used keeps it");
        platform.clock.advance(30 * MINUTE);
        assert!(session(&platform, &operator.signed_in.session).await.is_none(), "{}", platform.kind());
        for _ in 0..4 {
            assert!(session(&platform, &member.signed_in.session).await.is_some());
            platform.clock.advance(6 * DAY);
        }
        assert!(session(&platform, &member.signed_in.session).await.is_some());
        platform.clock.advance(6 * DAY);
        assert!(session(&platform, &member.signed_in.session).await.is_none(), "thirty days are over");
        let idle = log_in_again(&platform, &member).await;
        platform.clock.advance(7 * DAY);
        assert!(session(&platform, &idle.session).await.is_none(), "seven idle days are over");
    }
}

#[tokio::test]
async fn polling_by_a_forgotten_page_does_not_keep_a_session_alive() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let operator = sign_up_operator(&platform).await;
        let token = operator.signed_in.session.reveal();
        for _ in 0..29 {
            platform.clock.advance(MINUTE);
            assert!(platform.accounts.is_live("app.example.com", token).await.unwrap(), "{}", platform.kind());
        }
        platform.clock.advance(MINUTE);
        assert!(!platform.accounts.is_live("app.example.com", token).await.unwrap(), "half an hour without use");
        assert!(session(&platform, &operator.signed_in.session).await.is_none());
    }
}

#[tokio::test]
async fn a_session_stays_valid_when_its_last_use_cannot_be_stored() {
    let platform = TestModules::on(sqlite().await).await;
    let member = sign_up(&platform, "alice").await;
    let tx = platform.db.begin().await.unwrap();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON sessions BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    tx.execute_unprepared(full).await.unwrap();
    tx.commit().await.unwrap();
    platform.clock.advance(2 * MINUTE);
    assert!(session(&platform, &member.signed_in.session).await.is_some());
}

#[tokio::test]
async fn the_fifty_first_login_ends_the_oldest() {
    let platform = TestModules::on(sqlite().await).await;
    let member = sign_up(&platform, "alice").await;
    let mut device = member.signed_in.device.clone();
    let mut last = None;
    for _ in 0..50 {
        platform.clock.advance(Duration::from_secs(1));
        let LogInOutcome::Complete(next) = log_in(&platform, &member.browser, Some(&device)).await.unwrap() else {
            panic!("a code was required in a known browser")
        };
        device = next.device;
        last = Some(next.session);
    }
    let current = session(&platform, &last.unwrap()).await.unwrap();
    assert_eq!(platform.accounts.sessions(&current).await.unwrap().len(), 50);
    assert!(session(&platform, &member.signed_in.session).await.is_none());
}

#[tokio::test]
async fn another_passkey_can_be_added_just_after_logging_in() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let current = session(&platform, &member.signed_in.session).await.unwrap();
        let (token, options) = platform.accounts.passkey_challenge(&current).await.unwrap();
        assert_eq!(options["publicKey"]["excludeCredentials"].as_array().unwrap().len(), 1);
        let mut key = PasskeyBrowser::at_home();
        let answer = key.create(&options).await;
        platform.accounts.passkey_add(&current, token.reveal(), answer.clone()).await.unwrap();
        let names: Vec<String> =
            platform.accounts.passkeys(&current).await.unwrap().into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["Passkey 1", "Passkey 2"]);
        assert!(
            matches!(log_in(&platform, &key, None).await.unwrap(), LogInOutcome::CodeRequired(_)),
            "{}",
            platform.kind()
        );
        // A replayed response, another account's challenge, and a login that is too old.
        assert!(platform.accounts.passkey_add(&current, token.reveal(), answer).await.is_err());
        let stranger = sign_up(&platform, "bob-box").await;
        let stranger = session(&platform, &stranger.signed_in.session).await.unwrap();
        let (token, options) = platform.accounts.passkey_challenge(&current).await.unwrap();
        let answer = PasskeyBrowser::at_home().create(&options).await;
        assert!(platform.accounts.passkey_add(&stranger, token.reveal(), answer).await.is_err());
        platform.clock.advance(11 * MINUTE);
        let refused = platform.accounts.passkey_challenge(&current).await;
        assert!(sentence(refused).contains("log out and in again"));
        assert_eq!(platform.accounts.passkeys(&current).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_lost_passkey_can_be_removed_but_never_the_last() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let current = session(&platform, &member.signed_in.session).await.unwrap();
        let lost = platform.accounts.passkeys(&current).await.unwrap()[0].id;
        let only = platform.accounts.passkey_remove(&current, lost).await;
        assert!(sentence(only).contains("only passkey"), "{}", platform.kind());
        let mut key = PasskeyBrowser::at_home();
        let (token, options) = platform.accounts.passkey_challenge(&current).await.unwrap();
        platform.accounts.passkey_add(&current, token.reveal(), key.create(&options).await).await.unwrap();
        let stranger = sign_up(&platform, "bob-box").await;
        let stranger = session(&platform, &stranger.signed_in.session).await.unwrap();
        assert!(matches!(platform.accounts.passkey_remove(&stranger, lost).await, Err(Error::NotFound)));

        platform.accounts.passkey_remove(&current, lost).await.unwrap();
        assert!(
            log_in(&platform, &member.browser, Some(&member.signed_in.device)).await.is_err(),
            "{}",
            platform.kind()
        );
        log_in(&platform, &key, None).await.unwrap();
        assert_eq!(audit(&platform).await.iter().filter(|line| *line == "alice passkey_remove alice").count(), 1);
        let left = platform.accounts.passkeys(&current).await.unwrap();
        assert_eq!(left.len(), 1);
        platform.clock.advance(11 * MINUTE);
        assert!(matches!(platform.accounts.passkey_remove(&current, left[0].id).await, Err(Error::Forbidden(_))));
    }
}

#[tokio::test]
async fn new_recovery_codes_end_the_old_ones() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let current = session(&platform, &member.signed_in.session).await.unwrap();
        let codes = platform.accounts.recovery_codes_renew(&current).await.unwrap();
        assert_eq!(codes.len(), 10);
        platform.next_code();
        let code = member.app.code(&platform.clock);
        let old = platform.accounts.recover("alice", &member.recovery_codes[0], &code, &somebody()).await;
        assert!(matches!(old, Err(Error::Forbidden(_))), "{}", platform.kind());
        platform.accounts.recover("alice", &codes[0], &code, &somebody()).await.unwrap();
        platform.clock.advance(11 * MINUTE);
        assert!(platform.accounts.recovery_codes_renew(&current).await.is_err());
    }
}

#[tokio::test]
async fn expired_rows_are_purged() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        platform.accounts.setup_link().await.unwrap();
        let member = sign_up(&platform, "alice").await;
        platform.accounts.sign_up_begin("bob-box", None, None, &somebody()).await.unwrap();
        platform.accounts.log_in_challenge(&somebody()).await.unwrap();
        assert_eq!(platform.accounts.purge_expired().await.unwrap(), 0);
        platform.clock.advance(2 * 3600 * Duration::from_secs(1));
        assert_eq!(
            platform.accounts.purge_expired().await.unwrap(),
            3,
            "challenge, sign-up, link; {}",
            platform.kind()
        );
        assert!(session(&platform, &member.signed_in.session).await.is_some());
        platform.clock.advance(31 * DAY);
        assert_eq!(platform.accounts.purge_expired().await.unwrap(), 1, "the session");
        platform.clock.advance(180 * DAY);
        assert_eq!(platform.accounts.purge_expired().await.unwrap(), 1, "the device");
    }
}
