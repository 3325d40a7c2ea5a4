//! Recovery with a printed code.

use super::*;

#[tokio::test]
async fn a_recovery_code_and_a_code_log_in_and_end_every_other_login() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let before = &member.signed_in.session;
        assert!(session(&platform, before).await.is_some());
        platform.next_code();
        let typed = member.recovery_codes[3].to_lowercase().replace('-', " ");
        let code = member.app.code(&platform.clock);
        let recovered = platform.accounts.recover(" Alice", &typed, &code, &somebody()).await.unwrap();

        assert!(session(&platform, before).await.is_none(), "{}", platform.kind());
        let session = session(&platform, &recovered.session).await.unwrap();
        assert_eq!(platform.accounts.account(&session.handle).await.unwrap().recovery_codes_left, 9);
        assert_eq!(audit(&platform).await, ["alice sign_up alice", "alice recover alice"]);
        // The browser no longer counts as known, and the session may register a new passkey.
        let old_device = log_in(&platform, &member.browser, Some(&member.signed_in.device)).await.unwrap();
        assert!(matches!(old_device, LogInOutcome::CodeRequired(_)));
        platform.accounts.passkey_challenge(&session).await.unwrap();
    }
}

#[tokio::test]
async fn of_concurrent_recoveries_with_one_code_one_succeeds() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        platform.next_code();
        let (recovery, code) = (&member.recovery_codes[0], member.app.code(&platform.clock));
        let clients: Vec<Client> = (0..20).map(|_| somebody()).collect();
        let all = join_all(clients.iter().map(|c| platform.accounts.recover("alice", recovery, &code, c))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", platform.kind());
        platform.next_code();
        let code = member.app.code(&platform.clock);
        assert!(platform.accounts.recover("alice", recovery, &code, &somebody()).await.is_err());
        platform.accounts.recover("alice", &member.recovery_codes[1], &code, &somebody()).await.unwrap();
    }
}

#[tokio::test]
async fn every_failed_recovery_gets_the_same_sentence() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let other = sign_up(&platform, "bob-box").await;
        platform.next_code();
        let (right, code, wrong) =
            (&member.recovery_codes[0], member.app.code(&platform.clock), member.app.wrong_code(&platform.clock));
        let mut sentences = Vec::new();
        for (handle, recovery, code) in [
            ("nobody", right, &code),
            ("not a handle", right, &code),
            ("alice", &"nonsense".to_owned(), &code),
            ("alice", &other.recovery_codes[0], &code),
            ("alice", right, &wrong),
        ] {
            sentences.push(sentence(platform.accounts.recover(handle, recovery, code, &somebody()).await));
        }
        platform.accounts.suspend(&member.signed_in.handle, "operator").await.unwrap();
        sentences.push(sentence(platform.accounts.recover("alice", right, &code, &somebody()).await));
        assert!(sentences.iter().all(|s| *s == sentences[0]), "{}: {sentences:#?}", platform.kind());
        // None of these attempts used the recovery code up.
        platform.accounts.restore(&member.signed_in.handle, "operator").await.unwrap();
        platform.accounts.recover("alice", right, &code, &somebody()).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_recovery_code_an_account_cannot_be_locked_out() {
    let platform = TestModules::on(sqlite().await).await;
    let member = sign_up(&platform, "alice").await;
    for _ in 0..120 {
        let guess = "00000-00000-00000-00000-00000";
        assert!(platform.accounts.recover("alice", guess, "000000", &somebody()).await.is_err());
    }
    platform.next_code();
    let token = pending_log_in(&platform, &member).await;
    let code = member.app.code(&platform.clock);
    platform.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap();
}
