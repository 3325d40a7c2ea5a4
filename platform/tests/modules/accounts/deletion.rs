//! Account deletion: its conditions, its cancellation, and what is left afterwards.

use std::time::Duration;

use berth::accounts::AccountState;
use berth::instances::{Cause, Wish};
use berth::own_keys::KeyOwner;
use berth_containers::ContainerHost as _;

use super::*;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Schedules the deletion. The container never ran on the fake host, so the first run of the job marks the files.
async fn schedule(platform: &TestModules, member: &Member) {
    let session = session(platform, &member.signed_in.session).await.unwrap();
    let due = platform.accounts.schedule_deletion(&session, member.signed_in.handle.as_str()).await.unwrap();
    assert_eq!(due, platform.clock.now().plus(WEEK));
    platform.accounts.advance_deletions(&platform.modules).await.unwrap();
}

/// Logs in again in the browser that signed up.
async fn log_in_again(platform: &TestModules, member: &Member) -> Session {
    let token = match log_in(platform, &member.browser, Some(&member.signed_in.device)).await.unwrap() {
        LogInOutcome::Complete(signed_in) => signed_in.session,
        LogInOutcome::CodeRequired(token) => {
            platform.next_code();
            let code = member.app.code(&platform.clock);
            platform.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap().session
        }
    };
    session(platform, &token).await.unwrap()
}

async fn rows(platform: &TestModules, table: &str) -> i64 {
    let db = platform.db.read();
    let text = format!("SELECT count(*) AS n FROM {table}");
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

#[tokio::test]
async fn a_scheduled_deletion_ends_every_session_and_a_new_one_can_only_cancel_it() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        schedule(&platform, &member).await;
        assert!(session(&platform, &member.signed_in.session).await.is_none(), "{}", platform.kind());
        let handle = &member.signed_in.handle;
        assert_eq!(platform.accounts.account(handle).await.unwrap().state, AccountState::Deleting);

        let back = log_in_again(&platform, &member).await;
        assert!(back.deletion_scheduled);
        let handed = platform.accounts.hand_off(&back, "alice.example.com", "state", &"c".repeat(43)).await;
        assert!(matches!(handed, Err(Error::Forbidden(_))));
        let instance = platform.instances.by_handle(handle).unwrap();
        for cause in [Cause::Visit, Cause::OwnerAsked, Cause::OperatorAsked] {
            assert!(matches!(platform.instances.wake(&instance, cause).await, Err(Error::Forbidden(_))), "{cause:?}");
        }

        assert!(platform.accounts.scheduled_deletion(&back).await.unwrap().unwrap().owner_may_cancel);
        for _ in 0..2 {
            platform.accounts.cancel_deletion(&back).await.unwrap();
        }
        assert!(platform.accounts.scheduled_deletion(&back).await.unwrap().is_none());
        assert_eq!(platform.accounts.account(handle).await.unwrap().state, AccountState::Active);
        assert_eq!(platform.host.host_report().await.unwrap().buried, 0);
        platform.instances.wake(&instance, Cause::Visit).await.unwrap();
        platform.clock.advance(WEEK * 2);
        assert_eq!(platform.accounts.advance_deletions(&platform.modules).await.unwrap(), 0);
        assert_eq!(platform.accounts.account(handle).await.unwrap().state, AccountState::Active);
        assert_eq!(audit(&platform).await[1..], ["alice leave alice", "alice log_in alice", "alice keep alice"]);
    }
}

#[tokio::test]
async fn scheduling_a_deletion_needs_the_typed_handle_and_a_recent_passkey_login() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let first = session(&platform, &member.signed_in.session).await.unwrap();
        for typed in ["", "bob", "alice."] {
            let refused = platform.accounts.schedule_deletion(&first, typed).await;
            assert!(matches!(refused, Err(Error::Invalid { field: "handle", .. })), "{typed}");
        }
        platform.clock.advance(Duration::from_secs(601));
        assert!(sentence(platform.accounts.schedule_deletion(&first, "alice").await).contains("ten minutes"));

        platform.next_code();
        let code = member.app.code(&platform.clock);
        let recovered =
            platform.accounts.recover("alice", &member.recovery_codes[0], &code, &somebody()).await.unwrap();
        let recovered = session(&platform, &recovered.session).await.unwrap();
        assert!(sentence(platform.accounts.schedule_deletion(&recovered, "alice").await).contains("passkey"));

        let fresh = log_in_again(&platform, &member).await;
        platform.accounts.schedule_deletion(&fresh, " Alice ").await.unwrap();
    }
}

#[tokio::test]
async fn a_deletion_by_the_operator_is_cancelled_by_the_operator_only_and_restores_the_state_before() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "mallory").await;
        let handle = &member.signed_in.handle;
        platform.accounts.suspend(handle, "operator").await.unwrap();
        platform.accounts.schedule_deletion_of(handle, "operator").await.unwrap();
        assert!(matches!(platform.accounts.schedule_deletion_of(handle, "operator").await, Err(Error::Conflict(_))));
        for refused in
            [platform.accounts.restore(handle, "operator").await, platform.accounts.suspend(handle, "operator").await]
        {
            assert!(sentence(refused).contains("user cancel-deletion"));
        }
        let back = log_in_again(&platform, &member).await;
        assert!(!platform.accounts.scheduled_deletion(&back).await.unwrap().unwrap().owner_may_cancel);
        assert!(matches!(platform.accounts.cancel_deletion(&back).await, Err(Error::Forbidden(_))));
        platform.accounts.cancel_deletion_of(handle, "operator").await.unwrap();
        assert_eq!(
            platform.accounts.account(handle).await.unwrap().state,
            AccountState::Suspended,
            "{}",
            platform.kind()
        );
        assert_eq!(platform.instances.by_handle(handle).unwrap().status().wish, Wish::Suspended);
        assert!(session(&platform, &member.signed_in.session).await.is_none());
    }
}

#[tokio::test]
async fn only_the_handle_and_the_receipts_of_a_deleted_account_are_left() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let other = sign_up(&platform, "bob-box").await;
        let handle = member.signed_in.handle.clone();
        let id = platform.instances.by_handle(&handle).unwrap().id;
        platform.host.ensure_volume(id, "standard").await.unwrap();
        platform.host.write(id, b"letters");
        let backend = platform.db.read().get_database_backend();
        let receipt = "INSERT INTO receipts (id, account_id, instance_id, period, provider, model, price_version, \
                       held_nanodollars, amount_nanodollars, input_tokens, cache_write_tokens, \
                       cache_write_long_tokens, cache_read_tokens, output_tokens, basis, outcome, usage, held_at_ms, \
                       settled_at_ms) SELECT id, account_id, id, '2026-11', 'anthropic', 'm', '1', 5, 5, 1, 0, 0, 0, 1, \
                       'provider', 'completed', '{}', 1, 2 FROM instances WHERE handle = 'alice'";
        let tx = platform.db.begin().await.unwrap();
        tx.execute_raw(Statement::from_string(backend, receipt)).await.unwrap();
        tx.commit().await.unwrap();

        let account = platform.instances.by_handle(&handle).unwrap().account;
        for (account, handle) in [
            (account, &handle),
            (platform.instances.by_handle(&other.signed_in.handle).unwrap().account, &other.signed_in.handle),
        ] {
            platform.own_keys.set(KeyOwner { account, handle }, "openai", "sk-a-key-at-a-provider").await.unwrap();
        }

        schedule(&platform, &member).await;
        platform.clock.advance(WEEK - Duration::from_secs(1));
        assert_eq!(platform.accounts.advance_deletions(&platform.modules).await.unwrap(), 0);
        assert_eq!(platform.host.read(id).as_deref(), Some(&b"letters"[..]), "{}", platform.kind());
        platform.clock.advance(Duration::from_secs(1));
        assert_eq!(platform.accounts.advance_deletions(&platform.modules).await.unwrap(), 1);
        assert_eq!(platform.accounts.advance_deletions(&platform.modules).await.unwrap(), 0);

        assert_eq!(platform.host.read(id), None);
        assert!(platform.instances.by_handle(&handle).is_none());
        // The rows that are left belong to the other account.
        for (table, left) in [
            ("instances", 1),
            ("passkeys", 1),
            ("sessions", 1),
            ("devices", 1),
            ("recovery_codes", 10),
            ("own_keys", 1),
            ("departures", 0),
            ("receipts", 1),
            ("accounts", 2),
        ] {
            assert_eq!(rows(&platform, table).await, left, "{}: {table}", platform.kind());
        }
        assert!(platform.own_keys.call_key(account, "openai").is_none());
        assert_eq!(rows(&platform, "audit WHERE actor = 'alice' AND detail <> ''").await, 0);
        assert!(log_in(&platform, &member.browser, None).await.is_err());
        for refused in [
            platform.accounts.cancel_deletion_of(&handle, "operator").await,
            platform.accounts.suspend(&handle, "operator").await,
        ] {
            assert!(sentence(refused).contains("deleted"));
        }
        // The handle is never given again, nor is a look-alike.
        for taken in ["alice", "a1ice"] {
            assert!(platform.accounts.sign_up_begin(taken, None, None, &somebody()).await.is_err(), "{taken}");
        }
        let back = log_in_again(&platform, &other).await;
        assert!(!back.deletion_scheduled, "the other account is unchanged");
    }
}

#[tokio::test]
async fn after_the_only_admin_is_deleted_a_set_up_link_makes_another() {
    let platform = TestModules::on(sqlite().await).await;
    let operator = sign_up_operator(&platform).await;
    schedule(&platform, &operator).await;
    assert!(platform.accounts.setup_link().await.is_err(), "the deletion of the admin can still be cancelled");
    platform.clock.advance(WEEK);
    assert_eq!(platform.accounts.advance_deletions(&platform.modules).await.unwrap(), 1);
    platform.accounts.setup_link().await.unwrap();
}
