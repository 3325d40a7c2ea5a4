//! Recovery with a printed code.

use super::*;

#[tokio::test]
async fn a_recovery_code_and_a_code_log_in_and_end_every_other_login() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let before = &member.signed_in.session;
        assert!(session(&house, before).await.is_some());
        house.next_code();
        let typed = member.recovery_codes[3].to_lowercase().replace('-', " ");
        let code = member.app.code(&house.clock);
        let recovered = house.accounts.recover(" Alice", &typed, &code, &somebody()).await.unwrap();

        assert!(session(&house, before).await.is_none(), "{}", house.kind());
        let session = session(&house, &recovered.session).await.unwrap();
        assert_eq!(house.accounts.account(&session.handle).await.unwrap().recovery_codes_left, 9);
        assert_eq!(audit(&house).await, ["alice sign_up alice", "alice recover alice"]);
        // The browser no longer counts as known, and the session may register a new passkey.
        let old_device = log_in(&house, &member.browser, Some(&member.signed_in.device)).await.unwrap();
        assert!(matches!(old_device, LogInOutcome::CodeRequired(_)));
        house.accounts.passkey_challenge(&session).await.unwrap();
    }
}

#[tokio::test]
async fn of_concurrent_recoveries_with_one_code_one_succeeds() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        house.next_code();
        let (recovery, code) = (&member.recovery_codes[0], member.app.code(&house.clock));
        let clients: Vec<Client> = (0..20).map(|_| somebody()).collect();
        let all = join_all(clients.iter().map(|c| house.accounts.recover("alice", recovery, &code, c))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", house.kind());
        house.next_code();
        let code = member.app.code(&house.clock);
        assert!(house.accounts.recover("alice", recovery, &code, &somebody()).await.is_err());
        house.accounts.recover("alice", &member.recovery_codes[1], &code, &somebody()).await.unwrap();
    }
}

#[tokio::test]
async fn every_failed_recovery_gets_the_same_sentence() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let other = sign_up(&house, "bob-box").await;
        house.next_code();
        let (right, code, wrong) =
            (&member.recovery_codes[0], member.app.code(&house.clock), member.app.wrong_code(&house.clock));
        let mut sentences = Vec::new();
        for (handle, recovery, code) in [
            ("nobody", right, &code),
            ("not a handle", right, &code),
            ("alice", &"nonsense".to_owned(), &code),
            ("alice", &other.recovery_codes[0], &code),
            ("alice", right, &wrong),
        ] {
            sentences.push(sentence(house.accounts.recover(handle, recovery, code, &somebody()).await));
        }
        house.accounts.suspend(&member.signed_in.handle, "operator").await.unwrap();
        sentences.push(sentence(house.accounts.recover("alice", right, &code, &somebody()).await));
        assert!(sentences.iter().all(|s| *s == sentences[0]), "{}: {sentences:#?}", house.kind());
        // None of these attempts used the recovery code up.
        house.accounts.restore(&member.signed_in.handle, "operator").await.unwrap();
        house.accounts.recover("alice", right, &code, &somebody()).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_recovery_code_an_account_cannot_be_locked_out() {
    let house = TestModules::on(sqlite().await).await;
    let member = sign_up(&house, "alice").await;
    for _ in 0..120 {
        let guess = "00000-00000-00000-00000-00000";
        assert!(house.accounts.recover("alice", guess, "000000", &somebody()).await.is_err());
    }
    house.next_code();
    let token = pending_log_in(&house, &member).await;
    let code = member.app.code(&house.clock);
    house.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap();
}
